"""Where tasks wait and who does them, as STORE in the environment says: `sqlite`, `redis` or `celery`.

The site is the same for all of them. `manage.py demo` starts the server that a store needs, and the worker.
"""

import hashlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from frontdesk.children import Child, Ending
from frontdesk.sockets import Unfit, claim

SQLITE: Final = "sqlite"
REDIS: Final = "redis"
CELERY: Final = "celery"
STORES: Final = (SQLITE, REDIS, CELERY)
GRACE_SECONDS: Final = 2.0
"""For a report that is being made; one that is not done by then starts over at the next start."""
START_SECONDS: Final = 15.0

_DATABASE: Final = {"BACKEND": "backroom.tasks.backends.database.DatabaseBackend"}


def chosen() -> str:
    """Return the store that the environment names."""
    return os.environ.get("STORE") or SQLITE


def tasks_for(store: str, state: Path) -> dict[str, Any]:
    """Return the setting TASKS for a store. It is all that differs, with Celery's own settings."""
    match store:
        case "redis":
            options: dict[str, Any] = {"url": f"unix://{socket_of(state)}"}
            return {"default": {"BACKEND": "backroom.tasks.backends.redis.RedisBackend", "OPTIONS": options}}
        case "celery":
            # The records stay in the site's database, so an order and its task are one transaction.
            options = {"app": "frontdesk.celery.app", "store": "records", "resend_after": 5.0}
            return {
                "default": {"BACKEND": "backroom.tasks.backends.celery.CeleryBackend", "OPTIONS": options},
                "records": _DATABASE,
            }
    return {"default": _DATABASE}


def socket_of(state: Path) -> Path:
    """Return where the store's server listens: no port, so that nobody else on this machine can reach it."""
    name = hashlib.sha256(str(state).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir(), f"frontdesk-{os.getuid()}-{name}", "redis.sock")


def worker_for(store: str) -> Child:
    """Return the worker of a store: two processes that do one report each."""
    if store == CELERY:
        command = ["celery", "-A", "frontdesk.celery", "--quiet", "worker", "--concurrency=2", "--loglevel=ERROR"]
        # Celery's worker finishes what runs, however long that takes; after the second signal it hands it back.
        endings = (Ending(signal.SIGTERM, GRACE_SECONDS), Ending(signal.SIGQUIT))
        return Child("worker", [sys.executable, "-m", *command], endings=endings)
    command = ["backroom", "worker", "--processes=2", "--threads=1", f"--grace={GRACE_SECONDS:g}", "--verbosity=0"]
    return Child("worker", [sys.executable, "manage.py", *command])


@contextmanager
def server_for(store: str, state: Path) -> Iterator[Child | None]:
    """Run the server of a store inside the block, if it needs one."""
    if store not in STORES:
        msg = f"STORE is {store!r}. Use one of {', '.join(STORES)}: STORE={REDIS} make demo"
        raise Unfit(msg)
    if store == SQLITE:
        yield None
        return
    path = socket_of(state)
    server = Child("server", [_program(store), *_options(store, state, path)])
    claim(path)
    try:
        server.start()
        _wait_for(server, path, state)
        yield server
    finally:
        server.end()
        shutil.rmtree(path.parent, ignore_errors=True)


def _program(store: str) -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    msg = f"STORE={store} needs redis-server, which is not on this machine. Debian's package: apt-get install redis-server"
    raise Unfit(msg)


def _options(store: str, state: Path, path: Path) -> list[str]:
    folder = state / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Reports outlive the server. What a broker forgets, Backroom sends again.
    kept = "yes" if store == REDIS else "no"
    listening = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600"]
    return [
        *listening,
        "--logfile",
        str(_log(state)),
        "--save",
        "",
        "--dir",
        str(folder),
        "--appendonly",
        kept,
        "--maxmemory-policy",
        "noeviction",
    ]


def _log(state: Path) -> Path:
    return state / "redis" / "log"


def _wait_for(server: Child, path: Path, state: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(path):
        if (fate := server.fate()) or time.monotonic() > deadline:
            msg = f"The store's server did not start ({fate or 'it does not answer'}). Its log: {_log(state)}"
            raise Unfit(msg)
        time.sleep(0.02)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
