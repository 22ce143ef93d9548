"""The addresses of operations for an API: `path("api/operations/", include("backroom.api.urls"))`."""

from django.urls import path

from backroom.api.operations import EventsView, OperationView, ResultView

app_name = "backroom_api"

urlpatterns = [
    path("<str:operation_id>/", OperationView.as_view(), name="operation"),
    path("<str:operation_id>/result/", ResultView.as_view(), name="result"),
    path("<str:operation_id>/events/", EventsView.as_view(), name="events"),
]
