"""Workers are woken when there is work for them, and not before it is committed."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from backroom.tasks import enqueue_many
from backroom.tasks.transports import wakeups
from backroom.tasks.transports.wakeups import Doorbell, Notifications, Silence, channel_of, is_heard, wakeup_of
from backroom.testing.stores.case import deferred, new_record
from tests.tasks import work
from tests.tasks.test_backends import on

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
on_sqlite = pytest.mark.parametrize("store_database", ["default"], indirect=True)
on_postgresql = pytest.mark.parametrize("store_database", ["postgres"], indirect=True)


@pytest.fixture
def listening(backend):
    """Give what hears when a worker of this backend would be woken."""
    listener = backend.listener()
    listener.open()
    # LISTEN itself rings once, for what came before it: PostgreSQL says nothing of that.
    listener.hear()
    yield listener
    listener.close()


def test_an_enqueue_wakes_who_listens(backend, listening):
    assert not listening.hear()
    on(backend, work.note).enqueue()
    assert is_heard(listening, within=10)
    assert not listening.hear()


@on_sqlite
class TestDoorbell:
    @pytest.fixture(autouse=True)
    def _rings(self, monkeypatch):
        self.rings: list[Doorbell] = []

        def ring(bell: Doorbell) -> None:
            self.rings.append(bell)

        monkeypatch.setattr(Doorbell, "ring", ring)

    def test_an_enqueue_rings_at_once(self, backend):
        on(backend, work.note).enqueue()
        assert len(self.rings) == 1

    def test_many_ring_once(self, backend):
        enqueue_many(on(backend, work.note), [((), {})] * 100)
        assert len(self.rings) == 1

    def test_in_a_transaction_it_rings_at_the_commit(self, backend):
        with transaction.atomic():
            on(backend, work.note).enqueue()
            assert self.rings == []
        assert len(self.rings) == 1

    def test_after_a_rollback_it_does_not_ring(self, backend):
        with transaction.atomic():
            on(backend, work.note).enqueue()
            transaction.set_rollback(True)
        assert self.rings == []

    def test_a_bell_that_cannot_be_rung_keeps_no_commit_back(self, backend, monkeypatch):
        def broken(_bell):
            raise RuntimeError("no bell")

        monkeypatch.setattr(Doorbell, "ring", broken)
        with transaction.atomic():
            result = on(backend, work.note).enqueue()
        assert backend.get_result(result.id) == result

    def test_it_can_be_turned_off(self, backend):
        assert isinstance(wakeup_of("default", "default", is_on=False), Silence)
        wakeup_of("default", "default", is_on=False).ring_on_commit()
        assert self.rings == []


@on_postgresql
class TestNotifications:
    @pytest.fixture
    def heard(self, backend):
        """Give a function that returns how often a listener was notified by now."""
        wrapper = connections.create_connection(backend.alias)
        with wrapper.cursor() as cursor:
            cursor.execute(f'LISTEN "{channel_of(backend.alias)}"')

        def count() -> int:
            # Notifications arrive in the order of the commits, so this one comes last.
            with connections[backend.alias].cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, 'the last one')", [channel_of(backend.alias)])
            payloads = []
            for notification in wrapper.connection.notifies(timeout=30):
                if notification.payload == "the last one":
                    break
                payloads.append(notification.payload)
            return len(payloads)

        yield count
        wrapper.close()

    def test_an_enqueue_notifies(self, backend, heard):
        assert isinstance(backend.wakeup, Notifications)
        on(backend, work.note).enqueue()
        assert heard() == 1

    def test_many_notify_once(self, backend, heard):
        enqueue_many(on(backend, work.note), [((), {})] * 100)
        enqueue_many(on(backend, work.once), [((index,), {}) for index in range(100)])
        assert heard() == 2

    def test_a_transaction_notifies_once_at_its_commit(self, backend, heard):
        with transaction.atomic(using=backend.alias):
            on(backend, work.note).enqueue()
            on(backend, work.note).enqueue()
        assert heard() == 1

    def test_after_a_rollback_nothing_is_notified(self, backend, heard):
        with transaction.atomic(using=backend.alias):
            on(backend, work.note).enqueue()
            enqueue_many(on(backend, work.once), [((1,), {})])
            transaction.set_rollback(True, using=backend.alias)
        assert heard() == 0

    def test_a_task_for_later_wakes_nobody_now(self, backend, heard):
        backend.store.insert([new_record(backend_name=backend.alias, **deferred(3600))])
        assert heard() == 0

    def test_each_backend_has_a_channel_of_its_own(self, backend, heard):
        with connections[backend.alias].cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [channel_of("another's \" name")])
        assert heard() == 0

    def test_it_is_heard_on_the_connection_that_claims_next(self, backend, listening):
        assert listening.fileno() == connections[backend.alias].connection.fileno()
        assert connections[backend.alias].connection.execute("SELECT pg_listening_channels()").fetchall() == [
            (channel_of(backend.alias),)
        ]

    def test_what_arrives_with_the_reply_to_a_statement_is_heard(self, backend, listening):
        backend.wakeup.ring()
        # Notifications come before the reply to what was asked after them.
        backend.store.get(["whatever"])
        assert listening.hear()
        assert not listening.hear()

    def test_after_the_loss_of_its_connection_it_listens_on_the_next_one(self, backend, listening):
        connections[backend.alias].close()
        assert not listening.hear()
        backend.store.get(["whatever"])
        assert listening.fileno() == connections[backend.alias].connection.fileno()
        # Whatever was enqueued in between was not heard, so it rings once.
        assert listening.hear()
        on(backend, work.note).enqueue()
        assert is_heard(listening, within=10)

    def test_a_server_that_ends_the_connection_is_found_out_and_asked_again(self, backend, listening, monkeypatch):
        connection = connections[backend.alias].connection
        monkeypatch.setattr(wakeups, "PATIENCE", 0.0)
        with closing(connections.create_connection(backend.alias)) as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 30000)", [connection.info.backend_pid])
        # To listen anew rings, as above.
        assert is_heard(listening, within=30)
        assert connections[backend.alias].connection is not connection
        on(backend, work.note).enqueue()
        assert is_heard(listening, within=10)

    def test_closed_it_leaves_the_connection_as_it_was(self, backend, listening):
        connection = connections[backend.alias].connection
        listening.close()
        assert connections[backend.alias].connection is connection
        assert connection.execute("SELECT pg_listening_channels()").fetchall() == []


class TestRoundTrips:
    """What one call costs: each statement is a round trip, and outside a transaction a commit."""

    @pytest.fixture
    def count(self, backend):
        """Give a function that returns how many statements some work takes, BEGIN and COMMIT among them."""

        def statements(call: Callable[[], object]) -> int:
            with CaptureQueriesContext(connections[backend.alias]) as captured:
                call()
            return len(captured)

        return statements

    def test_an_enqueue_is_one_statement(self, backend, count):
        task = on(backend, work.note)
        assert count(task.enqueue) == 1

    def test_a_thousand_at_once_are_one_statement_with_their_notification(self, backend, count):
        task = on(backend, work.note)
        calls: list[Any] = [((), {})] * 1_000
        # SQLite writes row by row, between BEGIN and COMMIT.
        assert count(lambda: enqueue_many(task, calls)) == {"default": 3, "postgres": 1}[backend.alias]
        assert backend.store.counts() == {("default", "ready"): 1_000}

    def test_a_thousand_within_the_callers_transaction_can_be_taken_back_alone(self, backend, count):
        task = on(backend, work.note)
        with transaction.atomic(using=backend.alias):
            assert count(lambda: enqueue_many(task, [((), {})] * 1_000)) == 3
