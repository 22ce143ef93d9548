"""The Django app of the visitors."""

from django.apps import AppConfig


class VisitorsConfig(AppConfig):
    """It keeps nothing of its own: users are Django's, sessions Backroom's."""

    name = "visitors"
