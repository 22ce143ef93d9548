"""A server that runs as long as a fixture gives it; one that this machine lacks fails the test and is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from tests.services.servers import MissingService


class Startable(Protocol):
    """What starts and stops."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def kept_running[S: Startable](make: Callable[[], S]) -> Iterator[S]:
    """Make a server, run it, and stop it when the test or the run is over."""
    try:
        server = make()
    except MissingService as missing:
        pytest.fail(str(missing), pytrace=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()
