"""A small site with offloaded views of every kind. `@pytest.mark.urls("tests.offload.site")`."""

from typing import Any

from django import forms
from django.contrib.auth.mixins import LoginRequiredMixin, UserPassesTestMixin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.http import require_POST

from backroom.offload import OffloadView, offload
from tests.offload import work


class ReportForm(forms.Form):
    year = forms.IntegerField(min_value=1900)
    title = forms.CharField(max_length=20, required=False)


class EverythingForm(forms.Form):
    """A field of each kind, one of them with nothing that a browser would ask for before it sends the form."""

    title = forms.CharField(help_text="What stands above the report.", required=False)
    kind = forms.ChoiceField(choices=[("short", "Short"), ("long", "Long")])
    when = forms.ChoiceField(choices=[("now", "Now"), ("tonight", "Tonight")], widget=forms.RadioSelect, initial="now")
    parts = forms.MultipleChoiceField(
        choices=[("figures", "Figures"), ("charts", "Charts")], widget=forms.CheckboxSelectMultiple
    )
    agree = forms.BooleanField(label="Send me a copy", required=False)
    note = forms.CharField(widget=forms.Textarea, required=False)
    file = forms.FileField(required=False)


class DatedForm(forms.Form):
    day = forms.DateField()
    price = forms.DecimalField()


class Unfit(OffloadView):
    task = work.build_report

    def get_task_arguments(self, form: Any) -> dict[str, Any]:
        return {"file": object()}


class Insiders(UserPassesTestMixin, OffloadView):
    task = work.build_report
    raise_exception = True

    def test_func(self) -> bool:
        return self.request.user.get_username() != "outsider"


class Signed(OffloadView):
    task = work.build_report

    def render_result(self, status: Any, result: Any) -> HttpResponse:
        return HttpResponse(f"<p>for {self.request.user.get_username() or 'nobody'}</p>")


@offload(work.build_report)
def missing(request: HttpRequest) -> Any:
    raise Http404


@offload(work.build_report)
def forbidden(request: HttpRequest) -> Any:
    raise PermissionDenied


class Private(LoginRequiredMixin, OffloadView):
    task = work.build_report
    login_url = "/login/"


@offload(work.build_report, wait=0)
def report(request: HttpRequest, year: int) -> Any:
    if year > 3000:
        raise ValidationError("That year is too far off.", code="far")
    if year == 1999:
        return HttpResponse("closed", status=503)
    return {"year": year, "title": request.GET.get("title", "Sales")}


@report.render
def report_page(request: HttpRequest, result: Any) -> HttpResponse:
    return HttpResponse(f"<p>{result['title']} of {result['year']}: {result['total']}</p>")


@require_POST
@offload(work.build_report, wait=0)
def ordered(request: HttpRequest, year: int) -> Any:
    return {"year": year}


@ordered.render
def ordered_page(request: HttpRequest, result: Any) -> HttpResponse:
    return HttpResponse(f"ordered {result['total']}")


urlpatterns = [
    path("operations/", include("backroom.offload.urls")),
    path("report/<int:year>/", OffloadView.as_view(task=work.build_report, wait=0), name="report"),
    path("cached/<int:year>/", OffloadView.as_view(task=work.build_report, wait=0, cache_for=60)),
    path("shared/<int:year>/", OffloadView.as_view(task=work.build_report, wait=0, cache_for=60, shared=True)),
    path("form/", OffloadView.as_view(task=work.build_report, form_class=ReportForm, wait=0), name="form"),
    path("search/", OffloadView.as_view(task=work.build_report, form_class=ReportForm, form_method="get", wait=0)),
    path("private/<int:year>/", Private.as_view(wait=0)),
    path("failing/<int:year>/", OffloadView.as_view(task=work.fail, wait=0)),
    path("refusing/<int:year>/", OffloadView.as_view(task=work.refuse, wait=0)),
    path("slow/<int:year>/", OffloadView.as_view(task=work.build_report)),
    path(
        "everything/", OffloadView.as_view(task=work.build_report, form_class=EverythingForm, title="A report", wait=0)
    ),
    path("dated/", OffloadView.as_view(task=work.keep_dated, form_class=DatedForm, wait=0)),
    path("unfit/", Unfit.as_view()),
    path("insiders/<int:year>/", Insiders.as_view(wait=0)),
    path("signed/<int:year>/", Signed.as_view(wait=0)),
    path("expiring/<int:year>/", OffloadView.as_view(task=work.expiring, wait=0)),
    path("missing/", missing),
    path("forbidden/", forbidden),
    path("function/<int:year>/", report),
    path("ordered/<int:year>/", ordered),
]
