"""One computation at a time: what to serve, who computes, who waits, and what is stored. Knows no function and no page."""

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Final

from backroom.cache.dependencies import Dependencies, collecting, enclosing
from backroom.cache.entries import Entry, Generations, Lifetime, Standing
from backroom.cache.generations import current, held, tag_key
from backroom.cache.locks import Held, claim, is_claimed, lock_key
from backroom.cache.steps import Run, Steps, Wait, ask
from backroom.cache.writes import is_uncommitted

logger = logging.getLogger("backroom.cache")

PAUSES: Final = (0.01, 0.1)
"""Seconds from one look to the next while another computes: at first, and at most."""
LOOKS: Final = 3
"""How often nobody has a lock that is not to be had either, until it is clear that the cache is at fault."""
AFTER_A_FAILURE: Final = 5
"""Seconds for which a spare value is served without trying again; and where there is none, nobody waits for another."""
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


def looked_up(recipe: Recipe, chance: float | None = None) -> Steps[tuple[Entry | None, Standing]]:
    """Return what is stored, if its tags still hold, and what it is good for."""
    known = {tag: tag_key(tag) for tag in recipe.tags}
    read = yield from ask(recipe.alias, "get_many", [recipe.key, *known.values()])
    entry = Entry.unpacked(read.get(recipe.key))
    if entry is None or not (yield from held(recipe.alias, read, entry.generations, known)):
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
    except Exception:
        yield from _let_nobody_wait(recipe)
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
        yield from _let_nobody_wait(recipe)


def _let_nobody_wait(recipe: Recipe) -> Steps[None]:
    """Say that there will be nothing to wait for: those who do would compute one after the other."""
    try:
        yield from ask(recipe.alias, "set", _alone_key(recipe.key), 1, AFTER_A_FAILURE)
    except Exception as error:  # noqa: BLE001 - the value, or why there is none, is what counts
        logger.warning("action=not-stored key=%s error=%s", recipe.key, type(error).__qualname__)


def gives_up(what: str, until: float, patience: float, nobody: int) -> bool:
    """Tell, and log, whether who waits for another waits no longer: since `until` has come, or there is no other."""
    if nobody >= LOOKS:
        logger.warning("action=no-lock-to-be-had %s", what)
        return True
    if time.monotonic() > until:
        logger.warning("action=gave-up-waiting %s seconds=%g", what, patience)
        return True
    return False


def nap() -> Iterator[float]:
    """Yield the seconds from one look to the next while another computes."""
    seconds, longest = PAUSES
    while True:
        yield seconds * random.uniform(0.5, 1)  # noqa: S311 - jitter
        seconds = min(seconds * 1.5, longest)


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
    again, standing = yield from looked_up(recipe, chance=1.0)
    if again is not None and again.made_at > found.made_at:
        yield from held_lock.give_back()
        return again
    entry = yield from _computed_or_spare(recipe, held_lock, found)
    if has_asked and entry is not found:
        yield from ask(recipe.alias, "delete", asked_key(recipe.key))
    return entry


def _computed_or_awaited(recipe: Recipe, spare: Entry | None) -> Steps[Entry]:
    if spare is not None and (yield from ask(recipe.alias, "get", _failed_key(recipe.key))):
        return spare
    until = time.monotonic() + recipe.patience
    naps = nap()
    nobody = 0
    while (held_lock := (yield from claim(recipe.alias, recipe.key, recipe.lease))) is None:
        nobody = 0 if (yield from is_claimed(recipe.alias, recipe.key)) else nobody + 1
        if gives_up(f"key={recipe.key}", until, recipe.patience, nobody):
            return (yield from _computed_or_spare(recipe, None, spare))
        yield Wait(next(naps))
        if (found := (yield from _come_meanwhile(recipe, spare))) is not None:
            return found
        if spare is None and (yield from ask(recipe.alias, "get", _alone_key(recipe.key))):
            return (yield from computed(recipe, None))
    # It may have been given back between the last look and the claim.
    if (found := (yield from _come_meanwhile(recipe, spare))) is not None:
        yield from held_lock.give_back()
        return found
    return (yield from _computed_or_spare(recipe, held_lock, spare))


def _come_meanwhile(recipe: Recipe, spare: Entry | None) -> Steps[Entry | None]:
    """Return what another has computed, or the spare value if it failed to."""
    found, standing = yield from looked_up(recipe)
    if found is not None and standing in USABLE:
        return found
    if spare is not None and (yield from ask(recipe.alias, "get", _failed_key(recipe.key))):
        return spare
    return None


def _computed_or_spare(recipe: Recipe, held_lock: Held | None, spare: Entry | None) -> Steps[Entry]:
    try:
        return (yield from computed(recipe, held_lock))
    except Exception as error:
        if spare is None or not spare.may_stand_in(time.time()):
            raise
        logger.warning("action=served-stale key=%s error=%s", recipe.key, type(error).__qualname__)
        yield from ask(recipe.alias, "set", _failed_key(recipe.key), 1, AFTER_A_FAILURE)
        return spare


def _computed_for_nobody_else(recipe: Recipe) -> Steps[Entry]:
    with collecting() as found:
        entry = yield from _made(recipe, found)
    _keep_private()
    return replace(entry, generations={})


def _keep_private() -> None:
    if (outer := enclosing()) is not None:
        outer.is_private = True


def _failed_key(key: str) -> str:
    return f"{lock_key(key)}.failed"


def _alone_key(key: str) -> str:
    return f"{lock_key(key)}.alone"


def unique(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags without those that come again."""
    return tuple(dict.fromkeys(tags))
