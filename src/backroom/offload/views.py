"""`OffloadView`: validate, look for a result, join what is running, or start it; answer within a moment either way."""

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation, ValidationError
from django.db import transaction
from django.forms import BaseForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.http import escape_leading_slashes
from django.utils.translation import gettext_lazy as _
from django.views.generic.base import ContextMixin, View

from backroom.offload import answers, idempotency, inputs, operations, origins
from backroom.offload.exceptions import IdempotencyMismatch
from backroom.offload.models import Operation
from backroom.offload.negotiation import audience_of, keep_private, wants_page
from backroom.offload.operations import Order
from backroom.offload.owners import Owner, new_owner_of
from backroom.offload.problems import Problem, problem_of_form, problem_of_validation
from backroom.offload.representations import NAMESPACE, status_data, url_of
from backroom.offload.status import Status
from backroom.offload.waiting import look_until
from backroom.offload.words import heading_of, value_text_of, word_for, words_of_page


class OffloadView(ContextMixin, View):
    """A view whose work a task does.

    The arguments of the URL, and the cleaned data of `form_class` if there is one, are the task's keyword arguments.
    The result is rendered by this view, in the request that asks for it: what the task returns is data.

    Attributes:
        task: what does the work.
        form_class: validates the input. With it a GET shows the form and a POST starts the work.
        form_method: `"get"` when the form's input travels in the query: then a GET that has one starts the work.
        template_name: renders the result; its context has `result`, `operation` and `view`.
        cache_for: seconds for which a finished result answers further requests for the same.
        shared: whether results and running work are shared by all visitors, not by one owner's requests alone.
        wait: seconds to wait for the result before the answer is 202.
        max_wait: the most that `Prefer: wait=N` can ask for.
        using: TASKS alias, if another than the task's own.
        title: what the progress page says is being done.

    """

    task: Any = None
    form_class: type[BaseForm] | None = None
    form_method: str = "post"
    cache_for: float = 0.0
    shared: bool = False
    wait: float = 0.2
    max_wait: float = 10.0
    using: str | None = None
    title: str | Promise = _("Preparing your result")
    template_name: str = "backroom/offload/result.html"
    form_template_name: str = "backroom/offload/form.html"
    progress_template_name: str = "backroom/offload/progress.html"
    failed_template_name: str = "backroom/offload/failed.html"
    strict_csp: bool = True
    """Whether our own pages carry the strict Content-Security-Policy that they are made for."""
    http_method_names: ClassVar[list[str]] = ["get", "head", "post", "options"]  # type: ignore[misc]

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Return the view function; errors that escape it are problems to programs and pages to people."""
        view = _told_as_problems(super().as_view(**initkwargs))
        setattr(view, origins.MARK, NAMESPACE)
        return outside_transactions(view)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer a request, or show the operation that this view was called for."""
        if shown := origins.shown_by(request):
            return self.show(shown.status, shown.resource)
        if not audience_of(request):
            return answers.problem(request, NOT_ACCEPTABLE)
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, *_args: Any, **_kwargs: Any) -> HttpResponseBase:
        """Start the work, or show the form."""
        if self.form_class is None or (self.form_method == "get" and request.GET):
            return self.offload()
        return self.show_form()

    def post(self, _request: HttpRequest, *_args: Any, **_kwargs: Any) -> HttpResponseBase:
        """Start the work."""
        return self.offload()

    # ── The project's part ──────────────────────────────────────────────────────────────────────

    def get_task(self) -> Any:
        """Return the task, with whatever `using()` is to change for this request."""
        return self.task if self.using is None else self.task.using(backend=self.using)

    def get_form(self) -> BaseForm | None:
        """Return the form: bound when this request submits it, and None when there is no form."""
        return None if self.form_class is None else self.form_class(**self.get_form_kwargs())

    def get_form_kwargs(self) -> dict[str, Any]:
        """Return the arguments of the form."""
        if self.request.method == "POST":
            return {"data": inputs.data_of(self.request), "files": self.request.FILES}
        return {"data": self.request.GET} if self.form_method == "get" and self.request.GET else {}

    def get_task_arguments(self, form: BaseForm | None) -> Mapping[str, Any]:
        """Return the task's keyword arguments, from the URL and from a form that is valid.

        Dates, decimals and UUIDs become strings. Override it to turn what JSON cannot carry, an upload for example,
        into what it can. A `ValidationError` raised here is told like one of the form.
        """
        return inputs.plain({**self.kwargs, **(form.cleaned_data if form is not None else {})})

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return the context of a page: the URL's arguments and what the page is given."""
        return super().get_context_data(**{**self.kwargs, **kwargs})

    def get_result_json(self, status: Status) -> str:
        """Return the result as JSON text for a program: what the task returned."""
        return status.result_json

    def render_result(self, status: Status, result: Any) -> HttpResponse:
        """Return the page of a result."""
        text = json.dumps(result, indent=2, ensure_ascii=False)
        return self.render(self.template_name, result=result, result_text=text, operation=status)

    def get_again_url(self, status: Status) -> str:
        """Return where the visitor can ask again after a failure; empty where no page offers that."""
        is_page = status.operation.method in {"GET", "HEAD"} or self.form_class is not None
        return origins.origin_url(status.operation) if is_page else ""

    # ── The main path ───────────────────────────────────────────────────────────────────────────

    def offload(self) -> HttpResponseBase:
        """Validate, find or start the operation, wait a moment for it, answer."""
        form = self.get_form()
        if form is not None and not form.is_valid():
            return self.refuse(problem_of_form(form), form)
        try:
            arguments = self.get_task_arguments(form)
        except ValidationError as error:
            if form is not None:
                _add_error(form, error)
            return self.refuse(problem_of_form(form) if form is not None else problem_of_validation(error), form)
        return self.offload_with(arguments)

    def offload_with(self, arguments: Mapping[str, Any]) -> HttpResponseBase:
        """Find or start the operation for these arguments, wait a moment for it, answer."""
        try:
            order = self.get_order(arguments)
            operation = operations.place(order, self.get_owner())
        except idempotency.InvalidKey as error:
            return self.refuse(Problem(status=400, code="idempotency_key_invalid", detail=str(error)))
        except IdempotencyMismatch as error:
            return self.refuse(Problem(status=422, code="idempotency_key_reused", detail=str(error)))
        return self.answer(self.awaited(operation))

    def get_order(self, arguments: Mapping[str, Any]) -> Order:
        """Return what is asked for; raise `InvalidKey` for an Idempotency-Key that is none."""
        request = self.request
        given = request.headers.get("Idempotency-Key")
        return Order(
            task=self.get_task(),
            args=self.args,
            kwargs=arguments,
            view=origins.name_of(self),
            origin=origins.origin_path(request),
            method=request.method or "",
            cache_for=self.cache_for,
            shared=self.shared,
            idempotency_key="" if given is None else idempotency.parse(given),
        )

    def get_owner(self) -> Owner:
        """Return whose the operation will be."""
        return new_owner_of(self.request)

    def awaited(self, operation: Operation) -> Status:
        """Return how the operation stands after waiting as long as the view and the client agree on."""
        seconds = answers.preferences_of(self.request).seconds(default=self.wait, limit=self.max_wait)
        if not operations.is_visible_to_workers():
            seconds = 0.0
        return look_until(lambda: operations.status_of(operation), lambda status: status.is_finished, seconds=seconds)

    def answer(self, status: Status) -> HttpResponseBase:
        """Answer the request that asked for the work."""
        if wants_page(self.request) and self.request.method == "POST":
            name = "result" if status.is_finished else "operation"
            return answers.see_other(url_of(status.operation, name))
        response = self.show(status, "result")
        return answers.with_applied_preferences(self.request, response, limit=self.max_wait)

    def refuse(self, problem: Problem, form: BaseForm | None = None) -> HttpResponseBase:
        """Answer a request that starts nothing: the form once more for a person, the problem for a program."""
        if form is not None and wants_page(self.request):
            return self.show_form(form, status=problem.status)
        if wants_page(self.request):
            page = self.render(
                self.failed_template_name, problem=problem, heading=heading_of(problem), status=problem.status
            )
            return self._own_page(page)
        return answers.problem(self.request, problem)

    # ── Pages and their counterparts ────────────────────────────────────────────────────────────

    def show(self, status: Status, resource: origins.Resource) -> HttpResponse:
        """Return an operation as its result or its page, whatever there is to show by now."""
        is_page = wants_page(self.request)
        if not status.is_finished:
            return self.render_progress(status, resource) if is_page else answers.accepted(status)
        if self.request.method != "HEAD":
            operations.mark_seen(status)
        if status.problem is not None:
            problem = status.problem
            told = self.render_failed(status, problem) if is_page else answers.problem(self.request, problem)
            return answers.known(told)
        if not is_page:
            return answers.figures(status, self.get_result_json(status))
        return keep_private(self.render_result(status, status.result))

    def show_form(self, form: BaseForm | None = None, *, status: int = 200) -> HttpResponse:
        """Return the page with the form."""
        if not wants_page(self.request):
            return answers.problem(self.request, NOT_ACCEPTABLE)
        return self.render(self.form_template_name, form=form if form is not None else self.get_form(), status=status)

    def render_progress(self, status: Status, resource: origins.Resource) -> HttpResponse:
        """Return the page that follows an operation: 202 where a result was asked for, 200 where the status was."""
        page = self.render(
            self.progress_template_name,
            operation=status,
            data=status_data(status),
            cancel_url=url_of(status.operation, "cancel"),
            state_word=word_for(status),
            value_text=value_text_of(status),
            words=words_of_page(),
            now=timezone.now().isoformat(),
            next_url=escape_leading_slashes(self.request.get_full_path()),
            refresh_seconds=max(2, status.retry_after(operations.now())),
        )
        return self._own_page(page if resource == "page" else answers.as_accepted(page, status))

    def render_failed(self, status: Status, problem: Problem) -> HttpResponse:
        """Return the page of an operation that ended without a result."""
        return self._own_page(
            self.render(
                self.failed_template_name,
                operation=status,
                problem=problem,
                heading=heading_of(problem),
                again_url=self.get_again_url(status),
                status=problem.status,
            )
        )

    def render(self, template_name: str, *, status: int = 200, **context: Any) -> HttpResponse:
        """Return a page of this view."""
        context = self.get_context_data(title=self.title, **context)
        return keep_private(TemplateResponse(self.request, template_name, context, status=status))

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer 405 with the methods there are (RFC 9110, 15.5.6)."""
        refused = super().http_method_not_allowed(request, *args, **kwargs)
        if wants_page(request):
            return refused
        problem = Problem(status=405, code="method_not_allowed", headers={"Allow": refused.headers["Allow"]})
        return answers.problem(request, problem)

    def _own_page(self, response: HttpResponse) -> HttpResponse:
        return answers.with_strict_csp(response) if self.strict_csp else response


NOT_ACCEPTABLE = Problem(
    status=406, code="not_acceptable", detail="Here are text/html, application/json and application/problem+json."
)


def outside_transactions(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Exempt a view from ATOMIC_REQUESTS: what it enqueues must be visible to workers while it waits."""
    for alias in settings.DATABASES:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def _add_error(form: Any, error: ValidationError) -> None:
    form.add_error(None, error)


def _told_as_problems(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    @wraps(view)
    def told(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except (Http404, PermissionDenied, BadRequest, SuspiciousOperation) as error:
            if wants_page(request):
                raise
            return answers.problem(request, _problem_of(error))

    return told


def _problem_of(error: Exception) -> Problem:
    match error:
        case Http404():
            return Problem(status=404, code="not_found")
        case PermissionDenied():
            return Problem(status=403, code="permission_denied")
        case inputs.Malformed():
            return Problem(status=400, code="malformed", detail=str(error))
    return Problem(status=400, code="bad_request")
