"""The Django app of the cache."""

from django.apps import AppConfig


class CacheConfig(AppConfig):
    """Label `backroom_cache`: plain `cache` is many a project's own."""

    name = "backroom.cache"
    label = "backroom_cache"
    verbose_name = "Backroom cache"

    def ready(self) -> None:
        """Register the system checks."""
        from backroom.cache import checks  # noqa: F401 - importing them registers them
        from backroom.cache.backends import checks as _  # noqa: F401 - as above
