"""System checks of cookies: those that Django's settings describe, and each `Cookie` that the project declared.

Browsers drop a cookie that breaks a rule without a word, so these tell before anyone wonders. docs/reference/cookies.md.
"""

from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings
from django.core import checks

from backroom.cookies.attributes import Attributes, faults_of
from backroom.extras import installing
from backroom.sealing import can_seal

PREFIXES: Final = ("SESSION", "CSRF", "LANGUAGE")

type Messages = list[checks.CheckMessage]


@checks.register("backroom", checks.Tags.security)
def check_cookies(**_kwargs: Any) -> Messages:
    """Return which cookies no browser would keep, and what they lack that is not installed."""
    found: Messages = []
    for prefix in PREFIXES:
        cookie = described(prefix)
        found += [
            checks.Error(
                f"{prefix}_COOKIE_NAME is {cookie.name!r}. {problem}", hint=_hint(prefix, cure), id="backroom.E411"
            )
            for problem, cure in faults_of(cookie)
        ]
    for declared in _declared():
        found += [
            checks.Error(f"Cookie {declared.name!r}: {problem}", hint=cure, id="backroom.E412")
            for problem, cure in faults_of(declared.attributes)
        ]
        if declared.is_encrypted and not can_seal():
            found.append(
                checks.Error(
                    f"Cookie {declared.name!r} is encrypted, and the package cryptography is not installed.",
                    hint=installing("encryption"),
                    id="backroom.E413",
                )
            )
    return found


@checks.register("backroom", checks.Tags.security, deploy=True)
def check_cookies_of_a_server(**_kwargs: Any) -> Messages:
    """Return which of the declared cookies travel unprotected."""
    found: Messages = []
    for declared in _declared():
        if not declared.is_secure:
            found.append(
                checks.Warning(
                    f"Cookie {declared.name!r} is sent by http too, where anyone on the way reads it.",
                    hint="Set SESSION_COOKIE_SECURE = True, which it follows, or secure=True in its declaration.",
                    id="backroom.W411",
                )
            )
        if not declared.samesite:
            found.append(
                checks.Warning(
                    f"Cookie {declared.name!r} says nothing about SameSite, and browsers differ in what they make of that.",
                    hint="Use samesite='Lax', 'Strict', or 'None' if other sites embed this one.",
                    id="backroom.W412",
                )
            )
    return found


def described(prefix: str) -> Attributes:
    """Return what the settings say of one of Django's cookies."""

    def value(name: str, default: Any = None) -> Any:
        return getattr(settings, f"{prefix}_COOKIE_{name}", default)

    is_partitioned = prefix == "SESSION" and bool(_session_options().get("PARTITIONED"))
    return Attributes(
        value("NAME"),
        secure=bool(value("SECURE")),
        path=value("PATH") or "/",
        domain=value("DOMAIN") or None,
        samesite=value("SAMESITE") or None,
        partitioned=is_partitioned,
    )


def _session_options() -> dict[str, Any]:
    found = getattr(settings, "BACKROOM", {})
    options = found.get("SESSIONS", {}) if isinstance(found, dict) else {}
    return options if isinstance(options, dict) else {}


def _hint(prefix: str, cure: str) -> str:
    return f"{cure} The settings are {prefix}_COOKIE_SECURE, _PATH, _DOMAIN and _SAMESITE."


def _declared() -> Iterator[Any]:
    from backroom.cookies.cookie import Cookie

    yield from sorted(Cookie.declared, key=lambda cookie: cookie.name)
