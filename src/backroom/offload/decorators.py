"""`@offload`: the same for a view that is a function."""

from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any, Protocol

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from backroom.offload.problems import problem_of_validation
from backroom.offload.status import Status
from backroom.offload.views import OffloadView

type Validating = Callable[..., Mapping[str, Any] | HttpResponseBase]
"""Returns the task's keyword arguments, or a response that refuses; may raise `ValidationError`."""
type Rendering = Callable[[HttpRequest, Any], HttpResponse]
"""Returns the page of a result."""


class OffloadedView(Protocol):
    """What `@offload` makes of a function."""

    def __call__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer a request."""

    def render(self, function: Rendering) -> Rendering:
        """Have results rendered by `function`, which is given the request and the result. A decorator."""


def offload(task: Any, **options: Any) -> Callable[[Validating], OffloadedView]:
    """Have `task` do the work of a view function, which validates the request and returns the task's arguments.

    `options` are the attributes of `OffloadView`. The function is called with the request and the arguments of its
    URL. It returns the task's keyword arguments, or a response, which is the answer then; a `ValidationError` that
    it raises is answered with 422. Nothing is queued unless it returns arguments. Results are rendered by
    `template_name`, or by a function that `@view.render` decorates.
    """

    def decorate(function: Validating) -> OffloadedView:
        renderers: list[Rendering] = []
        view: Any = _FunctionView.as_view(task=task, function=function, renderers=renderers, **options)
        update_wrapper(view, function)
        # The function itself is no view; what looks for one stops here.
        del view.__wrapped__

        def render(renderer: Rendering) -> Rendering:
            renderers[:] = [renderer]
            return renderer

        view.render = render
        offloaded: OffloadedView = view
        return offloaded

    return decorate


class _FunctionView(OffloadView):
    function: Validating | None = None
    renderers: list[Rendering] = []

    def offload(self) -> HttpResponseBase:
        assert self.function is not None  # noqa: S101 - as_view() is given one
        try:
            answer = self.function(self.request, *self.args, **self.kwargs)
        except ValidationError as error:
            return self.refuse(problem_of_validation(error))
        return answer if isinstance(answer, HttpResponseBase) else self.offload_with(answer)

    def render_result(self, status: Status, result: Any) -> HttpResponse:
        if self.renderers:
            return self.renderers[0](self.request, result)
        return super().render_result(status, result)
