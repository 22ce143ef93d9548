"""The colours that a visitor chose, in a cookie: the server never needs to know whose choice it was."""

from datetime import timedelta
from typing import Final

from django.http import HttpRequest

from backroom.cookies import Cookie

THEMES: Final = {"light": "Light", "dark": "Dark"}


def is_theme(value: str) -> bool:
    """Tell whether there are such colours."""
    return value in THEMES


theme: Final = Cookie("frontdesk-theme", kind=str, check=is_theme, max_age=timedelta(days=365), samesite="Strict")


def colours(request: HttpRequest) -> dict[str, object]:
    """Tell every template which colours were chosen; none follows the visitor's system."""
    return {"theme": theme.get(request, ""), "themes": THEMES}
