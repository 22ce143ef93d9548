"""System checks: a middleware in a place where it does nothing, or not what it is there for, is told with its cure."""

from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings
from django.core import checks

from backroom.cache.middleware import CacheMiddleware, FetchFromCacheMiddleware, UpdateCacheMiddleware
from backroom.cache.refreshing import BACKEND, WAY, WAYS

TAG: Final = "backroom"
SINGLE: Final = f"{CacheMiddleware.__module__}.{CacheMiddleware.__qualname__}"
UPDATE: Final = f"{UpdateCacheMiddleware.__module__}.{UpdateCacheMiddleware.__qualname__}"
FETCH: Final = f"{FetchFromCacheMiddleware.__module__}.{FetchFromCacheMiddleware.__qualname__}"
DJANGOS: Final = "django.middleware.cache."
LOCALE: Final = "django.middleware.locale.LocaleMiddleware"
LOGIN: Final = "django.contrib.auth.middleware.LoginRequiredMiddleware"
OF_ONE_PROCESS: Final = "django.core.cache.backends.locmem.LocMemCache"

type Messages = list[checks.CheckMessage]


@checks.register(TAG)
def check_cache(**_kwargs: Any) -> Messages:
    """Return what is wrong with MIDDLEWARE and CACHES, as far as pages are concerned."""
    order = list(settings.MIDDLEWARE)
    return [*_pair(order), *_aliases(order), *_places(order), *_ways()]


@checks.register(TAG, deploy=True)
def check_cache_of_several_processes(**_kwargs: Any) -> Messages:
    """Return which caches an invalidation does not reach when the site has more than one process."""
    alone = [alias for alias, params in settings.CACHES.items() if params.get("BACKEND") == OF_ONE_PROCESS]
    return [
        checks.Warning(
            f"CACHES[{alias!r}] is memory of one process. What another process invalidates or purges is still served by "
            "this one, and each process computes for itself.",
            hint="Use a cache that processes share, such as backroom.cache.backends.sqlite.SQLiteCache.",
            id="backroom.W553",
        )
        for alias in alone
    ]


def _pair(order: list[str]) -> Iterator[checks.CheckMessage]:
    hint = f"Use {SINGLE!r} near the top of MIDDLEWARE, or {UPDATE!r} near the top and {FETCH!r} at the end."
    ours = [path for path in order if path in {SINGLE, UPDATE, FETCH}]
    if not ours:
        return
    if any(path.startswith(DJANGOS) for path in order):
        yield checks.Error(
            "MIDDLEWARE has Django's cache middleware beside Backroom's: pages that ours keeps apart, Django's stores "
            "together.",
            hint="Take out what begins with 'django.middleware.cache.'.",
            id="backroom.E551",
        )
    if ours not in ([SINGLE], [UPDATE, FETCH]):
        names = ", ".join(path.rpartition(".")[2] for path in ours)
        yield checks.Error(
            f"MIDDLEWARE has these of Backroom's cache middlewares, in this order: {names}. Nothing would be found, or "
            "nothing stored.",
            hint=hint,
            id="backroom.E552",
        )


def _aliases(order: list[str]) -> Iterator[checks.CheckMessage]:
    if {SINGLE, UPDATE, FETCH} & set(order) and settings.CACHE_MIDDLEWARE_ALIAS not in settings.CACHES:
        yield checks.Error(
            f"CACHE_MIDDLEWARE_ALIAS is {settings.CACHE_MIDDLEWARE_ALIAS!r}, which CACHES does not have.",
            hint=f"Known: {', '.join(settings.CACHES)}.",
            id="backroom.E553",
        )


def _places(order: list[str]) -> Iterator[checks.CheckMessage]:
    first = next((place for place, path in enumerate(order) if path in {SINGLE, FETCH}), None)
    if first is None:
        return
    name = order[first].rpartition(".")[2]
    if LOGIN in order[:first]:
        yield checks.Warning(
            f"{name} comes after LoginRequiredMiddleware, which has read the session of every request by then: no page "
            "would ever be stored.",
            hint="Put it before. A page that needs a login is not stored there either; pages that do not are.",
            id="backroom.W551",
        )
    if SINGLE in order and LOCALE in order[first:]:
        yield checks.Warning(
            "CacheMiddleware comes before LocaleMiddleware, so it does not know the language: every spelling of "
            "Accept-Language makes a page of its own.",
            hint=f"Put it after LocaleMiddleware, or use the pair: {UPDATE!r} near the top, {FETCH!r} at the end.",
            id="backroom.W552",
        )


def _ways() -> Iterator[checks.CheckMessage]:
    if WAY.value not in {"auto", *WAYS}:
        yield checks.Error(
            f"BACKROOM['CACHE_REFRESH'] is {WAY.value!r}.",
            hint=f"Use 'auto' or one of: {', '.join(map(repr, WAYS))}.",
            id="backroom.E554",
        )
    if WAY.value in {"auto", "tasks"} and BACKEND.value not in settings.TASKS:
        yield checks.Error(
            f"BACKROOM['CACHE_REFRESH_BACKEND'] is {BACKEND.value!r}, which TASKS does not have: what is stale would be "
            "computed by visitors.",
            hint=f"Known: {', '.join(settings.TASKS)}.",
            id="backroom.E555",
        )
