"""`OffloadView`: validate, look for a result, join what is running, or start it; answer within a moment either way."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.generic.base import View

from backroom.offload import answers, inputs, operations, origins
from backroom.offload.negotiation import audience_of, keep_private, wants_page
from backroom.offload.ordering import Ordering
from backroom.offload.pages import Pages
from backroom.offload.problems import Problem, ProblemRaised, problem_of_form, problem_of_validation
from backroom.offload.representations import NAMESPACE, url_of
from backroom.offload.status import Status
from backroom.offload.wrapping import outside_transactions, telling_problems

NOT_ACCEPTABLE = Problem(
    status=406, code="not_acceptable", detail="Here are text/html, application/json and application/problem+json."
)


class OffloadView(Ordering, Pages, View):
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
        strict_csp: whether our own pages carry the strict Content-Security-Policy that they are made for.

    """

    form_method: str = "post"
    http_method_names: ClassVar[list[str]] = ["get", "head", "post", "options"]  # type: ignore[misc]

    request: HttpRequest

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Return the view function; errors that escape it are problems to programs and pages to people."""
        view = telling_problems(super().as_view(**initkwargs))
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
        # There is a form for people alone, so a client that takes anything gets that.
        if not request.accepts("text/html"):
            return answers.problem(request, NOT_ACCEPTABLE)
        return self.render_form(self.get_form())

    def post(self, _request: HttpRequest, *_args: Any, **_kwargs: Any) -> HttpResponseBase:
        """Start the work."""
        return self.offload()

    # ── The input ───────────────────────────────────────────────────────────────────────────────

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

    # ── The answer ──────────────────────────────────────────────────────────────────────────────

    def offload(self) -> HttpResponseBase:
        """Validate, find or start the operation, wait a moment for it, answer."""
        form = self.get_form()
        if form is not None and not form.is_valid():
            return self.refuse(problem_of_form(form), form)
        try:
            arguments = self.get_task_arguments(form)
        except ValidationError as error:
            return self.refuse(*_found_wrong(error, form))
        return self.offload_with(arguments)

    def offload_with(self, arguments: Mapping[str, Any]) -> HttpResponseBase:
        """Find or start the operation for these arguments, wait a moment for it, answer."""
        try:
            return self.answer(self.ordered(arguments))
        except ProblemRaised as raised:
            return self.refuse(raised.problem)

    def answer(self, status: Status) -> HttpResponseBase:
        """Answer the request that asked for the work."""
        if wants_page(self.request) and self.request.method == "POST":
            name = "result" if status.is_finished else "operation"
            return answers.see_other(url_of(status.operation, name))
        response = self.show(status, "result")
        return answers.with_applied_preferences(self.request, response, limit=self.max_wait)

    def refuse(self, problem: Problem, form: BaseForm | None = None) -> HttpResponseBase:
        """Answer a request that starts nothing: the form once more for a person, the problem for a program."""
        if not wants_page(self.request):
            return answers.problem(self.request, problem)
        return self.render_failed(problem) if form is None else self.render_form(form, status=problem.status)

    def show(self, status: Status, resource: origins.Resource) -> HttpResponse:
        """Return an operation as its result or its page, whatever there is to show by now."""
        is_page = wants_page(self.request)
        if not status.is_finished:
            return self.render_progress(status, resource) if is_page else answers.accepted(status)
        if self.request.method != "HEAD":
            operations.mark_seen(status)
        if status.problem is not None:
            problem = status.problem
            told = self.render_failed(problem, status) if is_page else answers.problem(self.request, problem)
            return answers.known(told)
        if is_page:
            return keep_private(self.render_result(status, status.result))
        return answers.figures(status, self.get_result_json(status))

    def get_result_json(self, status: Status) -> str:
        """Return the result as JSON text for a program: what the task returned."""
        return status.result_json

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer 405 with the methods there are (RFC 9110, 15.5.6)."""
        refused = super().http_method_not_allowed(request, *args, **kwargs)
        return refused if wants_page(request) else answers.method_problem(request, refused)


def _found_wrong(error: ValidationError, form: Any) -> tuple[Problem, BaseForm | None]:
    if form is None:
        return problem_of_validation(error), None
    form.add_error(None, error)
    return problem_of_form(form), form
