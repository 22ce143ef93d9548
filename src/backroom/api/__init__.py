"""Backroom over Django REST framework. The extra `backroom[api]` brings what these modules import."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backroom.api.offload import OffloadAPIView

__all__ = ["OffloadAPIView"]


def __getattr__(name: str) -> Any:
    # REST framework is an extra, and reads the settings when it is imported.
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from backroom.api import offload

    return getattr(offload, name)
