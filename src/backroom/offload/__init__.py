"""A slow view answered at once: 202 and a progress page, then the result, rendered when it is asked for."""

from typing import TYPE_CHECKING, Any

from backroom.offload.exceptions import Refused

if TYPE_CHECKING:
    from backroom.offload.decorators import offload
    from backroom.offload.views import OffloadView

__all__ = ["OffloadView", "Refused", "offload"]

_HOMES = {"OffloadView": "backroom.offload.views", "offload": "backroom.offload.decorators"}


def __getattr__(name: str) -> Any:
    # Django imports this package before the settings are ready, and these names need a model.
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
