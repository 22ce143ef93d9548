import json
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backroom.clock import after, seconds_between
from backroom.tasks.exceptions import TaskTimeout
from backroom.tasks.lifecycle import IllegalMove
from backroom.tasks.policy import (
    KEPT_ERRORS,
    KEPT_TRACEBACK,
    Exponential,
    Rules,
    advanced,
    begun,
    cancelled,
    decide,
    errors_in,
    expired,
    is_expired,
    requeued,
)
from backroom.tasks.records import (
    Cancelled,
    Claim,
    Crashed,
    Expired,
    Outcome,
    Raised,
    Released,
    Snoozed,
    Succeeded,
    moved,
)
from backroom.testing.stores.case import NOW, new_record


def claim(**values) -> Claim:
    plain = {
        "state": "running",
        "fence": 1,
        "attempts": 1,
        "started_at": NOW - 5,
        "last_attempted_at": NOW - 5,
        "lease_until": NOW + 5,
        "worker_id": "w",
        "worker_ids": "w ",
    }
    return new_record(**plain | values)


def raised(error: BaseException | None = None, traceback: str = "Traceback\n") -> Raised:
    error = error or ValueError("no")
    return Raised(error, f"builtins.{type(error).__name__}", traceback)


def after_(claim_, outcome: Outcome, *, draw=0.5, now=NOW, **rules):
    return decide(claim_, outcome, rules=Rules(**rules), now=now, draw=draw)


class TestSuccess:
    def test_it_is_finished_and_kept_for_a_while(self):
        transition = after_(claim(), Succeeded("[1]"), keep_seconds=60)
        assert (transition.state, transition.reason, transition.result) == ("successful", "", "[1]")
        assert (transition.finished_at, transition.prune_at) == (NOW, after(NOW, 60))

    def test_a_window_keeps_it_until_the_window_ends(self):
        windowed = claim(unique_key="k", unique_scope="window", unique_until=after(NOW, 100))
        transition = after_(windowed, Succeeded("1"), keep_seconds=60)
        assert transition.prune_at == after(NOW, 100)
        assert transition.unique_key == "k"
        assert after_(windowed, Succeeded("1"), keep_seconds=200).prune_at == after(NOW, 200)

    def test_other_keys_are_given_up(self):
        assert after_(claim(unique_key="k", unique_scope="unfinished"), Succeeded("1")).unique_key is None


