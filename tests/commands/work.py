"""Tasks to look after."""

from django.tasks import task


@task
def succeed(secret=None):
    return f"done with {secret}"


@task
def fail(secret=None):
    raise ValueError("on purpose")
