"""System checks: what sessions need and a project lacks, and each setting that leaves them unprotected, with its cure.

docs/reference/sessions.md has them all; docs/explanation/session-security.md says which point of OWASP's each is for.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from backroom.extras import installing
from backroom.options import problems_of
from backroom.sealing import can_seal
from backroom.sessions.agents import can_parse
from backroom.sessions.backends.base import BackroomSession
from backroom.sessions.rules import SESSIONS, SessionOptions
from backroom.sql.dialect import SUPPORTED, document_type

OURS: Final = "backroom.sessions.middleware.SessionMiddleware"
DJANGOS: Final = "django.contrib.sessions.middleware.SessionMiddleware"
HINT: Final = "See BACKROOM['SESSIONS'] in docs/reference/sessions.md."

type Messages = list[checks.CheckMessage]


@checks.register("backroom")
def check_sessions(**_kwargs: Any) -> Messages:
    """Return what keeps the sessions from working as the settings say."""
    options = _options()
    if options is None:
        problem = f"BACKROOM['SESSIONS'] is of type {type(SESSIONS.value).__name__}. Use a dict."
        return [checks.Error(problem, hint=HINT, id="backroom.E401")]
    found: Messages = [
        checks.Error(problem, hint=HINT, id="backroom.E401") for problem in problems_of(SessionOptions, options)
    ]
    engine = _engine(settings.SESSION_ENGINE)
    if engine is None or not issubclass(engine, BackroomSession):
        # Another engine is the project's choice, and a broken name of one is Django's to tell.
        return [*found, *_broken_engine()]
    # What is wrong with one option hides nothing of the others.
    fitting = {name: value for name, value in options.items() if not problems_of(SessionOptions, {name: value})}
    return [*found, *_middleware(), *_store(engine, fitting), *_options_fit(fitting), *_serializer()]


@checks.register("backroom", checks.Tags.security, deploy=True)
def check_session_security(**_kwargs: Any) -> Messages:
    """Return which settings leave the sessions of a server unprotected, and what people would see more of."""
    engine = _engine(settings.SESSION_ENGINE)
    if engine is None or not issubclass(engine, BackroomSession):
        return []
    weak: Messages = [
        checks.Warning(problem, hint=cure, id=f"backroom.{number}") for number, problem, cure in _weaknesses()
    ]
    return [*weak, *_devices()]


def _weaknesses() -> Iterator[tuple[str, str, str]]:
    name = settings.SESSION_COOKIE_NAME
    if not settings.SESSION_COOKIE_SECURE:
        yield (
            "W402",
            "SESSION_COOKIE_SECURE is False, so the session's id is sent by http too, where anyone on the way reads it.",
            "Set SESSION_COOKIE_SECURE = True.",
        )
    if not settings.SESSION_COOKIE_HTTPONLY:
        yield (
            "W403",
            "SESSION_COOKIE_HTTPONLY is False, so every script of a page can read the session's id.",
            "Set SESSION_COOKIE_HTTPONLY = True.",
        )
    if str(settings.SESSION_COOKIE_SAMESITE or "").lower() not in {"lax", "strict"}:
        yield (
            "W404",
            f"SESSION_COOKIE_SAMESITE is {settings.SESSION_COOKIE_SAMESITE!r}, so other sites can have the cookie sent.",
            "Set SESSION_COOKIE_SAMESITE = 'Lax', or 'Strict'.",
        )
    if settings.SESSION_COOKIE_DOMAIN:
        yield (
            "W405",
            f"SESSION_COOKIE_DOMAIN is {settings.SESSION_COOKIE_DOMAIN!r}, so every host below it gets the session's id.",
            "Leave SESSION_COOKIE_DOMAIN out.",
        )
    if not name.lower().startswith("__host-"):
        yield (
            "W406",
            f"SESSION_COOKIE_NAME is {name!r}, which other hosts of the domain can set"
            + (", and tells that this is Django." if name == "sessionid" else "."),
            "Set SESSION_COOKIE_NAME = '__Host-id', with SESSION_COOKIE_SECURE = True.",
        )
    options = _options() or {}
    if options.get("IDLE") is None:
        yield (
            "W407",
            "Sessions that nobody uses do not end: BACKROOM['SESSIONS'] has no 'IDLE'.",
            "OWASP names 2 to 5 minutes for what is valuable and 15 to 30 for what is not; a shop may choose days.",
        )
    if options.get("ABSOLUTE") is None:
        yield (
            "W408",
            "Sessions that are used never end: BACKROOM['SESSIONS'] has no 'ABSOLUTE'.",
            "Choose after how long everyone signs in anew: hours for what is valuable, weeks for what is not.",
        )


def _options() -> Mapping[str, Any] | None:
    found: object = SESSIONS.value
    return found if isinstance(found, Mapping) else None


def _engine(path: str) -> type[Any] | None:
    try:
        found: type[Any] = import_module(path).SessionStore
    except (ImportError, AttributeError):
        return None
    return found


def _broken_engine() -> Iterator[checks.CheckMessage]:
    path = settings.SESSION_ENGINE
    if not path.startswith("backroom."):
        return
    try:
        import_module(path)
    except ImportError as error:
        yield _broken(error)


def _broken(error: ImportError) -> checks.CheckMessage:
    return checks.Error(
        f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, which cannot be imported: {error}",
        hint="Backroom's engines are 'backroom.sessions.backends.database' and 'backroom.sessions.backends.redis'.",
        id="backroom.E408",
    )


def _middleware() -> Iterator[checks.CheckMessage]:
    if DJANGOS in settings.MIDDLEWARE:
        yield checks.Warning(
            "The session middleware is Django's, so sessions have no address and no user agent, ids are never renewed, "
            "and responses that used a session do not say Cache-Control: private.",
            hint=f"Put {OURS!r} in its place in MIDDLEWARE.",
            id="backroom.W401",
        )


def _store(engine: type[Any], options: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    if not apps.is_installed("backroom.sessions"):
        yield checks.Error(
            "SESSION_ENGINE is Backroom's, and 'backroom.sessions', which has its table and its receivers, is not installed.",
            hint="Add 'backroom.sessions' to INSTALLED_APPS and run manage.py migrate.",
            id="backroom.E402",
        )
        return
    if not hasattr(engine, "get_model_class"):
        yield from _redis(options)
        return
    from django.db import connections, router

    alias = router.db_for_write(engine.get_model_class())
    if document_type(connections[alias].vendor) is None:
        yield checks.Error(
            f"Backroom does not support {connections[alias].display_name} (database {alias!r}).",
            hint=f"Use {' or '.join(SUPPORTED.values())} for sessions, by a router if need be, or the Redis engine.",
            id="backroom.E403",
        )


def _redis(options: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    try:
        from backroom.sessions.stores.redis import OPTIONS, problems_of_options
    except ModuleNotFoundError as error:
        yield _broken(error)
        return
    for problem in problems_of_options(options.get("REDIS", {})):
        yield checks.Error(problem, hint=f"See {OPTIONS} in docs/reference/sessions.md.", id="backroom.E404")


def _options_fit(options: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    if options.get("ENCRYPT") and not can_seal():
        yield checks.Error(
            "BACKROOM['SESSIONS'] says ENCRYPT, and the package cryptography is not installed.",
            hint=installing("encryption"),
            id="backroom.E405",
        )
    before = options.get("READ_THROUGH")
    if before and _engine(before) is None:
        yield checks.Error(
            f"BACKROOM['SESSIONS']['READ_THROUGH'] is {before!r}, which is no session engine.",
            hint="Use what SESSION_ENGINE was before, such as 'django.contrib.sessions.backends.db'.",
            id="backroom.E406",
        )
    if before and before == settings.SESSION_ENGINE:
        yield checks.Error(
            "BACKROOM['SESSIONS']['READ_THROUGH'] is the very engine that SESSION_ENGINE names.",
            hint="Name the engine that the project had before, or leave it out.",
            id="backroom.E407",
        )


def _devices() -> Iterator[checks.CheckMessage]:
    # An info of every check would be printed by every command.
    if not can_parse() and apps.is_installed("backroom.sessions"):
        yield checks.Info(
            "The package ua-parser is not installed, so people see 'Unknown device' in the list of their sessions.",
            hint=installing("sessions"),
            id="backroom.I401",
        )


def _serializer() -> Iterator[checks.CheckMessage]:
    path = settings.SESSION_SERIALIZER
    try:
        found = import_string(path)
    except ImportError:
        return
    if "pickle" in f"{path} {found.__module__} {found.__qualname__}".lower():
        yield checks.Warning(
            f"SESSION_SERIALIZER is {path!r}. Who learns SECRET_KEY and can write to the store runs code on the server.",
            hint="Use django.contrib.sessions.serializers.JSONSerializer.",
            id="backroom.W409",
        )
