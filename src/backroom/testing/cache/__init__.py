"""The contract of a cache: tests that a Django cache backend must pass, whatever it keeps its entries in.

    class TestMyCache(CacheContract):
        def make_cache(self, **params):
            return MyCache("its location", params)

It works under pytest and, beside `unittest.TestCase`, under unittest. Each test starts with an empty cache, which is the
subclass's affair. `CacheContract` is what Django's API promises, and what it leaves out: one winner of several, sums that
lose nothing, lifetimes of milliseconds, `clear()` within its prefix. `LockContract` is `ttl()` and `lock()` beside it.
"""

from backroom.testing.cache.case import CacheCase
from backroom.testing.cache.counting import Counting
from backroom.testing.cache.expiring import Expiring
from backroom.testing.cache.locking import Locking
from backroom.testing.cache.looping import Looping
from backroom.testing.cache.racing import Racing
from backroom.testing.cache.storing import Storing

__all__ = ["CacheCase", "CacheContract", "LockContract"]


class CacheContract(Storing, Expiring, Counting, Racing, Looping):
    """Every test of Django's API."""


class LockContract(Locking):
    """Every test of `ttl()` and `lock()`."""
