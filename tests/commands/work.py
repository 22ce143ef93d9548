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


@task(takes_context=True, max_attempts=2, backoff=60)
def fail_once(context):
    if context.task_result.errors:
        return
    raise ValueError("on purpose")
