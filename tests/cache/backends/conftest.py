from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.memcached import MemcachedServer
from tests.services.servers import MissingService


@pytest.fixture(scope="session")
def memcached_server(services_folder: Path) -> Iterator[MemcachedServer]:
    """Give the memcached server that this run shares."""
    try:
        server = MemcachedServer(services_folder / "memcached")
    except MissingService as missing:
        pytest.fail(str(missing), pytrace=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()
