"""The pages of an operation: its progress, its result, its failure, and the form it begins with."""

import json
from typing import Any

from django.conf import settings
from django.forms import BaseForm
from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.http import escape_leading_slashes
from django.utils.translation import gettext_lazy as _
from django.views.generic.base import ContextMixin

from backroom.offload import answers, operations, origins
from backroom.offload.negotiation import keep_private
from backroom.offload.problems import Problem
from backroom.offload.representations import status_data, url_of
from backroom.offload.status import Status
from backroom.offload.words import heading_of, notes_for, value_text_of, word_for, words_of_page
from backroom.tasks import queries


class Pages(ContextMixin):
    """Part of a class-based view that shows operations to people. `OffloadView` documents the attributes."""

    form_class: type[BaseForm] | None = None
    title: str | Promise = _("Preparing your result")
    template_name: str = "backroom/offload/result.html"
    form_template_name: str = "backroom/offload/form.html"
    progress_template_name: str = "backroom/offload/progress.html"
    failed_template_name: str = "backroom/offload/failed.html"
    strict_csp: bool = True

    request: Any
    kwargs: Any

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return the context of a page: the URL's arguments and what the page is given."""
        return super().get_context_data(**{**self.kwargs, **kwargs})

    def get_again_url(self, status: Status) -> str:
        """Return where the visitor can ask again after a failure; empty where no page offers that."""
        is_page = status.operation.method in {"GET", "HEAD"} or self.form_class is not None
        return origins.origin_url(status.operation) if is_page else ""

    def render_result(self, status: Status, result: Any) -> HttpResponse:
        """Return the page of a result."""
        text = json.dumps(result, indent=2, ensure_ascii=False)
        return self.render(
            self.template_name, result=result, result_text=text, result_pairs=_pairs(result), operation=status
        )

    def render_progress(self, status: Status, resource: origins.Resource) -> HttpResponse:
        """Return the page that follows an operation: 202 where a result was asked for, 200 where the status was."""
        notes = notes_for(status)
        page = self.render(
            self.progress_template_name,
            operation=status,
            data=status_data(status),
            cancel_url=url_of(status.operation, "cancel"),
            state_word=word_for(status),
            value_text=value_text_of(status),
            note=notes.get(status.state, notes[""]),
            missing_worker=_missing_worker(status),
            words=words_of_page(status),
            now=timezone.now().isoformat(),
            next_url=escape_leading_slashes(self.request.get_full_path()),
            refresh_seconds=max(2, status.retry_after(operations.now())),
        )
        return self._own_page(page if resource == "page" else answers.as_accepted(page, status))

    def render_failed(self, problem: Problem, status: Status | None = None) -> HttpResponse:
        """Return the page of a problem: of an operation that ended without a result, or of a request that began none."""
        page = self.render(
            self.failed_template_name,
            operation=status,
            problem=problem,
            heading=heading_of(problem),
            again_url=self.get_again_url(status) if status else "",
            status=problem.status,
        )
        return self._own_page(page)

    def render_form(self, form: BaseForm | None, *, status: int = 200) -> HttpResponse:
        """Return the page with the form."""
        return self.render(self.form_template_name, form=form, status=status)

    def render(self, template_name: str, *, status: int = 200, **context: Any) -> HttpResponse:
        """Return a page of this view."""
        context = self.get_context_data(title=self.title, **context)
        return keep_private(TemplateResponse(self.request, template_name, context, status=status))

    def _own_page(self, response: HttpResponse) -> HttpResponse:
        return answers.with_strict_csp(response) if self.strict_csp else response


def _missing_worker(status: Status) -> str:
    """Return the command that a developer forgot, where one is looking and nothing can happen without it."""
    alias = status.operation.backend_name
    is_waiting = settings.DEBUG and status.state == "ready" and queries.is_unserved(using=alias)
    return queries.backend_of(alias).served_by if is_waiting else ""


def _pairs(result: Any) -> list[tuple[str, str | int | float]]:
    """Return the names and values of a result that is nothing but these; empty for any other, which is shown as JSON."""
    if isinstance(result, dict) and all(isinstance(value, str | int | float) for value in result.values()):
        return list(result.items())
    return []
