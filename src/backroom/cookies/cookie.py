"""One cookie: JSON in, JSON out, signed or encrypted if it is to be."""

import json
import logging
import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from http.cookies import Morsel
from types import EllipsisType
from typing import Any, Final, TypedDict, Unpack, overload
from urllib.parse import quote, unquote
from weakref import WeakSet

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone

from backroom.cookies.attributes import Attributes, CookieRefused, as_partitioned, faults_of
from backroom.errors import BackroomError
from backroom.sealing import SIGNATURE_LENGTH, BadSeal, is_signed, seal, signature, unseal

MAX_BYTES: Final = 4096
"""What every browser keeps of one cookie: name, value and attributes (RFC 6265, 6.1)."""
SIGNED: Final = "cookies.signed"
SEALED: Final = "cookies.sealed"
TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
UNCODED: Final = "!#$&'*+-.^_`|~:"
"""What may stand in a value as it is; `decodeURIComponent` gives back what may not."""

logger = logging.getLogger("backroom.cookies")

type MaxAge = float | timedelta | datetime | None
"""Seconds, a timedelta, the moment of the end, or None: until the browser is closed."""


class CookieTooLarge(BackroomError):
    """A value that makes the cookie larger than browsers keep."""


class CookieOptions(TypedDict, total=False):
    """What can be said of a cookie beside its name and the type of its values."""

    max_age: MaxAge
    path: str
    domain: str | None
    secure: bool | None
    httponly: bool
    samesite: str | None
    partitioned: bool
    signed: bool
    encrypted: bool


