"""The page cache of a whole site: one middleware, or the pair that Django's documentation describes.

`CacheMiddleware` stands near the top of MIDDLEWARE. The pair is for a site whose pages differ by what a middleware in
between decides (`LocaleMiddleware`): `UpdateCacheMiddleware` near the top, `FetchFromCacheMiddleware` at the end.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import iscoroutinefunction, markcoroutinefunction
from typing import Any, ClassVar, Final, cast

from django.conf import settings
from django.core.cache import DEFAULT_CACHE_ALIAS, BaseCache, caches
from django.http import HttpRequest, HttpResponseBase

from backroom.cache.dependencies import collecting
from backroom.cache.pages.control import Terms
from backroom.cache.pages.noticing import Reads
from backroom.cache.pages.options import PageCache
from backroom.cache.pages.visits import Visit
from backroom.cache.steps import Run, Steps, arun, run

type GetResponse = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]

VISIT: Final = "_backroom_cache_visit"
READS: Final = "_backroom_cache_reads"
STORE: Final = "_cache_update_cache"
"""The flag by which Django's two middlewares tell one another whether a response is to be stored; others set it too."""


class _Base:
    """What the middlewares share: their options, and how they stand before blocking and other handlers."""

    sync_capable = True
    async_capable = True
    # Django's own tests, and projects, read these off an instance.
    page_timeout: ClassVar[float | None] = None

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(cast("Any", self))
        self.cache_timeout: float = settings.CACHE_MIDDLEWARE_SECONDS
        self.key_prefix: str = settings.CACHE_MIDDLEWARE_KEY_PREFIX
        self.cache_alias: str = settings.CACHE_MIDDLEWARE_ALIAS

    @property
    def cache(self) -> BaseCache:
        """Return the cache that pages are kept in."""
        return caches[self.cache_alias]

    @property
    def page_cache(self) -> PageCache:
        """Return the options as a value."""
        return PageCache(terms=Terms(default=self.cache_timeout), alias=self.cache_alias, prefix=self.key_prefix)

    def _visit(self, request: HttpRequest) -> Visit:
        return Visit(self.page_cache, request, getattr(request, READS, None))


class UpdateCacheMiddleware(_Base):
    """Stores responses, on their way out. The first of the pair in MIDDLEWARE."""

    def __call__(self, request: HttpRequest) -> Any:
        """Watch what the request's page reads, and store it."""
        if self.is_async:
            return self._acall(request)
        _watch(request)
        return run(self._out(request, self.get_response(request)))

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        _watch(request)
        response: HttpResponseBase = await self.get_response(request)
        stored: HttpResponseBase = await arun(self._out(request, response))
        return stored

    def process_response(self, request: HttpRequest, response: Any) -> HttpResponseBase:
        """Store a response, if it may be, and return it with what was done told in its headers."""
        stored: HttpResponseBase = run(self._out(request, response))
        return stored

    def _out(self, request: HttpRequest, response: Any) -> Steps[Any]:
        visit: Visit | None = request.__dict__.pop(VISIT, None)
        reads: Reads | None = request.__dict__.pop(READS, None)
        wanted = getattr(request, STORE, False)
        if reads is not None and (visit is None or visit.reads is not reads):
            reads.end(request)
        if visit is None and not wanted:
            return response
        if visit is None:
            visit = Visit(self.page_cache, request, reads)
            if visit.is_lookup:
                yield from visit.prepare()
        elif not wanted and visit.is_lookup:
            visit.reads.end(request)
            visit.reads.private("told-not-to")
        return (yield from visit.leave(response))


class FetchFromCacheMiddleware(_Base):
    """Answers from the cache. The last of the pair in MIDDLEWARE."""

    def __call__(self, request: HttpRequest) -> Any:
        """Answer from the cache, or let the page be made, by one at a time."""
        if self.is_async:
            return self._acall(request)
        return run(self._made(request))

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await arun(self._made(request))
        return response

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        """Return the stored response, or None."""
        return run(self._in(request))

    def process_view(self, request: HttpRequest, _view: Any, _args: Any, _kwargs: Any) -> None:
        """Watch whom the view takes its visitor for."""
        if (visit := getattr(request, VISIT, None)) is not None:
            visit.enter_view()

    def process_exception(self, request: HttpRequest, _error: Exception) -> None:
        """Take note of what the view has read, before the page for errors reads more."""
        if (visit := getattr(request, VISIT, None)) is not None:
            visit.note_error()

    def _made(self, request: HttpRequest) -> Steps[Any]:
        """Return the stored response, or have it made; give the lock back if that ends in an error, or is cancelled."""
        if (found := (yield from self._in(request))) is not None:
            return found
        visit: Visit = request.__dict__[VISIT]
        try:
            with collecting(visit.dependencies):
                return (yield Run(partial(self.get_response, request)))
        except BaseException as error:
            del request.__dict__[VISIT]
            setattr(request, STORE, False)
            if (spare := (yield from visit.fail(error))) is None:
                raise
            return spare

    def _in(self, request: HttpRequest) -> Steps[HttpResponseBase | None]:
        if (before := request.__dict__.pop(VISIT, None)) is not None:
            # Asked twice without an answer in between: the first one's lock would keep the second waiting.
            before.reads.end(request)
            yield from before.give_back()
        visit = self._visit(request)
        response = yield from visit.arrive()
        is_missing = response is None
        setattr(request, STORE, is_missing and visit.is_lookup)
        if is_missing:
            setattr(request, VISIT, visit)
            if READS in request.__dict__:
                visit.watch_query()
            else:
                visit.begin()
        return response


class CacheMiddleware(UpdateCacheMiddleware, FetchFromCacheMiddleware):
    """Answers from the cache and stores what is not there: both of the pair in one place."""

    def __init__(
        self, get_response: Any, cache_timeout: float | None = None, page_timeout: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(get_response)
        if "key_prefix" in kwargs:
            self.key_prefix = kwargs["key_prefix"] or ""
        if "cache_alias" in kwargs:
            self.cache_alias = kwargs["cache_alias"] or DEFAULT_CACHE_ALIAS
        if cache_timeout is not None:
            self.cache_timeout = cache_timeout
        self.own_timeout = page_timeout

    @property
    def page_cache(self) -> PageCache:
        """Return the options as a value."""
        terms = Terms(timeout=self.own_timeout, default=self.cache_timeout)
        return PageCache(terms=terms, alias=self.cache_alias, prefix=self.key_prefix)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer from the cache, or have the page made and store it."""
        if self.is_async:
            return self._acall(request)
        return run(self._answer(request))

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await arun(self._answer(request))
        return response

    def _answer(self, request: HttpRequest) -> Steps[Any]:
        response = yield from self._made(request)
        return (yield from self._out(request, response)) if VISIT in request.__dict__ else response


def _watch(request: HttpRequest) -> None:
    """Watch from the top of MIDDLEWARE on, though the key is made at its end."""
    reads = Reads()
    reads.begin(request, trusts_middleware=False)
    setattr(request, READS, reads)
