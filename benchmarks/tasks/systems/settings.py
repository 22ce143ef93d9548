"""The Django settings of whichever system BENCH_SYSTEM names."""

import os

from benchmarks.tasks.systems import SYSTEMS
from benchmarks.tasks.systems.base import SYSTEM_VARIABLE
from benchmarks.tasks.systems.django import DjangoSystem

system = SYSTEMS[os.environ[SYSTEM_VARIABLE]]
assert isinstance(system, DjangoSystem), f"{system.label} is not a Django system"

SECRET_KEY = "measured, not secret"
USE_TZ = True
INSTALLED_APPS = list(system.apps)
DATABASES = {"default": system.database()}
DATABASE_ROUTERS = list(system.routers)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TASKS = system.tasks()
globals().update(system.settings)
# A line for every task would be measured with it; a site in production logs warnings.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django": {"level": "WARNING"}},
}
