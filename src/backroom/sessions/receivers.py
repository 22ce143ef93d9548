"""What follows for sessions from what happens to users: signing in, a new password, a new role, deactivation."""

from collections.abc import Collection
from functools import partial
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from backroom.sessions import devices, people, stepup
from backroom.sessions.backends.base import BackroomSession
from backroom.sessions.people import NoSuchEngine

ROLES: Final = ("is_staff", "is_superuser")
CHANGED: Final = "_backroom_role_has_changed"
LOSING: Final = "_backroom_who_loses_it"
UID: Final = "backroom.sessions"


def connect() -> None:
    """Listen. The user model is known by now."""
    user = get_user_model()
    user_logged_in.connect(on_sign_in, dispatch_uid=UID)
    pre_save.connect(before_saving, sender=user, dispatch_uid=UID)
    post_save.connect(on_saved, sender=user, dispatch_uid=UID)
    post_delete.connect(on_deleted, sender=user, dispatch_uid=UID)
    for name in ("groups", "user_permissions"):
        if hasattr(user, name):
            through = getattr(user, name).through
            m2m_changed.connect(partial(on_role_given, name), sender=through, weak=False, dispatch_uid=f"{UID}.{name}")
    if hasattr(user, "groups"):
        group: Any = user._meta.get_field("groups").related_model
        if hasattr(group, "permissions"):
            m2m_changed.connect(on_group_changed, sender=group.permissions.through, dispatch_uid=UID)
        pre_delete.connect(before_group_goes, sender=group, dispatch_uid=UID)
        post_delete.connect(on_group_gone, sender=group, dispatch_uid=UID)


def on_sign_in(*, request: Any = None, user: Any, **_signal: Any) -> None:
    """Give the session of a user who signs in again a new id, and note when that was."""
    session = getattr(request, "session", None)
    if not isinstance(session, BackroomSession):
        return
    # Django gives a new id to a visitor who becomes a user, and none to a user who proves again who they are.
    if not session.is_fresh and session.session_key is not None:
        session.cycle_key()
    stepup.note_sign_in(request)
    devices.signed_in(request, user)


def before_saving(*, instance: Any, raw: bool = False, update_fields: Any = None, **_signal: Any) -> None:
    """Note whether a user is about to get another role."""
    roles = [name for name in ROLES if hasattr(instance, name) and (update_fields is None or name in update_fields)]
    if raw or not roles or instance._state.adding or not _is_ours():
        return
    was = type(instance)._default_manager.filter(pk=instance.pk).values_list(*roles).first()
    setattr(instance, CHANGED, was is not None and was != tuple(getattr(instance, name) for name in roles))


def on_saved(*, instance: Any, created: bool, raw: bool = False, **_signal: Any) -> None:
    """End the sessions of who is deactivated; with a new password all but this one; with a new role renew the ids."""
    if created or raw or not _is_ours():
        return
    if not getattr(instance, "is_active", True):
        people.revoke_all(instance, reason="deactivated")
    # AbstractBaseUser remembers a new password until it is saved. A better hash of the same one is none.
    elif getattr(instance, "_password", None) is not None:
        from backroom.sessions.middleware import current

        people.revoke_all_of([_id_of(instance)], reason="password", but=current.get()())
    if instance.__dict__.pop(CHANGED, False):
        people.renew_at_once([instance])


def on_deleted(*, instance: Any, **_signal: Any) -> None:
    """End the sessions of who is deleted."""
    if _is_ours():
        people.revoke_all(instance, reason="deleted")


def on_role_given(name: str, *, instance: Any, action: str, reverse: bool, pk_set: Any, **_signal: Any) -> None:
    """Renew the ids of who gets, or loses, a group or a permission, from whichever side."""
    if not _is_ours():
        return
    if action == "pre_clear" and reverse:
        # Afterwards nobody knows any more who they were.
        setattr(instance, LOSING, _users_with(name, [instance.pk]))
    elif action == "post_clear" and reverse:
        people.renew_at_once(instance.__dict__.pop(LOSING, ()))
    elif action.startswith("post_"):
        people.renew_at_once((pk_set or ()) if reverse else [instance])


def on_group_changed(*, instance: Any, action: str, reverse: bool, pk_set: Any, **_signal: Any) -> None:
    """Renew the ids of the members of a group that gets, or loses, a permission."""
    if not _is_ours():
        return
    if action == "pre_clear" and reverse:
        setattr(instance, LOSING, list(instance.group_set.values_list("pk", flat=True)))
    elif action == "post_clear" and reverse:
        people.renew_at_once(_users_with("groups", instance.__dict__.pop(LOSING, ())))
    elif action.startswith("post_"):
        people.renew_at_once(_users_with("groups", (pk_set or ()) if reverse else [instance.pk]))


def before_group_goes(*, instance: Any, **_signal: Any) -> None:
    """Remember who is in a group that is about to be deleted."""
    if _is_ours():
        setattr(instance, LOSING, _users_with("groups", [instance.pk]))


def on_group_gone(*, instance: Any, **_signal: Any) -> None:
    """Renew the ids of who was in a group that is gone."""
    if _is_ours():
        people.renew_at_once(instance.__dict__.pop(LOSING, ()))


def _users_with(name: str, keys: Collection[Any]) -> list[Any]:
    """Return the primary keys of the users who have one of some groups, or permissions."""
    field: Any = get_user_model()._meta.get_field(name)
    found = field.remote_field.through._default_manager.filter(**{f"{field.m2m_reverse_field_name()}__in": list(keys)})
    return list(found.values_list(field.m2m_field_name(), flat=True).distinct())


def _is_ours() -> bool:
    try:
        people.engine()
    except NoSuchEngine:
        return False
    return True


def _id_of(user: Any) -> str:
    return str(user._meta.pk.value_to_string(user))
