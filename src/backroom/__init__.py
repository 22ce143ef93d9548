"""Everything a Django site keeps behind the request. Importing this needs no settings."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("backroom")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
