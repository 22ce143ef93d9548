"""The rules of the house that import-linter cannot say. `make lint` checks the direction of imports."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import grimp
import pytest

from tests.services.project import REPOSITORY

SOURCE = REPOSITORY / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
    if "migrations" not in path.parts
}
PURE = ["backroom.tasks.records", "backroom.tasks.lifecycle", "backroom.tasks.policy"]
VENDORS = {"sqlite", "sqlite3", "postgresql", "mysql", "oracle"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("backroom", cache_dir=None)


@pytest.mark.parametrize("module", PURE)
def test_values_and_decisions_reach_no_database(graph, module):
    reached = {module, *graph.find_upstream_modules(module)}
    for name in sorted(reached):
        assert not [each for each in _imports(name) if re.match(r"(django\.db|redis|celery|psycopg)\b", each)], name


@pytest.mark.parametrize("module", [*PURE, "backroom.tasks.execute"])
def test_time_and_chance_are_arguments(module):
    assert not {each.partition(".")[0] for each in _imports(module)} & {"time", "random", "secrets", "uuid"}


def test_execution_knows_no_store(graph):
    stores = {name for name in graph.modules if name.startswith("backroom.tasks.stores")}
    assert not graph.find_upstream_modules("backroom.tasks.execute") & stores


def test_one_file_names_the_vendors_of_databases():
    named = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in VENDORS
    }
    assert named <= {"backroom.sql.dialect"}


@pytest.mark.parametrize("module", ["backroom", "backroom.clock", "backroom.options", *PURE])
def test_importing_it_needs_no_settings(module):
    code = f"import {module}; from django.conf import settings; assert not settings.configured"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(SOURCE)}, timeout=60)


def test_the_version_is_the_installed_one():
    import backroom

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert backroom.__version__ == project["version"]


def test_the_core_depends_on_django_alone():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ["Django>=6.1"]


@pytest.mark.parametrize("lock", ["requirements/dev.txt", "requirements/demo.txt"])
def test_a_lock_file_pins_and_hashes_and_names_no_host(lock):
    lines = (REPOSITORY / lock).read_text().splitlines()
    pinned = [line for line in lines if line and line[0] not in " #"]
    assert pinned
    assert not [line for line in pinned if not re.match(r"[\w.\-\[\]]+==\S+ (; .+ )?\\$", line)]
    assert not [line for line in lines if "://" in line or line.startswith("-")]


def test_what_the_project_asks_for_is_locked():
    described = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    asked = [
        *described["project"]["dependencies"],
        *(each for extra in described["project"]["optional-dependencies"].values() for each in extra),
        *(each for group in described["dependency-groups"].values() for each in group if isinstance(each, str)),
    ]
    names = {_normal(name) for each in asked for name in re.findall(r"^[\w.\-]+", each)}
    lock = (REPOSITORY / "requirements/dev.txt").read_text()
    assert names <= {_normal(name) for name in re.findall(r"^([\w.\-]+)(?:\[[\w,]+\])?==", lock, re.MULTILINE)}


def _normal(name: str) -> str:
    """Return a package's name as an index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _imports(module: str) -> Iterator[str]:
    """Yield what a module imports, by its full name, as it is written."""
    assert find_spec(module), module
    for node in ast.walk(ast.parse(Path(MODULES[module]).read_text())):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=source, names=names) if source:
                yield from (f"{source}.{each.name}" for each in names)
