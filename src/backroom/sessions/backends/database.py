"""SESSION_ENGINE = "backroom.sessions.backends.database": sessions in a table of the project's database."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connections

from backroom.sessions.apps import require_app
from backroom.sessions.backends.base import BackroomSession
from backroom.sessions.codec import Codec
from backroom.sessions.documents import contents_of
from backroom.sessions.records import Store
from backroom.sessions.rules import rules
from backroom.sessions.steps import Steps
from backroom.sessions.stores.sql import SQLStore


class SessionStore(BackroomSession):
    """Sessions in the table of a model.

    For columns of your own, subclass it: `get_model_class()` names a model that extends `AbstractSession`, and
    `create_model_instance(data)` fills its fields. They are written in the same statement as the contents.
    """

    @classmethod
    def get_model_class(cls) -> Any:
        """Return the model."""
        from backroom.sessions.models import Session

        return Session

    @classmethod
    def get_store(cls) -> Store:
        """See BackroomSession."""
        return _store(cls)

    @property
    def model(self) -> Any:
        """The model."""
        return self.get_model_class()

    def create_model_instance(self, data: Mapping[str, Any]) -> Any:
        """Return a model instance that stands for the session as it is now. Fields of your own are taken from it."""
        assert self.session_key is not None  # noqa: S101 - a session has an id before it is stored
        return self.model(session_key=self.session_key, session_data=self.encode_contents(data))

    async def acreate_model_instance(self, data: Mapping[str, Any]) -> Any:
        """See create_model_instance()."""
        return self.create_model_instance(data)

    def encode_contents(self, data: Mapping[str, Any]) -> str:
        """Return what the column `session_data` holds for these contents."""
        law = rules()
        codec = Codec(self.serializer, encrypts=law.options.ENCRYPT)
        return contents_of(data, codec, max_bytes=law.options.MAX_BYTES).patch()

    def decode_contents(self, session_data: str) -> dict[str, Any]:
        """Return the contents that a column `session_data` holds."""
        import json

        codec = Codec(self.serializer, encrypts=rules().options.ENCRYPT)
        return dict(codec.document(json.loads(session_data)))

    def extra_columns(self, data: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        """Return the values of the fields that a model adds to `AbstractSession`."""
        fields = _own_fields(type(self))
        if not fields:
            return {}
        instance = yield _Instance(self, data)
        connection = connections[self.get_store().alias_for_writes]  # type: ignore[attr-defined]
        return {field.column: field.get_db_prep_save(getattr(instance, field.attname), connection) for field in fields}


class _Instance(NamedTuple):
    session: SessionStore
    data: Mapping[str, Any]

    def do(self) -> Any:
        """See Step."""
        return self.session.create_model_instance(self.data)

    async def ado(self) -> Any:
        """See Step."""
        return await self.session.acreate_model_instance(self.data)


@lru_cache(maxsize=8)
def _store(engine: type[SessionStore]) -> SQLStore:
    require_app()
    return SQLStore(engine.get_model_class())


@lru_cache(maxsize=8)
def _own_fields(engine: type[SessionStore]) -> tuple[Any, ...]:
    from backroom.sessions.models import AbstractSession

    ours = {field.name for field in AbstractSession._meta.local_fields}
    return tuple(field for field in engine.get_model_class()._meta.concrete_fields if field.name not in ours)
