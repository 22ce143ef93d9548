"""The app of the model."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "tests.conformance.accounts"
    label = "accounts"
