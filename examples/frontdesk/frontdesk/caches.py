"""Where the almanac is kept, as CACHE in the environment says: each of Django's ways, and Backroom's own.

The site is the same for all of them. `manage.py demo` starts the server that a cache needs, and ends it.
"""

import getpass
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from frontdesk.children import Child
from frontdesk.sockets import Unfit, claim, listens

DUMMY: Final = "dummy"
SQLITE: Final = "sqlite"
DATABASE: Final = "database"
DJANGOS: Final = "django.core.cache.backends"
OURS: Final = "backroom.cache.backends"
REDIS: Final = {"redis": f"{OURS}.redis.RedisCache", "redis-django": f"{DJANGOS}.redis.RedisCache"}
MEMCACHED: Final = {"pymemcache": "PyMemcacheCache", "pylibmc": "PyLibMCCache"}
KINDS: Final = (DUMMY, "locmem", "file", DATABASE, *MEMCACHED, *REDIS, SQLITE, "tiered")
TABLE: Final = "frontdesk_cache"
START_SECONDS: Final = 15.0
KEPT_SECONDS: Final = float(os.environ.get("ALMANAC_SECONDS") or 300)
"""How long the almanac is fresh."""


def chosen() -> str:
    """Return the cache that the environment names."""
    return os.environ.get("CACHE") or SQLITE


def caches_for(kind: str, state: Path) -> dict[str, Any]:
    """Return the setting CACHES for a kind of cache. It is all that differs."""
    file = {"BACKEND": f"{OURS}.sqlite.SQLiteCache", "LOCATION": str(state / "cache.sqlite3")}
    match kind:
        case "dummy":
            return {"default": {"BACKEND": f"{DJANGOS}.dummy.DummyCache"}}
        case "locmem":
            return {"default": {"BACKEND": f"{DJANGOS}.locmem.LocMemCache"}}
        case "file":
            return {"default": {"BACKEND": f"{DJANGOS}.filebased.FileBasedCache", "LOCATION": str(state / "cache")}}
        case "database":
            return {"default": {"BACKEND": f"{DJANGOS}.db.DatabaseCache", "LOCATION": TABLE}}
        case "pymemcache" | "pylibmc":
            backend = f"{DJANGOS}.memcached.{MEMCACHED[kind]}"
            # Without any, pylibmc has Python 3.13 write thirty-one tracebacks for each connection.
            options: dict[str, Any] = {"behaviors": {}} if kind == "pylibmc" else {}
            return {"default": {"BACKEND": backend, "LOCATION": f"unix:{socket_of(state)}", "OPTIONS": options}}
        case "redis" | "redis-django":
            return {"default": {"BACKEND": REDIS[kind], "LOCATION": f"unix://{socket_of(state)}"}}
        case "tiered":
            tiered = {"BACKEND": f"{OURS}.tiered.TieredCache", "LOCATION": "shared"}
            return {"default": tiered, "shared": file}
    return {"default": file}


def socket_of(state: Path) -> Path:
    """Return where the cache's server listens: no port, so that nobody else on this machine can reach it."""
    name = hashlib.sha256(f"cache {state}".encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir(), f"frontdesk-{os.getuid()}-{name}", "cache.sock")


@contextmanager
def server_for(kind: str, state: Path) -> Iterator[Child | None]:
    """Run the server of a cache inside the block, if it needs one."""
    if kind not in KINDS:
        msg = f"CACHE is {kind!r}. Use one of {', '.join(KINDS)}: CACHE=file make demo"
        raise Unfit(msg)
    _require(kind)
    if kind not in {*MEMCACHED, *REDIS}:
        yield None
        return
    path = socket_of(state)
    claim(path)
    server = Child("cache server", _command(kind, path))
    try:
        server.start()
        _wait_for(server, path)
        yield server
    finally:
        server.end()
        shutil.rmtree(path.parent, ignore_errors=True)


def _require(kind: str) -> None:
    # The packages have the names of the kinds.
    package = "redis" if kind in REDIS else kind
    if kind in {*MEMCACHED, *REDIS} and find_spec(package) is None:
        msg = f"CACHE={kind} needs {package}: {sys.executable} -m pip install {package}"
        raise Unfit(msg)


def _command(kind: str, path: Path) -> list[str]:
    if kind in REDIS:
        program = _program(kind, "redis-server", "valkey-server", package="redis-server")
        listening = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600"]
        return [
            program,
            *listening,
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            str(path.parent),
            "--logfile",
            f"{path}.log",
        ]
    program = _program(kind, "memcached", package="memcached")
    return [program, "-s", str(path), "-a", "600", "-m", "64", "-u", getpass.getuser()]


def _program(kind: str, *names: str, package: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    msg = f"CACHE={kind} needs {names[0]}, which is not on this machine. Debian's package: apt-get install {package}"
    raise Unfit(msg)


def _wait_for(server: Child, path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not listens(path):
        if (fate := server.fate()) or time.monotonic() > deadline:
            msg = f"The cache's server did not start ({fate or 'it does not listen'})."
            raise Unfit(msg)
        time.sleep(0.02)
