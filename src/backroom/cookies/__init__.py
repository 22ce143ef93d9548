"""Typed, named cookies, each declared once: what it may hold, how long it lives, who may read or change it.

theme = Cookie("theme", kind=str, max_age=timedelta(days=365))

theme.set(response, "dark")
theme.get(request, "light")
theme.delete(response)
"""

from backroom.cookies import checks  # noqa: F401 - importing them registers them
from backroom.cookies.attributes import CookieRefused, as_partitioned
from backroom.cookies.cookie import Cookie, CookieTooLarge

__all__ = ["Cookie", "CookieRefused", "CookieTooLarge", "as_partitioned"]
