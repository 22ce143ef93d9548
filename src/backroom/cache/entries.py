"""What is kept of a computation, and how fresh it is: values and decisions that know no cache and no clock."""

from dataclasses import dataclass
from enum import Enum
from math import ceil, log
from typing import Any, Final, Self

FORMAT: Final = "backroom-1"

type Generations = dict[str, dict[str, str]]
"""For each alias of CACHES, the generation of each tag that a value depends on."""


class Standing(Enum):
    """What an entry is good for at a moment."""

    FRESH = "fresh"
    EARLY = "early"
    """Fresh, and this reader has been drawn to have it computed anew before it expires."""
    STALE = "stale"
    """May be served while it is computed anew."""
    SPARE = "spare"
    """May be served only when computing it anew fails."""
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """How long a value is good, in seconds. `fresh=None` means until it is invalidated."""

    fresh: float | None
    stale: float = 0
    """After it was fresh, while it is computed anew."""
    spare: float = 0
    """After it was fresh, when it cannot be computed anew."""
    early: float = 1.0
    """The factor β of XFetch; 0 never computes early."""

    @property
    def backend_timeout(self) -> int | None:
        """Seconds that the backend has to keep it: whole ones, as some know no others."""
        return None if self.fresh is None else ceil(self.fresh + max(self.stale, self.spare))

    @property
    def is_kept(self) -> bool:
        """Tell whether it is worth storing at all."""
        return self.fresh is None or self.fresh + max(self.stale, self.spare) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A stored value, when it was made, and what must not have changed since."""

    value: Any
    made_at: float
    cost: float
    """Seconds that computing it took."""
    lifetime: Lifetime
    generations: Generations
    is_error: bool = False
    """Whether the value says which error was raised."""

    @property
    def tags(self) -> set[str]:
        """Return the names of the tags that it depends on, of whatever cache."""
        return {tag for tags in self.generations.values() for tag in tags}

    def age(self, now: float) -> float:
        """Return its age in seconds; never negative, as the clocks of two machines may differ."""
        return max(0.0, now - self.made_at)

    def standing(self, now: float, chance: float) -> Standing:
        """Return what it is good for. `chance` is drawn between 0 and 1.

        A reader is drawn to compute early the likelier, the closer the end and the dearer the computation: XFetch of
        Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 8(8), 2015.
        """
        life = self.lifetime
        if life.fresh is None:
            return Standing.FRESH
        age = self.age(now)
        if age < life.fresh:
            ahead = -self.cost * life.early * log(max(chance, 1e-12))
            return Standing.EARLY if age + ahead >= life.fresh else Standing.FRESH
        if age < life.fresh + life.stale:
            return Standing.STALE
        return Standing.SPARE if age < life.fresh + life.spare else Standing.DEAD

    def may_stand_in(self, now: float) -> bool:
        """Tell whether it may be served when it cannot be computed anew."""
        life = self.lifetime
        return life.fresh is None or self.age(now) < life.fresh + max(life.stale, life.spare)

    def packed(self) -> list[Any]:
        """Return it in a form that every serialiser keeps, JSON among them."""
        life = self.lifetime
        ages = [life.fresh, life.stale, life.spare, life.early]
        return [FORMAT, self.value, self.made_at, self.cost, ages, self.generations, self.is_error]

    @classmethod
    def unpacked(cls, stored: Any) -> Self | None:
        """Return what was stored; None for anything else that lies under the key."""
        if not isinstance(stored, list | tuple) or len(stored) != 7 or stored[0] != FORMAT:
            return None
        _, value, made_at, cost, (fresh, stale, spare, early), generations, is_error = stored
        life = Lifetime(fresh=fresh, stale=stale, spare=spare, early=early)
        return cls(value=value, made_at=made_at, cost=cost, lifetime=life, generations=generations, is_error=is_error)
