"""The least that a Django project with Celery has: an app with models."""

SECRET_KEY = "measured, not secret"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
