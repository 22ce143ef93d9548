"""What a test can ask for. docs/reference/tests.md says the same at more length.

Databases   `store_database` runs a test on `default` (SQLite, a file with WAL) and `postgres`; its value is the
            alias, and TASKS has a backend of the same name. Others, `pgbouncer` among them:
                @pytest.mark.parametrize("store_database", ["postgres", "pgbouncer"], indirect=True)
            Several at once: @pytest.mark.django_db(databases=["default", "postgres"]).
            Real commits: @pytest.mark.django_db(transaction=True), beside either.
Servers     `postgres_server`, `pgbouncer_server`, `redis_server`, `rabbit_server`: shared, don't harm them.
            `own_postgres_server`, `own_redis_server`: the test's own, to kill, pause and restart.
Processes   `make_project("sqlite" | "postgres" | "pgbouncer", settings="…")`: a migrated throw-away project whose
            `.manage("backroom", "worker")` starts a real process. See tests/services/project.py.
Browser     `browser`, or `open_browser(javascript=False, width=390, height=844, color_scheme="dark")`.

A server starts when the first collected test needs it. A program that is missing fails the test and names the package.
"""

from __future__ import annotations

import compileall
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests import settings
from tests.services.project import REPOSITORY, Project
from tests.services.running import kept_running
from tests.services.servers import MissingService, PgBouncer, PostgresServer, RabbitServer, RedisServer

if TYPE_CHECKING:
    from tests.services.browser import Browser

SERVER_DATABASES = {"postgres": "postgres_server", "pgbouncer": "pgbouncer_server"}
LONGEST = (
    "tests/processes/test_trouble.py",
    "tests/examples",
    "tests/test_docs.py",
    "tests/celery",
    "tests/redis/test_workers.py",
    "tests/contracts",
    "tests/browser",
    "tests/processes",
    "tests/sessions/test_processes.py",
    "tests/commands",
    "tests/offload",
    "tests/cache/test_pages.py",
    "tests/cache/backends/test_djangos_own.py",
    "tests/redis/test_contract.py",
    "tests/conformance/test_cache_servers.py",
    "tests/test_services.py",
)
"""What takes minutes, begun first: a file runs in one process, and the last one to end has the others wait."""


# A slow machine is no counterexample; a real one comes with the line that brings it back.
hypothesis.settings.register_profile("backroom", deadline=None, print_blob=True)
hypothesis.settings.load_profile("backroom")


def pytest_configure(config: pytest.Config) -> None:
    """Compile what hundreds of processes of the tests import: each would take a third longer to start."""
    if not hasattr(config, "workerinput"):
        for folder in ("src", "tests", "examples"):
            compileall.compile_dir(REPOSITORY / folder, quiet=2)


# ── Databases ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["default", "postgres"])
def store_database(request: pytest.FixtureRequest) -> str:
    """Run the test on each database that can keep tasks; the value is the alias."""
    alias: str = request.param
    return alias


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Give tests on `store_database` access to it, before pytest-django sorts them; begin with what takes longest."""
    _open_databases(items)
    yield
    items.sort(key=lambda item: next((at for at, name in enumerate(LONGEST) if _is_in(name, item)), len(LONGEST)))


def _is_in(name: str, item: pytest.Item) -> bool:
    return item.nodeid.startswith((f"{name}/", f"{name}::"))


def _open_databases(items: list[pytest.Item]) -> None:
    for item in items:
        if (alias := _parameters(item).get("store_database")) is None:
            continue
        asked = item.get_closest_marker("django_db")
        arguments = dict(asked.kwargs) if asked else {}
        arguments["databases"] = sorted({*arguments.get("databases", ["default"]), alias})
        item.add_marker(pytest.mark.django_db(**arguments), append=False)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """Start the servers of the databases that this run uses, and forget the other databases."""
    from django.db import connections

    needed = set().union(*(_databases_of(item) for item in request.session.items))
    for alias, server in SERVER_DATABASES.items():
        if alias in needed:
            request.getfixturevalue(server)
        else:
            connections.settings.pop(alias)


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Leave the databases to the servers' end: PgBouncer's connections would keep them from being dropped."""
    return True


