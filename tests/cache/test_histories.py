"""Every order in which computations, invalidations and losses can meet: nobody reads what is older than it may be."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

from django.core.cache import caches
from django.test import override_settings
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule
from hypothesis.strategies import integers, sampled_from

from backroom.cache import invalidate
from backroom.cache.computing import Recipe, obtained
from backroom.cache.entries import Lifetime
from backroom.cache.generations import tag_key
from backroom.cache.steps import Wait
from tests.cache.conftest import LOCMEM

KEYS = ("one", "two")
TAGS = {"one": ("a", "shared"), "two": ("b", "shared")}


class Reader:
    """Somebody on the way through `obtained()`, one step at a time."""

    def __init__(self, key: str, world: Histories) -> None:
        self.key = key
        # What it may see at the oldest: the version that was there when the last invalidation before it returned.
        self.oldest = world.required[key]
        self.steps = obtained(
            Recipe(
                alias="default",
                key=key,
                compute=lambda: world.versions[key],
                lifetime=Lifetime(fresh=None),
                tags=TAGS[key],
                patience=0,
            )
        )
        # A context of its own, as every request has.
        self.context = copy_context()
        self.step: Any = self.context.run(next, self.steps)
        self.value: int | None = None

    def go_on(self) -> None:
        if self.value is not None:
            return
        answer = None if isinstance(self.step, Wait) else self.context.run(self.step.now)
        try:
            self.step = self.context.run(self.steps.send, answer)
        except StopIteration as end:
            self.value = end.value.value


class Histories(RuleBasedStateMachine):
    """Readers, writers who invalidate what they changed, and a cache that may forget anything at any time."""

    readers = Bundle("readers")

    @initialize()
    def begin(self) -> None:
        self.settings = override_settings(CACHES={"default": {"BACKEND": LOCMEM, "LOCATION": "histories"}})
        self.settings.enable()
        caches["default"].clear()
        self.versions = dict.fromkeys(KEYS, 0)
        self.required = dict.fromkeys(KEYS, 0)
        self.everybody: list[Reader] = []

    def teardown(self) -> None:
        if not hasattr(self, "settings"):
            return
        for reader in self.everybody:
            for _ in range(100):
                reader.go_on()
        self.settings.disable()

    @rule(key=sampled_from(KEYS))
    def write(self, key: str) -> None:
        """Change what the value is computed from; the cache may be behind until it is told."""
        self.versions[key] += 1

    @rule(tag=sampled_from(["a", "b", "shared"]))
    def tell(self, tag: str) -> None:
        """Invalidate a tag; whoever begins to read from now on must see what is there now."""
        invalidate(tag, alias="default")
        for key in KEYS:
            if tag in TAGS[key]:
                self.required[key] = self.versions[key]

    @rule(key=sampled_from(KEYS))
    def read(self, key: str) -> None:
        """Read with nobody in between."""
        self.finish(self.arrive(key))

    @rule(key=sampled_from(KEYS))
    def change(self, key: str) -> None:
        """Write and tell."""
        self.write(key)
        self.tell("shared")

    @rule(target=readers, key=sampled_from(KEYS))
    def arrive(self, key: str) -> Reader:
        self.everybody.append(Reader(key, self))
        return self.everybody[-1]

    @rule(reader=readers, times=integers(1, 6))
    def go_on(self, reader: Reader, times: int) -> None:
        for _ in range(times):
            reader.go_on()
        self.check(reader)

    @rule(reader=consumes(readers))
    def finish(self, reader: Reader) -> None:
        for _ in range(100):
            reader.go_on()
        assert reader.value is not None
        self.check(reader)

    @rule(reader=consumes(readers))
    def stop(self, reader: Reader) -> None:
        """Go no further, and leave whatever it holds where it is."""

    @rule(what=sampled_from([*KEYS, *map(tag_key, ("a", "b", "shared"))]))
    def forget(self, what: str) -> None:
        """Evict an entry or the generation of a tag."""
        caches["default"].delete(what)

    def check(self, reader: Reader) -> None:
        if reader.value is not None:
            assert reader.value >= reader.oldest


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=100, stateful_step_count=40)
