"""The settings that every part on Redis has."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from backroom.options import REDIS_URL, Above, AtLeast
from backroom.redis.addresses import Address, problem_of


# Without slots, so that another dataclass with slots of its own can inherit from it too.
@dataclass(frozen=True, kw_only=True)
class RedisOptions:
    """How to reach the server. Times are in seconds."""

    url: str = field(default="", repr=False)
    """redis://, rediss:// or unix://; with `sentinels` its host is the name of the service they watch."""
    sentinels: list[str] | tuple[str, ...] = ()
    """`host:port` of each Sentinel."""
    sentinel_password: str = field(default="", repr=False)
    cluster: bool = False
    """Whether the URL names a node of a Redis Cluster."""
    prefix: str = "backroom"
    """What the names of all keys begin with."""
    timeout: Annotated[float, Above(0)] = 5.0
    """How long the server may take to answer."""
    connect_timeout: Annotated[float, Above(0)] = 2.0
    max_connections: Annotated[int, AtLeast(1)] = 100
    """Connections that a process holds at once at most; who needs one more waits for `timeout`."""

    @property
    def address(self) -> Address:
        """Where the server is; the same address is the same pool."""
        return Address(
            url=self.url or REDIS_URL.value,
            sentinels=tuple(self.sentinels),
            sentinel_password=self.sentinel_password,
            cluster=self.cluster,
            timeout=float(self.timeout),
            connect_timeout=float(self.connect_timeout),
            max_connections=self.max_connections,
        )


def problem_of_address(options: Any, place: str) -> str | None:
    """Return a sentence on what is wrong with the address in a part's options, or None. Connects to nothing.

    `place` is where the settings have those options.
    """
    return problem_of(options.address, setting=f"{place}['url']")
