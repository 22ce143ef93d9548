"""The forms: signing in, a note, one name of the session."""

import json
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm

TWO_WEEKS = 14 * 24 * 3600


class SignInForm(AuthenticationForm):
    """Name, password, and whether the browser is to remember it."""

    remember = forms.BooleanField(required=False, label="Remember me for two weeks")


class NoteForm(forms.Form):
    """One line for the notepad."""

    text = forms.CharField(max_length=200, label="Note")


class EntryForm(forms.Form):
    """One name of the session, and the JSON that it is to hold."""

    name = forms.CharField(max_length=40, label="Name")
    value = forms.CharField(max_length=500, label="Value", help_text="JSON, or plain text.")

    def clean_name(self) -> str:
        """Leave alone what the site itself keeps in the session."""
        name: str = self.cleaned_data["name"]
        if name.startswith(("_", "note-")) or name == "orders":
            raise forms.ValidationError("The site keeps that one itself. Choose another name.")
        return name

    def clean_value(self) -> Any:
        """Return what the text says as JSON, or the text."""
        text: str = self.cleaned_data["value"]
        try:
            return json.loads(text)
        except ValueError:
            return text
