"""What stands before every view of the site: who needs a CSRF token, and how large a request may be."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware

from reports.table import MAX_BYTES, too_large
from reports.views import refuse_upload

BESIDE_THE_FILE = 64 * 1024
"""Bytes of a request for the names, borders and fields round an upload."""


class CsrfMiddleware(CsrfViewMiddleware):
    """Ask browsers for a token, and programs for a header that another site's page cannot send.

    The danger is a page of another site that has its visitor's browser send a request here, with the cookies of this
    site. A form can only send GET and POST, and no `Prefer` header. A script can, but the browser first asks this
    site (the preflight of CORS), and this site never agrees. So a request that has the header was not sent by another
    site's page.
    """

    def process_view(self, request: HttpRequest, callback: Any, callback_args: Any, callback_kwargs: Any) -> Any:
        """Check the token, unless the request comes from a program."""
        if "Prefer" in request.headers or request.method == "DELETE":
            return None
        return super().process_view(request, callback, callback_args, callback_kwargs)


def limit_uploads(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Refuse a request that is too large by the length that it names, before anything of it is read."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.method != "POST":
            return get_response(request)
        if "Transfer-Encoding" in request.headers and "Content-Length" not in request.headers:
            return HttpResponse(
                "Name the length of the request in Content-Length.\n", status=411, content_type="text/plain"
            )
        size = int(request.headers.get("Content-Length") or 0)
        if size > MAX_BYTES + BESIDE_THE_FILE:
            return refuse_upload(request, too_large(size))
        return get_response(request)

    return middleware
