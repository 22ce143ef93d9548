"""Fixtures for pytest. Loaded by itself where Backroom is installed; it imports nothing before a test asks for it."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from backroom.testing.clock import FakeClock

# The contracts' asserts then say which values did not fit.
pytest.register_assert_rewrite("backroom.testing.stores", "backroom.testing.cache")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test with empty doubles, as Django begins it with an empty outbox."""
    if "backroom.tasks.backends.memory" in sys.modules:
        from backroom.testing.tasks import clear_doubles

        clear_doubles()


@pytest.fixture
def fake_clock() -> "Iterator[FakeClock]":
    """Give a clock that stands still until the test moves it, in the place of every system clock of Backroom's."""
    from backroom.testing.clock import FakeClock

    with FakeClock().installed() as clock:
        yield clock


@pytest.fixture
def enqueued_tasks() -> Iterator[list[Any]]:
    """Give a list that fills with the results of the tasks that the test enqueues."""
    from backroom.testing.tasks import captured_tasks

    with captured_tasks() as tasks:
        yield tasks
