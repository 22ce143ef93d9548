"""Sessions in the admin: whose, since when, with what, from where, and an action that ends them."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from backroom.clock import SystemClock
from backroom.sessions import people
from backroom.sessions.keys import MARK, KeyHash, handle_of
from backroom.sessions.models import Session

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Session]
    _Sessions = QuerySet[Session]
else:
    _Base, _Sessions = admin.ModelAdmin, QuerySet


class IsSignedIn(admin.SimpleListFilter):
    """Users, or visitors."""

    title = _("who")
    parameter_name = "who"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [("users", _("users")), ("visitors", _("visitors"))]

    def queryset(self, _request: HttpRequest, queryset: "QuerySet[Session]") -> "QuerySet[Session]":
        """Return those of the choice."""
        match self.value():
            case "users":
                return queryset.filter(user_id__isnull=False)
            case "visitors":
                return queryset.filter(user_id__isnull=True)
            case _:
                return queryset


class ByHash(_Sessions):
    """Takes the keys that the list's checkboxes send for the hashes that they are."""

    def filter(self, *args: Any, **kwargs: Any) -> "ByHash":
        """Return those that fit."""
        if "pk__in" in kwargs:
            kwargs["pk__in"] = [KeyHash(each) for each in kwargs["pk__in"]]
        return super().filter(*args, **kwargs)


def _moment(name: str, description: Any) -> Any:
    """Return a column that shows a moment as the admin shows dates, where our fields alone would show it raw."""

    @admin.display(description=description, ordering=name)
    def show(_model_admin: Any, session: Session) -> Any:
        return format_html('<span class="nowrap">{}</span>', localize(localtime(getattr(session, name))))

    return show


@admin.register(Session)
class SessionAdmin(_Base):
    """For looking at sessions and ending them. Nobody sees their contents here, or changes them."""

    list_display = ("name", "user", "device", "ip_address", "last_seen", "began", "ends")
    list_filter = (IsSignedIn,)
    search_fields = ("=user_id", "ip_address")
    # Counting a million rows takes longer than showing twenty of them.
    show_full_result_count = False
    list_per_page = 50
    ordering = ("-expire_date",)
    actions = ("end_sessions",)
    fields = (*list_display, "user_agent", "label", "renewed")
    readonly_fields = fields

    last_seen = _moment("last_seen_at", _("last seen"))
    began = _moment("created_at", _("began"))
    ends = _moment("expire_date", _("ends"))
    renewed = _moment("renewed_at", _("new id"))

    def get_queryset(self, _request: HttpRequest) -> "QuerySet[Session]":
        """Return those that are alive."""
        return (
            ByHash(Session)
            .filter(expire_date__gt=SystemClock().now())
            .exclude(session_key__startswith=KeyHash(MARK))
            .defer("session_data")
            .order_by(*self.ordering)
        )

    def has_add_permission(self, _request: HttpRequest) -> bool:
        """Sessions are begun by visitors."""
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Session | None = None) -> bool:
        """Nothing about them is for anyone to change."""
        return False

    def delete_model(self, _request: HttpRequest, obj: Session) -> None:
        """End a session, so that those who listen hear of it."""
        people.revoke(obj, reason="operator")

    def delete_queryset(self, _request: HttpRequest, queryset: "QuerySet[Session]") -> None:
        """End sessions, as above."""
        for each in queryset:
            people.revoke(each, reason="operator")

    @admin.action(permissions=["delete"], description=_("End the selected sessions"))
    def end_sessions(self, request: HttpRequest, queryset: "QuerySet[Session]") -> None:
        """End sessions, and write down who did."""
        self.log_deletions(request, queryset)
        count = sum(people.revoke(each, reason="operator") for each in queryset)
        self.message_user(request, ngettext("%d session was ended.", "%d sessions were ended.", count) % count)

    @admin.display(description=_("session"))
    def name(self, obj: Session) -> str:
        """Return the handle, as the log has it."""
        return handle_of(obj.session_key)  # type: ignore[arg-type]

    @admin.display(description=_("user"), ordering="user_id")
    def user(self, obj: Session) -> str:
        """Return the name of the user."""
        if obj.user_id is None:
            return ""
        model = get_user_model()
        try:
            found = model._default_manager.filter(pk=model._meta.pk.to_python(obj.user_id)).first()
        except ValidationError:
            found = None
        return str(found) if found else obj.user_id
