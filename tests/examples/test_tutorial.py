"""The tutorial, followed from an empty folder to its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.frontdesk import free_port
from tests.services.markdown import Block, blocks_for, commands
from tests.services.project import Process, wait_until

TEST = "tests/examples/test_tutorial.py::test_the_tutorial_leads_to_its_end"
PLACE = re.compile(r"(?:# |<!-- )(?P<path>[\w/]+\.(?:py|html))(?: -->)?\n")
SERVER = "python manage.py runserver"


class Reader:
    """Does as the tutorial says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.server: Process | None = None
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
        self.env = kept | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}

    def follow(self, block: Block) -> None:
        """Write the file that a block is, or run its commands."""
        if block.language in {"bash", "console"}:
            for command, shown in commands(block):
                for line in command.splitlines() if block.language == "bash" else [command]:
                    self.run(line, shown)
        else:
            self.write(block)

    def write(self, block: Block) -> None:
        place = PLACE.match(block.text)
        assert place, f"{block.place} does not begin with the name of its file"
        path = self.folder / place["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.name == "settings.py" else ""
        path.write_text(f"{before}\n{block.text}" if before else block.text)

    def run(self, command: str, shown: str) -> None:
        if command == SERVER:
            self.start()
            return
        command = command.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        finished = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
        for line in shown.splitlines():
            wanted = ".*".join(re.escape(part.strip()) for part in line.split("..."))
            assert re.search(wanted, finished.stdout), f"{command} did not print {line!r}\n{finished.stdout}"

    def start(self) -> None:
        log = self.folder / "runserver.log"
        self.server = Process([*SERVER.split(), str(self.port)], log=log, env=self.env, cwd=self.folder)
        self.server.wait_for_output("Quit the server")
        wait_until(lambda: b"Start" in self.page("/primes/"), what="the form")

    def page(self, path: str) -> bytes:
        """Return a page as a browser gets it."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": "text/html"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            return b""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    if reader.server:
        reader.server.terminate()
        reader.server.wait(15)
        reader.server.end()


def test_the_tutorial_leads_to_its_end(reader: Reader):
    for block in blocks_for(TEST):
        reader.follow(block)
    assert b'role="progressbar"' in reader.page("/primes/?below=2000000")
