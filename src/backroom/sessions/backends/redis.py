"""SESSION_ENGINE = "backroom.sessions.backends.redis": sessions in Redis or Valkey (the extra `redis`)."""

from backroom.sessions.backends.base import BackroomSession
from backroom.sessions.records import Store


class SessionStore(BackroomSession):
    """Sessions on the server of BACKROOM["SESSIONS"]["REDIS"], or BACKROOM["REDIS_URL"]."""

    @classmethod
    def get_store(cls) -> Store:
        """See BackroomSession."""
        from backroom.sessions.stores.redis import store

        return store()
