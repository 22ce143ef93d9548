"""`cached()` for functions and `fetch()` for anything else: on any cache, blocking or in an event loop."""

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial, update_wrapper
from importlib import import_module
from operator import attrgetter
from types import MethodType
from typing import Any, Final, Unpack, cast

from django.core.cache import DEFAULT_CACHE_ALIAS

from backroom.cache.arguments import Packed, digest, pack, unpack
from backroom.cache.computing import Recipe, obtained, renewed, renewed_if_due
from backroom.cache.declarations import check, check_decorator, unknown_fields
from backroom.cache.entries import Entry
from backroom.cache.generations import ainvalidate, invalidate
from backroom.cache.policies import DEFAULT_TIMEOUT, Options, Policy, Tags
from backroom.cache.refreshing import in_background
from backroom.cache.steps import arun, run
from backroom.errors import BackroomError

BUCKETS: Final = 4096
"""How many generations the calls of one function share; invalidating one call may cost one in 4096 others its value."""
NAME_LENGTH: Final = 120
MISTAKEN: Final = (TypeError, OverflowError)
"""What comes of text in the place of seconds, and of an infinity."""
STRANGE: Final = re.compile(r"[^A-Za-z0-9_.<>-]")


class UnusableFunction(BackroomError, TypeError):
    """A function cannot be cached the way it was declared."""


