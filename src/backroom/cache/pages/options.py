"""What `cache_page()` and the middlewares are told."""

from collections.abc import Callable
from dataclasses import dataclass, field

from django.core.cache import DEFAULT_CACHE_ALIAS
from django.http import HttpRequest

from backroom.cache.pages.control import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCache:
    """The options of one page cache. Times are seconds."""

    terms: Terms = field(default_factory=Terms)
    alias: str = DEFAULT_CACHE_ALIAS
    prefix: str = ""
    view: str = ""
    """The view by name: two of them that answer one request have pages of their own."""
    tags: Callable[[HttpRequest], tuple[str, ...]] = lambda _request: ()
    per_user: bool = False
    browser: float | None = None
    """The max-age that browsers get; None is what this cache has."""
    trusts_middleware: bool = False
    ignored: tuple[str, ...] | None = None
    lease: float = 30
    patience: float = 60
