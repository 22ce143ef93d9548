"""One request for a page that may be cached: found, awaited or made, and stored if everybody may have it."""

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Final

from django.conf import settings
from django.core.cache import DEFAULT_CACHE_ALIAS
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_cache_control, patch_response_headers, patch_vary_headers
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language

from backroom.cache.arguments import digest
from backroom.cache.computing import AFTER_A_FAILURE, LOOKS, USABLE, asked_key, depends_on, nap
from backroom.cache.dependencies import Dependencies
from backroom.cache.entries import Entry, Lifetime, Standing
from backroom.cache.generations import current, held, invalidate, tag_key
from backroom.cache.locks import Held, claim, is_claimed, lock_key
from backroom.cache.pages import control
from backroom.cache.pages.addresses import IGNORED, Pairs, parted, watch_query
from backroom.cache.pages.control import Terms
from backroom.cache.pages.noticing import WATCHERS, Reads, tell_watchers
from backroom.cache.pages.stored import StoredPage, add_etag, conditional, from_entry, tell
from backroom.cache.pages.variants import Variation, variation_of
from backroom.cache.refreshing import in_background
from backroom.cache.steps import Run, Steps, Wait, ask
from backroom.cache.writes import is_uncommitted

logger = logging.getLogger("backroom.cache")

PASS_SECONDS: Final = 120
"""For so long nobody waits for another's answer of an address that turned out to be private."""
DAY: Final = 86_400
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
CONDITIONAL: Final = frozenset({206, 304, 412, 416})
REVISIT: Final = "_backroom_cache_revisit"
"""On a request that a refresh makes up: it serves nobody, and looks for nothing but a reason not to go on."""
META: Final = "backroom-page-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCache:
    """The options of `cache_page()` and of the middlewares. Times are seconds."""

    terms: Terms = field(default_factory=Terms)
    alias: str = DEFAULT_CACHE_ALIAS
    prefix: str = ""
    tags: Callable[[HttpRequest], tuple[str, ...]] = lambda _request: ()
    per_user: bool = False
    browser: float | None = None
    """The max-age that browsers get; None is what this cache has."""
    trusts_middleware: bool = False
    ignored: tuple[str, ...] | None = None
    lease: float = 30
    patience: float = 60


