"""The reference lags behind nothing: each option, check, key and permission is on its page, with its default."""

import argparse
import re
from dataclasses import MISSING, fields

import pytest
from django.apps import apps
from django.core.management import load_command_class

from backroom import options
from backroom.tasks.backends.database import DatabaseOptions
from backroom.tasks.definition import CHANGEABLE, Task
from backroom.tasks.doctor import findings
from backroom.tasks.lifecycle import LABELS
from backroom.tasks.management.subcommands import SUBCOMMANDS
from backroom.tasks.management.subcommands.selection import REASONS
from backroom.tasks.worker import WorkerSettings
from tests.services.project import REPOSITORY

REFERENCE = REPOSITORY / "docs/reference"
DJANGO = {"priority", "queue_name", "backend", "run_after"}
INHERITED = {"--help", "--settings", "--pythonpath", "--verbosity", "--traceback", "--no-color", "--force-color"}


def page(name):
    return (REFERENCE / name).read_text()


def rows(name):
    """Return the cells of each row of each table of a page, by the first cell."""
    lines = [line for line in page(name).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {first: rest for first, *rest in cells}


def subparser(name):
    parser = load_command_class("backroom.tasks", "backroom").create_parser("manage.py", "backroom")
    [action] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return action.choices[name]


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_option_of_a_subcommand_is_described(name):
    described = page("commands.md")
    options = {max(each.option_strings, key=len) for each in subparser(name)._actions if each.option_strings}
    hidden = {max(each.option_strings) for each in subparser(name)._actions if each.help == argparse.SUPPRESS}
    assert [option for option in options - INHERITED - hidden if f"`{option}" not in described] == []


def test_the_defaults_of_a_worker_are_told():
    told = rows("commands.md")
    for name in ("processes", "threads", "coroutines", "grace"):
        metavar = "SECONDS" if name == "grace" else "N"
        assert told[f"`--{name} {metavar}`"][0] == f"{getattr(WorkerSettings(), name):g}"


def test_the_words_for_states_and_reasons_are_told():
    described = page("commands.md")
    assert [word for word in (*LABELS, *REASONS) if word not in described] == []
    assert [word for word in LABELS if f"`{word}`" not in page("task-options.md")] == []


def test_each_subject_of_the_doctor_is_told():
    sources = [file.read_text() for file in (REPOSITORY / "src/backroom/tasks/doctor").glob("*.py")]
    pattern = r'Finding\(\s*(?:OK|WARN|FAIL|level|[^,"]+), "([a-z -]+)"'
    subjects = {subject for source in sources for subject in re.findall(pattern, source)}
    assert {"settings", "round trip", "backlog"} <= subjects
    told = {subject for first in rows("commands.md") for subject in first.split(", ")}
    assert subjects - told == set()
    assert findings.FAIL in page("commands.md")


def test_each_option_of_a_backend_is_described_with_its_default():
    told = rows("settings.md")
    for item in fields(DatabaseOptions):
        default = told[f"`{item.name}`"][0].split()[0].strip("`")
        shown = f"{item.default:g}" if isinstance(item.default, float) else str(item.default)
        assert default in {shown, f'"{item.default}"', f"{item.default:.0f}" if shown[0].isdigit() else shown}, (
            item.name
        )


def test_each_key_of_the_dict_is_described():
    pages = sorted(each.name for each in REFERENCE.glob("*.md"))
    told = [first for name in pages for first in rows(name)]
    assert options._declared
    assert [name for name in options._declared if f"`{name}`" not in told] == []


def test_each_system_check_is_described_once():
    pages = sorted(each.name for each in REFERENCE.glob("*.md"))
    told = [first.strip("`") for name in pages for first in rows(name)]
    used = {
        found
        for file in (REPOSITORY / "src/backroom").rglob("*.py")
        for found in re.findall(r'id="(backroom\.[EW]\d+)"', file.read_text())
    }
    assert used
    assert sorted(used) == sorted(each for each in told if each.startswith("backroom.") and each[9] in "EW")


def test_each_permission_is_described():
    told = rows("settings.md")
    for model in apps.get_app_config("backroom_tasks").get_models():
        names = [codename for codename, _ in model._meta.permissions]
        names += [f"{action}_{model._meta.model_name}" for action in model._meta.default_permissions]
        assert [name for name in names if f"`backroom_tasks.{name}`" not in told] == []


def test_each_option_of_a_task_is_described_with_its_default():
    told = rows("task-options.md")
    for item in fields(Task):
        if item.name not in CHANGEABLE - DJANGO:
            continue
        default = told[f"`{item.name}`"][0].strip("`")
        shown = {"backoff": "exponential()", "retry_on": "(Exception,)", "metadata": "{}"}
        assert default == shown.get(item.name, str(item.default)), item.name
        assert item.default is not MISSING or item.name in shown
