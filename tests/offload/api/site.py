"""A small API with offloaded views. `@pytest.mark.urls("tests.offload.api.site")`."""

from typing import Any

from django.urls import include, path
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from backroom.api import OffloadAPIView
from tests.offload import work


class HeaderAuthentication(BaseAuthentication):
    """Takes a name for a proof, as a token would be: enough to tell two clients apart."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        from django.contrib.auth.models import User

        name = request.headers.get("Authorization", "").removeprefix("Name ")
        return (User.objects.get(username=name), None) if name else None

    def authenticate_header(self, request: Request) -> str:
        return "Name"


class ReportInput(serializers.Serializer[Any]):
    year = serializers.IntegerField(min_value=1900)
    title = serializers.CharField(max_length=20, required=False)


class ReportOutput(serializers.Serializer[Any]):
    title = serializers.CharField()
    year = serializers.IntegerField()
    total = serializers.IntegerField()


class ReportView(OffloadAPIView):
    """Order a report."""

    task = work.build_report
    serializer_class = ReportInput
    result_serializer_class = ReportOutput
    authentication_classes = (HeaderAuthentication, SessionAuthentication)
    permission_classes: tuple[Any, ...] = (IsAuthenticated,)
    wait = 0


class OpenReportView(ReportView):
    """Order a report without signing in."""

    permission_classes = (AllowAny,)


class Insider(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return request.user.username != "outsider"


class DatedInput(serializers.Serializer[Any]):
    day = serializers.DateField()
    price = serializers.DecimalField(max_digits=6, decimal_places=2)


class ListInput(serializers.Serializer[Any]):
    items = DatedInput(many=True)


class NoMore(BaseThrottle):
    def allow_request(self, request: Request, view: Any) -> bool:
        return False

    def wait(self) -> float:
        return 7


urlpatterns = [
    path("reports/", ReportView.as_view()),
    path("open/", OpenReportView.as_view()),
    path("throttled/", OpenReportView.as_view(throttle_classes=(NoMore,))),
    path("query/", OpenReportView.as_view(http_method_names=["get", "head", "options"])),
    path("year/<int:year>/", OffloadAPIView.as_view(task=work.build_report, wait=0, permission_classes=(AllowAny,))),
    path("failing/<int:year>/", OffloadAPIView.as_view(task=work.fail, wait=0, permission_classes=(AllowAny,))),
    path("refusing/<int:year>/", OffloadAPIView.as_view(task=work.refuse, wait=0, permission_classes=(AllowAny,))),
    path("api/operations/", include("backroom.api.urls")),
    path("insiders/", ReportView.as_view(permission_classes=(IsAuthenticated, Insider))),
    path("dated/", OpenReportView.as_view(task=work.keep_dated, serializer_class=DatedInput)),
    path("lists/", OpenReportView.as_view(serializer_class=ListInput)),
]
