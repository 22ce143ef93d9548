"""The settings of a small site on SQLite with a back room. Everything it writes is in one folder, STATE."""

import os
from datetime import timedelta
from pathlib import Path

from django.utils.csp import CSP

from frontdesk import caches, stores
from frontdesk.state import secret_key

BASE = Path(__file__).resolve().parents[1]
STATE = Path(os.environ.get("FRONTDESK_STATE", BASE / "var")).resolve()

# Where uploads wait for their report. There is no MEDIA_URL: no address leads here.
MEDIA_ROOT = STATE / "uploads"
MEDIA_ROOT.mkdir(mode=0o700, parents=True, exist_ok=True)
FILE_UPLOAD_TEMP_DIR = MEDIA_ROOT

SECRET_KEY = secret_key(STATE / "secret-key")
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.staticfiles",
    "backroom.tasks",
    "backroom.offload",
    "backroom.sessions",
    "backroom.cache",
    "reports",
    "visitors",
    "almanac",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "backroom.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "frontdesk.middleware.limit_uploads",
    "frontdesk.middleware.CsrfMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "frontdesk.urls"
ASGI_APPLICATION = "frontdesk.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE / "frontdesk/templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "visitors.theme.colours",
            ]
        },
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE / "frontdesk.sqlite3",
        "OPTIONS": {
            # Readers and the writer do not wait for one another, and a writer waits its turn rather than failing.
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The back room: tasks wait in the database above, and `manage.py backroom worker` does them. With STORE=redis they wait
# in Redis; with STORE=celery, Celery's workers do them.
STORE = stores.chosen()
TASKS = stores.tasks_for(STORE, STATE)
if STORE == stores.CELERY:
    INSTALLED_APPS.append("backroom.celery")
    CELERY_BROKER_URL = f"redis+socket://{stores.socket_of(STATE)}"
    # A report takes seconds: no worker takes one that it cannot begin.
    CELERY_WORKER_PREFETCH_MULTIPLIER = 1
    CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

# What was answered before: the almanac is kept in whichever cache CACHE names, for five minutes.
CACHES = caches.caches_for(caches.chosen(), STATE)

# Who the visitor is: a session in the database above, ended when nobody uses it, and after a month in any case.
SESSION_ENGINE = "backroom.sessions.backends.database"
BACKROOM = {
    "SESSIONS": {
        "IDLE": timedelta(days=14),
        "ABSOLUTE": timedelta(days=30),
        "RENEWAL": timedelta(hours=12),
        "LIMIT": 20,
    }
}
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "notepad"
LOGOUT_REDIRECT_URL = "desk"
AUTH_PASSWORD_VALIDATORS = [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}]

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE / "frontdesk/static"]

# Browsers send cookies to every port of a host; these are not those of another project on this machine.
SESSION_COOKIE_NAME = "frontdesk-session"
CSRF_COOKIE_NAME = "frontdesk-csrf"

SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "base-uri": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
}

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    # Without DEBUG, Django by itself would mail errors to nobody and print nothing.
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"django": {"level": "WARNING"}},
}
