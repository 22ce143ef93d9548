"""A part of a template that is kept: the same keys as Django's `{% cache %}`, rendered by one at a time."""

from collections.abc import Callable
from typing import Any

from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.utils import make_template_fragment_key
from django.http import HttpRequest

from backroom.cache.arguments import digest
from backroom.cache.computing import Recipe, obtained
from backroom.cache.generations import ainvalidate, invalidate
from backroom.cache.pages.noticing import CSRF_USED
from backroom.cache.policies import Policy
from backroom.cache.steps import run

FRAGMENTS = "template_fragments"


def alias_of_fragments() -> str:
    """Return the alias that Django keeps fragments under, if the project has it."""
    try:
        caches[FRAGMENTS]
    except InvalidCacheBackendError:
        return "default"
    return FRAGMENTS


def rendered(
    name: str,
    vary_on: list[Any],
    render: Callable[[], str],
    *,
    timeout: float | None,
    alias: str,
    stale: float = 0,
    tags: tuple[str, ...] = (),
    request: HttpRequest | None = None,
) -> str:
    """Return a fragment as it is kept, or render it; never keep one that a token or a nonce was written into."""
    key = f"backroom.{make_template_fragment_key(name, vary_on)}"
    if len(key) > 200:
        key = f"backroom.template.{digest(key)}"
    policy = Policy(timeout=timeout, stale=stale, keep=lambda _text: not _has_secret(request))
    watched = _without_secret(request)
    recipe: Recipe = policy.recipe(alias, key, lambda: str(render()), tags=(*tags, _tag(name, vary_on)))
    try:
        return str(run(obtained(recipe)).value)
    finally:
        if request is not None and watched:
            request.META.setdefault(CSRF_USED, True)


def invalidate_fragment(name: str, vary_on: list[Any] | tuple[Any, ...] = (), *, alias: str | None = None) -> None:
    """Have a fragment not served any more: its name, and the values that follow it in the tag. `alias` as for `invalidate()`."""
    invalidate(_tag(name, list(vary_on)), alias=alias)


async def ainvalidate_fragment(
    name: str, vary_on: list[Any] | tuple[Any, ...] = (), *, alias: str | None = None
) -> None:
    """See invalidate_fragment()."""
    await ainvalidate(_tag(name, list(vary_on)), alias=alias)


def _tag(name: str, vary_on: list[Any]) -> str:
    return f"fragment:{name}:{int(digest([str(each) for each in vary_on])[:4], 16) % 4096}"


def _without_secret(request: HttpRequest | None) -> bool:
    """Forget for a while that the page has a CSRF token elsewhere; tell whether it does."""
    return request is not None and bool(request.META.pop(CSRF_USED, False))


def _has_secret(request: HttpRequest | None) -> bool:
    return request is not None and (CSRF_USED in request.META or bool(getattr(request, "_csp_nonce", None)))
