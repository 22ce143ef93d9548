"""Middlewares that tests put in the cache's way."""


def greet(get_response):
    def middleware(request):
        request.greeting = f"hello {request.user}"
        return get_response(request)

    return middleware
