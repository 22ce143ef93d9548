"""Start the servers, and for each store an agent that measures its engines by turns; collect what they say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.tasks import machine
from tests.services.servers import PostgresServer, RedisServer

STORES = ("sqlite", "postgresql", "redis")
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    stores: Sequence[str]
    depths: Sequence[int]
    rounds: int
    count: int


def measure(plan: Plan, directory: Path | None) -> dict[str, Any]:
    """Carry out a plan; return everything that was seen, ready for JSON."""
    folder = Path(tempfile.mkdtemp(prefix="backroom-bench-", dir=directory))
    folder.chmod(0o755)  # the database server is another user
    began, since = time.time(), machine.read()
    samples: list[dict[str, Any]] = []
    try:
        for store in plan.stores:
            samples += _of_store(store, plan, folder)
        about = machine.describe(str(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "taken": time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)),
        "minutes": (time.time() - began) / 60,
        "machine": about,
        "foreign": machine.foreign_share(since),
        "versions": {name: version(name) for name in ("Django", "psycopg", "redis")},
        "depths": list(plan.depths),
        "rounds": plan.rounds,
        "count": plan.count,
        "samples": samples,
    }


def _of_store(store: str, plan: Plan, folder: Path) -> list[dict[str, Any]]:
    own = folder / store
    own.mkdir()
    own.chmod(0o755)
    server: Any = None
    database: dict[str, Any] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(own / "sessions.sqlite3"),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
    if store == "postgresql":
        server = PostgresServer(own / "server")
    elif store == "redis":
        server = RedisServer(own / "server")
    try:
        if server is not None:
            server.start()
        if store == "postgresql":
            database = {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": server.host,
                "PORT": str(server.port),
                "USER": "backroom",
                "NAME": server.create_database(),
            }
        told = {
            "store": store,
            "folder": str(own),
            "database": database,
            "redis": server.url if store == "redis" else "",
            "server": server.process.pid if server is not None else 0,
            "depths": list(plan.depths),
            "rounds": plan.rounds,
            "count": plan.count,
            "filled": {},
        }
        return _heard(told)
    finally:
        if server is not None:
            server.stop()


def _heard(told: dict[str, Any]) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.sessions.agent", json.dumps(told)]
    samples = []
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        for line in agent.stdout:
            said = json.loads(line)
            if "note" in said:
                print(said["note"], file=sys.stderr)
            else:
                samples.append(said)
                figures = ", ".join(f"{name} {value:,.4g}" for name, value in said["figures"].items())
                print(
                    f"{said['round'] + 1} {said['metric']} at {said['depth']:,} {said['system']}: {figures}",
                    file=sys.stderr,
                )
    if agent.returncode:
        sys.exit(f"The agent of {told['store']} ended with {agent.returncode}.")
    return samples
