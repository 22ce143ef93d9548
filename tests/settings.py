"""Django's settings for the tests: one task backend on each of three databases.

Every address is known before any server runs: servers listen on sockets in FOLDER, which is named after this
process. conftest.py makes the folder, starts the servers that the collected tests need, and removes it all.
"""

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(tempfile.gettempdir()) / f"backroom-tests-{os.getpid()}"

SECRET_KEY = "for the tests only"
USE_TZ = True
TIME_ZONE = "UTC"
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "static/"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(FOLDER / "default.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL;"},
        # A file: the database in memory that Django would use has other locks, and no other process sees it.
        "TEST": {"NAME": str(FOLDER / "test.sqlite3")},
    },
    "postgres": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": str(FOLDER / "postgres"),
        "PORT": "5432",
        "USER": "backroom",
        "NAME": "backroom",
    },
    "pgbouncer": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": str(FOLDER / "pgbouncer"),
        "PORT": "6432",
        "USER": "backroom",
        "NAME": "bounced",
        "DISABLE_SERVER_SIDE_CURSORS": True,
    },
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "tests.conformance.accounts",
    "tests.ledger",
    *(
        app
        for app in ["backroom.tasks", "backroom.offload", "backroom.sessions"]
        if find_spec(app) and find_spec(f"{app}.apps")
    ),
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

TASKS = {
    alias: {
        "BACKEND": "backroom.tasks.backends.database.DatabaseBackend",
        "OPTIONS": {"database": alias},
    }
    for alias in DATABASES
}
