"""Names of keys, and where a cluster keeps them."""

from redis.crc import key_slot


def key(prefix: str, tag: str, *parts: str) -> str:
    """Return the name of a key: `prefix:{tag}:parts…`. Keys with one tag are in one place of a cluster.

    The tag must not be empty and must not hold a closing brace: it would end there. Nor may one begin in the prefix.
    """
    return ":".join((prefix.replace("{", "_"), f"{{{tag.replace('}', '_') or '_'}}}", *parts))


def slot_of(name: str | bytes) -> int:
    """Return the slot of a key, by which a cluster says on which node it is."""
    return int(key_slot(name.encode() if isinstance(name, str) else name))
