"""The addresses of operations: `path("operations/", include("backroom.offload.urls"))`."""

from django.urls import path

from backroom.offload.resources import CancelResource, EventsResource, OperationResource, ResultResource

app_name = "backroom_offload"

urlpatterns = [
    path("<str:operation_id>/", OperationResource.as_view(), name="operation"),
    path("<str:operation_id>/result/", ResultResource.as_view(), name="result"),
    path("<str:operation_id>/events/", EventsResource.as_view(), name="events"),
    path("<str:operation_id>/cancel/", CancelResource.as_view(), name="cancel"),
]