class Cookie[T]:
    """A cookie of this site, declared once, in a module.

    `kind` is the type of its values: what comes back as another type is as good as not there; so is what `check`
    returns False for. `secure` follows SESSION_COOKIE_SECURE unless it is given. A `signed` cookie can be read by its
    owner and changed by nobody; an `encrypted` one cannot be read either. Both end at the server when their time is
    over, whatever the browser says.
    """

    declared: Final = WeakSet["Cookie[Any]"]()
    """Every cookie there is, for the system checks."""

    @overload
    def __init__(
        self: "Cookie[Any]",
        name: str,
        *,
        kind: None = ...,
        check: Callable[[Any], bool] | None = ...,
        **options: Unpack[CookieOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        *,
        kind: type[T],
        check: Callable[[T], bool] | None = ...,
        **options: Unpack[CookieOptions],
    ) -> None: ...
    def __init__(
        self,
        name: str,
        *,
        kind: type[T] | None = None,
        check: Callable[[T], bool] | None = None,
        max_age: MaxAge = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool | None = None,
        httponly: bool = True,
        samesite: str | None = "Lax",
        partitioned: bool = False,
        signed: bool = False,
        encrypted: bool = False,
    ) -> None:
        self.name = name
        self.kind = kind
        self.check = check
        self.max_age = max_age
        self.path = path
        self.domain = domain
        self._secure = secure
        self.httponly = httponly
        self.samesite = samesite
        self.partitioned = partitioned
        self.is_signed = signed
        self.is_encrypted = encrypted
        self._refuse_what_cannot_work()
        Cookie.declared.add(self)

    @property
    def is_secure(self) -> bool:
        """Whether browsers send it by https alone. A name with a prefix says so already."""
        if self._secure is not None:
            return self._secure
        return self.name.lower().startswith(("__host-", "__secure-")) or bool(settings.SESSION_COOKIE_SECURE)

    @property
    def attributes(self) -> Attributes:
        """What is said about it beside its value."""
        return Attributes(self.name, self.is_secure, self.path, self.domain, self.samesite, self.partitioned)

    @overload
    def get(self, request: HttpRequest) -> T | None: ...
    @overload
    def get[D](self, request: HttpRequest, default: D) -> T | D: ...
    def get(self, request: HttpRequest, default: Any = None) -> Any:
        """Return the value that the request has, or `default` if it has none that we set and that is still good."""
        text = request.COOKIES.get(self.name)
        if not text:
            return default
        try:
            value = json.loads(self._opened(text))
        except BadSeal:
            # Not its value: whoever changed it may have put anything into it.
            logger.warning("action=refused cookie=%s", self.name)
            return default
        except (ValueError, RecursionError):
            return default
        return value if self._fits(value) else default

    def set(self, response: HttpResponseBase, value: T, *, max_age: MaxAge | EllipsisType = ...) -> None:
        """Have the response set it, for as long as was declared or as is said here.

        Raise `CookieTooLarge` when browsers would not keep it, `TypeError` for a value of another kind.
        """
        if not self._fits(value):
            msg = f"Cookie {self.name!r} holds {self._expected()}, not {value!r}."
            raise TypeError(msg)
        seconds = _seconds(self.max_age if isinstance(max_age, EllipsisType) else max_age)
        text = self._closed(json.dumps(value, separators=(",", ":"), ensure_ascii=False), seconds)
        before = response.cookies.pop(self.name, None)
        self._put(response, text, seconds)
        if (size := len(response.cookies[self.name].OutputString().encode())) > MAX_BYTES:
            self._take_back(response, before)
            msg = (
                f"Cookie {self.name!r} would have {size:,} bytes, and browsers keep {MAX_BYTES:,}. "
                "Keep the value in the session, and at most its id in a cookie."
            )
            raise CookieTooLarge(msg)

    def delete(self, response: HttpResponseBase) -> None:
        """Have the response delete it."""
        self._put(response, "", 0)

    def __repr__(self) -> str:
        return f"<Cookie {self.name}>"

    def _refuse_what_cannot_work(self) -> None:
        if not self.name or not set(self.name) <= TOKEN or Morsel().isReservedKey(self.name):
            msg = f"{self.name!r} is no name for a cookie. Use letters, digits, '-' and '_', and no attribute's name."
            raise CookieRefused(msg)
        if self.is_signed and self.is_encrypted:
            msg = f"Cookie {self.name!r} is to be signed and encrypted. What is encrypted cannot be changed either: leave out signed."
            raise CookieRefused(msg)
        secure = True if self._secure is None else self._secure
        for problem, cure in faults_of(
            Attributes(self.name, secure, self.path, self.domain, self.samesite, self.partitioned)
        ):
            msg = f"Cookie {self.name!r}: {problem} {cure}"
            raise CookieRefused(msg)

    def _fits(self, value: Any) -> bool:
        return self._is_of_kind(value) and (self.check is None or self.check(value))

    def _is_of_kind(self, value: Any) -> bool:
        if self.kind is None:
            return True
        # True is an int to Python, and none to people.
        return isinstance(value, self.kind) and isinstance(value, bool) is (self.kind is bool)

    def _expected(self) -> str:
        kind = self.kind.__name__ if self.kind else "JSON"
        return kind if self.check is None else f"{kind} that {getattr(self.check, '__name__', 'its check')} allows"

    def _closed(self, text: str, seconds: int | None) -> str:
        """Return what the cookie says for this JSON."""
        ends_at = "" if seconds is None else math.ceil(time.time()) + seconds
        if self.is_encrypted:
            return seal(f"{ends_at}.{text}".encode(), purpose=SEALED, context=self.name.encode())
        coded = quote(text, safe=UNCODED)
        if not self.is_signed:
            return coded
        signed = f"{coded}.{ends_at}"
        return f"{signed}.{signature(signed.encode(), purpose=SIGNED, context=self.name.encode())}"

    def _opened(self, text: str) -> str:
        """Return the JSON that a cookie says; raise `BadSeal` for one that we did not set, or whose time is over."""
        if self.is_encrypted:
            ends_at, _, opened = unseal(text, purpose=SEALED, context=self.name.encode()).decode().partition(".")
        elif self.is_signed:
            signed, given = text[: -SIGNATURE_LENGTH - 1], text[-SIGNATURE_LENGTH:]
            if not is_signed(signed.encode(), given, purpose=SIGNED, context=self.name.encode()):
                raise BadSeal("The signature of a cookie is not ours.")
            coded, _, ends_at = signed.rpartition(".")
            opened = unquote(coded)
        else:
            return unquote(text)
        if ends_at and int(ends_at) <= time.time():
            msg = "over"
            raise ValueError(msg)
        return opened

    def _put(self, response: HttpResponseBase, text: str, seconds: int | None) -> None:
        response.set_cookie(
            self.name,
            text,
            max_age=seconds,
            # Django sets Expires by max_age; of one that is deleted it must be in the past.
            expires="Thu, 01 Jan 1970 00:00:00 GMT" if seconds == 0 else None,
            path=self.path,
            domain=self.domain,
            secure=self.is_secure,
            httponly=self.httponly,
            samesite=self.samesite,  # type: ignore[arg-type]
        )
        if self.partitioned:
            as_partitioned(response, self.name)

    def _take_back(self, response: HttpResponseBase, before: Morsel[str] | None) -> None:
        del response.cookies[self.name]
        if before is not None:
            dict.__setitem__(response.cookies, self.name, before)


def _seconds(max_age: MaxAge) -> int | None:
    """Return for how many seconds a cookie lives; None for one that ends with the browser."""
    match max_age:
        case None:
            return None
        case datetime():
            moment = timezone.make_aware(max_age) if timezone.is_naive(max_age) else max_age
            return max(0, math.ceil(moment.timestamp() - time.time()))
        case timedelta():
            return max(0, int(max_age.total_seconds()))
        case _:
            return max(0, int(max_age))
