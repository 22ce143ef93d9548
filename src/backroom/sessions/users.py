"""Which of the users that sessions name are still there and active. The rest of the package knows users by their ids."""

from collections.abc import Collection
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError


def gone_among(user_ids: Collection[str]) -> list[str]:
    """Return those of the ids whose users were deleted or deactivated, as the database has it."""
    keys = {user_id: key for user_id in user_ids if (key := _primary_key(user_id)) is not None}
    alive = _active(keys.values()) if keys else set()
    return [user_id for user_id, key in keys.items() if key not in alive]


def _primary_key(user_id: str) -> Any:
    """Return the primary key that login() wrote as text; None for what no login() wrote."""
    try:
        return get_user_model()._meta.pk.to_python(user_id)
    except ValidationError:
        return None


def _active(keys: Any) -> set[Any]:
    model = get_user_model()
    found = model._default_manager.filter(pk__in=list(keys))
    if any(field.name == "is_active" for field in model._meta.fields):
        found = found.filter(is_active=True)
    return set(found.values_list("pk", flat=True))
