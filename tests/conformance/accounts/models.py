"""What Django's `sessions_tests.models` does with its engine, done with ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models

from backroom.sessions.backends.database import SessionStore as OurStore
from backroom.sessions.models import AbstractSession


class CustomSession(AbstractSession):
    account_id = models.IntegerField(null=True, db_index=True)

    class Meta(AbstractSession.Meta):
        abstract = False

    def __str__(self) -> str:
        return str(self.account_id)

    @classmethod
    def get_session_store_class(cls) -> type[SessionStore]:
        return SessionStore


class SessionStore(OurStore):
    @classmethod
    def get_model_class(cls) -> type[Any]:
        return CustomSession

    def create_model_instance(self, data: Mapping[str, Any]) -> Any:
        instance = super().create_model_instance(data)
        try:
            instance.account_id = int(data["_auth_user_id"])
        except (KeyError, ValueError):
            instance.account_id = None
        return instance

    def get_session_cookie_age(self) -> int:
        return 60 * 60 * 24