class Visit:
    """One request on its way through a page cache."""

    def __init__(self, cache: PageCache, request: HttpRequest, reads: Reads | None = None) -> None:
        self.cache = cache
        self.request = request
        self.reads = reads or Reads()
        self.is_lookup = request.method in {"GET", "HEAD"}
        self.method = str(request.method)
        self.found: Entry | None = None
        """What may be served if making the page anew fails."""
        self.held: Held | None = None
        self.dependencies = Dependencies()
        self.why = "uri-miss"
        self.started = time.monotonic()
        self.variation: Variation | None = None
        self.is_pass = False
        self.user = ""
        self.has_authorization = bool(request.headers.get("Authorization"))
        self.is_revisit = hasattr(request, REVISIT)
        if not self.is_lookup:
            return
        ignored = IGNORED.value if cache.ignored is None else cache.ignored
        # Past what may watch it: an address in a key shows nobody anything.
        query, self.left_out = parted(dict.get(request.META, "QUERY_STRING", ""), ignored)
        self.knows_language = settings.USE_I18N and hasattr(request, "LANGUAGE_CODE")
        self.path = f"page:{request.path}"
        self.url = f"{self.path}?{query}"
        # A cache within a cache keeps its pages apart, or would wait for the lock of the one around it.
        depth = sum(watcher is not self.reads for watcher in request.__dict__.get(WATCHERS, []))
        self.place: list[Any] = [depth, cache.prefix, f"{request.scheme}://{request.get_host()}{request.path}", query]
        if settings.USE_I18N:
            self.place.append(getattr(request, "LANGUAGE_CODE", None) or get_language())
        if settings.USE_TZ:
            self.place.append(get_current_timezone_name())

    left_out: Pairs
    place: list[Any]

    # ── Before the view ───────────────────────────────────────────────────────────────────────────

    def arrive(self) -> Steps[HttpResponseBase | None]:
        """Return the stored page, or None when it falls to this visitor to have it made."""
        if not self.is_lookup:
            self.why = "method"
            return None
        if self.cache.per_user:
            self.user = yield Run(self._identify)
        if is_uncommitted(self._known_tags()):
            self.is_pass = True
            self.why = "bypass"
            return None
        entry, standing = yield from self._look()
        if entry is not None and standing in USABLE:
            answer = yield from self._answer_or_renew(entry, standing)
        else:
            self.found = entry
            answer = yield from self._await_or_make()
        if answer is None:
            yield from self.prepare()
        return answer

    def begin(self) -> None:
        """Watch what the page reads, from here to `leave()`."""
        # Whose page it is, is in the key: what a middleware read of the session before, it read of the same user's.
        self.reads.begin(self.request, trusts_middleware=self.cache.trusts_middleware or bool(self.user))
        self.watch_query()

    def watch_query(self) -> None:
        """Watch whether the page reads a parameter that is not in its key."""
        if self.is_lookup and self.left_out:
            watch_query(self.request, self.left_out, self._note_tracking)

    def enter_view(self) -> None:
        """Watch whom the view takes its visitor for."""
        self.reads.enter_view(self.request, per_user=self.cache.per_user)

    # ── After the view ────────────────────────────────────────────────────────────────────────────

    def leave(self, response: Any) -> Steps[Any]:
        """Store what may be stored, give the lock back, and return what this visitor gets."""
        self.reads.end(self.request)
        if not self.is_lookup:
            yield from self._invalidate_target(response)
            return response
        depends_on(self.dependencies.generations)
        try:
            if response.status_code >= 500 and (spare := (yield from self._spare())) is not None:
                response.close()
                return spare
            return (yield from self._stored(response))
        finally:
            yield from self.give_back()

    def fail(self, error: BaseException) -> Steps[HttpResponseBase | None]:
        """Give the lock back and return what may be served in the place of an error, if anything may."""
        self.reads.end(self.request)
        try:
            # Who gave up, or is told to end, says nothing of the page.
            if not self.is_lookup or not isinstance(error, Exception):
                return None
            if (spare := (yield from self._spare())) is None:
                yield from self._mark_pass(AFTER_A_FAILURE)
                return None
            logger.warning("action=served-stale path=%s error=%s", self.request.path, type(error).__qualname__)
            return spare
        finally:
            yield from self.give_back()

    def give_back(self) -> Steps[None]:
        """Let others make the page."""
        if self.held is not None:
            held_lock, self.held = self.held, None
            yield from held_lock.give_back()

    # ── Looking ───────────────────────────────────────────────────────────────────────────────────

    def _look(self, chance: float | None = None) -> Steps[tuple[Entry | None, Standing]]:
        known = self._known_tags()
        meta_key, plain = self._meta_key(), self._page_key("GET", "plain")
        read = yield from ask(self.cache.alias, "get_many", [meta_key, plain, *map(tag_key, known)])
        self._learn(read.get(meta_key))
        if self.variation is None:
            return None, Standing.DEAD
        stored = yield from self._stored_variant(read.get(plain))
        entry = Entry.unpacked(stored)
        page = None if entry is None else StoredPage.unpacked(entry.value)
        if entry is None or page is None or not (yield from held(self.cache.alias, read, entry.generations, known)):
            self.why = "vary-miss" if self.variation.headers or self.variation.cookies else "uri-miss"
            return None, Standing.DEAD
        if self.has_authorization and not page.is_for_everyone:
            self.why, self.is_pass = "request", True
            return None, Standing.DEAD
        drawn = random.random() if chance is None else chance  # noqa: S311 - no secret
        standing = entry.standing(time.time(), drawn)
        if standing is not Standing.FRESH:
            self.why = "stale"
        return (None if standing is Standing.DEAD else entry), standing

    def _stored_variant(self, plain: Any) -> Steps[Any]:
        assert self.variation is not None  # noqa: S101 - for the checker
        variant = self.variation.digest(self.request)
        stored = plain if variant == "plain" else None
        if stored is None and variant != "plain":
            stored = yield from ask(self.cache.alias, "get", self._page_key("GET", variant))
        if stored is None and self.method == "HEAD":
            stored = yield from ask(self.cache.alias, "get", self._page_key("HEAD", variant))
        return stored

    def _learn(self, stored: Any) -> None:
        self.variation, self.is_pass = None, False
        match stored:
            case [str(form), packed, int() | float() as until] if form == META:
                self.variation = Variation.unpacked(packed)
                self.is_pass = until > time.time()
                self.why = "bypass" if self.is_pass else self.why

    def _answer_or_renew(self, entry: Entry, standing: Standing) -> Steps[HttpResponseBase | None]:
        if standing is Standing.FRESH:
            return self._hit(entry)
        if entry.lifetime.stale and not self.is_revisit and self._can_be_revisited():
            if standing is Standing.EARLY:
                return self._hit(entry)
            if not (yield from ask(self.cache.alias, "add", asked_key(self._lock_name()), 1, ceil(self.cache.lease))):
                return self._hit(entry)
            if (yield Run(self._revisited)):
                return self._hit(entry)
        self.held = yield from claim(self.cache.alias, self._lock_name(), self.cache.lease)
        if self.held is None:
            return self._hit(entry)
        self.found = entry
        self.why = "stale"
        return None

    def _await_or_make(self) -> Steps[HttpResponseBase | None]:
        if self.found is not None and (yield from ask(self.cache.alias, "get", self._failed_key())):
            return self._hit(self.found, detail="stale-if-error")
        if self.is_pass or self.is_revisit:
            return None
        until = time.monotonic() + self.cache.patience
        naps = nap()
        waited, nobody = False, 0
        while True:
            self.held = yield from claim(self.cache.alias, self._lock_name(), self.cache.lease)
            # Also with the lock: it may have been given back between the last look and the claim.
            why = self.why
            entry, standing = yield from self._look()
            if entry is not None and standing in USABLE:
                yield from self.give_back()
                return self._hit(entry, fwd=why, collapsed=True) if waited else self._hit(entry)
            self.why = why
            if self.held is not None or self.is_pass:
                return None
            nobody = 0 if (yield from is_claimed(self.cache.alias, self._lock_name())) else nobody + 1
            if time.monotonic() > until or nobody == LOOKS:
                logger.warning("action=gave-up-waiting path=%s seconds=%g", self.request.path, self.cache.patience)
                return None
            yield Wait(next(naps))
            waited = True

    def prepare(self) -> Steps[None]:
        """Read the generations of the tags before anything else is read."""
        tags = self._known_tags()
        self.dependencies.add({self.cache.alias: (yield from current(self.cache.alias, tags))})
        self.started = time.monotonic()

    def _hit(self, entry: Entry, **status: str | bool) -> HttpResponseBase:
        depends_on(entry.generations)
        if self.variation is not None:
            tell_watchers(self.request, self.variation.cookies)
        page = StoredPage.unpacked(entry.value)
        assert page is not None  # noqa: S101 - _look() has seen to it
        return from_entry(self.request, entry, page, **status)

    # ── Storing ───────────────────────────────────────────────────────────────────────────────────

    def _stored(self, response: Any) -> Steps[Any]:
        refused = self._refusal(response)
        life = control.lifetime(response, self.cache.terms, time.time()) if refused is None else None
        if refused is None and (life is not None or response.status_code == 304):
            self._patch(response, life)
        variation = self._varied(response)
        if life is None or variation.is_too_wide:
            # What a view answered to one visitor's conditions says nothing of the page.
            if response.status_code not in CONDITIONAL:
                is_error = response.status_code >= 500
                yield from self._mark_pass(AFTER_A_FAILURE if is_error else PASS_SECONDS)
            tell(response, fwd=self.why, detail=refused or ("vary" if life else "not-storable"))
            return response
        yield from self._store(response, life, variation)
        tell(response, fwd=self.why, stored=True, ttl=str(int(life.fresh or 0)))
        return conditional(self.request, response)

    def _refusal(self, response: Any) -> str | None:
        """Return why this response is not for everybody, and have caches further out keep it from others too."""
        refused = self.reads.reason or control.refusal(response, has_authorization=self.has_authorization)
        if refused is None and self.dependencies.is_private:
            refused = "uncommitted"
        if refused == "authorization":
            patch_vary_headers(response, ("Authorization",))
        elif refused is not None and refused not in {*control.FORBIDDING, "streaming", "partial", "vary-star"}:
            patch_cache_control(response, private=True)
        if refused is None and self.reads.tracking:
            refused = "tracking-parameters"
        return refused

    def _patch(self, response: Any, life: Lifetime | None) -> None:
        """Tell browsers how long they may keep it."""
        found = control.directives(response)
        if self.cache.browser is not None:
            patch_cache_control(response, max_age=int(self.cache.browser))
        elif "s-maxage" not in found or "max-age" in found:
            seconds = life.fresh if life is not None else self.cache.terms.timeout
            patch_response_headers(response, int(self.cache.terms.default if seconds is None else seconds))
        if self.cache.per_user:
            patch_cache_control(response, private=True)
            patch_vary_headers(response, ("Cookie",))

    def _store(self, response: Any, life: Lifetime, variation: Variation) -> Steps[None]:
        add_etag(response)
        entry = Entry(
            value=StoredPage.of(response).packed(),
            made_at=time.time(),
            cost=time.monotonic() - self.started,
            lifetime=life,
            generations=self.dependencies.generations,
        )
        alias, timeout = self.cache.alias, life.backend_timeout
        variant = variation.digest(self.request)
        yield from ask(alias, "set", self._page_key(self.method, variant), entry.packed(), timeout)
        yield from ask(alias, "set", self._meta_key(), [META, variation.packed(), 0], timeout)
        if self.is_revisit:
            yield from ask(alias, "delete", asked_key(self._lock_name()))

    def _varied(self, response: Any) -> Variation:
        found = variation_of(response, self.reads.cookies, knows_language=self.knows_language)
        if self.cache.per_user:
            # The key has the user; the Cookie header in Vary is for caches further out.
            found = replace(found, cookies=tuple(sorted(self.reads.cookies)))
        elif found.cookies:
            patch_vary_headers(response, ("Cookie",))
        # Once an answer has varied by something, all of this address's do: else they would hide one another.
        return found if self.variation is None else found | self.variation

    def _mark_pass(self, seconds: int) -> Steps[None]:
        """Remember that nobody need wait for another's answer, and keep what is known of those that are stored."""
        if not self.is_pass and not self.is_revisit:
            packed, kept = (None, seconds) if self.variation is None else (self.variation.packed(), DAY)
            yield from ask(self.cache.alias, "set", self._meta_key(), [META, packed, time.time() + seconds], kept)

    def _spare(self) -> Steps[HttpResponseBase | None]:
        if self.found is None or not self.found.may_stand_in(time.time()):
            return None
        yield from ask(self.cache.alias, "set", self._failed_key(), 1, AFTER_A_FAILURE)
        return self._hit(self.found, detail="stale-if-error")

    def _invalidate_target(self, response: Any) -> Steps[None]:
        """Have a page not served any more that a request may have changed (RFC 9111 §4.4)."""
        if self.method in SAFE or getattr(response, "status_code", 500) >= 400:
            return
        tag = f"page:{self.request.path}"
        try:
            yield Run(lambda: invalidate(tag, alias=self.cache.alias))
        except Exception as error:  # noqa: BLE001 - what was asked for is done; a cache that is down can't undo it
            logger.warning("action=not-invalidated path=%s error=%s", self.request.path, type(error).__qualname__)

    # ── Names ─────────────────────────────────────────────────────────────────────────────────────

    def _known_tags(self) -> tuple[str, ...]:
        users = (f"user:{self.user}",) if self.user else ()
        return tuple(dict.fromkeys((self.path, self.url, *users, *self.cache.tags(self.request))))

    def _meta_key(self) -> str:
        return f"backroom.page.{digest([*self.place, self.user])}"

    def _page_key(self, method: str, variant: str) -> str:
        return f"{self._meta_key()}.{method}.{variant}"

    def _lock_name(self) -> str:
        variant = "" if self.variation is None else self.variation.digest(self.request)
        return self._page_key(self.method, variant)

    def _failed_key(self) -> str:
        return f"{lock_key(self._lock_name())}.failed"

    def _identify(self) -> str:
        """Return who the visitor is; what was read of the session for that does not count."""
        session: Any = getattr(self.request, "session", None)
        before = getattr(session, "accessed", False)
        user: Any = getattr(self.request, "user", None)
        name = str(user.pk) if user is not None and user.is_authenticated else ""
        if session is not None:
            session.accessed = before
        if hasattr(self.request, "_cached_user"):
            # Django asks the session once for each of `user` and `auser()`; they are the same.
            self.request._acached_user = self.request._cached_user  # type: ignore[attr-defined]  # noqa: SLF001
        return name

    def _note_tracking(self) -> None:
        self.reads.tracking = True

    # ── Refreshing ────────────────────────────────────────────────────────────────────────────────

    def _can_be_revisited(self) -> bool:
        """Tell whether somebody else can ask for the same page: not if the key has anything of this visitor."""
        return not self.cache.per_user and self.variation is not None and not self.variation.cookies

    def _revisited(self) -> bool:
        from backroom.cache.pages.revisiting import address_of, revisit

        assert self.variation is not None  # noqa: S101 - _can_be_revisited() has seen to it
        address = address_of(self.request, self.variation.headers)
        return in_background(self.cache.alias, lambda backend: _enqueued(address, backend), lambda: revisit(address))


def _enqueued(address: Mapping[str, Any], backend: str) -> None:
    from backroom.cache.tasks import refresh_page

    refresh_page.using(backend=backend).enqueue(dict(address))


def purge(*addresses: str, alias: str | None = None) -> None:
    """Have pages not served any more.

    An address is a path, which stands for the path with any query (`/prices/`), or a path with its query
    (`/prices/?page=2`), in whatever order and on whatever host.
    """
    tags = []
    for address in addresses:
        path, mark, query = address.partition("?")
        path = f"/{path.split('/', 3)[3]}" if "://" in path and path.count("/") > 2 else path
        tags.append(f"page:{path}?{parted(query, IGNORED.value)[0]}" if mark else f"page:{path}")
    invalidate(*tags, alias=alias)
