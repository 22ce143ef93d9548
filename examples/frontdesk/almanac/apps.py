"""The Django app of the almanac."""

from django.apps import AppConfig


class AlmanacConfig(AppConfig):
    """One page that takes two seconds, and the cache in front of it."""

    name = "almanac"
