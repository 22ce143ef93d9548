"""The page cache of one view: `cache_page()`, and what a view says beside it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial, wraps
from inspect import iscoroutinefunction
from types import MethodType
from typing import Any, Never, TypeVar

from django.conf import settings
from django.core.cache import DEFAULT_CACHE_ALIAS
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers

from backroom.cache.declarations import check_decorator
from backroom.cache.dependencies import collecting
from backroom.cache.pages.control import Terms
from backroom.cache.pages.options import PageCache
from backroom.cache.pages.variants import DECLARED
from backroom.cache.pages.visits import Visit
from backroom.cache.steps import Run, Steps, arun, run

View = TypeVar("View", bound=Callable[..., Any])

type PageTags = str | Iterable[str] | Callable[..., str | Iterable[str]]


def cache_page(
    timeout: float | None,
    *,
    cache: str | None = None,
    key_prefix: str | None = None,
    stale: float = 0,
    stale_if_error: float = 0,
    tags: PageTags = (),
    per_user: bool = False,
    browser: float | None = None,
    statuses: Mapping[int, float] | None = None,
    ignore_parameters: Iterable[str] | None = None,
    early: float = 1.0,
    trust_middleware: bool = False,
    lease: float = 30,
    patience: float | None = None,
    **unknown: Never,
) -> Callable[[View], View]:
    """Keep a view's pages for `timeout` seconds, one for each address and what its answers vary by (RFC 9111).

    It takes the place of Django's `cache_page()` and has its arguments. A page that read the session, the user, a
    message, a CSRF token or a CSP nonce, or that sets a cookie, is not stored, and goes out `private`. At most one
    visitor has a page made; the others wait for it.

    Args:
        timeout: seconds. `s-maxage` in the response counts more, `max-age` less. None, as with Django's, leaves it to the
            response; 600 where that says nothing.
        cache: an alias of CACHES.
        key_prefix: parts the pages of two sites that share a cache, and of two views of one name that answer one request.
        stale: seconds after that in which a page is served while it is made anew; `stale-while-revalidate` says it too.
        stale_if_error: seconds after `timeout` in which it is served when making it fails; also as a directive.
        tags: names for `invalidate()`; or a function of the view's arguments, the request first, that returns them.
        per_user: keep pages of their own for each user, tagged `user:<pk>`. Visitors without a user share theirs.
        browser: the max-age that browsers are told; the same as `timeout` if it is not given. A browser's copy cannot be
            invalidated.
        statuses: the timeout of single status codes; 404 and 410 have 10 seconds unless they are named here.
        ignore_parameters: patterns of query parameters that do not make another page, in the place of
            BACKROOM["CACHE_IGNORED_PARAMETERS"].
        early: the factor β of XFetch; 0 never makes a page before it expires.
        trust_middleware: what middlewares read of the session before the view began does not count.
        lease: seconds after which another visitor may have the page made, as if the first had died.
        patience: seconds that a visitor waits for another's page; twice the lease if it is not given.
    """
    said = locals()
    check_decorator("@cache_page", cache_page, said.pop("unknown") | said)
    always = () if callable(tags) else _listed(tags)
    ignored = None if ignore_parameters is None else tuple(ignore_parameters)
    terms = Terms(timeout=timeout, stale=stale, stale_if_error=stale_if_error, early=early, statuses=statuses)

    def page_cache(name: str, tags_of: Callable[[HttpRequest], tuple[str, ...]]) -> PageCache:
        return PageCache(
            terms=terms,
            alias=cache or DEFAULT_CACHE_ALIAS,
            prefix=settings.CACHE_MIDDLEWARE_KEY_PREFIX if key_prefix is None else key_prefix,
            view=name,
            tags=tags_of,
            per_user=per_user,
            browser=browser,
            trusts_middleware=trust_middleware,
            ignored=ignored,
            lease=lease,
            patience=2 * lease if patience is None else patience,
        )

    def decorate(view: View) -> View:
        name = _name_of(view)

        def answer(request: HttpRequest, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Any]:
            _check(request)
            listed = _listed(tags(request, *args, **kwargs)) if callable(tags) else always
            return _answer(page_cache(name, lambda _request: listed), request, partial(view, request, *args, **kwargs))

        if iscoroutinefunction(view):

            async def acached(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                return await arun(answer(request, args, kwargs))

            return wraps(view)(acached)  # type: ignore[return-value] # the same arguments, the same kind of result

        def cached(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return run(answer(request, args, kwargs))

        return wraps(view)(cached)  # type: ignore[return-value] # as above

    return decorate


def vary_on_cookies(*names: str) -> Callable[[View], View]:
    """Say by which cookies a view's answers differ, so that no other cookie makes another page.

    A view need not say so of a cookie that it reads from `request.COOKIES`: that is noticed.
    """

    def decorate(view: View) -> View:
        def marked(response: Any) -> Any:
            setattr(response, DECLARED, frozenset({*names, *getattr(response, DECLARED, ())}))
            patch_vary_headers(response, ("Cookie",))
            return response

        if iscoroutinefunction(view):

            async def asaying(*args: Any, **kwargs: Any) -> Any:
                return marked(await view(*args, **kwargs))

            return wraps(view)(asaying)  # type: ignore[return-value] # as above

        def saying(*args: Any, **kwargs: Any) -> Any:
            return marked(view(*args, **kwargs))

        return wraps(view)(saying)  # type: ignore[return-value] # as above

    return decorate


def _answer(
    cache: PageCache, request: HttpRequest, make: Callable[[], HttpResponseBase | Awaitable[HttpResponseBase]]
) -> Steps[Any]:
    visit = Visit(cache, request)
    if (found := (yield from visit.arrive())) is not None:
        return found
    try:
        visit.begin()
        visit.enter_view(ends_with_view=True)
        with collecting(visit.dependencies):
            response = yield Run(make)
    except BaseException as error:
        if (spare := (yield from visit.fail(error))) is None:
            raise
        return spare
    if not hasattr(response, "headers"):
        # Django says what is wrong with a view that returns no response.
        yield from visit.give_back()
        return response
    if callable(getattr(response, "render", None)) and not response.is_rendered:
        return _stored_when_rendered(visit, response)
    return (yield from visit.leave(response))


def _stored_when_rendered(visit: Visit, response: Any) -> Any:
    """Leave when the template has been rendered, which Django does once the middlewares have had their say."""
    render = response.render

    def rendering() -> Any:
        del response.render
        try:
            with collecting(visit.dependencies):
                rendered = render()
        except BaseException as error:
            if (spare := run(visit.fail(error))) is None:
                raise
            return spare
        return run(visit.leave(rendered))

    response.render = rendering
    return response


def _listed(tags: str | Iterable[str]) -> tuple[str, ...]:
    return (tags,) if isinstance(tags, str) else tuple(tags)


def _name_of(view: Any) -> str:
    if isinstance(view, partial):
        return _name_of(view.func)
    if isinstance(view, MethodType):
        # As method_decorator() hands it to the decorator next to the method; its own name may be that of a base class.
        # A decorator farther out is given a function with just that name: there `key_prefix` parts two views.
        return f"{_name_of(type(view.__self__))}.{view.__name__}"
    named = getattr(view, "view_class", view)
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}.{named.__qualname__}"


def _check(request: object) -> None:
    if not hasattr(request, "META"):
        msg = "cache_page didn't receive an HttpRequest. To decorate a method of a class, use @method_decorator."
        raise TypeError(msg)
