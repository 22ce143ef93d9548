"""One computation at a time: what to serve, who computes, who waits, and what is stored. Knows no function and no page."""

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Final

from backroom.cache.dependencies import Dependencies, collecting, enclosing
from backroom.cache.entries import Entry, Generations, Lifetime, Standing
from backroom.cache.failures import again, remembered
from backroom.cache.generations import current, held, tag_key
from backroom.cache.locks import Held, claim, lock_key
from backroom.cache.steps import Run, Steps, ask, latest
from backroom.cache.waiting import Waiting, has_failed, tell_failure, tell_in_vain
from backroom.cache.writes import is_uncommitted

logger = logging.getLogger("backroom.cache")

USABLE: Final = {Standing.FRESH, Standing.EARLY, Standing.STALE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A value: where it is kept, how it is computed, how long it is good."""

    alias: str
    key: str
    compute: Callable[[], Any]
    lifetime: Lifetime
    tags: tuple[str, ...] = ()
    lease: float = 30
    """Seconds after which another may compute, as if the first had died."""
    patience: float = 60
    """Seconds to wait for another's value before computing one's own."""
    lifetime_of: Callable[[Any, bool], Lifetime | None] = field(default=lambda _value, _is_error: None)
    """The lifetime of one value, where it has one of its own."""
    is_kept: Callable[[Any], bool] = field(default=lambda _value: True)
    error_of: Callable[[Exception], Any] = field(default=lambda _error: None)
    """What to remember of an error, or None."""
    background: Callable[[], bool] | None = None
    """Has the value computed elsewhere, and tells whether that could be arranged."""


def obtained(recipe: Recipe) -> Steps[Entry]:
    """Return an entry that may be served; compute one if there is none. An error of the computation reaches the caller."""
    found, standing = yield from looked_up(recipe)
    if is_uncommitted({*recipe.tags, *(() if found is None else found.tags)}):
        return (yield from _computed_for_nobody_else(recipe))
    if found is not None and standing in {Standing.EARLY, Standing.STALE}:
        found = yield from _renewed_by_one(recipe, found, standing)
    elif found is None or standing is not Standing.FRESH:
        found = yield from _computed_or_awaited(recipe, found)
    depends_on(found.generations)
    return found


def renewed(recipe: Recipe) -> Steps[Entry]:
    """Compute and store now, whatever there is."""
    held_lock = yield from claim(recipe.alias, recipe.key, recipe.lease)
    return (yield from computed(recipe, held_lock))


def renewed_if_due(recipe: Recipe) -> Steps[None]:
    """Compute and store, unless it is fresh by now or another is at it."""
    _, standing = yield from looked_up(recipe, chance=1.0)
    if standing is Standing.FRESH:
        return
    held_lock = yield from claim(recipe.alias, recipe.key, recipe.lease)
    if held_lock is not None:
        yield from computed(recipe, held_lock)
        yield from ask(recipe.alias, "delete", asked_key(recipe.key))


def looked_up(
    recipe: Recipe, chance: float | None = None, *, has_lock: bool = False
) -> Steps[tuple[Entry | None, Standing]]:
    """Return what is stored, if its tags still hold, and what it is good for.

    Who has the lock is to find what was stored just before, which a replica may not have yet.
    """
    known = {tag: tag_key(tag) for tag in recipe.tags}
    keys = [recipe.key, *known.values()]
    read = yield from (latest(recipe.alias, keys) if has_lock else ask(recipe.alias, "get_many", keys))
    entry = Entry.unpacked(read.get(recipe.key))
    if entry is None or not (yield from held(recipe.alias, read, entry.generations, known, has_lock=has_lock)):
        return None, Standing.DEAD
    standing = entry.standing(time.time(), random.random() if chance is None else chance)  # noqa: S311 - no secret
    return (None if standing is Standing.DEAD else entry), standing


def computed(recipe: Recipe, held_lock: Held | None) -> Steps[Entry]:
    """Compute and store; the generations of the tags are from before. Gives the lock back."""
    try:
        before: Generations = {}
        if recipe.tags:
            before = {recipe.alias: (yield from current(recipe.alias, recipe.tags))}
        with collecting() as found:
            found.add(before)
            entry = yield from _made(recipe, found)
        yield from _keep(recipe, found, entry)
    except Exception as error:
        if (failure := remembered(error)) is not None:
            yield from tell_failure(recipe.alias, recipe.key, failure)
        raise
    else:
        return entry
    finally:
        if held_lock is not None:
            yield from held_lock.give_back()


def _keep(recipe: Recipe, found: Dependencies, entry: Entry) -> Steps[None]:
    if found.is_private or is_uncommitted(found.tags):
        _keep_private()
    elif entry.lifetime.is_kept and (entry.is_error or recipe.is_kept(entry.value)):
        yield from ask(recipe.alias, "set", recipe.key, entry.packed(), entry.lifetime.backend_timeout)
    else:
        yield from tell_in_vain(recipe.alias, recipe.key)


def depends_on(generations: Generations) -> None:
    """Have what encloses this computation depend on what it depends on."""
    if (outer := enclosing()) is not None:
        outer.add(generations)


def asked_key(key: str) -> str:
    """Return the key that says that somebody has asked for a refresh lately."""
    return f"{lock_key(key)}.asked"


def _made(recipe: Recipe, found: Dependencies) -> Steps[Entry]:
    started = time.monotonic()
    is_error = False
    try:
        value = yield Run(recipe.compute)
    except Exception as error:
        value = recipe.error_of(error)
        if value is None:
            raise
        is_error = True
    cost = time.monotonic() - started
    life = recipe.lifetime_of(value, is_error) or recipe.lifetime
    return Entry(
        value=value,
        made_at=time.time(),
        cost=cost,
        lifetime=life,
        generations=found.generations,
        is_error=is_error,
    )


def _renewed_by_one(recipe: Recipe, found: Entry, standing: Standing) -> Steps[Entry]:
    """Serve what there is, unless it falls to this caller to compute it anew."""
    has_asked = recipe.background is not None and bool(found.lifetime.stale)
    if recipe.background is not None and found.lifetime.stale:
        # What can be renewed behind the visitors' backs once it is stale need not hold one of them up before.
        if standing is Standing.EARLY:
            return found
        if not (yield from ask(recipe.alias, "add", asked_key(recipe.key), 1, ceil(recipe.lease))):
            return found
        if (yield Run(recipe.background)):
            return found
    held_lock = yield from claim(recipe.alias, recipe.key, recipe.lease)
    if held_lock is None:
        return found
    newer, _ = yield from _with_lock(held_lock, looked_up(recipe, chance=1.0, has_lock=True))
    if newer is not None and newer.made_at > found.made_at:
        yield from held_lock.give_back()
        return newer
    entry = yield from _computed_or_spare(recipe, held_lock, found)
    if has_asked and entry is not found:
        yield from ask(recipe.alias, "delete", asked_key(recipe.key))
    return entry


def _computed_or_awaited(recipe: Recipe, spare: Entry | None) -> Steps[Entry]:
    if spare is not None and (yield from has_failed(recipe.alias, recipe.key)):
        return spare
    waiting = Waiting(recipe.alias, patience=recipe.patience, what=f"key={recipe.key}")
    while True:
        held_lock = yield from claim(recipe.alias, recipe.key, recipe.lease)
        # Also with the lock: it may have been given back between the last look and the claim.
        found = yield from _with_lock(
            held_lock, _come_meanwhile(recipe, spare, waiting, has_lock=held_lock is not None)
        )
        if found is not None:
            if held_lock is not None:
                yield from held_lock.give_back()
            return found
        if held_lock is not None or waiting.is_over():
            return (yield from _computed_or_spare(recipe, held_lock, spare))
        if waiting.is_in_vain and spare is None:
            return (yield from computed(recipe, None))
        yield from waiting.nap()


def _come_meanwhile(recipe: Recipe, spare: Entry | None, waiting: Waiting, *, has_lock: bool) -> Steps[Entry | None]:
    """Return what another has computed; if it failed to, the spare value, or raise its error."""
    found, standing = yield from looked_up(recipe, has_lock=has_lock)
    if found is not None and standing in USABLE:
        return found
    if has_lock and not waiting.has_looked:
        return None
    yield from waiting.look(recipe.key)
    if waiting.failure is not None and spare is not None and spare.may_stand_in(time.time()):
        return spare
    if (error := again(waiting.failure)) is not None:
        raise error
    return None


def _with_lock[T](held_lock: Held | None, steps: Steps[T]) -> Steps[T]:
    """Take steps between a claim and the computation; give the lock back if they end in an error."""
    try:
        return (yield from steps)
    except BaseException:
        if held_lock is not None:
            yield from held_lock.give_back()
        raise


def _computed_or_spare(recipe: Recipe, held_lock: Held | None, spare: Entry | None) -> Steps[Entry]:
    try:
        return (yield from computed(recipe, held_lock))
    except Exception as error:
        if spare is None or not spare.may_stand_in(time.time()):
            raise
        logger.warning("action=served-stale key=%s error=%s", recipe.key, type(error).__qualname__)
        return spare


def _computed_for_nobody_else(recipe: Recipe) -> Steps[Entry]:
    with collecting() as found:
        entry = yield from _made(recipe, found)
    _keep_private()
    return replace(entry, generations={})


def _keep_private() -> None:
    if (outer := enclosing()) is not None:
        outer.is_private = True


def unique(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags without those that come again."""
    return tuple(dict.fromkeys(tags))
