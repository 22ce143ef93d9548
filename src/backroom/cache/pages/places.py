"""Where the pages of one address are kept: the names of what is stored, and the tags by which it is invalidated."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language

from backroom.cache.arguments import digest
from backroom.cache.generations import ainvalidate, invalidate
from backroom.cache.pages.addresses import IGNORED, parted
from backroom.cache.pages.options import PageCache


class Place:
    """The address of one request, as the keys and tags of its pages have it."""

    user = ""
    """Whose pages these are, where each user has their own. Set before anything is named."""

    def __init__(self, cache: PageCache, request: HttpRequest, *, depth: int) -> None:
        ignored = IGNORED.value if cache.ignored is None else cache.ignored
        # Past what may watch it: an address in a key shows nobody anything.
        query, self.left_out = parted(dict.get(request.META, "QUERY_STRING", ""), ignored)
        self.path = f"page:{request.path}"
        self.url = f"{self.path}?{query}"
        self._tags = cache.tags(request)
        # A cache within a cache keeps its pages apart, or would wait for the lock of the one around it.
        self._parts: list[Any] = [
            *(depth, cache.prefix, cache.view),
            *(f"{request.scheme}://{request.get_host()}{request.path}", query),
        ]
        if settings.USE_I18N:
            self._parts.append(getattr(request, "LANGUAGE_CODE", None) or get_language())
        if settings.USE_TZ:
            self._parts.append(get_current_timezone_name())

    @cached_property
    def meta(self) -> str:
        """Return the key of what is known of the address: by what its pages differ, and whether to wait for one."""
        return f"backroom.page.{digest([*self._parts, self.user])}"

    def page(self, method: str, variant: str) -> str:
        """Return the key of one page."""
        return f"{self.meta}.{method}.{variant}"

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """Return the tags that every page of the address has."""
        users = (f"user:{self.user}",) if self.user else ()
        return tuple(dict.fromkeys((self.path, self.url, *users, *self._tags)))


def purge(*addresses: str, alias: str | None = None) -> None:
    """Have pages not served any more.

    An address is a path, which stands for the path with any query (`/prices/`), or a path with its query
    (`/prices/?page=2`), in whatever order and on whatever host; percent-encoded, as `reverse()` returns it, or not.
    What is no address raises `ValueError`.
    """
    invalidate(*_tags_of(addresses), alias=alias)


async def apurge(*addresses: str, alias: str | None = None) -> None:
    """See purge()."""
    await ainvalidate(*_tags_of(addresses), alias=alias)


def _tags_of(addresses: Iterable[str]) -> list[str]:
    tags: dict[str, None] = {}
    for address in addresses:
        # A list, say, becomes text that is no address.
        path, mark, query = str(address).partition("?")
        if not path.startswith("/"):
            parts = urlsplit(path)
            if not parts.netloc:
                msg = f"purge() takes addresses, such as '/prices/' or '/prices/?page=2', and not {address!r}."
                raise ValueError(msg)
            path = parts.path or "/"
        # A view may have a key with every parameter; and a path that was decoded already may have a "%" in it.
        endings = {f"?{parted(query, ignored)[0]}" for ignored in (IGNORED.value, ())} if mark else {""}
        tags |= {f"page:{each}{ending}": None for each in (path, unquote(path)) for ending in endings}
    return list(tags)
