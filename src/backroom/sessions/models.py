"""The table of the database engine. Rows are written by `stores.sql`; the ORM reads them, for the admin and for you."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.sessions.base_session import AbstractBaseSession, BaseSessionManager
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from backroom.clock import SystemClock, to_datetime
from backroom.sessions.agents import agent_of
from backroom.sessions.keys import HASH_LENGTH, KeyHash, handle_of, hash_of
from backroom.sessions.records import ADDRESS_LENGTH, AGENT_LENGTH, LABEL_LENGTH
from backroom.sql.fields import DocumentField, KeyField, MomentField

if TYPE_CHECKING:
    from backroom.sessions.backends.database import SessionStore

    _Manager = BaseSessionManager["AbstractSession"]
else:
    _Manager = BaseSessionManager


class SessionKeyField(KeyField):
    """The hash of a session's id. An id that it is asked for is hashed; what comes from the database is not, again.

    So `Session.objects.get(session_key=request.session.session_key)` finds the row, and no row tells its id.
    """

    description = "Hash of a session id"

    def from_db_value(self, value: str | None, _expression: Any, _connection: Any) -> KeyHash | None:
        """Return the hash, marked as one."""
        return None if value is None else KeyHash(value)

    def to_python(self, value: Any) -> Any:
        """Return the hash that a URL of the admin or a fixture holds."""
        return KeyHash(value) if isinstance(value, str) and len(value) == HASH_LENGTH else value

    def get_prep_value(self, value: Any) -> Any:
        """Return the hash of an id, or a hash as it is."""
        if isinstance(value, str) and not isinstance(value, KeyHash):
            value = hash_of(value)
        return super().get_prep_value(value)


class SessionManager(_Manager):
    """Finds sessions by their ids, and stores contents under one."""

    use_in_migrations = True

    def encode(self, session_dict: Mapping[str, Any]) -> str:
        """Return what the column `session_data` holds for these contents."""
        store: SessionStore = self.model.get_session_store_class()()
        return store.encode_contents(session_dict)

    def save(self, session_key: str, session_dict: Mapping[str, Any], expire_date: datetime) -> Any:
        """Put contents into a session in the place of what it has; without any, delete it."""
        if not session_dict:
            self.filter(session_key=session_key).delete()
            return self.model(session_key=session_key, session_data="{}", expire_date=expire_date)
        values = {"session_data": self.encode(session_dict), "expire_date": expire_date}
        return self.update_or_create(session_key=session_key, defaults=values)[0]


def now() -> datetime:
    """Return the present moment."""
    return to_datetime(SystemClock().now())


class AbstractSession(AbstractBaseSession):
    """A session. Extend it for columns of your own; see `SessionStore` of the database engine."""

    session_key = SessionKeyField(_("key"), max_length=HASH_LENGTH, primary_key=True)
    session_data = DocumentField(_("contents"))
    expire_date = MomentField(_("ends"), db_index=True)  # type: ignore[assignment]
    user_id = models.CharField(_("user"), max_length=255, null=True, blank=True)  # noqa: DJ001 - NULL is a visitor, and in no index
    created_at = MomentField(_("began"), default=now)
    last_seen_at = MomentField(_("last seen"), default=now)
    renewed_at = MomentField(_("new id"), default=now)
    previous_key = SessionKeyField(_("previous key"), max_length=HASH_LENGTH, null=True, blank=True)  # type: ignore[misc]
    previous_until = MomentField(_("previous key works until"), null=True, blank=True)
    ip_address = models.CharField(_("address"), max_length=ADDRESS_LENGTH, db_default="", blank=True)
    user_agent = models.CharField(_("user agent"), max_length=AGENT_LENGTH, db_default="", blank=True)
    label = models.CharField(_("label"), max_length=LABEL_LENGTH, db_default="", blank=True)

    objects = SessionManager()  # type: ignore[misc]

    class Meta(AbstractBaseSession.Meta):
        abstract = True
        # Sessions are made by visitors; people may look at them and end them.
        default_permissions = ("view", "delete")
        indexes = (
            models.Index(fields=("user_id",), name="%(app_label)s_%(class)s_user", condition=Q(user_id__isnull=False)),
            models.Index(
                fields=("previous_key",), name="%(app_label)s_%(class)s_prev", condition=Q(previous_key__isnull=False)
            ),
        )

    def __str__(self) -> str:
        # The id is not known here, and its hash would only look like one.
        key = self.session_key
        return handle_of(key if isinstance(key, KeyHash) else hash_of(key))

    @classmethod
    def get_session_store_class(cls) -> "type[SessionStore]":
        """Return the engine that uses this model."""
        from backroom.sessions.backends.database import SessionStore

        return SessionStore

    def get_decoded(self) -> dict[str, Any]:
        """Return the contents."""
        return self.get_session_store_class()().decode_contents(self.session_data)

    @property
    def device(self) -> str:
        """The label, or else what the user agent tells."""
        return self.label or str(agent_of(self.user_agent))


class Session(AbstractSession):
    """A session of the database engine."""

    class Meta(AbstractSession.Meta):
        abstract = False
        verbose_name = _("session")  # type: ignore[assignment]
        verbose_name_plural = _("sessions")  # type: ignore[assignment]
