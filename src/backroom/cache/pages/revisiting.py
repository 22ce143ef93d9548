"""A page visited by nobody, so that the next visitor finds it fresh: a request made up, and sent through the whole site."""

from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import Any, Final

from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest

from backroom.cache.pages.renewing import REVISIT
from backroom.cache.pages.stored import put_away

NOBODY: Final = "192.0.2.1"
"""An address that no visitor has (RFC 5737). This machine's own may be shown what others may not."""


def revisit(address: Mapping[str, Any]) -> None:
    """Send a GET through the site as a visitor without cookies would, past the cache and into it."""
    request = WSGIRequest(_environ(address))
    setattr(request, REVISIT, True)
    put_away(_handler().get_response(request))


@cache
def _handler() -> BaseHandler:
    handler = BaseHandler()
    handler.load_middleware()
    return handler


def _environ(address: Mapping[str, Any]) -> dict[str, Any]:
    host, _, port = (
        address["host"].rpartition(":") if ":" in address["host"].rpartition("]")[2] else (address["host"], "", "")
    )
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": address["script_name"],
        "PATH_INFO": address["path_info"].encode("utf-8").decode("latin-1"),
        "QUERY_STRING": address["query"],
        "SERVER_NAME": host,
        "SERVER_PORT": port or ("443" if address["scheme"] == "https" else "80"),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": NOBODY,
        "HTTP_HOST": address["host"],
        "wsgi.url_scheme": address["scheme"],
        "wsgi.input": BytesIO(),
    }
    for name, value in address["headers"].items():
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    return environ
