"""Waiting for another's computation of a key: in what steps, how long, and what is heard meanwhile of one that failed."""

import logging
import random
import secrets
import time
from collections.abc import Iterator
from typing import Any, Final

from django.core.cache import caches

from backroom.cache.locks import is_always_claimed, lock_key
from backroom.cache.steps import Steps, Wait, ask, latest
from backroom.cache.trouble import Trouble

logger = logging.getLogger("backroom.cache")

PAUSES: Final = (0.01, 0.1)
"""Seconds from one look to the next while another computes: at first, and at most."""
AFTER_A_FAILURE: Final = 5
"""Seconds for which a failure is remembered; a spare value is served meanwhile without trying again."""
REFUSALS: Final = 3
"""How often a lock that nobody else can want is refused, until it is clear that the cache gives none."""

troubles: Final[dict[str, Trouble]] = {}
"""Each cache's, by its alias."""


class Waiting:
    """One caller who waits for others."""

    def __init__(self, alias: str, *, patience: float, what: str) -> None:
        self.failure: Any = None
        """What is remembered of a computation that has failed since the first look."""
        self.is_in_vain = False
        """Whether what another computes is not to be kept, so that everybody has to compute."""
        self.has_looked = False
        self._alias = alias
        self._patience = patience
        self._what = what
        self._until = time.monotonic() + patience
        self._naps = _naps()
        self._refusals: int | None = 0
        self._before: dict[str, Any] = {}

    def look(self, key: str) -> Steps[None]:
        """See who has the lock of a key, and what has come of those who had it."""
        self.has_looked = True
        lock, failed, vain = lock_key(key), _failed_key(key), _vain_key(key)
        is_known = is_always_claimed(self._alias)
        found = yield from latest(self._alias, [failed, vain] if is_known else [failed, vain, lock])
        before = self._before.setdefault(key, found.get(failed))
        self.failure = found.get(failed) if found.get(failed) != before else None
        self.is_in_vain = vain in found
        if not is_known and lock not in found and self._refusals is not None:
            # It was given back since, or is not to be had at all: then neither is one that nobody else can want.
            probe = lock_key(secrets.token_hex(16))
            self._refusals = None if (yield from ask(self._alias, "add", probe, 1, 1)) else self._refusals + 1

    def is_over(self) -> bool:
        """Tell, and log, whether to wait no longer: since patience has ended, or there is nobody to wait for."""
        # A server that is not there refuses at once; a file may only be busy for a moment.
        if self._refusals == (1 if hasattr(caches[self._alias], "get_latest") else REFUSALS):
            trouble = troubles.get(self._alias) or troubles.setdefault(self._alias, Trouble(self._alias))
            trouble.warn("no_lock", f"{self._what} It gives no locks just now, so that everybody computes.")
            return True
        if time.monotonic() > self._until:
            logger.warning("action=gave-up-waiting %s seconds=%g", self._what, self._patience)
            return True
        return False

    def nap(self) -> Steps[None]:
        """Pause, longer each time."""
        yield Wait(next(self._naps))


def has_failed(alias: str, key: str) -> Steps[bool]:
    """Tell whether a computation of a key failed lately."""
    return (yield from ask(alias, "get", _failed_key(key))) is not None


def tell_failure(alias: str, key: str, failure: list[Any]) -> Steps[None]:
    """Have those who wait for a key know that its computation failed."""
    yield from _tell(alias, key, _failed_key(key), failure)


def tell_in_vain(alias: str, key: str) -> Steps[None]:
    """Have nobody wait for a key for a while: what is computed is not kept, and they would compute one after the other."""
    yield from _tell(alias, key, _vain_key(key), 1)


def _tell(alias: str, key: str, mark: str, value: Any) -> Steps[None]:
    try:
        yield from ask(alias, "set", mark, value, AFTER_A_FAILURE)
    except Exception as error:  # noqa: BLE001 - the value, or why there is none, is what counts
        logger.warning("action=not-stored key=%s error=%s", key, type(error).__qualname__)


def _naps() -> Iterator[float]:
    seconds, longest = PAUSES
    while True:
        yield seconds * random.uniform(0.5, 1)  # noqa: S311 - jitter
        seconds = min(seconds * 1.5, longest)


def _failed_key(key: str) -> str:
    return f"{lock_key(key)}.failed"


def _vain_key(key: str) -> str:
    return f"{lock_key(key)}.alone"
