"""Options that `using()` changed for one task, as JSON: callables and classes travel as dotted paths."""

import json
from collections.abc import Callable
from typing import Any, Final

from django.tasks.exceptions import InvalidTask
from django.utils.module_loading import import_string

from backroom.tasks.policy import Exponential

CARRIED: Final = ("max_attempts", "backoff", "retry_on", "fail_on", "timeout", "expires", "keep_result", "atomic")
"""The options that have no column of their own. `unique` has done its work once the task is enqueued."""


def encoded(task: Any, base: Any) -> str:
    """Return what `task` has other than `base`, the task as its module defines it; "" when nothing."""
    if task is base:
        return ""
    changed = {name: _encode(getattr(task, name)) for name in CARRIED if _differs(task, base, name)}
    return json.dumps(changed) if changed else ""


def decoded(text: str) -> dict[str, Any]:
    """Return the options that `encoded` wrote; raise `ValueError` for one that is not known here."""
    changed: dict[str, Any] = json.loads(text) if text else {}
    if unknown := sorted(changed.keys() - set(CARRIED)):
        msg = f"There is no option {', '.join(unknown)}."
        raise ValueError(msg)
    return {name: _decode(value) for name, value in changed.items()}


def _differs(task: Any, base: Any, name: str) -> bool:
    # A task that another backend's settings made, moved here by using(backend=…), is Django's own and has no options.
    return hasattr(task, name) and bool(getattr(task, name) != getattr(base, name, None))


def _encode(value: Any) -> Any:
    if isinstance(value, Exponential):
        return {"exponential": [value.base, value.factor, value.cap]}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, type) or callable(value):
        return {"path": _path(value)}
    return value


def _decode(value: Any) -> Any:
    match value:
        case {"exponential": [base, factor, cap]}:
            return Exponential(base=base, factor=factor, cap=cap)
        case {"path": path}:
            return import_string(path)
        case list():
            return tuple(_decode(item) for item in value)
    return value


def _path(value: type | Callable[..., Any]) -> str:
    # An instance that can be called, such as a functools.partial, has no name of its own.
    path = f"{value.__module__}.{getattr(value, '__qualname__', '')}"
    try:
        found = import_string(path)
    except ImportError:
        found = None
    if found is not value:
        msg = f"{value!r} cannot be found again as {path}. Give using() a function or class defined at module level."
        raise InvalidTask(msg)
    return path
