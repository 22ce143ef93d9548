"""One request for a page that may be cached: found, awaited or made, and stored if everybody may have it."""

import logging
import time
from dataclasses import replace
from functools import partial
from secrets import token_hex
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponseBase
from django.http.multipartparser import MultiPartParserError
from django.utils.cache import patch_cache_control, patch_vary_headers

from backroom.cache.computing import USABLE, depends_on
from backroom.cache.dependencies import Dependencies
from backroom.cache.entries import Entry, Lifetime, Standing
from backroom.cache.failures import again, remembered
from backroom.cache.generations import current, invalidated
from backroom.cache.locks import Held
from backroom.cache.pages import control
from backroom.cache.pages.addresses import has_too_many, watch_query
from backroom.cache.pages.noticing import WATCHERS, Reads, tell_watchers
from backroom.cache.pages.options import PageCache
from backroom.cache.pages.places import Place
from backroom.cache.pages.renewing import REVISIT, can_be_revisited, revisit_in_background
from backroom.cache.pages.shelf import Shelf
from backroom.cache.pages.stored import StoredPage, add_etag, conditional, error_page, from_entry, put_away, tell
from backroom.cache.pages.variants import Variation, variation_of
from backroom.cache.steps import Run, Steps
from backroom.cache.waiting import AFTER_A_FAILURE, Waiting
from backroom.cache.writes import is_uncommitted

logger = logging.getLogger("backroom.cache")

