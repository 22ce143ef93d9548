"""The page that says which test shows what names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backroom.testing.cache import CacheContract, LockContract
from tests.services.project import REPOSITORY

PAGE = REPOSITORY / "docs/explanation/djangos-caches.md"
ROWS = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]


def test_all_weaknesses_are_there():
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 25))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_what_shows_that_a_weakness_is_cured_is_a_test(row):
    named = re.findall(r"`([\w/.]+)::(test_\w+)`", row)
    assert named
    for place, name in named:
        if place == "contract":
            assert hasattr(CacheContract, name) or hasattr(LockContract, name)
        else:
            assert f"def {name}(" in (Path(__file__).parent / place).read_text(), name