class TestRaised:
    def test_without_attempts_left_it_fails(self):
        transition = after_(claim(), raised(), max_attempts=1, keep_failed_seconds=60)
        assert (transition.state, transition.reason, transition.failures) == ("failed", "error", 1)
        assert transition.prune_at == after(NOW, 60)

    def test_with_attempts_left_it_waits(self):
        transition = after_(claim(), raised(), max_attempts=2, backoff=10)
        assert (transition.state, transition.failures, transition.due_at) == ("deferred", 1, after(NOW, 10))
        assert transition.finished_at is transition.prune_at is None

    @pytest.mark.parametrize("outcome", [raised(), Crashed(), Snoozed(1)], ids=["retry", "crash", "snooze"])
    def test_what_was_started_in_time_may_be_started_again_late(self, outcome):
        assert after_(claim(expires_at=NOW), outcome, max_attempts=2).expires_at is None

    def test_what_was_given_back_is_still_to_be_started_in_time(self):
        assert after_(claim(expires_at=NOW), Released()).expires_at == NOW

    def test_what_was_begun_and_given_back_may_be_started_again_late(self):
        assert after_(begun(claim(expires_at=NOW)), Released()).expires_at is None

    def test_attempts_that_a_worker_lost_do_not_count_as_failures(self):
        assert after_(claim(attempts=5, crashes=4), raised(), max_attempts=2).state == "deferred"

    @pytest.mark.parametrize(("error", "state"), [(KeyError(), "failed"), (IndexError(), "deferred")])
    def test_fail_on_beats_retry_on(self, error, state):
        assert (
            after_(claim(), raised(error), max_attempts=9, retry_on=(LookupError,), fail_on=(KeyError,)).state == state
        )

    def test_what_is_not_worth_a_retry_fails(self):
        assert after_(claim(), raised(ValueError()), max_attempts=9, retry_on=(LookupError,)).state == "failed"

    def test_an_exit_is_not_retried_unless_it_is_asked_for(self):
        assert after_(claim(), raised(SystemExit(1)), max_attempts=9).state == "failed"
        assert after_(claim(), raised(SystemExit(1)), max_attempts=9, retry_on=(SystemExit,)).state == "deferred"

    def test_a_timeout_is_its_own_reason(self):
        assert after_(claim(), raised(TaskTimeout())).reason == "timeout"
        assert after_(claim(), raised(TaskTimeout()), max_attempts=2).state == "deferred"

    @pytest.mark.parametrize("failures", range(5))
    def test_of_a_sequence_the_last_wait_repeats(self, failures):
        transition = after_(claim(failures=failures), raised(), max_attempts=99, backoff=(1, 5, 25))
        assert transition.due_at == after(NOW, [1, 5, 25, 25, 25][failures])

    def test_a_function_sees_the_exception_and_the_result(self):
        seen = []

        def backoff(*shown):
            seen.append(shown)
            return 5

        outcome = raised()
        after_(claim(), outcome, max_attempts=2, backoff=backoff)
        assert seen == [(outcome.exception, None)]

    @pytest.mark.parametrize(("answer", "wait"), [(2.5, 2.5), (0, 0), (-7, 0), (float("nan"), 0)])
    def test_a_function_says_how_long_to_wait(self, answer, wait):
        assert after_(claim(), raised(), max_attempts=2, backoff=lambda *_: answer).due_at == after(NOW, wait)

    def test_a_function_that_never_ends_the_wait_waits_as_long_as_there_are_datetimes(self):
        transition = after_(claim(), raised(), max_attempts=2, backoff=lambda *_: float("inf"))
        assert transition.state == "deferred"
        assert seconds_between(NOW, transition.due_at) > 1_000 * 365 * 86_400

    def test_a_function_can_give_up(self):
        assert after_(claim(), raised(), max_attempts=9, backoff=lambda *_: None).state == "failed"

    @pytest.mark.parametrize("backoff", [lambda: 1, lambda *_: 1 / 0, lambda *_: "soon", lambda *_: object()])
    def test_a_function_that_raises_ends_the_task_and_both_errors_are_kept(self, backoff):
        transition = after_(claim(), raised(), max_attempts=9, backoff=backoff)
        assert transition.state == "failed"
        errors = json.loads(transition.errors)
        assert len(errors) == 2
        assert errors[0] == ["builtins.ValueError", "Traceback\n"]
        assert "Traceback" in errors[1][1]