PASS_SECONDS: Final = 120
"""For so long nobody waits for another's answer of an address that turned out to be private."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
CONDITIONAL: Final = frozenset({206, 304, 412, 416})
TOLD_APART: Final = frozenset({*control.FORBIDDING, "streaming", "partial", "vary-star"})
"""Refusals that caches further out read off the response themselves."""
ANSWERS: Final = (Http404, PermissionDenied, SuspiciousOperation, BadRequest, MultiPartParserError)
"""Errors that Django answers by themselves: quick, and often about the visitor."""


class Visit:
    """One request on its way through a page cache."""

    def __init__(self, cache: PageCache, request: HttpRequest, reads: Reads | None = None) -> None:
        self.cache = cache
        self.request = request
        self.reads = reads or Reads()
        self.method = str(request.method)
        # Past what may watch it, as in the key.
        query = dict.get(request.META, "QUERY_STRING", "")
        self.is_lookup = self.method in {"GET", "HEAD"} and not has_too_many(query)
        self.found: Entry | None = None
        """What may be served if making the page anew fails."""
        self.held: Held | None = None
        self.at_error: tuple[str | None, frozenset[str]] | None = None
        """Why nobody else has the view's error, and the cookies that the view had read."""
        self.dependencies = Dependencies()
        self.started = time.monotonic()
        # A server in front that has asked who it is need not pass on what it was told.
        self.has_authorization = bool(request.headers.get("Authorization") or request.META.get("REMOTE_USER"))
        self.is_revisit = self.has_asked = hasattr(request, REVISIT)
        if not self.is_lookup:
            return
        self.knows_language = settings.USE_I18N and hasattr(request, "LANGUAGE_CODE")
        depth = sum(watcher is not self.reads for watcher in request.__dict__.get(WATCHERS, []))
        self.place = Place(cache, request, depth=depth)
        self.shelf = Shelf(cache, request, self.place, has_authorization=self.has_authorization)

    # ── Before the view ───────────────────────────────────────────────────────────────────────────

    def arrive(self) -> Steps[HttpResponseBase | None]:
        """Return the stored page, or None when it falls to this visitor to have it made."""
        if not self.is_lookup:
            return None
        if self.cache.per_user:
            self.place.user = yield Run(self._identify)
        if is_uncommitted(self.place.tags):
            self.dependencies.is_private = self.shelf.is_pass = True
            self.shelf.why = "bypass"
            return None
        try:
            answer = yield from self._answer()
            if answer is None:
                yield from self.prepare()
        except BaseException:
            yield from self.give_back()
            raise
        return answer

    def begin(self) -> None:
        """Watch what the page reads, from here to `leave()`."""
        # Whose page it is, is in the key: what a middleware read of the session before, it read of the same user's.
        is_keyed = self.is_lookup and bool(self.place.user)
        self.reads.begin(self.request, trusts_middleware=self.cache.trusts_middleware or is_keyed)
        self.watch_query()

    def watch_query(self) -> None:
        """Watch whether the page reads a parameter that is not in its key."""
        if self.is_lookup and self.place.left_out:
            watch_query(self.request, self.place.left_out, self._note_tracking)

    def enter_view(self, *, ends_with_view: bool = False) -> None:
        """Watch whom the view takes its visitor for."""
        self.reads.enter_view(self.request, per_user=self.cache.per_user, ends_with_view=ends_with_view)

    def note_error(self) -> None:
        """Take note of what was read before an error; what its page reads, Django's a cookie, says nothing of the view."""
        self.reads.look(self.request)
        reason = "tracking-parameters" if self.reads.tracking else self._own_reason()
        self.at_error = reason, frozenset(self.reads.cookies)

    def prepare(self) -> Steps[None]:
        """Read the generations of the tags before anything else is read."""
        alias = self.cache.alias
        self.dependencies.add({alias: (yield from current(alias, self.place.tags))})
        self.started = time.monotonic()

    # ── After the view ────────────────────────────────────────────────────────────────────────────

    def leave(self, response: Any) -> Steps[Any]:
        """Store what may be stored, give the lock back, and return what this visitor gets."""
        self.reads.end(self.request)
        if not self.is_lookup:
            yield from self._invalidate_target(response)
            return response
        depends_on(self.dependencies.generations)
        try:
            if response.status_code >= 500 and (spare := (yield from self._spare(response))) is not None:
                put_away(response)
                return spare
            return (yield from self._stored(response))
        finally:
            yield from self.give_back()

    def fail(self, error: BaseException) -> Steps[HttpResponseBase | None]:
        """Give the lock back and return what may be served in the place of an error, if anything may."""
        # Before the request is left as it was: what a middleware had read of the session, the view has not.
        self.note_error()
        self.reads.end(self.request)
        try:
            # Who gave up, or is told to end, says nothing of the page.
            if not self.is_lookup or not isinstance(error, Exception):
                return None
            if (spare := (yield from self._spare(error))) is None:
                yield from self._tell_failure(error, None)
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

    # ── Answering from the cache ──────────────────────────────────────────────────────────────────

    def _answer(self) -> Steps[HttpResponseBase | None]:
        entry, standing = yield from self.shelf.look()
        if entry is None or standing not in USABLE:
            self.found = entry
            return (yield from self._await_or_make())
        if standing is Standing.FRESH:
            return self._hit(entry)
        return (yield from self._renew(entry, standing))

    def _renew(self, entry: Entry, standing: Standing) -> Steps[HttpResponseBase | None]:
        """Serve what there is, unless it falls to this visitor to have it made anew."""
        variation = self.shelf.variation
        if (
            entry.lifetime.stale
            and not self.is_revisit
            and variation is not None
            and can_be_revisited(self.cache, variation)
        ):
            # What can be renewed behind the visitors' backs once it is stale need not hold one of them up before.
            if standing is Standing.EARLY or not (yield from self.shelf.mark_asked()):
                return self._hit(entry)
            if (yield Run(partial(revisit_in_background, self.cache, self.request, variation.headers))):
                return self._hit(entry)
            self.has_asked = True
        self.held = yield from self.shelf.claim()
        if self.held is None:
            return self._hit(entry)
        # Another may have made it between the look and the claim.
        again, _ = yield from self.shelf.look(chance=1.0, has_lock=True)
        if again is not None and again.made_at > entry.made_at:
            yield from self.give_back()
            return self._hit(again)
        self.found = entry
        self.shelf.why = "stale"
        return None

    def _await_or_make(self) -> Steps[HttpResponseBase | None]:
        if self.found is not None and (yield from self.shelf.has_failed()):
            return self._hit(self.found, detail="stale-if-error")
        if self.shelf.is_pass or self.is_revisit:
            return None
        waiting = Waiting(self.cache.alias, patience=self.cache.patience, what=f"path={self.request.path}")
        while True:
            self.held = yield from self.shelf.claim()
            # Also with the lock: it may have been given back between the last look and the claim.
            if (answer := (yield from self._come_meanwhile(waiting))) is not None:
                yield from self.give_back()
                return answer
            if self.held is not None or waiting.is_over() or self.shelf.is_pass:
                return None
            yield from waiting.nap()

    def _come_meanwhile(self, waiting: Waiting) -> Steps[HttpResponseBase | None]:
        """Answer with what another has made, or with what became of trying to."""
        why, waited, has_lock = self.shelf.why, waiting.has_looked, self.held is not None
        entry, standing = yield from self.shelf.look(has_lock=has_lock)
        if entry is not None and standing in USABLE:
            return self._hit(entry, fwd=why, collapsed=True) if waited else self._hit(entry)
        self.shelf.why = why
        if has_lock and not waited:
            return None
        yield from self.shelf.listen(waiting)
        return None if waiting.failure is None else (yield from self._failed_with(waiting.failure))

    def _failed_with(self, failure: Any) -> Steps[HttpResponseBase | None]:
        """Answer as the one did who failed to make the page; None if that cannot be told."""
        if self.found is not None and self.found.may_stand_in(time.time()):
            return self._hit(self.found, detail="stale-if-error")
        if (error := again(failure)) is not None:
            raise error
        match failure:
            case [str(), int(status)]:
                answer: HttpResponseBase = yield Run(partial(error_page, self.request, status))
                tell(answer, fwd=self.shelf.why, collapsed=True, detail="failed")
                return answer
        return None

    def _hit(self, entry: Entry, **status: str | bool) -> HttpResponseBase:
        depends_on(entry.generations)
        if self.shelf.variation is not None:
            tell_watchers(self.request, self.shelf.variation.cookies)
        return from_entry(self.request, entry, **status)

    def _spare(self, failed: Any) -> Steps[HttpResponseBase | None]:
        if self.found is None or not self.found.may_stand_in(time.time()):
            return None
        yield from self._have_others_fail(failed)
        return self._hit(self.found, detail="stale-if-error")

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

    # ── Storing ───────────────────────────────────────────────────────────────────────────────────

    def _stored(self, response: Any) -> Steps[Any]:
        refused = self._refusal(response)
        life = control.lifetime(response, self.cache.terms, time.time()) if refused is None else None
        if refused is None and (life is not None or response.status_code == 304):
            self._tell_browsers(response, life)
        variation = self._varied(response)
        if life is not None and variation.is_too_wide:
            refused, life = "vary", None
        if life is not None and not (yield from self._was_put(response, life, variation)):
            refused, life = "not-stored", None
        if life is None:
            # What a view answered to one visitor's conditions, or saw of its own transaction, says nothing of the page.
            if response.status_code >= 500:
                yield from self._tell_failure(response, refused)
            elif response.status_code not in CONDITIONAL and refused != "uncommitted":
                yield from self._mark_pass(PASS_SECONDS)
            tell(response, fwd=self.shelf.why, detail=refused or "not-storable")
            return response
        answer = conditional(self.request, response)
        tell(answer, fwd=self.shelf.why, stored=True, ttl=str(int((life.fresh or 0) - control.age(response))))
        return answer

    def _refusal(self, response: Any) -> str | None:
        """Return why this response is not for everybody, and have caches further out keep it from others too."""
        refused = control.refusal(response, has_authorization=self.has_authorization)
        if refused is None or self.reads.reason is not None:
            refused = self._own_reason()
        if refused == "authorization":
            patch_vary_headers(response, ("Authorization",))
        elif refused is not None and refused not in TOLD_APART:
            patch_cache_control(response, private=True)
        if refused is None and self.reads.tracking:
            refused = "tracking-parameters"
        return refused

    def _own_reason(self) -> str | None:
        """Return why whatever came of this visit is not for everybody."""
        if self.reads.reason is None and (self.dependencies.is_private or is_uncommitted(self.dependencies.tags)):
            return "uncommitted"
        return self.reads.reason

    def _tell_browsers(self, response: Any, life: Lifetime | None) -> None:
        found = control.directives(response)
        if self.cache.browser is not None:
            control.tell_browsers(response, self.cache.browser, expires=False)
        elif "s-maxage" not in found or "max-age" in found:
            seconds = life.fresh if life is not None else self.cache.terms.timeout
            control.tell_browsers(response, self.cache.terms.default if seconds is None else seconds)
        if self.cache.per_user:
            patch_cache_control(response, private=True)
            patch_vary_headers(response, ("Cookie",))

    def _was_put(self, response: Any, life: Lifetime, variation: Variation) -> Steps[bool]:
        """Store a page, and tell whether the cache took it. One that refuses a large page must not cost the page."""
        add_etag(response)
        entry = Entry(
            value=StoredPage.of(response).packed(),
            made_at=time.time() - control.age(response),
            cost=time.monotonic() - self.started,
            lifetime=life,
            generations=self.dependencies.generations,
        )
        try:
            is_stored: bool = yield from self.shelf.put(entry, variation)
            if self.has_asked:
                yield from self.shelf.forget_asked()
        except Exception as error:  # noqa: BLE001 - whatever a backend raises
            logger.warning("action=not-stored path=%s error=%s", self.request.path, type(error).__qualname__)
            return False
        return is_stored

    def _varied(self, response: Any) -> Variation:
        found = variation_of(response, self.reads.cookies, knows_language=self.knows_language)
        if self.cache.per_user:
            # The key has the user; the Cookie header in Vary is for caches further out.
            found = replace(found, cookies=tuple(sorted(self.reads.cookies)))
        elif found.cookies:
            patch_vary_headers(response, ("Cookie",))
        # Once an answer has varied by something, all of this address's do: else they would hide one another.
        return found if self.shelf.variation is None else found | self.shelf.variation

    def _tell_failure(self, failed: Any, refused: str | None) -> Steps[None]:
        """Have those who wait fail with this one, if it says anything of them; else have nobody wait for a while."""
        if self.is_revisit or self.shelf.is_pass:
            return
        reason, cookies = self.at_error or (refused, self.reads.cookies)
        told_apart = () if self.shelf.variation is None else self.shelf.variation.cookies
        is_its_own = (
            reason not in {None, "no-store", "no-cache"}
            or self.has_authorization
            or not cookies.issubset(told_apart)
            or isinstance(failed, ANSWERS)
            or (isinstance(failed, Exception) and remembered(failed) is None)
        )
        if is_its_own:
            yield from self._mark_pass(AFTER_A_FAILURE)
        else:
            yield from self._have_others_fail(failed)

    def _have_others_fail(self, failed: Any) -> Steps[None]:
        if not isinstance(failed, Exception):
            failure: list[Any] | None = [token_hex(8), failed.status_code]
        elif (failure := remembered(failed)) is not None and self.shelf.variation is None:
            # Nobody knows yet which headers the address varies by, and what the error says may be of one of them.
            failure[-1] = []
        if failure is not None:
            yield from self.shelf.tell_failure(failure)

    def _mark_pass(self, seconds: int) -> Steps[None]:
        if self.shelf.is_pass or self.is_revisit:
            return
        try:
            yield from self.shelf.mark_pass(seconds)
        except Exception as error:  # noqa: BLE001 - as above; the page, or why there is none, is what counts
            logger.warning("action=not-stored path=%s error=%s", self.request.path, type(error).__qualname__)

    def _invalidate_target(self, response: Any) -> Steps[None]:
        """Have a page not served any more that a request may have changed (RFC 9111 §4.4)."""
        if self.method in SAFE or getattr(response, "status_code", 500) >= 400:
            return
        try:
            yield from invalidated([f"page:{self.request.path}"], self.cache.alias)
        except Exception as error:  # noqa: BLE001 - what was asked for is done; a cache that is down can't undo it
            logger.warning("action=not-invalidated path=%s error=%s", self.request.path, type(error).__qualname__)
