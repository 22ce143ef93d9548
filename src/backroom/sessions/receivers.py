"""What follows for sessions from what happens to users: signing in, a new password, a new role, deactivation."""

from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save

from backroom.sessions import devices, people, stepup
from backroom.sessions.backends.base import BackroomSession
from backroom.sessions.people import NoSuchEngine

ROLES: Final = ("is_staff", "is_superuser")
CHANGED: Final = "_backroom_role_has_changed"


def connect() -> None:
    """Listen. The user model is known by now."""
    user = get_user_model()
    user_logged_in.connect(on_sign_in, dispatch_uid="backroom.sessions")
    pre_save.connect(before_saving, sender=user, dispatch_uid="backroom.sessions")
    post_save.connect(on_saved, sender=user, dispatch_uid="backroom.sessions")
    post_delete.connect(on_deleted, sender=user, dispatch_uid="backroom.sessions")
    for field in ("groups", "user_permissions"):
        if hasattr(user, field):
            through = getattr(user, field).through
            m2m_changed.connect(on_role_given, sender=through, dispatch_uid=f"backroom.sessions.{field}")


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
        people.renew_at_once(instance)


def on_deleted(*, instance: Any, **_signal: Any) -> None:
    """End the sessions of who is deleted."""
    if _is_ours():
        people.revoke_all(instance, reason="deleted")


def on_role_given(*, instance: Any, action: str, reverse: bool, pk_set: Any, **_signal: Any) -> None:
    """Renew the ids of who gets, or loses, a group or a permission."""
    if not action.startswith("post_") or not _is_ours():
        return
    for user in (pk_set or ()) if reverse else (instance,):
        people.renew_at_once(user)


def _is_ours() -> bool:
    try:
        people.engine()
    except NoSuchEngine:
        return False
    return True


def _id_of(user: Any) -> str:
    return str(user._meta.pk.value_to_string(user))