class TestExponential:
    finite = st.floats(0, 1e9, allow_nan=False)

    @given(finite, st.floats(1, 1e9), finite, st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
    def test_a_wait_is_between_nought_and_the_cap(self, base, factor, cap, failures, draw):
        wait = Exponential(base=base, factor=factor, cap=cap).seconds(failures, draw)
        assert 0 <= wait <= cap

    @given(st.integers(1, 60))
    def test_the_longest_wait_doubles_until_the_cap(self, failures):
        assert Exponential(base=1, cap=1e30).seconds(failures, 1.0) == 2 ** (failures - 1)

    @given(st.integers(1, 999), st.floats(0, 1), st.floats(0, 1))
    def test_the_draw_spreads_the_waits_evenly(self, failures, one, other):
        backoff = Exponential(base=3, cap=50)
        assert backoff.seconds(failures, one) * other == pytest.approx(backoff.seconds(failures, other) * one)

    def test_it_needs_numbers_that_can_be_waited(self):
        for values in ({"base": -1}, {"factor": 0.5}, {"cap": -1}, {"base": float("nan")}, {"cap": float("inf")}):
            with pytest.raises(ValueError, match="Exponential"):
                Exponential(**values)


class TestReturns:
    def test_a_snooze_does_not_count(self):
        transition = after_(claim(), Snoozed(60))
        assert (transition.state, transition.due_at) == ("deferred", after(NOW, 60))
        assert (transition.attempts, transition.failures, transition.worker_ids) == (0, 0, "")
        assert transition.started_at is None

    def test_a_later_snooze_leaves_the_earlier_attempts(self):
        transition = after_(claim(attempts=2, worker_ids="v w ", started_at=NOW - 9, failures=1), Snoozed(60))
        assert (transition.attempts, transition.failures, transition.worker_ids) == (1, 1, "v ")
        assert transition.started_at == NOW - 9

    def test_a_worker_that_started_it_twice_is_taken_off_once(self):
        assert after_(claim(attempts=2, worker_ids="w w "), Released()).worker_ids == "w "

    def test_a_release_makes_it_ready(self):
        transition = after_(claim(), Released())
        assert (transition.state, transition.due_at, transition.attempts) == ("ready", None, 0)

    def test_what_was_asked_to_stop_is_still_asked(self):
        assert after_(claim(cancel_requested=True), Released()).cancel_requested is None


class TestCrashes:
    @given(st.integers(1, 9), st.integers(0, 20))
    def test_a_task_is_given_up_at_its_crash_budget(self, budget, crashes):
        transition = after_(claim(crashes=crashes), Crashed(), crash_budget=budget, max_attempts=1)
        assert transition.crashes == crashes + 1
        assert (transition.state == "failed") == (crashes + 1 >= budget)
        if transition.state == "failed":
            assert transition.reason == "lost"
            assert "WorkerLost" in transition.errors

    def test_the_attempt_counts(self):
        assert after_(claim(), Crashed()).attempts == 1
        assert after_(claim(), Crashed()).worker_ids == "w "


class TestCancelAndExpiry:
    def test_a_cancelled_attempt_fails_as_cancelled(self):
        transition = after_(claim(), Cancelled(), max_attempts=9)
        assert (transition.state, transition.reason) == ("failed", "cancelled")
        assert "TaskCancelled" in transition.errors

    def test_a_waiting_task_is_cancelled(self):
        transition = cancelled(new_record(), rules=Rules(), now=NOW)
        assert (transition.state, transition.reason, transition.attempts) == ("failed", "cancelled", 0)

    def test_a_claim_that_came_too_late_was_no_attempt(self):
        transition = after_(claim(expires_at=NOW - 1_000_000), Expired())
        assert (transition.state, transition.reason, transition.attempts) == ("failed", "expired", 0)
        assert "1.0 s late" in transition.errors

    def test_a_waiting_task_expires(self):
        record = new_record(expires_at=NOW)
        assert is_expired(record, NOW)
        assert not is_expired(record, NOW - 1)
        assert not is_expired(new_record(), NOW)
        assert expired(record, rules=Rules(), now=NOW).reason == "expired"

    @pytest.mark.parametrize("state", ["successful", "failed"])
    def test_what_has_finished_can_neither_be_cancelled_nor_expire_nor_finish_again(self, state):
        finished = claim(state=state)
        for change in (
            lambda: cancelled(finished, rules=Rules(), now=NOW),
            lambda: expired(finished, rules=Rules(), now=NOW),
            lambda: after_(finished, Succeeded("1")),
            lambda: after_(finished, raised()),
        ):
            with pytest.raises(IllegalMove, match=finished.id):
                change()


class TestOperators:
    def test_putting_back_gives_a_clean_slate_and_keeps_the_history(self):
        failed = claim(
            state="failed",
            failures=3,
            crashes=2,
            attempts=5,
            worker_ids="a b c d e ",
            errors='[["E","t"]]',
            result="1",
            expires_at=NOW,
            cancel_requested=True,
        )
        after_it = moved(failed, requeued(failed))
        assert (after_it.state, after_it.failures, after_it.crashes) == ("ready", 0, 0)
        assert (after_it.attempts, after_it.worker_ids, after_it.errors) == (5, "a b c d e ", '[["E","t"]]')
        assert (after_it.result, after_it.expires_at, after_it.cancel_requested) == (None, None, False)

    @pytest.mark.parametrize("state", ["ready", "deferred", "running"])
    def test_only_what_has_finished_is_put_back(self, state):
        with pytest.raises(IllegalMove):
            requeued(new_record(state=state))

    def test_only_a_deferred_task_is_run_now(self):
        assert advanced(new_record(state="deferred", due_at=NOW)).state == "ready"
        for state in ("ready", "running", "successful", "failed"):
            with pytest.raises(IllegalMove):
                advanced(new_record(state=state))


class TestErrors:
    @pytest.mark.parametrize("text", ["{", "5", "[[1]]", "[1]", "null", '{"a": 1}', "[[1,2,3]]"])
    def test_errors_that_cannot_be_read_hold_nothing_up(self, text):
        (kept, new) = json.loads(after_(claim(errors=text), raised()).errors)
        assert "could not be read" in kept[1]
        assert new == ["builtins.ValueError", "Traceback\n"]
        assert len(errors_in(claim(errors=text))) == 1

    def test_of_many_errors_the_first_and_the_latest_are_kept(self):
        record, numbers = claim(), count()
        for number in range(25):
            outcome = raised(traceback=f"{next(numbers)}")
            record = record._replace(errors=after_(record, outcome, max_attempts=99).errors, attempts=number)
        assert [text for _, text in json.loads(record.errors)] == ["0", *map(str, range(25 - KEPT_ERRORS + 1, 25))]

    def test_of_a_long_traceback_both_ends_are_kept(self):
        text = "begin " + "x" * 100_000 + " end"
        ((_, kept),) = json.loads(after_(claim(), raised(traceback=text)).errors)
        assert kept.startswith("begin ")
        assert kept.endswith(" end")
        assert len(kept) < KEPT_TRACEBACK + 100
        assert f"{100_010 - KEPT_TRACEBACK} characters left out" in kept


outcomes = st.one_of(
    st.builds(Succeeded, st.just("1")),
    st.builds(raised, st.sampled_from([ValueError(), KeyError(), SystemExit(), TaskTimeout()])),
    st.builds(Snoozed, st.floats(0, 1e9)),
    st.sampled_from([Released(), Crashed(), Cancelled(), Expired()]),
)
rules = st.builds(
    Rules,
    max_attempts=st.integers(1, 5),
    backoff=st.sampled_from([0, 1.5, (1, 2), Exponential()]),
    crash_budget=st.integers(1, 5),
)


@given(st.lists(outcomes, min_size=1, max_size=30), rules, st.floats(0, 1, exclude_max=True))
def test_no_task_runs_more_often_than_its_rules_allow(ends, rules, draw):
    record = new_record()
    for end in ends:
        record = record._replace(
            state="running",
            fence=record.fence + 1,
            attempts=record.attempts + 1,
            worker_ids=f"{record.worker_ids}w ",
            worker_id="w",
            started_at=record.started_at or NOW,
        )
        before, record = record, moved(record, decide(record, end, rules=rules, now=NOW, draw=draw))
        assert record.fence == before.fence + 1
        assert (
            record.attempts
            == len(record.worker_ids.split())
            == record.failures + record.crashes + (record.state == "successful" or record.reason == "cancelled")
        )
        assert record.failures <= rules.max_attempts
        assert record.crashes <= rules.crash_budget
        if record.state in {"successful", "failed"}:
            break
        assert record.failures < rules.max_attempts
        assert record.crashes < rules.crash_budget


@given(st.lists(st.tuples(st.booleans(), outcomes), min_size=1, max_size=30), rules, st.floats(0, 1, exclude_max=True))
def test_a_task_expires_only_as_long_as_its_function_was_never_called(turns, rules, draw):
    record, was_begun = new_record(expires_at=NOW), False
    for is_begun, end in turns:
        # What was not begun is handed back, or found to be late.
        outcome = end if is_begun else Released()
        running = record._replace(state="running", attempts=record.attempts + 1, worker_ids=f"{record.worker_ids}w ")
        running = running._replace(worker_id="w")
        was_begun |= is_begun
        transition = decide(begun(running) if is_begun else running, outcome, rules=rules, now=NOW, draw=draw)
        record = moved(running, transition)
        assert is_expired(record, NOW) is not was_begun
        if record.state in {"successful", "failed"}:
            break
