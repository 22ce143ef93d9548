"""The example site for the tests of a module. It ends with the last of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.frontdesk import Frontdesk, opened


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frontdesk]:
    """Give the running site that the tests of a module share."""
    with opened(tmp_path_factory.mktemp("frontdesk")) as running:
        yield running


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Frontdesk]:
    """Give a site of the test's own, which it starts itself and may harm."""
    site = Frontdesk(tmp_path)
    yield site
    site.stop()
