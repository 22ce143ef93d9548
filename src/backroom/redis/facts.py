"""What a server says of itself: product, memory, persistence. For checks and for people."""

from dataclasses import dataclass

from redis.exceptions import ResponseError

from backroom.redis.errors import RedisUnavailable
from backroom.redis.servers import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of the node of a cluster that is worst off, where they differ."""

    product: str
    is_too_old: bool
    policy: str
    """Its maxmemory-policy."""
    evicts: bool
    """Whether it may delete keys that have no time to live."""
    is_persistent: bool
    """Whether it writes an append-only file, or snapshots at times."""
    has_append_only_file: bool
    role: str
    used_memory: int
    max_memory: int
    """Bytes; 0: no limit."""


def facts_of(server: Server) -> Facts:
    """Ask the server; raise `RedisUnavailable` when it does not answer, `NotPermitted` when it does not say."""
    nodes = [_fields(reply) for reply in server.call_everywhere("INFO", "everything")]
    saves = [_saves(reply) for reply in _settings(server)] or [None] * len(nodes)
    worst = max(nodes, key=lambda fields: (_evicts(fields), _is_too_old(fields)))
    policies = {fields.get("maxmemory_policy", "noeviction") for fields in nodes}
    return Facts(
        product=_product(worst),
        is_too_old=any(map(_is_too_old, nodes)),
        policy=", ".join(sorted(policies)),
        evicts=any(map(_evicts, nodes)),
        is_persistent=all(
            fields.get("aof_enabled") == "1" or has_saves is not False
            for fields, has_saves in zip(nodes, saves, strict=True)
        ),
        has_append_only_file=all(fields.get("aof_enabled") == "1" for fields in nodes),
        role=worst.get("role", ""),
        used_memory=sum(int(fields.get("used_memory", 0)) for fields in nodes),
        max_memory=sum(int(fields.get("maxmemory", 0)) for fields in nodes),
    )


def _fields(reply: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _settings(server: Server) -> list[list[bytes]]:
    try:
        return server.call_everywhere("CONFIG", "GET", "save")
    except (ResponseError, RedisUnavailable):
        # Many a managed server does not let anybody ask.
        return []


def _saves(reply: list[bytes]) -> bool | None:
    """Tell whether the setting `save` names a time for snapshots; None where it cannot be known."""
    return bool(reply[1].strip()) if len(reply) > 1 else None


def _product(fields: dict[str, str]) -> str:
    if version := fields.get("valkey_version"):
        return f"Valkey {version}"
    return f"Redis {fields.get('redis_version', 'of an unknown version')}"


def _is_too_old(fields: dict[str, str]) -> bool:
    if version := fields.get("valkey_version"):
        return _major(version) < 8
    return _major(fields.get("redis_version", "7")) < 7


def _major(version: str) -> int:
    number = version.partition(".")[0]
    return int(number) if number.isdigit() else 0


def _evicts(fields: dict[str, str]) -> bool:
    # Only keys with a time to live are at the mercy of the policies called volatile, and tasks have none.
    return fields.get("maxmemory_policy", "noeviction").startswith("allkeys")
