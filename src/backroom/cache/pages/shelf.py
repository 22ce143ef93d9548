"""What is stored of one address, as one request sees it: looked up, put there, and marked as not to be waited for."""

import random
import time
from dataclasses import replace
from math import ceil
from typing import Any, Final

from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.http import HttpRequest

from backroom.cache.computing import asked_key
from backroom.cache.entries import Entry, Standing
from backroom.cache.generations import held, tag_key
from backroom.cache.locks import Held, claim
from backroom.cache.pages.options import PageCache
from backroom.cache.pages.places import Place
from backroom.cache.pages.stored import StoredPage
from backroom.cache.pages.variants import Variation
from backroom.cache.steps import Steps, ask, latest
from backroom.cache.waiting import Waiting, has_failed, tell_failure

META: Final = "backroom-page-1"
DAY: Final = 86_400


class Shelf:
    """The stored pages of one address. One that was found has a `StoredPage` as its entry's value."""

    def __init__(self, cache: PageCache, request: HttpRequest, place: Place, *, has_authorization: bool) -> None:
        self.cache = cache
        self.request = request
        self.place = place
        self.method = str(request.method)
        self.has_authorization = has_authorization
        self.variation: Variation | None = None
        """By what the pages of this address differ; None if there are none."""
        self.is_pass = False
        """Whether nobody need wait for another's answer."""
        self.why = "uri-miss"
        """Why there was nothing to serve, as Cache-Status has it."""

    def look(self, chance: float | None = None, *, has_lock: bool = False) -> Steps[tuple[Entry | None, Standing]]:
        """Return the page that fits the request, if its tags still hold, and what it is good for.

        Who has the lock is to find what was stored just before, which a replica may not have yet.
        """
        alias, tags, plain = self.cache.alias, self.place.tags, self.place.page("GET", "plain")
        keys = [self.place.meta, plain, *map(tag_key, tags)]
        read = yield from (latest(alias, keys) if has_lock else ask(alias, "get_many", keys))
        self._learn(read.get(self.place.meta))
        if self.variation is None:
            return None, Standing.DEAD
        variant = self.variation.digest(self.request)
        entry = Entry.unpacked((yield from self._variant(variant, read.get(plain), has_lock=has_lock)))
        page = None if entry is None else StoredPage.unpacked(entry.value)
        if (
            entry is None
            or page is None
            or not (yield from held(alias, read, entry.generations, tags, has_lock=has_lock))
        ):
            self.why = "vary-miss" if self.variation.headers or self.variation.cookies else "uri-miss"
            return None, Standing.DEAD
        if self.has_authorization and not page.is_for_everyone:
            self.why, self.is_pass = "request", True
            return None, Standing.DEAD
        standing = entry.standing(time.time(), random.random() if chance is None else chance)  # noqa: S311 - no secret
        if standing is not Standing.FRESH:
            self.why = "stale"
        return (None if standing is Standing.DEAD else replace(entry, value=page)), standing

    def put(self, entry: Entry, variation: Variation) -> Steps[bool]:
        """Store a page, and by what those of its address differ; tell whether the cache took both."""
        page = self.place.page(self.method, variation.digest(self.request))
        data = {page: entry.packed(), self.place.meta: [META, variation.packed(), 0]}
        refused = yield from ask(self.cache.alias, "set_many", data, entry.lifetime.backend_timeout)
        # It takes everything and keeps nothing, and says neither.
        return not refused and not isinstance(caches[self.cache.alias], DummyCache)

    def mark_pass(self, seconds: int) -> Steps[None]:
        """Remember that nobody need wait for another's answer, and keep what is known of those that are stored."""
        packed, kept = (None, seconds) if self.variation is None else (self.variation.packed(), DAY)
        yield from ask(self.cache.alias, "set", self.place.meta, [META, packed, time.time() + seconds], kept)

    def tell_failure(self, failure: list[Any]) -> Steps[None]:
        """Have those who wait for the page know that making it failed."""
        yield from tell_failure(self.cache.alias, self._lock_name, failure)

    def has_failed(self) -> Steps[bool]:
        """Tell whether making the page failed lately."""
        return (yield from has_failed(self.cache.alias, self._lock_name))

    def mark_asked(self) -> Steps[bool]:
        """Remember that the page is being made elsewhere; tell whether nobody had said so lately."""
        return bool((yield from ask(self.cache.alias, "add", asked_key(self._lock_name), 1, ceil(self.cache.lease))))

    def forget_asked(self) -> Steps[None]:
        """Forget it: the page is there."""
        yield from ask(self.cache.alias, "delete", asked_key(self._lock_name))

    def claim(self) -> Steps[Held | None]:
        """Take the lock of the page, or return None when another has it."""
        return (yield from claim(self.cache.alias, self._lock_name, self.cache.lease))

    def listen(self, waiting: Waiting) -> Steps[None]:
        """See who makes the page, and what has come of those who did."""
        yield from waiting.look(self._lock_name)

    def _learn(self, stored: Any) -> None:
        self.variation, self.is_pass = None, False
        match stored:
            case [str(form), packed, int() | float() as until] if form == META:
                self.variation = Variation.unpacked(packed)
                self.is_pass = until > time.time()
                self.why = "bypass" if self.is_pass else self.why

    def _variant(self, variant: str, plain: Any, *, has_lock: bool) -> Steps[Any]:
        stored = plain if variant == "plain" else None
        if stored is None and variant != "plain":
            stored = yield from self._one(self.place.page("GET", variant), has_lock=has_lock)
        if stored is None and self.method == "HEAD":
            stored = yield from self._one(self.place.page("HEAD", variant), has_lock=has_lock)
        return stored

    def _one(self, key: str, *, has_lock: bool) -> Steps[Any]:
        if has_lock:
            return (yield from latest(self.cache.alias, [key])).get(key)
        return (yield from ask(self.cache.alias, "get", key))

    @property
    def _lock_name(self) -> str:
        variant = "" if self.variation is None else self.variation.digest(self.request)
        return self.place.page(self.method, variant)
