"""Where a server is: one value that says all of it, and how a connection to it is made."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from redis import Connection, ConnectionPool
from redis import asyncio as in_loop
from redis.asyncio.retry import Retry as RetryInLoop
from redis.asyncio.sentinel import Sentinel as SentinelInLoop
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

SCHEMES: Final = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server, a service that Sentinels watch, or a cluster. Two parts with equal addresses share their connections."""

    url: str
    sentinels: tuple[str, ...] = ()
    sentinel_password: str = ""
    cluster: bool = False
    timeout: float = 5.0
    connect_timeout: float = 2.0
    max_connections: int = 100

    def __str__(self) -> str:
        """Name it for a person, without a password and without the query that may hold one."""
        parts = urlsplit(self.url)
        try:
            is_clear = "@" not in self.url.partition("://")[2].removeprefix(parts.netloc) and parts.port != 0
        except ValueError:
            is_clear = False
        if not is_clear:
            # A password with a slash in it, say: which part is the host nobody can tell.
            return f"{parts.scheme}://…"
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        return f"{shown} (by Sentinel)" if self.sentinels else shown

    def __repr__(self) -> str:
        return f"<Address {self}>"


type Maker = Callable[..., Any]
"""Makes a connection of the client library, not connected yet; keywords replace what the address says."""


def maker_of(address: Address) -> Maker:
    """Return what makes the connections to an address."""
    arguments: dict[str, Any] = {
        # One try: whoever waits for a server does so at a higher place, and knows for how long.
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": address.timeout,
        "socket_connect_timeout": address.connect_timeout,
        "protocol": 2,
    }
    if urlsplit(address.url).scheme != "unix":
        arguments["socket_keepalive"] = True
    pool = ConnectionPool.from_url(address.url, **arguments)
    if address.sentinels:
        pool = _watched(address, dict(pool.connection_kwargs))
    kind: type[Connection] = pool.connection_class

    def make(**changes: Any) -> Connection:
        # The pool is the library's way to read a URL, and where a Sentinel's connection asks for its address.
        return kind(**(pool.connection_kwargs | {"client_name": f"backroom-{os.getpid()}"} | changes))

    return make


def maker_in_loop_of(address: Address) -> Maker:
    """Return what makes connections to an address for the running event loop. Who uses them minds the time of a reply."""
    arguments: dict[str, Any] = {
        "retry": RetryInLoop(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": address.connect_timeout,
        "protocol": 2,
    }
    if urlsplit(address.url).scheme != "unix":
        arguments["socket_keepalive"] = True
    pool: Any = in_loop.ConnectionPool.from_url(address.url, **arguments)
    if address.sentinels:
        pool = _watched(address, dict(pool.connection_kwargs), SentinelInLoop)
    kind: Any = pool.connection_class

    def make(**changes: Any) -> Any:
        return kind(**(pool.connection_kwargs | {"client_name": f"backroom-{os.getpid()}"} | changes))

    return make


def problem_of(address: Address, *, setting: str = "its URL") -> str | None:
    """Return a sentence on what is wrong with an address, or None; `setting` is where it is said. Connects to nothing."""
    if not address.url:
        return f"No Redis server is named. Set {setting}, or BACKROOM['REDIS_URL'] for every part."
    scheme = urlsplit(address.url).scheme
    if scheme not in SCHEMES:
        return f"The URL of the Redis server begins with {scheme!r}. Use redis://, rediss:// or unix://."
    if address.cluster and scheme == "unix":
        return "The nodes of a cluster find each other by host and port. Use redis:// or rediss:// with 'cluster'."
    if address.cluster and address.sentinels:
        return "Sentinels watch a single server and its replicas. Use 'sentinels' or 'cluster', not both."
    if wrong := [each for each in address.sentinels if not each.rpartition(":")[2].isdigit()]:
        return f"Sentinel {wrong[0]!r} is no address. Write 'host:port', with port 26379 as a rule."
    return _problem_of_making(address)


def _watched(address: Address, arguments: dict[str, Any], watchers: Any = Sentinel) -> ConnectionPool:
    """Return the pool whose connections ask the Sentinels where the primary is, each time they connect."""
    service = arguments.pop("host", "")
    arguments.pop("port", None)
    pairs = [(host.strip("[]"), int(port)) for host, _, port in (each.rpartition(":") for each in address.sentinels)]
    asking: dict[str, Any] = {
        "socket_timeout": address.connect_timeout,
        "socket_connect_timeout": address.connect_timeout,
        "retry": arguments["retry"],
        "password": address.sentinel_password or None,
    }
    is_secret = urlsplit(address.url).scheme == "rediss"
    if is_secret:
        # The Sentinels show certificates of the same authority.
        asking |= {"ssl": True} | {name: value for name, value in arguments.items() if name.startswith("ssl_")}
    primary = watchers(pairs, sentinel_kwargs=asking).master_for(service, ssl=is_secret, **arguments)
    pool: ConnectionPool = primary.connection_pool
    return pool


def _problem_of_making(address: Address) -> str | None:
    try:
        made = maker_of(address)()
    except ValueError:
        return (
            "The URL of the Redis server cannot be read. Write what is special in its password as %2F for /, %23 for # "
            "and so on, and check the port."
        )
    except TypeError as error:
        # Of a password that is not quoted a part may be taken for the name of an option.
        what = "" if "@" in urlsplit(address.url).query else f": {error}"
        return f"The URL of the Redis server has an option that is not known{what}."
    except RedisError as error:
        return f"The URL of the Redis server cannot be read: {error}"
    files = (getattr(made, name, None) for name in ("ca_certs", "ca_path", "certfile", "keyfile"))
    if gone := [file for file in files if file and not Path(file).exists()]:
        return f"The URL of the Redis server names {gone[0]!r}, which is not there."
    return None
