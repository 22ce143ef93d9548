"""System checks of CACHES: what our backends are told wrongly is said, with its cure, before a page needs them."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from backroom.cache.backends.base import BackroomCache, problems_of_cache
from backroom.cache.backends.sqlite import SQLiteCache, path_of
from backroom.options import meant

KEYS: Final = ("BACKEND", "LOCATION", "OPTIONS", "TIMEOUT", "KEY_PREFIX", "VERSION", "KEY_FUNCTION")
PUBLIC: Final = ("MEDIA_ROOT", "STATIC_ROOT")


@checks.register("backroom")
def check_backends(**_kwargs: Any) -> list[checks.CheckMessage]:
    """Return what is wrong with the entries of CACHES that name a backend of ours."""
    found: list[checks.CheckMessage] = []
    for alias, params in settings.CACHES.items():
        backend = _backend(params.get("BACKEND", ""))
        if backend is None:
            continue
        found += _options(alias, backend, params.get("OPTIONS", {}))
        found += _misplaced(alias, backend, params)
        if issubclass(backend, SQLiteCache):
            found += _location(alias, params.get("LOCATION"))
        if problem := backend.problem_of_location(params.get("LOCATION"), params):
            found.append(
                checks.Error(
                    f"CACHES[{alias!r}]: {problem}",
                    hint="Nothing can be cached until then: every call raises an error.",
                    id="backroom.E504",
                )
            )
    return found


def _backend(path: Any) -> type[BackroomCache] | None:
    try:
        found = import_string(path) if isinstance(path, str) else path
    except ImportError:
        # Django says so itself.
        return None
    return found if isinstance(found, type) and issubclass(found, BackroomCache) else None


def _options(alias: str, backend: type[BackroomCache], options: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    for name, value in options.items():
        for problem in problems_of_cache(backend.options_class, {name: value}):
            yield checks.Error(
                f"CACHES[{alias!r}]: {problem}",
                hint=f"{backend.homes_of_options.get(str(name).lower(), '')} Until then the option is left out.".lstrip(),
                id="backroom.E501",
            )
    if "CULL_FREQUENCY" in options:
        yield checks.Warning(
            f"CACHES[{alias!r}] has the option CULL_FREQUENCY, which says nothing here.",
            hint="Remove it: a full cache forgets a little at a time, what is least asked for first.",
            id="backroom.W501",
        )


def _misplaced(alias: str, backend: type[BackroomCache], params: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    known = {field.name for field in fields(backend.options_class)}
    for name in params:
        if name.upper() in known:
            yield checks.Error(
                f"CACHES[{alias!r}] has {name!r} beside OPTIONS, where nothing reads it.",
                hint=f"Put it into OPTIONS, as {name.upper()!r}.",
                id="backroom.E501",
            )
        elif name.upper() not in KEYS and (near := meant(name, KEYS)):
            yield checks.Error(
                f"CACHES[{alias!r}] has {name!r}, which nothing reads.",
                hint=f"Did you mean {near!r}?",
                id="backroom.E501",
            )


def _location(alias: str, location: Any) -> Iterator[checks.CheckMessage]:
    named = path_of(location)
    if named is None:
        yield checks.Error(
            f"CACHES[{alias!r}] has the LOCATION {location!r}, which is no file."
            if location
            else f"CACHES[{alias!r}] has no LOCATION.",
            hint="Name the file, such as BASE_DIR / 'cache.sqlite3'. Until then every call raises an error.",
            id="backroom.E502",
        )
        return
    if named.is_dir():
        yield checks.Error(
            f"CACHES[{alias!r}] has the LOCATION {str(location)!r}, which is a folder.",
            hint="Name a file in it, such as BASE_DIR / 'cache.sqlite3'. Until then nothing is cached.",
            id="backroom.E502",
        )
    if not Path(location).is_absolute():
        yield checks.Warning(
            f"CACHES[{alias!r}] has the LOCATION {str(location)!r}, which is another file in each folder that a process "
            "is started in.",
            hint="Say where it is: BASE_DIR / 'cache.sqlite3'.",
            id="backroom.W503",
        )
    path = named.resolve()
    databases: dict[str, Any] = settings.DATABASES
    for database, params in databases.items():
        name = params.get("NAME")
        if name and Path(name).resolve() == path:
            yield checks.Error(
                f"CACHES[{alias!r}] has the database {database!r} for its LOCATION.",
                hint="Give the cache a file of its own. The database is left alone until then, and nothing is cached.",
                id="backroom.E503",
            )
    for name in PUBLIC:
        folder = getattr(settings, name, None)
        if folder and path.is_relative_to(Path(folder).resolve()):
            yield checks.Warning(
                f"CACHES[{alias!r}] keeps its entries in {name}, from where they may be served to anybody.",
                hint="Move LOCATION out of it.",
                id="backroom.W502",
            )
