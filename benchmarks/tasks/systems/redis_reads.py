"""What reads back the results that systems keep under keys of their own in Redis."""

from collections.abc import Iterator
from itertools import batched

from benchmarks.tasks.systems.base import redis as url


def values(database: int = 0, match: str = "*") -> Iterator[bytes]:
    """Yield the value of every string whose key matches."""
    import redis

    client = redis.Redis.from_url(url(database))
    for keys in batched(client.scan_iter(match, count=1_000), 1_000):
        yield from (value for value in client.mget(keys) if value is not None)


def firsts(database: int = 0, match: str = "*") -> Iterator[bytes]:
    """Yield the first element of every list whose key matches."""
    import redis

    client = redis.Redis.from_url(url(database))
    for keys in batched(client.scan_iter(match, count=1_000), 1_000):
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.lindex(key, 0)
        yield from pipeline.execute()
