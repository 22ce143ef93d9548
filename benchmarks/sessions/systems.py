"""The engines, and how a store is filled with sessions of others before one is measured on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS_SQL = "backroom.sessions.backends.database"
OURS_REDIS = "backroom.sessions.backends.redis"
DJANGO = "django.contrib.sessions.backends."

CONTENTS: dict[str, Any] = {
    "_auth_user_id": "42",
    "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
    "_auth_user_hash": "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069",
    "cart": {"items": [[17, 2], [99, 1]], "coupon": None},
    "seen": [1, 2, 3, 4, 5],
}
"""What a signed-in customer has: the same for every engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One engine on one store."""

    name: str
    engine: str
    store: str
    fill: Callable[[int], None] | None = None
    """Adds so many sessions of others; without it there are none to add: another engine's table has them, or nothing is kept."""
    options: dict[str, Any] = field(default_factory=dict)
    """BACKROOM["SESSIONS"] while it is measured."""
    server: bool = True
    """Whether its work is partly the server's."""

    @property
    def label(self) -> str:
        return f"{self.name}:{self.store}"


def sample_row() -> tuple[str, str]:
    """Return what a Django session and one of ours look like in a table, to be copied."""
    from django.contrib.sessions.backends.db import SessionStore as Djangos

    from backroom.sessions.backends.database import SessionStore as Ours

    return Djangos().encode(CONTENTS), Ours().encode_contents(CONTENTS)


def fill_django_session(count: int) -> None:
    _fill_table(count, "django_session", "session_key, session_data, expire_date", 32, sample_row()[0], django=True)


def fill_backroom_session(count: int) -> None:
    columns = (
        "session_key, session_data, expire_date, user_id, created_at, last_seen_at, renewed_at, "
        "ip_address, user_agent, label"
    )
    _fill_table(count, "backroom_sessions_session", columns, 43, sample_row()[1], django=False)


def _fill_table(count: int, table: str, columns: str, length: int, data: str, *, django: bool) -> None:
    from django.db import connection

    is_sqlite = connection.vendor == "sqlite"
    data = data.replace("'", "''").replace("%", "%%")
    if is_sqlite:
        key = f"substr(lower(hex(randomblob(32))), 1, {length})"
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        source = "FROM n"
        soon = "datetime('now', '+' || (1 + i %% 14) || ' days')"
        moment = "(unixepoch() + (1 + i %% 14) * 86400) * 1000000"
    else:
        key = f"substr(md5(random()::text || i) || md5(random()::text), 1, {length})"
        numbers, source = "", f"FROM generate_series(1, {count}) AS n(i)"
        soon = "now() + (1 + i %% 14) * interval '1 day'"
        moment = "((extract(epoch FROM now())::bigint) + (1 + i %% 14) * 86400) * 1000000"
    if django:
        values = f"{key}, '{data}', {soon}"
    else:
        values = (
            f"{key}, '{data}', {moment}, 'u' || (i %% 100000), {moment}, {moment}, {moment}, '192.0.2.7', 'Firefox', ''"
        )
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({columns}) {numbers} SELECT {values} {source}", [])
        cursor.execute("ANALYZE" if is_sqlite else f"VACUUM ANALYZE {table}")


def fill_cached_db(count: int) -> None:
    fill_django_session(count)
    fill_cache(count, prefix="django.contrib.sessions.cached_db")


def fill_files(count: int) -> None:
    import secrets

    from django.conf import settings
    from django.contrib.sessions.backends.file import SessionStore

    folder, data = Path(settings.SESSION_FILE_PATH), SessionStore().encode(CONTENTS)
    for _ in range(count):
        (folder / f"{settings.SESSION_COOKIE_NAME}{secrets.token_hex(16)}").write_text(data)


def fill_cache(count: int, prefix: str = "django.contrib.sessions.cache") -> None:
    from django.core.cache import cache

    for first in range(0, count, 5_000):
        cache.set_many({f"{prefix}{first + i:032x}": CONTENTS for i in range(min(5_000, count - first))}, 1_209_600)


def fill_redis(count: int) -> None:
    """Add sessions as the script `insert` would, many in one go."""
    import secrets
    import time

    import redis
    from django.conf import settings
    from django.contrib.sessions.serializers import JSONSerializer

    from backroom.sessions.codec import Codec
    from backroom.sessions.documents import contents_of

    stored = contents_of(CONTENTS, Codec(JSONSerializer, encrypts=False), max_bytes=1 << 20).stored
    now, base = time.time_ns() // 1000, "backroom:{sessions}"
    fields = {f"={name}": value for name, value in stored.items()}
    fields |= {
        "c": now,
        "t": now,
        "r": now,
        "x": now + 14 * 86_400 * 1_000_000,
        "a": "192.0.2.7",
        "g": "Firefox",
        "l": "",
    }
    client = redis.Redis.from_url(settings.BACKROOM["REDIS_URL"])
    for first in range(0, count, 2_000):
        with client.pipeline(transaction=False) as pipe:
            for number in range(first, min(count, first + 2_000)):
                key, user = secrets.token_urlsafe(32), f"u{number % 100_000}"
                pipe.hset(f"{base}:s:{key}", mapping={**fields, "u": user})
                pipe.pexpireat(f"{base}:s:{key}", now // 1000 + 15 * 86_400_000)
                pipe.zadd(f"{base}:ends", {key: fields["x"]})
                pipe.zadd(f"{base}:user:{user}", {key: now})
                pipe.zadd(f"{base}:users", {user: 0})
            pipe.execute()
    client.close()


SQL = (
    ("backroom", OURS_SQL, fill_backroom_session),
    ("django db", f"{DJANGO}db", fill_django_session),
    ("django cached_db", f"{DJANGO}cached_db", None),
)
SYSTEMS = [
    *(
        System(name=name, engine=engine, store=store, fill=fill)
        for store in ("sqlite", "postgresql")
        for name, engine, fill in SQL
    ),
    System(name="backroom durable", engine=OURS_SQL, store="postgresql", options={"DURABLE": True}),
    System(name="django file", engine=f"{DJANGO}file", store="sqlite", fill=fill_files, server=False),
    System(name="django signed_cookies", engine=f"{DJANGO}signed_cookies", store="sqlite", server=False),
    System(name="backroom", engine=OURS_REDIS, store="redis", fill=fill_redis),
    System(name="django cache", engine=f"{DJANGO}cache", store="redis", fill=fill_cache),
    System(name="django cached_db", engine=f"{DJANGO}cached_db", store="redis", fill=fill_cached_db),
]
"""`cached_db` has its rows on SQLite where its cache is on Redis, and its cache in memory elsewhere."""