class CachedFunction[**P, R]:
    """A function whose results are kept. Call it as before; `key`, `invalidate` and `refresh` take the same arguments."""

    def __init__(
        self,
        function: Callable[P, R],
        policy: Policy,
        *,
        name: str,
        alias: str,
        tags: Tags | Callable[..., Tags],
        key: Callable[..., Any] | None,
        vary_on: Sequence[Callable[[], Any]],
        ignore: Collection[str],
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.policy = policy
        self.name = name
        self.alias = alias
        self._tags = tags if callable(tags) else _listed(tags)
        self._key = key
        self._vary_on = vary_on
        self._ignore = frozenset(ignore)
        self._signature = inspect.signature(function)
        self._is_async = inspect.iscoroutinefunction(function)
        if self._is_async:
            inspect.markcoroutinefunction(self)
        if unknown := self._ignore - set(self._signature.parameters):
            raise UnusableFunction(f"{name} has no parameter {', '.join(sorted(unknown))} that it could ignore.")
        if not callable(self._tags):
            self._check_fields(self._tags)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the kept result, or the function's own."""
        return self._finish(obtained(self._recipe(args, kwargs)))

    def __get__(self, instance: object, _owner: type | None = None) -> Any:
        """Pass the instance as the first argument, as for any method."""
        return self if instance is None else MethodType(self, instance)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is kept."""
        return self._key_of(self._packed(args, kwargs))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Have the result of this call never served again, nor that of a computation that is under way."""
        invalidate(self._bucket(self.key(*args, **kwargs)), alias=self.alias)

    async def ainvalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """See invalidate()."""
        await ainvalidate(self._bucket(self.key(*args, **kwargs)), alias=self.alias)

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute this call now, keep the result and return it."""
        return self._finish(renewed(self._recipe(args, kwargs)))

    def recipe_of(self, packed: Sequence[Packed]) -> Recipe:
        """Return the recipe of a call whose arguments were packed by this function."""
        args, kwargs = unpack(packed[0]), unpack(packed[1])
        return self._recipe(tuple(args), kwargs)

    @property
    def path(self) -> str | None:
        """Return where another process finds this function, if it can."""
        function: Any = self.function
        path = f"{function.__module__}:{function.__qualname__}"
        return path if function.__module__ != "__main__" and _at(path) is self else None

    def _check_fields(self, tags: list[str]) -> None:
        if not any("{" in tag for tag in tags):
            return
        parameters = self._signature.parameters
        try:
            unknown = unknown_fields(tags, parameters)
        except ValueError as error:
            raise UnusableFunction(f"The tags of {self.name} cannot be read: {error}. They are {tags!r}.") from None
        if unknown:
            raise UnusableFunction(
                f"The tags of {self.name} have {{{unknown[0]}}}, and it has no such parameter. "
                f"Known: {', '.join(parameters) or 'none'}."
            )

    def _finish(self, steps: Any) -> R:
        if self._is_async:
            return cast("R", self._awaited(steps))
        return cast("R", self._value(run(steps)))

    async def _awaited(self, steps: Any) -> Any:
        return self._value(await arun(steps))

    def _value(self, entry: Entry) -> Any:
        if entry.is_error:
            self.policy.raise_again(entry.value)
        return entry.value

    def _recipe(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recipe:
        key = self._key_of(self._packed(args, kwargs))
        return self.policy.recipe(
            self.alias,
            key,
            partial(self.function, *args, **kwargs),
            tags=(*self._tags_of(args, kwargs), self._bucket(key)),
            background=partial(self._refreshed_elsewhere, key, args, kwargs),
        )

    def _packed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
        if self._key is not None:
            return pack(self._key(*args, **kwargs), "key")
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return [pack(value, name) for name, value in bound.arguments.items() if name not in self._ignore]

    def _key_of(self, packed: Packed) -> str:
        around = [pack(ask(), "vary_on") for ask in self._vary_on]
        # memcached takes no spaces and no control characters in a key, and a name may have them.
        shown = STRANGE.sub("_", self.name[-NAME_LENGTH:])
        return f"backroom.call.{shown}.{digest([self.name, packed, around])}"

    def _bucket(self, key: str) -> str:
        return f"call:{self.name}:{int(key[-8:], 16) % BUCKETS}"

    def _tags_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        if callable(self._tags):
            return _listed(self._tags(*args, **kwargs))
        tags = self._tags
        if any("{" in tag for tag in tags):
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return [tag.format_map(bound.arguments) for tag in tags]
        return tags

    def _refreshed_elsewhere(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        recipe = self._recipe(args, kwargs)
        work = partial(run, renewed_if_due(recipe))
        # What surrounds this call, its language for one, would not surround the worker's.
        path = None if self._vary_on else self.path
        return in_background(self.alias, None if path is None else partial(_enqueued, path, args, kwargs, key), work)


def cached[**P, R](
    timeout: float | None = DEFAULT_TIMEOUT,
    *,
    tags: Tags | Callable[..., Tags] = (),
    key: str | Callable[..., Any] | None = None,
    vary_on: Sequence[Callable[[], Any]] = (),
    ignore: Collection[str] = (),
    alias: str = DEFAULT_CACHE_ALIAS,
    **options: Unpack[Options],
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Keep a function's results for `timeout` seconds, one for each set of arguments.

    At most one caller computes, in whatever process; the others wait for its result, or get the stale one.

    Args:
        tags: names that `invalidate()` takes. A list of texts, in which `{user_id}` or `{user.pk}` stands for an
            argument, or a function of the arguments that returns one.
        key: a name in the place of the function's path; or a function of the arguments that returns what to make the key
            of in their place.
        vary_on: functions without arguments whose results the key contains too, such as `get_language`.
        ignore: names of parameters on which the result does not depend.
        alias: a cache of CACHES.
        options: see `Policy`.
    """
    own = {"timeout": timeout, "tags": tags, "key": key, "vary_on": vary_on, "ignore": ignore, "alias": alias}
    check_decorator("@cached", cached, {**own, **options})
    policy = Policy(timeout=timeout, **options)

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        return CachedFunction(
            function,
            policy,
            name=key if isinstance(key, str) else _name_of(function, has_key=key is not None),
            alias=alias,
            tags=tags,
            key=None if isinstance(key, str) else key,
            vary_on=vary_on,
            ignore=ignore,
        )

    return decorate


def fetch[R](
    key: str,
    compute: Callable[[], R],
    timeout: float | None = DEFAULT_TIMEOUT,
    *,
    tags: Tags = (),
    alias: str = DEFAULT_CACHE_ALIAS,
    **options: Unpack[Options],
) -> R:
    """Return what is kept under a key, or what `compute` returns: `cache.get_or_set()` for which nobody computes twice.

    `options` are those of `Policy`. A stale value is computed anew by a thread of this process.
    """
    try:
        policy = Policy(timeout=timeout, **options)
        return cast("R", _opened(policy, run(obtained(_recipe(policy, alias, key, compute, tags)))))
    except MISTAKEN:
        # Looked at only now, for each call says them anew.
        check("fetch()", fetch, {"compute": compute, "timeout": timeout, "tags": tags, "alias": alias, **options})
        raise


async def afetch[R](
    key: str,
    compute: Callable[[], Awaitable[R]] | Callable[[], R],
    timeout: float | None = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - how long the value is kept
    *,
    tags: Tags = (),
    alias: str = DEFAULT_CACHE_ALIAS,
    **options: Unpack[Options],
) -> R:
    """See fetch(); `compute` may be a coroutine function."""
    try:
        policy = Policy(timeout=timeout, **options)
        return cast("R", _opened(policy, await arun(obtained(_recipe(policy, alias, key, compute, tags)))))
    except MISTAKEN:
        check("afetch()", afetch, {"compute": compute, "timeout": timeout, "tags": tags, "alias": alias, **options})
        raise


def forget(key: str, *, alias: str = DEFAULT_CACHE_ALIAS) -> None:
    """Have what `fetch()` keeps under a key never served again, nor what is being computed for it."""
    invalidate(_bucket_of(key), alias=alias)


async def aforget(key: str, *, alias: str = DEFAULT_CACHE_ALIAS) -> None:
    """See forget()."""
    await ainvalidate(_bucket_of(key), alias=alias)


def refresh_call(path: str, packed: Sequence[Packed], key: str) -> None:
    """Compute one call of a cached function anew, unless that was done, or means another key here than it did there."""
    function = _at(path)
    if not isinstance(function, CachedFunction):
        # It was renamed since; nobody will ask for the old one.
        return
    recipe = function.recipe_of(packed)
    if recipe.key == key:
        run(renewed_if_due(recipe))


def _enqueued(path: str, args: tuple[Any, ...], kwargs: dict[str, Any], key: str, backend: str) -> None:
    from backroom.cache.tasks import enqueue, refresh_function

    packed = [pack(list(args), "args"), pack(kwargs, "kwargs")]
    enqueue(refresh_function, backend, path, packed, key)


def _recipe(policy: Policy, alias: str, key: str, compute: Callable[[], Any], tags: Tags) -> Recipe:
    kept = f"backroom.fetch.{digest(key)}"

    def elsewhere() -> bool:
        return in_background(alias, None, partial(run, renewed_if_due(plain)))

    plain = policy.recipe(alias, kept, compute, tags=(*_listed(tags), _bucket_of(key)))
    return policy.recipe(alias, kept, compute, tags=plain.tags, background=elsewhere)


def _opened(policy: Policy, entry: Entry) -> Any:
    if entry.is_error:
        policy.raise_again(entry.value)
    return entry.value


def _bucket_of(key: str) -> str:
    return f"fetch:{int(digest(key)[:8], 16) % BUCKETS}"


def _name_of(function: Callable[..., Any], *, has_key: bool) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    if "<" in name and not has_key:
        raise UnusableFunction(
            f"{name} is made anew each time, and what it closes over would not be part of its key. "
            "Declare it at the top of a module, or give it a name: key=…"
        )
    return name


def _listed(tags: Tags) -> list[str]:
    return [tags] if isinstance(tags, str) else list(tags)


def _at(path: str) -> object:
    module, _, name = path.partition(":")
    try:
        return attrgetter(name)(import_module(module))
    except (ImportError, AttributeError):
        return None
