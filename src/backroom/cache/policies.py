"""The options that `cached()`, `fetch()` and `{% cache %}` share: how long a value is good, and who waits for whom."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from backroom.cache.computing import Recipe, unique
from backroom.cache.declarations import MistakenOptions
from backroom.cache.entries import Lifetime
from backroom.options import is_no_share

DEFAULT_TIMEOUT: Final = 300.0

type Tags = str | Iterable[str]


class Options(TypedDict, total=False):
    """What `cached()` and `fetch()` take; `Policy` says what each means."""

    stale: float
    stale_if_error: float
    early: float
    jitter: float
    negative: float | None
    errors: Sequence[type[Exception]]
    keep: Callable[[Any], bool]
    lease: float
    patience: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How one kind of value is kept. Times are seconds.

    Args:
        timeout: how long a value is fresh; None until it is invalidated, 0 not at all.
        stale: how long after that it is still served while it is computed anew behind the callers' backs.
        stale_if_error: how long after `timeout` it is served when computing it anew raises.
        early: the factor β of XFetch, by which one caller computes anew a little before the end; 0 turns it off.
        jitter: the part of `timeout` by which it is shortened at most, by chance, so that what was stored together
            does not expire together.
        negative: how long None, or one of `errors`, is fresh; None as long as anything else, 0 not at all.
        errors: exceptions that are an answer, such as `DoesNotExist`: they are remembered and raised again.
        keep: tells whether a value is to be stored.
        lease: how long a computation may take before another caller starts one, as if the first had died.
        patience: how long a caller waits for another's computation before doing its own; None is twice the lease.
    """

    timeout: float | None = DEFAULT_TIMEOUT
    stale: float = 0
    stale_if_error: float = 0
    early: float = 1.0
    jitter: float = 0
    negative: float | None = None
    errors: Sequence[type[Exception]] = ()
    keep: Callable[[Any], bool] | None = None
    lease: float = 30
    patience: float | None = None

    def __post_init__(self) -> None:
        """Refuse a `jitter` in seconds: it is a share."""
        if not 0 <= self.jitter <= 1:
            raise MistakenOptions([is_no_share("jitter", self.jitter)])

    def recipe(
        self,
        alias: str,
        key: str,
        compute: Callable[[], Any],
        *,
        tags: tuple[str, ...] = (),
        background: Callable[[], bool] | None = None,
    ) -> Recipe:
        """Return the recipe of one value of this kind."""
        return Recipe(
            alias=alias,
            key=key,
            compute=compute,
            lifetime=Lifetime(fresh=self.timeout, stale=self.stale, spare=self.stale_if_error, early=self.early),
            tags=unique(tags),
            lease=self.lease,
            patience=2 * self.lease if self.patience is None else self.patience,
            lifetime_of=self._lifetime_of,
            is_kept=self.keep or _always,
            error_of=self._error_of,
            background=background if self.stale else None,
        )

    def raise_again(self, remembered: Any) -> None:
        """Raise an error that was stored in the place of a value."""
        place, texts = remembered
        raise self.errors[place](*texts)

    def _lifetime_of(self, value: Any, is_error: bool) -> Lifetime | None:  # noqa: FBT001 - a recipe's field is called so
        if self.negative is not None and (is_error or value is None):
            return Lifetime(fresh=self.negative, early=self.early)
        if self.jitter and self.timeout is not None:
            fresh = self.timeout * (1 - self.jitter * random.random())  # noqa: S311 - jitter
            return Lifetime(fresh=fresh, stale=self.stale, spare=self.stale_if_error, early=self.early)
        return None

    def _error_of(self, error: Exception) -> Any:
        for place, kind in enumerate(self.errors):
            if isinstance(error, kind):
                return [place, [str(each) for each in error.args]]
        return None


def _always(_value: Any) -> bool:
    return True
