"""A throw-away Django project with a migrated database, for tests that start real processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from tests.services.servers import PgBouncer, PostgresServer, die_with_parent
from tests.services.warm import warm

Database = Literal["sqlite", "postgres", "pgbouncer"]

REPOSITORY = Path(__file__).resolve().parents[2]

# What `startproject` gives, and nothing of ours: a page of the docs says what to add.
PLAIN = """\
from pathlib import Path

SECRET_KEY = "a project that a test made"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
USE_TZ = True
ROOT_URLCONF = "mysite.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {databases!r}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {{
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        }},
    }}
]
STATIC_URL = "static/"
"""

# What a project that uses us adds.
WITH_BACKROOM = (
    PLAIN
    + """
from importlib.util import find_spec

for app in ["backroom.tasks", "backroom.offload"]:
    if find_spec(app) and find_spec(f"{{app}}.apps"):
        INSTALLED_APPS.append(app)
TASKS = {{"default": {{"BACKEND": "backroom.tasks.backends.database.DatabaseBackend"}}}}
if "sqlite3" in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["OPTIONS"] = {{
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL;",
    }}
"""
)

URLS = """\
from django.apps import apps
from django.urls import include, path

urlpatterns = []
if apps.is_installed("backroom.offload"):
    urlpatterns.append(path("operations/", include("backroom.offload.urls")))
"""

MANAGE = """\
import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
execute_from_command_line(sys.argv)
"""


_template_folder = tempfile.TemporaryDirectory(prefix="backroom-templates-")
_sqlite_templates: dict[str, str] = {}


class Process(subprocess.Popen[bytes]):
    """A process in a group of its own whose output goes to a file, so that it never blocks on a pipe."""

    def __init__(self, command: list[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            super().__init__(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def output(self) -> str:
        """Return what the process has printed so far, both streams."""
        return self.log.read_text(errors="replace")

    def wait_for_output(self, text: str, *, seconds: float = 60) -> None:
        """Wait until the process has printed this text."""
        wait_until(
            lambda: text in self.output(),
            seconds=seconds,
            what=lambda: f"{text!r} in the output of {self.args!r}:\n{self.output()}",
            give_up=lambda: self.poll() is not None and text not in self.output(),
        )

    def interrupt(self) -> None:
        """Press Ctrl-C: every process of the group gets SIGINT, as from a terminal."""
        self.signal_group(signal.SIGINT)

    def signal_group(self, number: signal.Signals) -> None:
        """Send the signal to the process and to its children that stayed in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def end(self) -> None:
        """End the process and what it started, at once."""
        # The group outlives its leader as long as a child is in it.
        self.signal_group(signal.SIGKILL)
        self.wait()


