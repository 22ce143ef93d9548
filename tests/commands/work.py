"""Tasks to look after."""

from typing import Any

from django.tasks import task as decorator

# The checker knows Django's options alone.
task: Any = decorator


@task
def succeed(secret=None):
    return f"done with {secret}"


@task
def fail(secret=None):
    raise ValueError("on purpose")
