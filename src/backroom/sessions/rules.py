"""How long a session lives: BACKROOM["SESSIONS"] as values, and what follows from them at a given moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any, Final, Self

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from backroom.clock import SECOND, Moment, after
from backroom.options import Above, AtLeast, Setting, parse

SESSIONS: Final = Setting[Mapping[str, Any]]("SESSIONS", dict, default={})

MINUTE: Final = 60.0
TOUCHES_PER_LIFE: Final = 10
"""A session is written down as seen at least so often in the time for which a use keeps it alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """BACKROOM["SESSIONS"]. Times are in seconds, or timedeltas; docs/reference/sessions.md says more of each."""

    IDLE: Annotated[float, Above(0)] | timedelta | None = None
    """A session that was not used for so long is over."""
    ABSOLUTE: Annotated[float, Above(0)] | timedelta | None = None
    """A session is over so long after it began, however active."""
    RENEWAL: Annotated[float, Above(0)] | timedelta | None = None
    """The id is replaced when it is so old."""
    GRACE: Annotated[float, AtLeast(0)] | timedelta = MINUTE
    """For so long the replaced id goes on to work, for requests that are under way."""
    TOUCH: Annotated[float, AtLeast(0)] | timedelta = MINUTE
    """A session is written down as seen at most so often."""
    LIMIT: Annotated[int, AtLeast(1)] | None = None
    """So many sessions of one user stay, the newest ones."""
    MAX_BYTES: Annotated[int, AtLeast(1)] = 1 << 20
    """The largest session that is stored."""
    DURABLE: bool = False
    """Whether a change of the contents waits, on PostgreSQL, until it is on the disk. What begins, ends, shortens or
    renews a session, or takes something out of it, does so in any case."""
    ENCRYPT: bool = False
    """Whether what is in a session is encrypted in the store."""
    READ_THROUGH: str = ""
    """The engine whose sessions go on to work: a module, as in SESSION_ENGINE."""
    UNKNOWN_IDS: Annotated[int, AtLeast(1)] = 20
    """So many unknown ids a minute from one address are told by a signal."""
    PARTITIONED: bool = False
    """Whether the session cookie is one for each site that embeds this one (CHIPS)."""
    KEEP_ADDRESSES: bool = True
    """Whether the visitor's IP address is kept with the session."""
    REDIS: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """How the Redis engine reaches its server; without an `url`, the one of BACKROOM["REDIS_URL"]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the options say, times in seconds."""

    idle: float | None
    absolute: float | None
    renewal: float | None
    grace: float
    touch: float
    saves_every_request: bool
    """Django's SESSION_SAVE_EVERY_REQUEST."""
    options: SessionOptions

    @classmethod
    def of(cls, options: SessionOptions, *, saves_every_request: bool = False) -> Self:
        """Return the rules that options make."""
        idle, touch = _seconds(options.IDLE), _seconds(options.TOUCH) or 0.0
        return cls(
            idle=idle,
            absolute=_seconds(options.ABSOLUTE),
            renewal=_seconds(options.RENEWAL),
            grace=_seconds(options.GRACE) or 0.0,
            touch=touch if idle is None else min(touch, idle / TOUCHES_PER_LIFE),
            saves_every_request=saves_every_request,
            options=options,
        )

    def end(self, asked: Moment, *, created_at: Moment, now: Moment) -> Moment:
        """Return until when a session lives that is used now, and that was to live until `asked`."""
        ends = [asked]
        if self.idle is not None:
            ends.append(after(now, self.idle))
        if self.absolute is not None:
            ends.append(after(created_at, self.absolute))
        return min(ends)

    def is_over(self, *, created_at: Moment, seen_at: Moment, now: Moment) -> bool:
        """Tell whether a session is over by the rules of today, which may be stricter than those it was stored by."""
        too_idle = self.idle is not None and now - seen_at >= self.idle * SECOND
        return too_idle or (self.absolute is not None and now - created_at >= self.absolute * SECOND)

    def is_due(self, seen_at: Moment, now: Moment) -> bool:
        """Tell whether it is time to write down that a session was seen."""
        return now - seen_at >= self.touch * SECOND

    def wants_new_id(self, renewed_at: Moment, now: Moment) -> bool:
        """Tell whether an id is too old. One that must go at once counts as made at the beginning of time."""
        return renewed_at == 0 or (self.renewal is not None and now - renewed_at >= self.renewal * SECOND)


def rules() -> Rules:
    """Return the rules of this project; raise `OptionsError` when they cannot be read."""
    return _rules()


@lru_cache(maxsize=1)
def _rules() -> Rules:
    said = getattr(settings, "BACKROOM", {}).get(SESSIONS.name, {})
    options = parse(SessionOptions, said, place=f"BACKROOM[{SESSIONS.name!r}]")
    return Rules.of(options, saves_every_request=bool(settings.SESSION_SAVE_EVERY_REQUEST))


@receiver(setting_changed)
def _forget(*, setting: str, **_kwargs: Any) -> None:
    if setting in {"BACKROOM", "SESSION_SAVE_EVERY_REQUEST"}:
        _rules.cache_clear()


def _seconds(value: float | timedelta | None) -> float | None:
    return value.total_seconds() if isinstance(value, timedelta) else value
