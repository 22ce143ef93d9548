"""One process that measures all engines of one store, by turns. `driver` starts it; it prints JSON, a sample a line."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.sessions.systems import CONTENTS, SYSTEMS, System
from benchmarks.tasks.processes import cpu_seconds

WARM_UP = 50


def main() -> None:
    plan = json.loads(sys.argv[1])
    configure(plan)
    systems = [system for system in SYSTEMS if system.store == plan["store"]]
    for depth in plan["depths"]:
        for system in systems:
            if system.fill:
                began = time.monotonic()
                system.fill(depth - plan["filled"].get(system.label, 0))
                plan["filled"][system.label] = depth
                say({"note": f"{system.label}: {depth:,} sessions after {time.monotonic() - began:.0f} s"})
        for system in systems:
            say(
                {
                    "metric": "statements",
                    "system": system.label,
                    "depth": depth,
                    "round": 0,
                    "figures": statements(system),
                }
            )
        for turn in range(plan["rounds"]):
            shift = turn % len(systems)
            for metric, work in METRICS.items():
                # Nobody is always the one that follows a heavy neighbour.
                for system in [*systems[shift:], *systems[:shift]]:
                    figures = measured(work, system, plan["count"], plan["server"])
                    say({"metric": metric, "system": system.label, "depth": depth, "round": turn, "figures": figures})


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def configure(plan: dict[str, Any]) -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command

    folder = Path(plan["folder"])
    on_redis = plan["store"] == "redis"
    (folder / "files").mkdir(exist_ok=True)
    settings.configure(
        SECRET_KEY="measured",
        USE_TZ=True,
        DATABASES={"default": plan["database"]},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "backroom.sessions",
        ],
        SESSION_ENGINE="backroom.sessions.backends.redis" if on_redis else "backroom.sessions.backends.database",
        SESSION_FILE_PATH=str(folder / "files"),
        BACKROOM={"REDIS_URL": plan["redis"]} if on_redis else {},
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": plan["redis"]}
            if on_redis
            else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 1_000_000}}
        },
    )
    django.setup()
    call_command("migrate", verbosity=0)


def store_of(system: System) -> type[Any]:
    """Return the SessionStore of an engine, with the settings that it is measured with."""
    from django.conf import settings
    from django.core.signals import setting_changed

    settings.BACKROOM = {**settings.BACKROOM, "SESSIONS": system.options}
    setting_changed.send(sender=None, setting="BACKROOM", value=settings.BACKROOM, enter=True)
    found: type[Any] = import_module(system.engine).SessionStore
    return found


# ── What is measured: each takes a SessionStore and ids, and returns how many operations it did ─────


def load(store: type[Any], ids: list[str], _turn: int) -> None:
    for each in ids:
        assert store(each)["_auth_user_id"] == "42"


def load_change_save(store: type[Any], ids: list[str], turn: int) -> None:
    for number, each in enumerate(ids):
        session = store(each)
        session["n"] = turn + number
        session.save()


def create(store: type[Any], ids: list[str], _turn: int) -> None:
    for _ in ids:
        session = store()
        session.update(CONTENTS)
        session.save()


METRICS: dict[str, Callable[[type[Any], list[str], int], None]] = {
    "load": load,
    "load_change_save": load_change_save,
    "create": create,
}
_turns = iter(range(10**9))


def ids_of(system: System, count: int) -> list[str]:
    """Return the ids of sessions that this process makes for the measurement."""
    store = store_of(system)
    ids = []
    for _ in range(count):
        session = store()
        session.update(CONTENTS)
        session.save()
        ids.append(session.session_key)
    return ids


_ids: dict[str, list[str]] = {}


def measured(
    work: Callable[[type[Any], list[str], int], None], system: System, count: int, server: int
) -> dict[str, float]:
    ids = _ids.get(system.label) or _ids.setdefault(system.label, ids_of(system, count))
    store = store_of(system)
    work(store, ids[:WARM_UP], next(_turns) * 1_000_000)
    turn = next(_turns) * 1_000_000
    client, served = time.process_time(), cpu_seconds(server)
    began = time.perf_counter()
    work(store, ids, turn)
    took = time.perf_counter() - began
    client, served = time.process_time() - client, cpu_seconds(server) - served
    return {"rate": count / took, "client_us": client / count * 1e6, "server_us": served / count * 1e6}


def statements(system: System) -> dict[str, float]:
    """Return how many statements or commands each operation sends."""
    store, count = store_of(system), 20
    ids = ids_of(system, count)
    for work in METRICS.values():
        work(store, ids[:1], 0)
    counted = {}
    for name, work in METRICS.items():
        with counting() as sent:
            work(store, ids, next(_turns) * 1_000)
        counted[name] = len(sent) / count
    return counted


@contextmanager
def counting() -> Iterator[list[str]]:
    """Collect what goes to the database, and to Redis where there is one; what a script does inside is the server's."""
    from django.conf import settings
    from django.db import connection

    sent: list[str] = []

    def wrap(execute: Any, sql: str, *rest: Any) -> Any:
        sent.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(wrap), redis_commands(settings.BACKROOM.get("REDIS_URL", ""), sent):
        # A wrapper does not see BEGIN and COMMIT, which are round trips of their own.
        connection.force_debug_cursor = True
        before = len(connection.queries_log)
        yield sent
        sent[:] = [
            *(each["sql"] for each in list(connection.queries_log)[before:]),
            *(each for each in sent if each.startswith("redis ")),
        ]
        connection.queries_log.clear()
        connection.force_debug_cursor = False


@contextmanager
def redis_commands(url: str, sent: list[str]) -> Iterator[None]:
    if not url:
        yield
        return
    import redis

    client = redis.Redis.from_url(url)
    with client.monitor() as monitor:
        yield
        client.echo("the end")
        for told in monitor.listen():
            if "the end" in told["command"]:
                break
            if told["client_type"] != "lua" and not told["command"].startswith(("CLIENT", "HELLO", "SELECT")):
                sent.append(f"redis {told['command']}")
    client.close()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