def _databases_of(item: pytest.Item) -> set[str]:
    aliases: set[str] = set()
    for marker in item.iter_markers("django_db"):
        named = marker.kwargs.get("databases") or []
        aliases.update(settings.DATABASES if named == "__all__" else named)
    return aliases


def _parameters(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec else {}


# ── Servers ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    """Give the run's folder, which every user may enter, as PostgreSQL runs as another user than root."""
    folder = settings.FOLDER
    _remove_what_killed_runs_left(folder)
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _remove_what_killed_runs_left(folder: Path) -> None:
    for left in folder.parent.glob("backroom-tests-*"):
        try:
            os.kill(int(left.name.rpartition("-")[2]), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _services_folder_outlives_the_databases(services_folder: Path) -> None:
    """Make the folder before the first database is opened in it."""


@pytest.fixture(scope="session")
def postgres_server(services_folder: Path) -> Iterator[PostgresServer]:
    """Give the PostgreSQL server that this run shares."""
    yield from kept_running(partial(PostgresServer, services_folder / "postgres"))


@pytest.fixture(scope="session")
def pgbouncer_server(services_folder: Path, postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """Give PgBouncer in transaction pooling mode, in front of `postgres_server`."""
    yield from kept_running(partial(PgBouncer, services_folder / "pgbouncer", postgres_server))


@pytest.fixture(scope="session")
def redis_server(services_folder: Path) -> Iterator[RedisServer]:
    """Give the Redis server that this run shares."""
    yield from kept_running(partial(RedisServer, services_folder / "redis"))


@pytest.fixture(scope="session")
def rabbit_server(services_folder: Path) -> Iterator[RabbitServer]:
    """Give the RabbitMQ server that this run shares."""
    yield from kept_running(partial(RabbitServer, services_folder / "rabbit"))


_numbers = itertools.count(1)


@pytest.fixture
def own_folder(services_folder: Path) -> Path:
    """Give a name for a folder of this test's that other users may enter, short enough for a socket's path."""
    return services_folder / f"own-{next(_numbers)}"


@pytest.fixture
def own_postgres_server(own_folder: Path) -> Iterator[PostgresServer]:
    """Give a PostgreSQL server that this test may harm."""
    yield from kept_running(partial(PostgresServer, own_folder / "postgres"))


@pytest.fixture
def own_redis_server(own_folder: Path) -> Iterator[RedisServer]:
    """Give a Redis server that this test may harm; it keeps what it acknowledged."""
    yield from kept_running(partial(RedisServer, own_folder / "redis", durable=True))


# ── Processes ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def make_project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Project]]:
    """Give a function that makes a throw-away project; its processes end with the test."""
    projects: list[Project] = []

    def make(database: str = "sqlite", **options: Any) -> Project:
        if database != "sqlite":
            options.setdefault("postgres", request.getfixturevalue("postgres_server"))
        if database == "pgbouncer":
            options.setdefault("pgbouncer", request.getfixturevalue("pgbouncer_server"))
        folder = tmp_path / f"project-{len(projects)}"
        project = Project(folder, database, **options)  # type: ignore[arg-type]
        projects.append(project)
        return project

    yield make
    for project in projects:
        project.close()


# ── Browser ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def open_browser(services_folder: Path) -> Iterator[Callable[..., Browser]]:
    """Give a function that opens a browser: `javascript`, `width`, `height`, `color_scheme`, `reduced_motion`."""
    from tests.services.browser import Browser

    browsers: list[Browser] = []

    def open_one(**options: Any) -> Browser:
        try:
            browser = Browser(services_folder / f"chromium-{next(_numbers)}", **options)
        except MissingService as missing:
            pytest.fail(str(missing), pytrace=False)
        browsers.append(browser)
        return browser

    yield open_one
    for browser in browsers:
        browser.close()


@pytest.fixture
def browser(open_browser: Callable[..., Browser]) -> Browser:
    """Give a browser of desktop size, with JavaScript, in the light."""
    return open_browser()