class Project:
    """A Django project `mysite` in a folder, with its own database and settings, and no process of its own."""

    def __init__(
        self,
        folder: Path,
        database: Database = "sqlite",
        *,
        postgres: PostgresServer | None = None,
        pgbouncer: PgBouncer | None = None,
        base: str = WITH_BACKROOM,
        settings: str = "",
        migrate: bool = True,
    ) -> None:
        self.folder = folder
        self.database = database
        self._postgres = postgres
        self._server = pgbouncer if database == "pgbouncer" else postgres
        self._processes: list[Process] = []
        self._database_name = ""
        if database != "sqlite" and (postgres is None or self._server is None):
            raise ValueError(f"a project on {database} needs the server it is to use")
        # Migrations take seconds and always do the same: the first project with these apps is the others' template.
        apps = base + "".join(line for line in settings.splitlines() if "APPS" in line)
        template = self._template(apps) if migrate and "DATABASES" not in settings else None
        if database != "sqlite" and postgres is not None:
            self._database_name = postgres.create_database(template=template)
        self._write_files(base, settings)
        if database == "sqlite" and template is not None:
            shutil.copy(template, self.folder / "db.sqlite3")
        elif migrate and template is None:
            self.run("migrate", "--verbosity=0")
            if "DATABASES" not in settings:
                self._keep_as_template(apps)

    def _template(self, apps: str) -> str | None:
        if self.database == "sqlite":
            return _sqlite_templates.get(apps)
        assert self._postgres is not None
        return self._postgres.templates.get(apps)

    def _keep_as_template(self, apps: str) -> None:
        if self.database == "sqlite":
            copy = Path(_template_folder.name) / f"{len(_sqlite_templates)}.sqlite3"
            shutil.copy(self.folder / "db.sqlite3", copy)
            _sqlite_templates[apps] = str(copy)
        elif self._postgres is not None:
            self._postgres.keep_as_template(self._database_name, apps)

    @property
    def env(self) -> dict[str, str]:
        """Return the environment in which the project's commands run."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_", "PG"))}
        return kept | {
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(REPOSITORY)]),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def add_settings(self, text: str) -> None:
        """Append to the settings module; processes that run already keep theirs."""
        with (self.folder / "mysite/settings.py").open("a") as file:
            file.write(f"\n{text}\n")

    def start(self, *command: str) -> Process:
        """Start any command in the project's folder and environment."""
        process = Process(
            list(command),
            log=self.folder / f"process-{len(self._processes)}.log",
            env=self.env,
            cwd=self.folder,
        )
        self._processes.append(process)
        return process

    def manage(self, *arguments: str) -> Process:
        """Start `manage.py` with these arguments and return the running process."""
        return self.start(sys.executable, "manage.py", *arguments)

    def run(self, *arguments: str, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` with these arguments to its end; `check` refuses any status but 0."""
        return self.call(sys.executable, "manage.py", *arguments, check=check, seconds=seconds)

    def python(self, code: str, *, check: bool = True, seconds: float = 60) -> str:
        """Run code in a process of its own with Django set up, and return what it printed.

        It has imported modules before the code does: what shows in `sys.modules` is shown by `call` alone.
        """
        setup = "import django\ndjango.setup()\n"
        finished = warm.run(setup + code, env=self.env, cwd=self.folder, seconds=seconds)
        return _checked(finished).stdout if check else finished.stdout

    def call(self, *command: str, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run any command in the project's folder and environment to its end."""
        finished = subprocess.run(
            command,
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return _checked(finished) if check else finished

    def query(self, statement: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run SQL on the project's database, past Django and past PgBouncer, and return the rows."""
        if self._postgres is not None and self.database != "sqlite":
            rows: list[tuple[Any, ...]] = self._postgres.sql(statement, parameters, database=self._database_name)
            return rows
        connection = sqlite3.connect(self.folder / "db.sqlite3", timeout=30)
        with contextlib.closing(connection), connection:
            return connection.execute(statement, parameters).fetchall()

    def close(self) -> None:
        """End every process of the project and drop its database; the folder is the caller's."""
        for process in self._processes:
            process.end()
        if self._postgres is not None and self._postgres.is_running and self._database_name:
            self._postgres.drop_database(self._database_name)

    def _write_files(self, base: str, settings: str) -> None:
        self.write("manage.py", MANAGE)
        self.write("mysite/__init__.py", "")
        self.write("mysite/urls.py", URLS)
        self.write("mysite/settings.py", base.format(databases={"default": self._django_database()}))
        self.add_settings(settings)

    def _django_database(self) -> dict[str, Any]:
        if self._server is None or self.database == "sqlite":
            return {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(self.folder / "db.sqlite3"),
            }
        return {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": self._server.host,
            "PORT": str(self._server.port),
            "USER": "backroom",
            "NAME": self._database_name,
            "DISABLE_SERVER_SIDE_CURSORS": self.database == "pgbouncer",
        }


def _checked(finished: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    if finished.returncode != 0:
        told = f"{finished.args} ended with {finished.returncode}\n{finished.stdout}\n{finished.stderr}"
        raise AssertionError(told)
    return finished


def wait_until(
    is_true: Callable[[], object],
    *,
    seconds: float = 60,
    what: str | Callable[[], str] = "the condition",
    give_up: Callable[[], bool] = lambda: False,
) -> None:
    """Look every 20 ms until it is true; fail, saying what was waited for, after so many seconds."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline or give_up():
            raise AssertionError(f"waited in vain for {what if isinstance(what, str) else what()}")
        time.sleep(0.02)
