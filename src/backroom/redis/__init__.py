"""What every part that keeps something in Redis or Valkey shares: how servers are named, reached and scripted.

    server = server_of(parse(RedisOptions, options).address)
    server.call("SET", key("backroom", "sessions", "abc"), b"...")

Importing it connects to nothing and needs no settings. Replies are the server's own (RESP 2): bytes, integers, lists
and None. What goes wrong with the server is a `RedisUnavailable`, whatever the client library raised.
"""

from backroom.extras import installing

try:
    import redis as _library  # noqa: F401 - what follows imports from it
except ModuleNotFoundError as error:
    msg = f"Whatever Backroom keeps in Redis needs its client library. {installing('redis')}"
    raise ModuleNotFoundError(msg, name="redis") from error

from backroom.options import REDIS_URL
from backroom.redis.addresses import Address
from backroom.redis.errors import RedisUnavailable
from backroom.redis.keys import key, slot_of
from backroom.redis.links import Link
from backroom.redis.loops import ServerInLoop, server_in_loop
from backroom.redis.options import RedisOptions
from backroom.redis.scripts import Script
from backroom.redis.servers import Server, server_of

__all__ = [
    "REDIS_URL",
    "Address",
    "Link",
    "RedisOptions",
    "RedisUnavailable",
    "Script",
    "Server",
    "ServerInLoop",
    "key",
    "server_in_loop",
    "server_of",
    "slot_of",
]
