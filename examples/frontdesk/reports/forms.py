"""An order at the desk: the airports, or a file that is looked through before anything is kept of it."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile

from reports.refusal import NotATable
from reports.table import survey


class OrderForm(forms.Form):
    """Takes `source=airports`, or a CSV file in `file`."""

    source = forms.ChoiceField(choices=[("airports", "The world's airports")], required=False)
    file = forms.FileField(required=False, allow_empty_file=True)

    def clean_file(self) -> "UploadedFile[bytes] | None":
        """Refuse a file that no report can be made of, with the reason."""
        upload: UploadedFile[bytes] | None = self.cleaned_data["file"]
        if upload is None:
            return None
        assert upload.file is not None  # noqa: S101 - Django's parser gives every upload one
        try:
            survey(upload.file)
        except NotATable as error:
            raise ValidationError(str(error), code=error.code) from error
        return upload

    def clean(self) -> dict[str, Any]:
        """Refuse an order for nothing."""
        chosen: dict[str, Any] = super().clean() or {}
        if not self.errors and not chosen.get("source") and not chosen.get("file"):
            raise ValidationError("Choose a CSV file, or order the airports.", code="nothing")
        return chosen
