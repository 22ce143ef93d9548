"""In development, `runserver` starts a worker beside itself."""

from typing import Final

from backroom.options import Setting

RUNSERVER_WORKER: Final = Setting("RUNSERVER_WORKER", bool, default=True)
"""Whether `runserver` starts a worker beside itself while DEBUG is on."""
