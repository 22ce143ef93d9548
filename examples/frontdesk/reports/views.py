"""The desk, where a report is ordered and picked up; the slow way; and the page for programs."""

import time
from collections.abc import Mapping
from typing import Any, Final

from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_safe

from backroom.offload import OffloadView, operations
from backroom.offload.models import Operation
from backroom.offload.negotiation import wants_page
from backroom.offload.problems import Problem, problem_response
from backroom.offload.status import Status
from reports import spool
from reports.building import build, printable
from reports.charts import charts_of
from reports.forms import OrderForm
from reports.sources import AIRPORTS_NAME, some_airports
from reports.tasks import build_report

SAMPLES: Final = (1_000, 5_000, 30_000)
ORDERS: Final = "orders"
"""The name in the session of the visitor's last orders, the newest first: id, name, milliseconds until the answer."""
KEPT_ORDERS: Final = 6


class Desk(OffloadView):
    """GET shows the desk, POST orders a report: see `OrderForm`."""

    task = build_report
    form_class = OrderForm
    form_template_name = "reports/desk.html"
    template_name = "reports/report.html"
    title = "Your report is being made"
    wait = 0.0

    _kept = ""
    """The key of an upload that no task is known to read."""
    _placed = ""
    """The id of the order."""

    def offload(self) -> HttpResponseBase:
        """Take the order; keep no upload that no task is going to read."""
        try:
            return super().offload()
        finally:
            if self._kept:
                spool.drop(self._kept)

    def offload_with(self, arguments: Mapping[str, Any]) -> HttpResponseBase:
        """Place the order, and note it for the visitor's list."""
        started = time.perf_counter()
        response = super().offload_with(arguments)
        if self._placed:
            milliseconds = round(1000 * (time.perf_counter() - started))
            order = {"id": self._placed, "name": printable(arguments["name"]), "milliseconds": milliseconds}
            others = [each for each in self.request.session.get(ORDERS, []) if each["id"] != self._placed]
            self.request.session[ORDERS] = [order, *others][:KEPT_ORDERS]
        return response

    def get_task_arguments(self, form: BaseForm | None) -> Mapping[str, Any]:
        """Keep the upload, and return what names it."""
        assert form is not None  # noqa: S101 - form_class is set
        upload = form.cleaned_data["file"]
        if upload is None:
            return {"name": AIRPORTS_NAME, "digest": ""}
        arguments = {"name": upload.name, "digest": spool.digest_of(upload)}
        self._kept = spool.keep(upload)
        return arguments

    def get_task(self) -> Any:
        """Return the task that reads the upload."""
        # In the metadata, not in the arguments: those say whether two orders are the same, and the key is random.
        return self.task.using(metadata={spool.UPLOAD: self._kept}) if self._kept else self.task

    def awaited(self, operation: Operation) -> Status:
        """Return how the order stands; an order that joined an earlier one left its own upload unused."""
        self._placed = operation.pk
        if operation.is_new:
            self._kept = ""
        return super().awaited(operation)

    def render_result(self, status: Status, result: Any) -> HttpResponse:
        """Return the page of a report."""
        context = {"figures": result, "charts": charts_of(result), "operation": status}
        orders = {each["id"]: each for each in self.request.session.get(ORDERS, [])}
        return self.render(self.template_name, order=orders.get(status.operation.pk), **context)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the visitor's last orders, for the page that lists them."""
        return super().get_context_data(orders=self.orders, **kwargs)

    def orders(self) -> list[tuple[str, Status]]:
        """Return the names of the visitor's last orders, and how each stands."""
        names = {each["id"]: each["name"] for each in self.request.session.get(ORDERS, [])}
        placed = [operations.get(operation_id) for operation_id in names]
        return [(names[each.pk], operations.status_of(each)) for each in placed if each is not None]


@require_http_methods(["GET", "HEAD", "POST"])
def slow(request: HttpRequest) -> HttpResponse:
    """Do the same work inside the request: what this project is there to avoid."""
    rows = next((sample for sample in SAMPLES if str(sample) == request.POST.get("rows")), SAMPLES[-1])
    context: dict[str, Any] = {
        "samples": SAMPLES,
        "chosen": rows,
        "order": next(iter(request.session.get(ORDERS, [])), None),
    }
    if request.method != "POST":
        return render(request, "reports/slow.html", context)
    started = time.perf_counter()
    with some_airports(rows) as source:
        figures = build(source, name=AIRPORTS_NAME)
    context |= {"figures": figures, "charts": charts_of(figures), "seconds": time.perf_counter() - started}
    return render(request, "reports/slow.html", context)


@require_safe
def programs(request: HttpRequest) -> HttpResponse:
    """Show how a program orders a report."""
    return render(request, "reports/programs.html", {"address": request.build_absolute_uri("/").rstrip("/")})


def refuse_upload(request: HttpRequest, message: str) -> HttpResponse:
    """Answer a request that is too large to be looked at."""
    if not wants_page(request):
        return problem_response(Problem(status=413, code="too_large", detail=message))
    form = OrderForm({})
    form.errors.clear()
    form.add_error("file", message)
    return render(request, "reports/desk.html", {"form": form}, status=413)
