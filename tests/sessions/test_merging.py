"""Requests of one visitor at once: every write is kept, whoever saves last, and what was ended stays ended."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
from django.contrib.sessions.backends.base import UpdateError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

pytestmark = pytest.mark.django_db


@pytest.fixture
def pair(engine):
    """Give two requests that have loaded the same session, {"old": 1, "other": 2}."""
    first = engine()
    first.update({"old": 1, "other": 2})
    first.save()
    one, two = engine(first.session_key), engine(first.session_key)
    assert dict(one.items()) == dict(two.items()) == {"old": 1, "other": 2}
    return one, two


def stored(engine: Any, session: Any) -> dict[str, Any]:
    return dict(engine(session.session_key).items())


def test_requests_that_set_different_keys_both_win(engine, pair):
    one, two = pair
    one["a"], two["b"] = 1, 2
    two.save()
    one.save()
    assert stored(engine, one) == {"old": 1, "other": 2, "a": 1, "b": 2}


def test_of_two_that_set_the_same_key_the_last_one_wins(engine, pair):
    one, two = pair
    one["a"], two["a"] = 1, 2
    two.save()
    one.save()
    assert stored(engine, one)["a"] == 1


def test_setting_the_value_that_is_there_is_a_write_too(engine, pair):
    one, two = pair
    one["old"], two["old"] = 9, 1
    one.save()
    two.save()
    assert stored(engine, one)["old"] == 1


def test_a_delete_wins_over_an_untouched_stale_copy(engine, pair):
    one, two = pair
    del one["old"]
    two["b"] = 2
    one.save()
    two.save()
    assert stored(engine, one) == {"other": 2, "b": 2}


def test_a_set_after_a_delete_wins(engine, pair):
    one, two = pair
    del one["old"]
    two["old"] = 5
    one.save()
    two.save()
    assert stored(engine, one)["old"] == 5


def test_a_late_save_does_not_bring_back_a_flushed_session(engine, pair):
    one, two = pair
    key = two.session_key
    two["late"] = True
    one.flush()
    with pytest.raises(UpdateError):
        two.save()
    assert not engine().exists(key)
    assert dict(engine(key).items()) == {}


def test_clear_empties_what_others_put_in_too(engine, pair):
    one, two = pair
    two["b"] = 2
    two.save()
    one.clear()
    one["only"] = True
    one.save()
    assert stored(engine, one) == {"only": True}


def test_a_value_changed_in_place_is_saved_and_nothing_else_is(engine, pair):
    one, two = pair
    one["cart"] = {"items": [1]}
    one.save()
    again = engine(one.session_key)
    again["cart"]["items"].append(2)
    two["old"] = 7
    two.save()
    again.save()
    assert stored(engine, one) == {"old": 7, "other": 2, "cart": {"items": [1, 2]}}


def test_a_second_save_of_one_request_writes_what_came_since(engine, pair):
    one, two = pair
    one["a"] = 1
    one.save()
    two["a"], two["b"] = 2, 2
    two.save()
    one["c"] = 3
    one.save()
    assert stored(engine, one) == {"old": 1, "other": 2, "a": 2, "b": 2, "c": 3}


@pytest.mark.parametrize("name", ['q"uo\\te', "nul\0", "é", "\ud800", "", "_session_expiry2", "a.b", "$[0]", "=", "1"])
def test_any_name_and_any_json_is_kept(engine, name):
    session = engine()
    value: dict[str, Any] = {"": None, "nul\0": ["é", 1.5, True, None, {}], "deep": [[[{}]]]}
    session[name] = value
    session["null"] = None
    session.save()
    assert stored(engine, session) == {name: value, "null": None}
    again = engine(session.session_key)
    del again[name]
    again.save()
    assert stored(engine, session) == {"null": None}


def test_the_contents_can_be_copied_and_compared_like_a_dict(engine, pair):
    one, _ = pair
    inside = one._session
    assert inside == {"old": 1, "other": 2}
    assert copy.deepcopy(inside) == inside
    assert {**inside} == inside
    inside |= {"more": 3}
    one.save()
    assert stored(engine, one)["more"] == 3


NAMES = st.sampled_from(["a", "b", "c", "é\0"])
VALUES: st.SearchStrategy[Any] = st.sampled_from([0, 1, 2, None, [], {"x": None}])


class Visitors(RuleBasedStateMachine):
    """Several requests of one visitor, against a dict to which each save applies what its request did."""

    engine: Any
    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        first = self.engine()
        first["a"] = 0
        first.save()
        self.key = first.session_key
        self.model: dict[str, Any] | None = {"a": 0}
        self.done: dict[int, list[tuple[str, str, Any]]] = {}

    @rule(target=sessions)
    def a_request_begins(self) -> Any:
        session = self.engine(self.key)
        assert dict(session.items()) == (self.model or {})
        self.done[id(session)] = []
        return session

    @rule(session=sessions, name=NAMES, value=VALUES)
    def it_sets(self, session: Any, name: str, value: Any) -> None:
        session[name] = copy.deepcopy(value)
        self.done[id(session)].append(("set", name, value))

    @rule(session=sessions, name=NAMES)
    def it_deletes(self, session: Any, name: str) -> None:
        if name in session:
            del session[name]
            self.done[id(session)].append(("delete", name, None))

    @rule(session=sessions, name=NAMES, value=VALUES)
    def it_changes_in_place(self, session: Any, name: str, value: Any) -> None:
        if isinstance(session.get(name), list):
            session[name].append(value)
            self.done[id(session)].append(("set", name, copy.deepcopy(session[name])))

    @rule(session=sessions)
    def it_clears(self, session: Any) -> None:
        session.clear()
        self.done[id(session)].append(("clear", "", None))

    @rule(session=sessions)
    def it_saves(self, session: Any) -> None:
        done, self.done[id(session)] = self.done[id(session)], []
        if session.session_key is None:
            # It began when the session had ended: what it saves is a new one.
            return
        if self.model is None:
            if done:
                with pytest.raises(UpdateError):
                    session.save()
            return
        session.save()
        for what, name, value in done:
            if what == "clear":
                self.model.clear()
            elif what == "set":
                self.model[name] = value
            else:
                self.model.pop(name, None)

    @rule(session=sessions)
    def it_flushes(self, session: Any) -> None:
        if session.session_key is not None:
            self.model = None
        self.done[id(session)] = []
        session.flush()

    @invariant()
    def the_store_has_what_the_model_says(self) -> None:
        found = self.engine(self.key)
        assert dict(found.items()) == (self.model or {})
        assert found.exists(self.key) is (self.model is not None)


def test_any_interleaving_of_requests_loses_no_write(engine, place):
    machine = type("Machine", (Visitors,), {"engine": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=40, stateful_step_count=20, suppress_health_check=list(HealthCheck)),
    )


@given(
    contents=st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=5,
    )
)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_whatever_json_goes_in_comes_out(engine, contents):
    session = engine()
    session.update(contents)
    session.save()
    assert stored(engine, session) == contents


@pytest.mark.django_db(transaction=True)
def test_many_threads_write_at_once(engine):
    session = engine()
    session["start"] = True
    session.save()
    began = threading.Barrier(8)
    wrong: list[BaseException] = []

    def write(number: int) -> None:
        from django.db import connections

        try:
            for turn in range(10):
                mine = engine(session.session_key)
                mine.get("start")
                began.wait(30)
                mine[f"{number}-{turn}"] = turn
                mine.save()
        except BaseException as error:  # noqa: BLE001 - told by the test
            wrong.append(error)
            began.abort()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert stored(engine, session) == {"start": True, **{f"{n}-{t}": t for n in range(8) for t in range(10)}}
