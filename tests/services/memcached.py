"""memcached as a child process, on a unix socket in a folder of the test run."""

from __future__ import annotations

import os
from pathlib import Path

from tests.services.servers import Server, answers, find_program


class MemcachedServer(Server):
    """memcached, empty, with 64 MiB."""

    service = "memcached"
    package = "memcached"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.socket = folder / "memcached.sock"
        self._memcached = find_program("memcached", service=self.service, package=self.package)

    @property
    def location(self) -> str:
        """Return the address in the form that Django's backends take."""
        return f"unix:{self.socket}"

    def command(self) -> list[str]:
        # It refuses root unless it is told so.
        as_root = ["-u", "root"] if os.geteuid() == 0 else []
        return [self._memcached, "-s", str(self.socket), "-a", "0700", "-m", "64", "-U", "0", *as_root]

    def is_ready(self) -> bool:
        return answers(self.socket, say=b"version\r\n", expect=b"VERSION")
