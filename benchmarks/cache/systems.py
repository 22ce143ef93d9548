"""The systems: their CACHES setting, and the servers that some of them need, started here and ended here."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DJANGO = "django.core.cache.backends."
OUR_REDIS = "backroom.cache.backends.redis.RedisCache"
PLENTY = {"MAX_ENTRIES": 10_000_000}
NEEDS_A_SERVER = {
    "pymemcache": "memcached",
    "pylibmc": "memcached",
    "backroom-redis": "redis",
    "backroom-tiered": "redis",
    "redis": "redis",
    "django-redis": "redis",
    "django-valkey": "redis",
}
AT_A_MILLION = (
    *("backroom-sqlite", "backroom-redis", "backroom-tiered", "diskcache", "redis", "django-redis", "django-valkey"),
    "locmem",
)
"""Those that are filled with a million entries; the others would take hours."""
MILLION_SIZES = ("100 B",)
"""A million entries of 10 kB would be 10 GB in each; and what a dict costs more than text, it costs in a small store too."""


def caches(folder: Path) -> dict[str, dict[str, Any]]:
    """Return each system's CACHES, for a store in this folder; "default" is what is measured."""
    memcached, redis = f"unix:{folder}/memcached.sock", f"unix://{folder}/redis.sock"
    plain: dict[str, dict[str, Any]] = {
        "backroom-sqlite": {
            "BACKEND": "backroom.cache.backends.sqlite.SQLiteCache",
            "LOCATION": str(folder / "ours.sqlite3"),
            "OPTIONS": {"MAX_BYTES": 8 * 2**30},
        },
        "backroom-redis": {"BACKEND": OUR_REDIS, "LOCATION": f"{redis}?db=3"},
        "backroom-tiered": {"BACKEND": "backroom.cache.backends.tiered.TieredCache", "LOCATION": "behind"},
        "dummy": {"BACKEND": f"{DJANGO}dummy.DummyCache"},
        "locmem": {"BACKEND": f"{DJANGO}locmem.LocMemCache", "OPTIONS": PLENTY},
        "file": {"BACKEND": f"{DJANGO}filebased.FileBasedCache", "LOCATION": str(folder / "files"), "OPTIONS": PLENTY},
        "database": {"BACKEND": f"{DJANGO}db.DatabaseCache", "LOCATION": "cache_table", "OPTIONS": PLENTY},
        "pymemcache": {"BACKEND": f"{DJANGO}memcached.PyMemcacheCache", "LOCATION": memcached},
        "pylibmc": {"BACKEND": f"{DJANGO}memcached.PyLibMCCache", "LOCATION": memcached},
        "redis": {"BACKEND": f"{DJANGO}redis.RedisCache", "LOCATION": f"{redis}?db=0"},
        "django-redis": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"{redis}?db=1"},
        "django-valkey": {"BACKEND": "django_valkey.cache.ValkeyCache", "LOCATION": f"{redis}?db=2"},
        "diskcache": {
            "BACKEND": "diskcache.DjangoCache",
            "LOCATION": str(folder / "diskcache"),
            "OPTIONS": {"size_limit": 8 * 2**30},
        },
    }
    behind = {"BACKEND": OUR_REDIS, "LOCATION": f"{redis}?db=4", "TIMEOUT": 86_400}
    found = {name: {"default": {**setting, "TIMEOUT": 86_400}} for name, setting in plain.items()}
    found["backroom-tiered"]["behind"] = behind
    return found


@contextmanager
def servers(folder: Path, systems: list[str]) -> Iterator[None]:
    """Run the servers that these systems need."""
    needed = {NEEDS_A_SERVER[name] for name in systems if name in NEEDS_A_SERVER}
    commands = {
        "redis": ["redis-server", "--port", "0", "--unixsocket", f"{folder}/redis.sock", "--save", ""],
        "memcached": ["memcached", "-s", f"{folder}/memcached.sock", "-m", "1024", "-U", "0", "-u", "root"],
    }
    running = []
    try:
        for name in sorted(needed):
            if not shutil.which(commands[name][0]):
                raise SystemExit(f"{commands[name][0]} is not on this machine; install it or leave its systems out.")
            running.append(subprocess.Popen(commands[name], cwd=folder, stdout=subprocess.DEVNULL))
            _wait_for(folder / f"{name}.sock")
        yield
    finally:
        for server in running:
            server.terminate()
            server.wait()


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(os.fspath(path))
            except OSError:
                time.sleep(0.05)
            else:
                return
    raise SystemExit(f"Nothing listens on {path}.")
