"""Backroom over Django REST framework. The extra `api` brings what these modules import."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from backroom.extras import installing

if TYPE_CHECKING:
    from backroom.api.offload import OffloadAPIView

if find_spec("rest_framework") is None:
    msg = f"Backroom's API views are views of Django REST framework. {installing('api')}"
    raise ModuleNotFoundError(msg, name="rest_framework")

__all__ = ["OffloadAPIView"]


def __getattr__(name: str) -> Any:
    # REST framework is an extra, and reads the settings when it is imported.
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from backroom.api import offload

    return getattr(offload, name)
