"""What is sent: where to, with which priority, and what is not sent twice."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from celery.signals import before_task_publish
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connections
from django.tasks import task_backends
from django.tasks.exceptions import InvalidTask

from backroom.celery.lost import Lost
from backroom.celery.upkeep import AHEAD, NEGLECT, PAGE
from backroom.clock import after
from backroom.tasks import control, doctor, enqueue_many
from backroom.tasks.backends.celery import SOON
from backroom.tasks.records import READY, Query
from backroom.tasks.stores.base import Request
from backroom.tasks.transports import celery as transports
from backroom.tasks.transports.celery import CeleryTransport, on_scale
from backroom.testing.clock import FakeClock
from tests.celery.conftest import idle, url_of
from tests.processes.jobs import add
from tests.services.project import wait_until

app = Celery("tests")
app.conf.broker_url = "memory://"

KEPT = "backroom.tasks.backends.database.DatabaseBackend"
ON_CELERY = "backroom.tasks.backends.celery.CeleryBackend"


@pytest.fixture
def backend(settings, monkeypatch, request):
    """A backend on Celery, over Redis: a queue of its own, and a clock that stands still."""
    monkeypatch.setattr(f"{__name__}.app", make_app(url_of("redis", request)))
    options = {"app": f"{__name__}.app", "store": "records"}
    settings.TASKS = {
        "records": {"BACKEND": KEPT},
        "default": {"BACKEND": ON_CELERY, "QUEUES": [], "OPTIONS": options},
    }
    made = the_backend()
    made.clock = FakeClock(made.clock.now())
    yield made
    made.transport.close()


def make_app(url, **conf):
    made = Celery("tests", broker=url)
    made.conf.task_default_queue = f"test-{os.urandom(4).hex()}"
    made.conf.update(conf)
    return made


def the_backend() -> Any:
    return task_backends["default"]


def sent_by(lost, backend):
    before = depth(backend)
    lost.send()
    return depth(backend) - before


def depth(backend):
    return backend.transport.depth(backend.app.conf.task_default_queue)


class TestPriorities:
    @pytest.mark.parametrize(("priority", "place"), [(-100, 0), (-1, 4), (0, 4), (1, 5), (100, 9), (101, 9), (-101, 0)])
    def test_each_place_stands_for_as_many_priorities(self, priority, place):
        assert on_scale(priority, range(10)) == place

    def test_on_redis_nought_is_the_highest(self):
        transport = CeleryTransport(make_app("redis://nobody"), "default", {})
        assert [on_scale(each, transport.scale_of("any")) for each in (-100, -50, 0, 1, 100)] == [9, 9, 6, 3, 0]

    def test_on_redis_the_steps_are_the_projects(self):
        steps = list(range(10))
        transport = CeleryTransport(
            make_app("redis://nobody", broker_transport_options={"priority_steps": steps}), "", {}
        )
        assert [on_scale(each, transport.scale_of("any")) for each in (-100, 0, 100)] == [9, 5, 0]

    def test_on_rabbitmq_the_most_of_the_queue_is_the_highest(self):
        transport = CeleryTransport(make_app("amqp://nobody", task_queue_max_priority=9), "default", {})
        assert [on_scale(each, transport.scale_of("celery")) for each in (-100, 0, 100)] == [0, 4, 9]

    @pytest.mark.parametrize("names", [("celery", "default"), ("made by the first message", "create_missing")])
    def test_in_a_quorum_queue_what_is_above_nought_goes_first(self, names):
        queue, setting = names
        app = make_app("amqp://nobody", **{f"task_{setting}_queue_type": "quorum"})
        app.conf.task_default_queue = "celery"
        scale = CeleryTransport(app, "default", {}).scale_of(queue)
        assert [on_scale(each, scale) > 4 for each in (-100, 0, 1, 100)] == [False, False, True, True]

    @pytest.mark.parametrize("url", ["amqp://nobody", "memory://", "filesystem://"])
    def test_a_queue_that_knows_none_gets_none(self, url):
        assert not CeleryTransport(make_app(url), "default", {}).scale_of("celery")

    @pytest.mark.parametrize("broker", ["redis", "rabbit"])
    def test_the_higher_priority_comes_out_first(self, request, broker):
        celery = make_app(url_of(broker, request), task_queue_max_priority=10)
        transport = CeleryTransport(celery, "default", {})
        wanted = [100, 20, 0, -100]
        messages = [transports.Message(str(each), 0, "default", each, "a.task", None) for each in sorted(wanted)]
        assert len(transport.send(messages).ids) == len(wanted)
        with celery.connection_for_read() as connection:
            queue = connection.SimpleQueue(celery.amqp.queues[celery.conf.task_default_queue])
            found = [int(queue.get(timeout=60).payload[0][1]) for _ in wanted]
            queue.clear()
        transport.close()
        assert found == wanted


class TestQueues:
    @pytest.mark.parametrize(
        "routes",
        [
            {"*": {"exchange": "elsewhere", "routing_key": "x.y"}},
            {"*": {"countdown": 60, "expires": 1}},
        ],
    )
    def test_what_celery_is_told_of_all_tasks_leads_none_of_ours_astray(self, request, routes):
        celery = make_app(url_of("redis", request), task_routes=routes, task_annotations={"*": {"expires": 1}})
        transport = CeleryTransport(celery, "default", {})
        queue = celery.conf.task_default_queue
        sent: list[Any] = []

        def note(headers, **_more):
            sent.append([headers[name] for name in ("eta", "expires")])

        before_task_publish.connect(note)
        try:
            assert transport.send([transports.Message("1", 0, "default", 0, "a.task", None)]).ids
        finally:
            before_task_publish.disconnect(note)
        assert sent == [[None, None]]
        assert transport.depth(queue) == 1
        transport.close()

    def test_a_queue_that_is_not_named_goes_to_celerys_default(self):
        transport = CeleryTransport(make_app("memory://"), "default", {"mail": "slow"})
        assert transport.queue_of("mail") == "slow"
        assert transport.queue_of("other") == transport.app.conf.task_default_queue


def message(id_, queue_name):
    return transports.Message(id_, 0, queue_name, 0, "a.task", None)


class TestRefusedQueues:
    def test_a_queue_that_was_declared_otherwise_is_paused_alone_and_told_of_once(self, request, caplog):
        celery = make_app(url_of("rabbit", request), task_queue_max_priority=10)
        bad = f"test-{os.urandom(4).hex()}"
        with celery.connection_for_write() as connection, connection.channel() as channel:
            channel.queue_declare(bad, durable=True, auto_delete=False)
        transport = CeleryTransport(celery, "default", {"bad": bad})
        messages = [message("1", "bad"), message("2", "good"), message("3", "bad"), message("4", "good")]
        for _ in range(3):
            assert transport.send(messages) == transports.Sent(frozenset({"2", "4"}))
        wait_until(lambda: transport.depth(celery.conf.task_default_queue) == 6, what="all that was sent")
        assert caplog.text.count(f"action=refused backend=default queue={bad} reason=PreconditionFailed") == 1
        assert "broker_away" not in caplog.text
        with celery.connection_for_write() as connection, connection.channel() as channel:
            channel.queue_delete(bad)
        transport._refused_until.clear()
        assert transport.send(messages).ids == {"1", "2", "3", "4"}
        transport.close()

    def test_a_queue_that_celery_may_not_make_is_paused_alone(self, caplog):
        celery = make_app("memory://", task_create_missing_queues=False)
        transport = CeleryTransport(celery, "default", {"bad": "nowhere"})
        for _ in range(3):
            assert transport.send([message("1", "bad"), message("2", "good")]) == transports.Sent(frozenset({"2"}))
        assert caplog.text.count("action=refused backend=default queue=nowhere reason=QueueNotFound") == 1


@pytest.mark.parametrize(("url", "named"), [("redis://nobody", True), ("amqp://nobody", True), ("memory://", False)])
def test_only_client_libraries_that_are_known_are_given_options(url, named):
    transport = CeleryTransport(make_app(url, broker_transport_options={"own": 1}), "default", {})
    options = dict(transport._connection.transport_options)
    assert options.pop("own") == 1
    assert bool(options) == named


@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
def test_every_thread_knows_that_the_broker_is_away(backend, monkeypatch):
    connected = []
    monkeypatch.setattr(CeleryTransport, "_producer", lambda _self: connected.append(1))
    for _ in range(3):
        thread = threading.Thread(target=lambda: the_backend().transport.send([message("1", "default")]))
        thread.start()
        thread.join()
    assert len(connected) == 1


@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
class TestSending:
    def test_a_message_holds_ids_and_no_argument(self, backend):
        result = add.enqueue(987_654_321, 1)
        with backend.app.connection_for_read() as connection:
            message = connection.SimpleQueue(backend.app.conf.task_default_queue).get(timeout=60)
        assert message.content_type == "application/json"
        assert message.payload[:2] == [["default", result.id], {}]
        assert message.headers["task"] == "backroom.run"
        assert message.headers["shadow"] == "tests.processes.jobs.add"
        assert "987654321" not in str(message.headers | {"id": "", "root_id": "", "argsrepr": ""})

    @pytest.mark.parametrize("store_database", ["postgres"], indirect=True)
    def test_a_receiver_of_celerys_signals_leaves_no_connection_behind(self, backend, store_database):
        asked = []

        def ask(**_kwargs):
            Group.objects.using(store_database).count()
            asked.append(connections[store_database])

        before_task_publish.connect(ask)
        try:
            add.enqueue(1, 2)
        finally:
            before_task_publish.disconnect(ask)
        assert [each.connection for each in asked] == [None]

    def test_many_are_sent_at_once(self, backend):
        assert len(enqueue_many(add, [((number, 1), {}) for number in range(50)])) == 50
        assert depth(backend) == 50

    def test_what_collides_is_not_sent(self, backend):
        first, second = (add.using(unique=True).enqueue(1, 2) for _ in range(2))
        assert first.id == second.id
        assert depth(backend) == 1

    def test_what_is_due_soon_is_sent_and_what_is_due_later_is_not(self, backend):
        add.using(run_after=timedelta(seconds=SOON - 1)).enqueue(1, 2)
        assert depth(backend) == 1
        add.using(run_after=timedelta(seconds=SOON + 60)).enqueue(1, 2)
        assert depth(backend) == 1

    def test_an_operators_verbs_send(self, backend):
        result = add.using(run_after=timedelta(days=1)).enqueue(1, 2)
        assert depth(backend) == 0
        control.run_now([result.id])
        assert depth(backend) == 1
        control.cancel([result.id])
        assert depth(backend) == 1
        control.retry([result.id])
        assert depth(backend) == 2

    def test_our_worker_says_which_one_to_start(self, backend):
        with pytest.raises(CommandError, match=r"Start: celery -A tests\.celery\.test_transport worker"):
            call_command("backroom", "worker", "--backend", "default")

    def test_options_of_a_task_are_checked_as_everywhere(self, backend):
        with pytest.raises(InvalidTask):
            add.using(max_attempts=0)


@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
class TestLost:
    def test_a_backlog_is_not_doubled(self, backend):
        enqueue_many(add, [((number, 1), {}) for number in range(100)])
        lost = Lost(backend)
        for _ in range(20):
            backend.clock.advance(60)
            lost.send()
        # Only the oldest one might have lost its message, and ever more time passes between two of its messages.
        assert 100 < depth(backend) <= 105

    def test_a_message_is_not_taken_for_lost_at_once(self, backend):
        add.enqueue(1, 2)
        purge(backend)
        backend.clock.advance(backend.settings.resend_after - 1)
        assert sent_by(Lost(backend), backend) == 0
        backend.clock.advance(2)
        assert sent_by(Lost(backend), backend) == 1
        assert depth(backend) == 1

    def test_all_that_a_broker_forgot_is_sent_again_once(self, backend):
        enqueue_many(add, [((number, 1), {}) for number in range(1_200)])
        purge(backend)
        backend.clock.advance(3_600)
        lost = Lost(backend)
        assert sent_by(lost, backend) == 1_200
        assert sent_by(lost, backend) == 0
        assert depth(backend) == 1_200

    def test_what_workers_hold_unstarted_is_sent_again_ever_more_rarely(self, backend):
        add.enqueue(1, 2)
        lost = Lost(backend)
        sent = 0
        for _ in range(60):
            # A worker takes the message and does not begin.
            purge(backend)
            backend.clock.advance(60)
            sent += sent_by(lost, backend)
        assert 4 <= sent <= 6

    def test_what_has_begun_meanwhile_is_not_sent(self, backend):
        add.enqueue(1, 2)
        purge(backend)
        backend.clock.advance(3_600)
        now = backend.clock.now()
        backend.store.claim(Request((), 1, "w", now, after(now, 60)))
        assert sent_by(Lost(backend), backend) == 0


def purge(backend):
    with backend.app.connection_for_write() as connection:
        connection.default_channel.queue_purge(backend.app.conf.task_default_queue)


@pytest.mark.parametrize("store_database", ["default", "postgres"], indirect=True)
@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
class TestDue:
    @pytest.fixture(autouse=True)
    def _database(self, backend, settings, store_database):
        settings.TASKS = settings.TASKS | {"records": {"BACKEND": KEPT, "OPTIONS": {"database": store_database}}}
        self.backend = the_backend()
        self.backend.clock = backend.clock
        yield
        self.backend.transport.close()

    def test_a_deferred_task_is_sent_shortly_before_its_moment_and_once(self):
        add.using(run_after=timedelta(seconds=SOON + 60)).enqueue(1, 2)
        upkeep = idle(self.backend, "w")
        upkeep.round()
        assert depth(self.backend) == 0
        self.backend.clock.advance(SOON + 60 - AHEAD + 1)
        for _ in range(3):
            upkeep.round()
        assert depth(self.backend) == 1

    def test_what_was_sent_by_who_deferred_it_is_not_sent_again(self):
        upkeep = idle(self.backend, "w")
        upkeep.round()
        add.using(run_after=timedelta(seconds=AHEAD - 2)).enqueue(1, 2)
        assert depth(self.backend) == 1
        upkeep.round()
        assert depth(self.backend) == 1

    def test_thousands_that_are_due_at_one_moment_are_all_sent(self):
        moment = timedelta(seconds=60)
        enqueue_many(add.using(run_after=moment), [((number, 1), {}) for number in range(PAGE * 2 + 1)])
        self.backend.clock.advance(60)
        idle(self.backend, "w").round()
        assert depth(self.backend) == PAGE * 2 + 1

    def test_a_deferred_task_whose_message_was_lost_is_sent_once_more(self):
        result = add.using(run_after=timedelta(seconds=3)).enqueue(1, 2)
        upkeep = idle(self.backend, "w")
        upkeep.round()
        purge(self.backend)
        self.backend.clock.advance(3 + self.backend.settings.resend_after + 1)
        for _ in range(5):
            upkeep._tidy_at = 0.0
            upkeep.round()
        assert depth(self.backend) == 1
        assert self.backend.store.get([result.id])[0].state == READY

    def test_one_worker_sends_for_all(self):
        add.using(run_after=timedelta(seconds=60)).enqueue(1, 2)
        self.backend.clock.advance(60)
        first, second = idle(self.backend, "a"), idle(self.backend, "b")
        from backroom.tasks.records import Worker

        now = self.backend.clock.now()
        self.backend.store.beat(
            [Worker(id=id_, host="h", pid=1, queues=(), threads=1, started_at=now, seen_at=now) for id_ in ("a", "b")]
        )
        second.round()
        assert depth(self.backend) == 0
        first.round()
        assert depth(self.backend) == 1

    @pytest.mark.parametrize("waits", ["deferred", "ready"])
    def test_the_next_one_steps_in_where_the_first_finds_no_broker(self, waits):
        if waits == "deferred":
            add.using(run_after=timedelta(seconds=60)).enqueue(1, 2)
        else:
            add.enqueue(1, 2)
            purge(self.backend)
        self.backend.clock.advance(60)
        from backroom.tasks.records import Worker

        upkeep = idle(self.backend, "b")

        def look():
            now = self.backend.clock.now()
            first = Worker(id="a", host="h", pid=1, queues=(), threads=1, started_at=now, seen_at=now)
            self.backend.store.beat([first])
            upkeep._tidy_at = 0.0
            upkeep.round()
            return depth(self.backend)

        assert look() == 0
        self.backend.clock.advance(NEGLECT + 1)
        assert [look(), look(), look()] == [1, 1, 1]

    def test_a_message_that_could_not_be_sent_is_sent_later(self, monkeypatch):
        add.using(run_after=timedelta(seconds=60)).enqueue(1, 2)
        self.backend.clock.advance(60)
        upkeep = idle(self.backend, "w")
        with monkeypatch.context() as patched:
            patched.setattr(
                self.backend.transport, "deliver", lambda _messages: transports.Sent(frozenset(), is_away=True)
            )
            upkeep.round()
        assert depth(self.backend) == 0
        upkeep.round()
        assert depth(self.backend) == 1

    def test_a_refused_queue_holds_up_no_other_and_doubles_nothing(self):
        self.backend.app.conf.task_create_missing_queues = False
        self.backend.transport._queue_map = {"bad": "nowhere"}
        later = add.using(run_after=timedelta(seconds=60))
        for queue_name in ("bad", "default", "default"):
            later.using(queue_name=queue_name).enqueue(1, 2)
        self.backend.clock.advance(60)
        upkeep = idle(self.backend, "w")
        for _ in range(3):
            upkeep.round()
        assert depth(self.backend) == 2

    def test_what_went_before_the_broker_did_is_not_sent_again(self, monkeypatch):
        for _ in range(3):
            add.using(run_after=timedelta(seconds=60)).enqueue(1, 2)
        self.backend.clock.advance(60)
        upkeep = idle(self.backend, "w")
        publish = CeleryTransport._publish

        def once(*arguments):
            publish(*arguments)
            monkeypatch.setattr(CeleryTransport, "_publish", away)

        def away(*_arguments):
            raise ConnectionError

        monkeypatch.setattr(CeleryTransport, "_publish", once)
        upkeep.round()
        monkeypatch.setattr(CeleryTransport, "_publish", publish)
        self.backend.transport._away_until = 0.0
        upkeep.round()
        assert depth(self.backend) == 3


class TestSilence:
    """A broker that takes connections and says nothing."""

    @pytest.fixture
    def transport(self, monkeypatch):
        made = CeleryTransport(make_app("memory://"), "default", {}, send_timeout=0.05)
        self.speaks = threading.Event()
        self.tries = 0
        publish = CeleryTransport._publish

        def wait_and_publish(*arguments):
            self.tries += 1
            assert self.speaks.wait(20)
            publish(*arguments)

        monkeypatch.setattr(CeleryTransport, "_publish", wait_and_publish)
        yield made
        self.speaks.set()
        self.answered(made)

    def answered(self, transport):
        assert transport._unanswered
        transport._unanswered.join(20)

    def test_who_sends_goes_on_and_nobody_waits_until_it_speaks_again(self, transport, caplog):
        for number in range(5):
            assert transport.send([message(str(number), "default")]) == transports.Sent(frozenset(), is_away=True)
        wait_until(lambda: self.tries > 0, what="the thread to begin")
        assert self.tries == 1
        assert caplog.text.count("action=broker_away backend=default reason=silence") == 1
        self.speaks.set()
        self.answered(transport)
        assert "action=broker_back" in caplog.text
        assert transport.send([message("5", "default")]).ids == {"5"}
        # What the others left behind has been sent as well.
        assert transport.depth(transport.app.conf.task_default_queue) == 6

    def test_a_broker_that_was_away_is_tried_again_and_nobody_waits_for_it(self, transport, monkeypatch):
        transport._note_absence("a test", pause=0)
        monkeypatch.setattr(transport, "_send_timeout", 3600)
        assert transport.send([message("1", "default")]).is_away
        self.speaks.set()
        wait_until(lambda: not transport._is_away, what="the broker to be known to be back")
        assert transport.depth(transport.app.conf.task_default_queue) == 1

    def test_silence_cuts_no_pause_short(self):
        transport = CeleryTransport(make_app("memory://"), "default", {})
        transport._note_absence("a test")
        transport._note_absence("silence", pause=0)
        assert transport._is_left_alone()

    @pytest.mark.parametrize(("taken", "is_away"), [(25, False), (7, True)])
    def test_a_broker_is_waited_for_as_long_as_it_takes_one_message_after_the_other(self, taken, is_away):
        class Sending:
            """A thread that sends one message while it is waited for, and then has 25 sent or hangs."""

            def is_alive(self):
                return len(ids) < 25

            def join(self, seconds):
                assert seconds == 2
                if len(ids) < taken:
                    ids.add(str(len(ids)))

        ids: set[str] = set()
        transport = CeleryTransport(make_app("memory://"), "default", {}, send_timeout=2)
        sending: Any = Sending()
        transport._wait_for(sending, ids, 2)
        assert (len(ids), transport._is_away) == (taken, is_away)

    def test_it_sends_from_a_process_that_has_no_thread_to_give(self, monkeypatch):
        transport = CeleryTransport(make_app("memory://"), "default", {})

        def refuse(_self):
            msg = "can't start new thread"
            raise RuntimeError(msg)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert transport.send([message("1", "default")]) == transports.Sent(frozenset({"1"}))


@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
def test_an_enqueue_does_not_wait_for_an_absent_broker_twice(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(f"{__name__}.app", make_app(f"redis+socket://{tmp_path}/nobody"))
    options = {"app": f"{__name__}.app", "store": "records"}
    settings.TASKS = {"records": {"BACKEND": KEPT}, "default": {"BACKEND": ON_CELERY, "OPTIONS": options}}
    backend = the_backend()
    tries = []
    connecting = backend.transport._producer

    def connect():
        tries.append(1)
        return connecting()

    monkeypatch.setattr(backend.transport, "_producer", connect)
    for number in range(10):
        add.enqueue(number, 1)
    assert len(tries) == 1
    assert len(backend.store.find(Query(states=(READY,))).records) == 10


@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
class TestDoctor:
    @pytest.fixture(autouse=True)
    def _installed(self, settings):
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "backroom.celery"]

    def test_it_counts_what_waits_at_the_broker_and_says_what_to_start(self, backend):
        add.enqueue(1, 2)
        found = {each.subject: each for each in doctor.examine("default")}
        queue = backend.app.conf.task_default_queue
        assert (found["broker"].level, found["broker"].text) == ("ok", f"1 message in the Celery queue {queue}")
        assert found["workers"].advice == "Start one: celery -A tests.celery.test_transport worker"

    def test_it_says_in_which_queues_priorities_have_no_effect(self, backend, monkeypatch):
        assert not [each for each in doctor.examine("default") if each.subject == "priorities"]
        monkeypatch.setattr(backend.transport, "knows_priorities", lambda _queue: False)
        [found] = [each for each in doctor.examine("default") if each.subject == "priorities"]
        queue = backend.app.conf.task_default_queue
        assert (found.level, found.text.partition(":")[0]) == ("warn", f"have no effect in {queue}")
        assert "task_queue_max_priority = 10" in found.advice

    def test_it_says_that_the_broker_is_away(self, backend, monkeypatch):
        monkeypatch.setattr(backend.transport, "depth", lambda _queue: None)
        [found] = [each for each in doctor.examine("default") if each.subject == "broker"]
        assert (found.level, found.text) == ("fail", "does not answer")


def test_a_forked_process_leaves_its_parents_connection_alone(request):
    celery = make_app(url_of("redis", request))
    transport = CeleryTransport(celery, "default", {})
    message = transports.Message("1", 0, "default", 0, "a.task", None)
    assert transport.send([message]).ids
    before = transport._producer().__enter__().connection
    transports._after_fork()
    after_fork = transport._producer().__enter__().connection
    assert after_fork is not before
    assert before.connected
    assert transport.send([message]).ids
    assert transport.depth(celery.conf.task_default_queue) == 2
    before.release()
    transport.close()


@pytest.mark.parametrize("broker", ["redis", "rabbit"])
def test_it_asks_on_a_new_connection_where_the_old_one_has_died(request, broker):
    celery = make_app(url_of(broker, request))
    transport = CeleryTransport(celery, "default", {})
    assert transport.send([transports.Message("1", 0, "default", 0, "a.task", None)]).ids
    with transport._producer() as producer:
        producer.connection._close()
    assert transport.depth(celery.conf.task_default_queue) == 1
    assert transport.depth("a-queue-that-there-is-not") == 0
    transport.close()
