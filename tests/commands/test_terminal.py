"""What all subcommands share: where options stand, how failures look, how they leave."""

import sys

import pytest
from django.core.management import CommandError, call_command

ESCAPE = "\x1b["


@pytest.mark.parametrize(
    "arguments",
    [["--force-color", "doctor"], ["doctor", "--force-color"]],
)
def test_djangos_options_stand_before_the_subcommand_or_behind_it(make_project, arguments):
    project = make_project()
    assert ESCAPE in project.run("backroom", *arguments).stdout
    assert ESCAPE not in project.run("backroom", "doctor").stdout


@pytest.mark.parametrize("place", [0, 1])
def test_colors_are_left_out_when_asked(make_project, place):
    arguments = ["doctor"]
    arguments.insert(place, "--no-color")
    code = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    project = make_project()
    on_a_terminal = [sys.executable, "-c", code, sys.executable, "manage.py", "backroom"]
    project.add_settings("import os; os.environ['TERM'] = 'xterm'")
    assert ESCAPE in project.call(*on_a_terminal, "doctor").stdout
    assert ESCAPE not in project.call(*on_a_terminal, *arguments).stdout


def test_settings_may_be_named_behind_the_subcommand(make_project):
    project = make_project()
    project.write("mysite/other.py", "from mysite.settings import *\nTASKS = {}\n")
    refused = project.run("backroom", "status", "--settings", "mysite.other", check=False)
    assert "TASKS has no backend of Backroom's" in refused.stderr


def test_a_reader_that_leaves_is_no_error(make_project):
    project = make_project()
    project.python(
        "from django.tasks import task_backends, default_task_backend\n"
        "from backroom.tasks.records import Record\n"
        "from backroom.tasks.ids import new_id\n"
        "default_task_backend.store.insert([Record(new_id(), 'default', 'default', 0, 'a.b', '{}', 1) for _ in range(5000)])"
    )
    listing = "manage.py backroom list --limit 5000"
    printed = project.call("bash", "-c", f"{sys.executable} {listing} | head -1; echo ${{PIPESTATUS[0]}}")
    assert printed.stdout.splitlines()[-1] == "141"
    assert printed.stderr == ""


def test_an_interrupt_ends_it_without_a_traceback(make_project):
    project = make_project()
    watching = project.manage("backroom", "status", "--watch", "60")
    watching.wait_for_output("TASKS['default']")
    watching.interrupt()
    assert watching.wait(timeout=60) == 130
    assert "Traceback" not in watching.output()


def test_a_subcommand_must_be_named(make_project):
    project = make_project(migrate=False)
    refused = project.run("backroom", check=False)
    assert refused.returncode == 2
    assert "the following arguments are required: subcommand" in refused.stderr


def test_help_names_every_subcommand(make_project):
    told = make_project(migrate=False).run("backroom", "--help").stdout
    for name in ("worker", "status", "list", "retry", "cancel", "run-now", "prune", "doctor"):
        assert f"\n    {name} " in told


@pytest.mark.parametrize("subcommand", ["status", "list", "prune", "retry --failed", "cancel --all", "run-now --all"])
def test_missing_tables_are_told_with_the_cure(make_project, subcommand):
    refused = make_project(migrate=False).run("backroom", *subcommand.split(), check=False)
    assert refused.returncode == 1
    assert refused.stderr == (
        "CommandError: Database 'default' lacks 2 migrations of backroom_tasks (0001_initial, 0002_outbox). "
        "Run manage.py migrate --database=default\n"
    )


def test_missing_tables_are_told_on_a_server_too(make_project):
    refused = make_project("postgres", migrate=False).run("backroom", "status", check=False)
    assert "Run manage.py migrate --database=default" in refused.stderr


def test_a_server_that_is_away_is_told_without_a_traceback(make_project, own_postgres_server):
    project = make_project("postgres", postgres=own_postgres_server)
    own_postgres_server.stop()
    refused = project.run("backroom", "status", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("CommandError: Database 'default' does not answer: connection")
    assert "Start it, or correct DATABASES['default']." in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_refusal_of_another_kind_is_told_as_it_is(make_project):
    project = make_project()
    project.query("ALTER TABLE backroom_tasks_taskrecord RENAME COLUMN reason TO why")
    refused = project.run("backroom", "list", check=False)
    assert refused.stderr == "CommandError: The database refused: no such column: reason.\n"


def test_an_alias_that_databases_lack_is_named(settings):
    settings.TASKS = {
        "default": {
            "BACKEND": "backroom.tasks.backends.database.DatabaseBackend",
            "OPTIONS": {"database": "nowhere"},
        }
    }
    with pytest.raises(CommandError, match="'nowhere' doesn't exist"):
        call_command("backroom", "status")
