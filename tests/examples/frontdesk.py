"""The example site, started as a stranger would start it, in a state folder and on a port of its own."""

from __future__ import annotations

import contextlib
import http.client
import http.cookies
import json
import os
import re
import secrets
import socket
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.services.project import REPOSITORY, Process, wait_until

SITE = REPOSITORY / "examples/frontdesk"


class Frontdesk:
    """`manage.py demo` in a folder."""

    def __init__(self, folder: Path, store: str = "sqlite") -> None:
        self.store = store
        self.state = folder / "state"
        self.log = folder / "demo.log"
        self.port = free_port()
        self.process: Process | None = None

    @property
    def address(self) -> str:
        """Return where the site is, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of the site's commands."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
        return (
            kept
            | {"FRONTDESK_STATE": str(self.state), "PORT": str(self.port), "STORE": self.store}
            | {"PYTHONDONTWRITEBYTECODE": "1"}
        )

    def start(self) -> Process:
        """Start everything, again where a process of before was killed, and wait until the address is told."""
        if self.process is not None:
            self.process.end()
        self.process = self.manage("demo", log=self.log)
        self.process.wait_for_output("Ctrl-C closes it", seconds=60)
        return self.process

    def manage(self, *arguments: str, log: Path, **env: str) -> Process:
        """Start one of the site's commands."""
        return Process([sys.executable, "manage.py", *arguments], log=log, env=self.env | env, cwd=SITE)

    def stop(self) -> None:
        """End all of it, however it stands."""
        if self.process is None:
            return
        everything = self.processes()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(Exception):
                self.process.wait(15)
        self.process.end()
        psutil.wait_procs(everything, timeout=5)
        for each in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def processes(self) -> list[psutil.Process]:
        """Return the processes that the demo started, and theirs."""
        assert self.process
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def supervisor(self) -> Any:
        """Return the worker's own process, the parent of those that run tasks; None while there is none."""
        assert self.process
        children = psutil.Process(self.process.pid).children()
        return next((child for child in children if "worker" in command_of(child)), None)

    def workers(self) -> list[psutil.Process]:
        """Return the processes that run tasks."""
        supervisor = self.supervisor()
        return supervisor.children() if supervisor else []

    @contextlib.contextmanager
    def workers_stopped(self) -> Iterator[None]:
        """Let nobody take up a task meanwhile."""
        wait_until(lambda: self.supervisor() is not None, what="a worker")
        while True:
            stopped = [self.supervisor()]
            try:
                # The one first that could start others.
                stopped[0].suspend()
                for child in stopped[0].children(recursive=True):
                    stopped.append(child)
                    child.suspend()
                if self.is_writable():
                    yield
                    return
            finally:
                for each in reversed(stopped):
                    each.resume()

    def is_writable(self) -> bool:
        """Tell whether nobody holds the database's lock; one that was stopped may."""
        with contextlib.closing(sqlite3.connect(self.state / "frontdesk.sqlite3", timeout=0.5)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            return True

    def uploads(self) -> list[str]:
        """Return the names of the files in the spool."""
        return sorted(path.name for path in (self.state / "uploads").iterdir())

    def wait_for_no_uploads(self) -> None:
        """Wait until no upload is left; an order has finished a moment before its upload is deleted."""
        wait_until(lambda: self.uploads() == [], what=lambda: f"{self.uploads()} to be deleted")

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        rows = self.query(f"SELECT count(*) FROM {table}")
        return int(rows[0][0])

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return what the site's database says."""
        with contextlib.closing(sqlite3.connect(self.state / "frontdesk.sqlite3", timeout=30)) as connection:
            return connection.execute(statement).fetchall()

    def leftovers(self) -> dict[str, int]:
        """Return how much there is of everything that orders leave, once no upload is left of those before."""
        self.wait_for_no_uploads()
        return {
            "tasks": self.count("backroom_tasks_taskrecord"),
            "operations": self.count("backroom_offload_operation"),
        }


def command_of(process: psutil.Process) -> list[str]:
    """Return a process's command line; none when it has ended."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the site answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Visitor:
    """Somebody with cookies of their own: a browser without scripts, or a program."""

    def __init__(self, site: Frontdesk, *, accept: str = "text/html") -> None:
        self.site = site
        self.accept = accept
        self.cookies: http.cookies.SimpleCookie = http.cookies.SimpleCookie()

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for a page."""
        return self.send("GET", path, headers=headers)

    def send(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send a request and read its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=60)
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
        sent = {"Accept": self.accept, **({"Cookie": cookies} if cookies else {}), **(headers or {})}
        with contextlib.closing(connection):
            connection.request(method, path, body=body or None, headers=sent)
            response = connection.getresponse()
            answer = Answer(status=response.status, headers=response.headers, body=response.read())
        for header in answer.headers.get_all("Set-Cookie", []):
            self.cookies.load(header)
        return answer

    def order(
        self, content: bytes | None = None, *, name: str = "table.csv", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Order a report: on a file, or else on the airports. A browser gets its token from the page first."""
        fields = {} if content is not None else {"source": "airports"}
        if headers is None:
            fields["csrfmiddlewaretoken"] = self.token()
        body, content_type = multipart(fields, None if content is None else (name, content))
        return self.send("POST", "/", headers={"Content-Type": content_type, **(headers or {})}, body=body)

    def token(self) -> str:
        """Return the token of the desk's form."""
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get("/").text)
        assert found
        return found[1]

    def status(self, location: str) -> Any:
        """Return how an order stands."""
        return self.get(location, Accept="application/json").json

    def finished(self, location: str, *, seconds: float = 90) -> Any:
        """Wait for an order to end, and return how it stands then."""
        wait_until(lambda: self.status(location)["is_finished"], seconds=seconds, what="the order to end")
        return self.status(location)


PROGRAM = {"Prefer": "respond-async", "Accept": "application/json"}
"""The headers of a program that orders."""


def multipart(fields: Mapping[str, str], file: tuple[str, bytes] | None) -> tuple[bytes, str]:
    """Return the body of a form with a file, and its content type."""
    border = secrets.token_hex(12)
    parts = [
        f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    if file:
        disposition = f'form-data; name="file"; filename="{file[0]}"'
        head = f"--{border}\r\nContent-Disposition: {disposition}\r\nContent-Type: text/csv\r\n\r\n"
        parts.append(head.encode() + file[1] + b"\r\n")
    return b"".join([*parts, f"--{border}--\r\n".encode()]), f"multipart/form-data; boundary={border}"


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Frontdesk]:
    """Start the site in a folder, and end it afterwards."""
    site = Frontdesk(folder)
    try:
        site.start()
        yield site
        # What no visitor saw may still have gone wrong.
        assert "Traceback" not in site.log.read_text(), site.log.read_text()
    finally:
        site.stop()
