"""Middlewares that tests put in the cache's way."""

from inspect import iscoroutinefunction

from django.contrib.auth.models import User
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import SimpleLazyObject


def greet(get_response):
    def middleware(request):
        request.greeting = f"hello {request.user}"
        return get_response(request)

    return middleware


@sync_and_async_middleware
def paint(get_response):
    def painted(request):
        request.colour = request.COOKIES.get("theme")
        return request

    async def amiddleware(request):
        return await get_response(painted(request))

    def middleware(request):
        return get_response(painted(request))

    return amiddleware if iscoroutinefunction(get_response) else middleware


def fill(get_response):
    """Find the visitor's basket, as shops do."""

    def middleware(request):
        request.basket = request.session.session_key
        return get_response(request)

    return middleware


def know(get_response):
    """Know the visitor by a key in a header, when somebody asks."""

    def middleware(request):
        request.user = SimpleLazyObject(lambda: User(username=request.headers["X-Key"]))
        return get_response(request)

    return middleware
