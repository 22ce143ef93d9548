"""The backend on Redis: transactions of a database, the outbox, and what an enqueue says when the server is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections, transaction
from django.db.transaction import TransactionManagementError
from django.tasks import task_backends
from django.tasks.exceptions import TaskResultDoesNotExist

from backroom.clock import after
from backroom.redis import RedisUnavailable
from backroom.tasks import control, enqueue_many, maintenance
from backroom.tasks.backends import redischecks
from backroom.tasks.exceptions import StoreUnavailable
from backroom.tasks.models import OutboxRecord
from backroom.tasks.queries import backend_of
from backroom.tasks.records import Query, Worker
from backroom.tasks.stores import committed
from backroom.tasks.stores.committed import RELAYED
from backroom.testing import run_tasks
from backroom.testing.stores.case import new_record
from tests.redis.servers import TcpRedis
from tests.services.project import wait_until
from tests.tasks import work

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "postgres"], available_apps=["backroom.tasks"])
]
PATH = "backroom.tasks.backends.redis.RedisBackend"


class TakenBack(Exception):
    """Undoes a transaction."""


@pytest.fixture
def use(settings: Any, either: TcpRedis) -> Callable[..., Any]:
    """Return a function that gives the backend with these OPTIONS."""

    def use(**options: Any) -> Any:
        settings.TASKS = {"default": {"BACKEND": PATH, "OPTIONS": {"url": either.url} | options}}
        work.seen.clear()
        return backend_of("default")

    return use


def stored(backend: Any) -> list[str]:
    return [record.id for record in backend.store.find(Query()).records]


def test_an_enqueue_is_one_round_trip(use: Callable[..., Any], either: TcpRedis) -> None:
    backend = use()
    work.note.enqueue(0)
    either.ask("CONFIG", "RESETSTAT")
    for number in range(20):
        work.note.enqueue(number)
    assert either.calls()["evalsha"] == 20
    assert not {"eval", "get", "ping", "select", "auth", "multi", "client|setname"} & either.calls().keys()
    assert len(stored(backend)) == 21


def test_many_take_a_round_trip_for_thousands(use: Callable[..., Any], either: TcpRedis) -> None:
    use()
    work.note.enqueue(0)
    either.ask("CONFIG", "RESETSTAT")
    results: list[Any] = enqueue_many(work.note, [((number,), {}) for number in range(5_000)])
    assert either.calls()["evalsha"] == 5
    assert [result.args for result in results[:2]] == [[0], [1]]
    assert backend_of().store.counts() == {("default", "ready"): 5_001}


def test_tasks_run_and_their_results_are_read(use: Callable[..., Any]) -> None:
    use()
    result = work.note.enqueue(1, two=2)
    assert len(run_tasks()) == 1
    result.refresh()
    assert result.return_value == [[1], {"two": 2}]


@pytest.mark.parametrize("alias", ["default", "postgres"])
def test_what_is_enqueued_in_a_transaction_is_sent_when_it_commits(use: Callable[..., Any], alias: str) -> None:
    backend = use(database=alias)
    with transaction.atomic(using=alias):
        first = work.note.enqueue(1)
        with transaction.atomic(using=alias):
            second: Any = enqueue_many(work.note, [((2,), {})])[0]
        assert stored(backend) == []
    assert stored(backend) == [second.id, first.id]


def test_a_transaction_on_another_database_is_none_of_its_affair(use: Callable[..., Any]) -> None:
    backend = use(database="postgres")
    with transaction.atomic(using="default"):
        result = work.note.enqueue(1)
        assert stored(backend) == [result.id]


@pytest.mark.parametrize("has_outbox", [False, True])
def test_nothing_is_sent_after_a_rollback(use: Callable[..., Any], has_outbox: bool) -> None:
    backend = use(outbox=has_outbox)
    with suppress(TakenBack), transaction.atomic():
        work.note.enqueue(1)
        raise TakenBack
    with transaction.atomic():
        kept = work.note.enqueue(2)
        with suppress(TakenBack), transaction.atomic():
            work.note.enqueue(3)
            raise TakenBack
    maintenance.tidy(backend, backend.clock.now())
    assert stored(backend) == [kept.id]
    assert OutboxRecord.objects.count() == 0


class TestByHand:
    """`set_autocommit(False)`: nothing tells when such a transaction commits."""

    @pytest.fixture(params=["default", "postgres"])
    def alias(self, request: pytest.FixtureRequest) -> Any:
        yield request.param
        transaction.rollback(using=request.param)
        transaction.set_autocommit(True, using=request.param)

    def test_an_enqueue_is_refused(self, use: Callable[..., Any], alias: str) -> None:
        backend = use(database=alias)
        transaction.set_autocommit(False, using=alias)
        with pytest.raises(TransactionManagementError, match=r"Use atomic\(\), or set 'outbox' in TASKS\['default'\]"):
            work.note.enqueue(1)
        with pytest.raises(TransactionManagementError), transaction.atomic(using=alias):
            work.note.enqueue(2)
        transaction.rollback(using=alias)
        transaction.set_autocommit(True, using=alias)
        with transaction.atomic(using=alias):
            kept = work.note.enqueue(3)
        assert stored(backend) == [kept.id]

    def test_the_outbox_is_part_of_it(self, use: Callable[..., Any], alias: str) -> None:
        backend = use(database=alias, outbox=True)
        transaction.set_autocommit(False, using=alias)
        work.note.enqueue(1)
        transaction.rollback(using=alias)
        kept = work.note.enqueue(2)
        with transaction.atomic(using=alias):
            other = work.note.enqueue(3)
        assert stored(backend) == []
        transaction.commit(using=alias)
        # A process that never switches it on again would keep them for ever.
        assert connections[alias].run_on_commit == []
        transaction.set_autocommit(True, using=alias)
        maintenance.tidy(backend, backend.clock.now())
        assert stored(backend) == [other.id, kept.id]


class TestOthersOnCommit:
    """What others have registered with `on_commit`."""

    def test_who_cannot_send_holds_up_nobody(
        self, use: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend, seen = use(), []
        with transaction.atomic():
            result = work.note.enqueue(1)
            transaction.on_commit(lambda: seen.append("another"))
            monkeypatch.setattr(type(backend.server), "call", refuse)
        assert seen == ["another"]
        [line] = [line for line in caplog.messages if "lost_after_commit" in line]
        assert result.id in line

    def test_one_that_raises_takes_nothing_from_the_outbox(self, use: Callable[..., Any]) -> None:
        backend = use(outbox=True)

        def fail() -> None:
            raise TakenBack

        with suppress(TakenBack), transaction.atomic():
            transaction.on_commit(fail)
            result = work.note.enqueue(1)
        assert stored(backend) == []
        maintenance.tidy(backend, backend.clock.now())
        assert stored(backend) == [result.id]


def test_who_enqueues_in_a_transaction_is_told_of_the_servers_absence_while_it_can_be_taken_back(
    use: Callable[..., Any], either: TcpRedis
) -> None:
    use(url="redis://127.0.0.1:1/0")

    def sign_up() -> None:
        OutboxRecord.objects.create(id="0" * 32, backend_name="another", record="")
        work.note.enqueue(1)

    with pytest.raises(StoreUnavailable):
        transaction.atomic()(sign_up)()
    assert OutboxRecord.objects.count() == 0
    use()
    either.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        with transaction.atomic(), pytest.raises(StoreUnavailable, match="is out of memory"):
            work.note.enqueue(1)
    finally:
        either.ask("CONFIG", "SET", "maxmemory", "0")


def test_an_enqueue_in_a_coroutine_belongs_to_no_transaction(use: Callable[..., Any]) -> None:
    backend = use()
    result = asyncio.run(work.note.aenqueue(1))
    assert stored(backend) == [result.id]


@pytest.mark.parametrize("has_outbox", [False, True])
def test_who_loses_at_the_commit_is_led_to_the_task_in_its_way(use: Callable[..., Any], has_outbox: bool) -> None:
    backend = use(outbox=has_outbox)
    first = work.once.enqueue(7)
    with transaction.atomic():
        second = work.once.enqueue(7)
        third = work.once.enqueue(8)
        assert second.id != first.id
    assert stored(backend) == [third.id, first.id]
    assert backend.get_result(second.id).id == first.id
    run_tasks()
    second.refresh()
    assert second.status == "SUCCESSFUL"
    with pytest.raises(TaskResultDoesNotExist):
        backend.get_result("0" * 32)


def test_a_collision_outside_a_transaction_is_told_at_once(use: Callable[..., Any]) -> None:
    use()
    assert work.once.enqueue(7).id == work.once.enqueue(7).id


class TestOutbox:
    """`outbox=True`."""

    def test_what_is_written_down_is_sent_and_struck_off(self, use: Callable[..., Any]) -> None:
        backend = use(outbox=True)
        with transaction.atomic():
            results = [work.note.enqueue(1), *enqueue_many(work.note, [((2,), {}), ((3,), {})])]
            assert OutboxRecord.objects.count() == 3
            assert stored(backend) == []
        assert OutboxRecord.objects.count() == 0
        assert stored(backend) == [result.id for result in reversed(results)]
        assert len(run_tasks()) == 3

    def test_it_keeps_what_the_server_cannot_take_now(
        self, use: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = use(outbox=True)
        with monkeypatch.context() as away:
            away.setattr(type(backend.server), "call", refuse)
            away.setattr(type(backend.server), "call_each", refuse)
            with transaction.atomic():
                inside = work.note.enqueue(1)
            outside = work.note.enqueue(2)
            maintenance.tidy(backend, backend.clock.now())
            assert OutboxRecord.objects.count() == 2
        maintenance.tidy(backend, backend.clock.now())
        assert OutboxRecord.objects.count() == 0
        assert stored(backend) == [outside.id, inside.id]

    def test_a_row_that_cannot_be_struck_off_is_none_of_the_callers_affair(
        self, use: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = use(outbox=True)

        def move(_records: Any) -> None:
            raise OperationalError

        monkeypatch.setattr(backend.store, "_move", move)
        work.note.enqueue(1)
        assert OutboxRecord.objects.count() == 1

    def test_a_row_that_cannot_be_read_stops_nobody(self, use: Callable[..., Any]) -> None:
        backend = use(outbox=True)
        record = new_record()
        unread = [OutboxRecord(id=f"{number:032}", backend_name="default", record="{not json") for number in range(510)]
        assert len(unread) > RELAYED
        OutboxRecord.objects.bulk_create(unread)
        OutboxRecord.objects.create(id=record.id, backend_name="default", record=json.dumps(record))
        backend.store.relay()
        assert stored(backend) == [record.id]
        assert OutboxRecord.objects.count() == len(unread)

    def test_who_dies_between_sending_and_striking_off_sends_again_in_vain(self, use: Callable[..., Any]) -> None:
        backend = use(outbox=True)
        result = work.note.enqueue(1)
        [record] = backend.store.get([result.id])
        OutboxRecord.objects.create(id=record.id, backend_name="default", record=json.dumps(record))
        run_tasks()
        maintenance.tidy(backend, backend.clock.now())
        assert OutboxRecord.objects.count() == 0
        assert run_tasks() == []
        assert backend.get_result(result.id).attempts == 1

    def test_a_round_of_maintenance_moves_it_in_steps(
        self, use: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = use(outbox=True)
        with monkeypatch.context() as away:
            away.setattr(type(backend.server), "call_each", refuse)
            enqueue_many(work.note, [((number,), {}) for number in range(RELAYED + 10)])
        monkeypatch.setattr(committed, "STEPS", 1)
        backend.store.relay()
        assert OutboxRecord.objects.count() == 10
        maintenance.tidy(backend, backend.clock.now())
        assert OutboxRecord.objects.count() == 0
        assert backend.store.counts() == {("default", "ready"): RELAYED + 10}


def refuse(*_arguments: Any) -> Any:
    msg = "Redis at nowhere cannot be reached."
    raise RedisUnavailable(msg)


class TestAway:
    """The server is away, or takes nothing."""

    def test_an_enqueue_says_which_server_and_what_to_do(self, use: Callable[..., Any]) -> None:
        use(url="redis://user:s3cret@127.0.0.1:1/0")
        with pytest.raises(StoreUnavailable) as caught:
            work.note.enqueue(1)
        assert "Redis at redis://127.0.0.1:1/0 cannot be reached" in str(caught.value)
        assert "s3cret" not in str(caught.value)
        with pytest.raises(StoreUnavailable), transaction.atomic():
            work.note.enqueue(1)

    def test_it_waits_as_long_as_it_is_told_to(
        self, use: Callable[..., Any], own_server: Callable[..., TcpRedis]
    ) -> None:
        own = own_server(durable=True)
        backend = use(url=own.url, patience=20.0)
        work.note.enqueue(1)
        own.kill()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(work.note.enqueue, 2)
            wait_until(waiting.running, what="somebody to wait")
            own.start()
            result = waiting.result(timeout=20)
        assert result.id in stored(backend)
        assert len(stored(backend)) == 2

    def test_a_server_that_is_full_refuses_what_is_new_and_lets_what_is_there_be_done(
        self, use: Callable[..., Any], own_server: Callable[..., TcpRedis]
    ) -> None:
        own = own_server(maxmemory_policy="noeviction")
        backend = use(url=own.url, retention=0.0)
        enqueue_many(work.note, [((number,), {}) for number in range(50)])
        own.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreUnavailable, match=r"is out of memory\. Raise its maxmemory"):
            work.note.enqueue("too much")
        assert backend.store.counts() == {("default", "ready"): 50}
        assert len(run_tasks()) == 50
        assert control.prune() == 50
        own.ask("CONFIG", "SET", "maxmemory", "0")
        assert work.note.enqueue("room again").id

    def test_a_worker_is_known_although_the_server_is_full(
        self, use: Callable[..., Any], own_server: Callable[..., TcpRedis]
    ) -> None:
        own = own_server()
        store = use(url=own.url).store
        own.ask("CONFIG", "SET", "maxmemory", "1")
        worker = Worker(id="w", host="h", pid=1, queues=(), threads=1, started_at=1, seen_at=1)
        store.beat([worker])
        assert store.workers() == [worker]

    def test_a_replica_says_that_it_is_one(
        self, use: Callable[..., Any], own_server: Callable[..., TcpRedis], either: TcpRedis
    ) -> None:
        own = own_server(replicaof=f"127.0.0.1 {either.port}", repl_diskless_sync_delay="0")
        use(url=own.url)
        with pytest.raises(StoreUnavailable, match=r"is a read-only replica|is still loading"):
            work.note.enqueue(1)

    def test_what_an_operator_asks_is_answered_by_the_reason(self, use: Callable[..., Any]) -> None:
        use(url="redis://127.0.0.1:1/0")
        for words in (
            ["status"],
            ["list"],
            ["prune"],
            ["retry", "--failed"],
            ["cancel", "--all"],
            ["run-now", "--all"],
        ):
            with pytest.raises(CommandError, match="cannot be reached"):
                call_command("backroom", *words)


OLD: Any = {"INFO": b"redis_version:6.2.1\r\n", "CONFIG": [b"save", b"60 1"]}


def messages(databases: list[str]) -> list[Any]:
    """Return what the checks of databases say of servers."""
    found = checks.run_checks(tags=[checks.Tags.database], databases=databases)
    return [message for message in found if "Redis" in message.msg]


class TestChecks:
    """System checks and `doctor`."""

    def test_sound_settings_pass(self, use: Callable[..., Any]) -> None:
        assert use().check() == []

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            ({"url": "localhost"}, "backroom.E030"),
            ({"url": ""}, "backroom.E030"),
            ({"database": "nowhere"}, "backroom.E031"),
            ({"shards": 0}, "backroom.E001"),
            ({"sentinel": []}, "backroom.E001"),
        ],
    )
    def test_what_cannot_work_is_told(self, use: Callable[..., Any], options: dict[str, Any], found: str) -> None:
        backend = use(**options)
        assert [message.id for message in backend.check()] == [found]
        assert all(message.hint for message in backend.check())
        assert backend.check_server() == [] or found == "backroom.E031"

    def test_a_server_that_may_forget_tasks_is_told_of(
        self, use: Callable[..., Any], own_server: Callable[..., TcpRedis]
    ) -> None:
        own = own_server(maxmemory_policy="allkeys-lru")
        use(url=own.url)
        found = {message.id: message.msg for message in messages(["default"])}
        assert "maxmemory-policy allkeys-lru" in found["backroom.W030"]
        assert "keeps nothing on disk" in found["backroom.W031"]
        # Without a database to look at nothing is connected to.
        assert messages([]) == []
        own.ask("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
        own.ask("CONFIG", "SET", "appendonly", "yes")
        assert messages(["default"]) == []
        # It would write its file to the end first.
        own.kill()

    def test_a_server_that_is_away_is_no_matter_of_checks(self, use: Callable[..., Any]) -> None:
        backend = use(url="redis://127.0.0.1:1/0")
        assert backend.check() == backend.check_server() == []

    def test_a_product_that_is_too_old_is_told(self, use: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        backend = use()
        monkeypatch.setattr(type(backend.server), "call_everywhere", lambda *asked: [OLD[asked[1]]])
        assert [message.id for message in redischecks.check_server(backend)] == ["backroom.E033"]

    def test_a_clock_that_is_off_is_told_of(
        self, use: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        backend = use()
        monkeypatch.setattr(type(backend), "server_moment", lambda _backend: after(backend.clock.now(), -20))
        with pytest.raises(SystemExit):
            call_command("backroom", "doctor")
        assert "ahead of the server's" in capsys.readouterr().out

    def test_the_doctor_examines_the_server(
        self, use: Callable[..., Any], either: TcpRedis, capsys: pytest.CaptureFixture[str]
    ) -> None:
        use()
        call_command("backroom", "doctor")
        said = capsys.readouterr().out
        assert "ok    server      " in said
        assert "there and back" in said
        assert "ok    clock       " in said
        assert "backroom.W031" in said
        use(url="redis://127.0.0.1:1/0")
        with pytest.raises(SystemExit):
            call_command("backroom", "doctor")
        assert "fail  server    Redis at redis://127.0.0.1:1/0 cannot be reached" in capsys.readouterr().out

    def test_a_user_without_dangerous_commands_has_all_that_tasks_need_and_the_doctor_says_what_it_cannot_know(
        self, use: Callable[..., Any], either: TcpRedis, capsys: pytest.CaptureFixture[str]
    ) -> None:
        either.ask("ACL", "SETUSER", "clerk", "on", ">s3cret", "~*", "&*", "+@all", "-@dangerous", "-@admin")
        try:
            backend = use(url=either.tcp_url.replace("//", "//clerk:s3cret@"))
            work.note.enqueue(1)
            assert stored(backend)
            assert backend.check_server() == []
            call_command("backroom", "doctor")
            said = capsys.readouterr().out
        finally:
            either.ask("ACL", "DELUSER", "clerk")
        assert "warn  server" in said
        assert "does not permit INFO" in said
        assert "ok    round trip" in said
        assert "s3cret" not in said


def test_operators_have_their_words(use: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    backend = use()
    fails = work.fail.enqueue()
    run_tasks()
    for words in (["status"], ["list"], ["retry", "--failed"], ["cancel", "--all"], ["run-now", "--all"], ["prune"]):
        call_command("backroom", *words)
    assert fails.id in capsys.readouterr().out
    assert backend.get_result(fails.id).label == "cancelled"


def test_a_connection_to_no_database_is_opened(use: Callable[..., Any]) -> None:
    use()
    connections["postgres"].close()
    work.note.enqueue(1)
    assert connections["postgres"].connection is None
    assert task_backends["default"].get_result(work.note.enqueue(2).id).args == [2]


def test_without_the_library_it_is_told_what_to_install(make_project: Callable[..., Any]) -> None:
    project = make_project(migrate=False, settings=f"TASKS = {{'default': {{'BACKEND': {PATH!r}}}}}")
    project.write("redis.py", "raise ModuleNotFoundError('No module named redis')")
    told = project.run("check", check=False)
    assert told.returncode == 1
    assert "pip install './backroom[redis]'" in told.stderr


def test_the_admin_lists_what_is_in_databases(make_project: Callable[..., Any], only: TcpRedis) -> None:
    url = f"TASKS = {{'default': {{'BACKEND': {PATH!r}, 'OPTIONS': {{'url': {only.url!r}}}}}}}"
    admin = "ROOT_URLCONF = 'mysite.admin'"
    project = make_project(migrate=False, settings=f"{url}\n{admin}")
    project.write(
        "mysite/admin.py",
        "from django.contrib import admin\nfrom django.urls import path\nurlpatterns = [path('', admin.site.urls)]",
    )
    project.run("migrate", "--verbosity", "0")
    said = project.python(
        "from django.contrib.auth.models import User\nfrom django.test import Client\n"
        "client = Client()\nclient.force_login(User.objects.create_superuser('clerk'))\n"
        "for page in ('taskrecord', 'workerrecord'):\n"
        "    print(client.get(f'/backroom_tasks/{page}/').status_code)\n"
    )
    assert said.split() == ["200", "200"]
