"""Whatever a record says, it resolves to a task or to `UnknownTask`: nothing else may come out of it."""

import json
import sys

import pytest

from backroom.tasks.resolve import UNKNOWN_TASK_RULES, Defaults, UnknownTask, module_task, resolve, rules_of
from backroom.testing.stores.case import NOW, new_record
from tests.tasks import work

OPTIONS = "tests.tasks.work.with_options"


@pytest.mark.parametrize(
    "line",
    [
        "def",
        "raise KeyError('SHOP')",
        "raise SystemExit(1)",
        "import nowhere_to_be_found",
        "from django.core.exceptions import ImproperlyConfigured as E; raise E('no')",
        "None.task",
        "task = 5",
        "",
    ],
)
def test_a_module_that_fails_is_an_unknown_task(tmp_path, monkeypatch, line):
    (tmp_path / "failing_module.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "failing_module", raising=False)
    with pytest.raises(UnknownTask, match=r"failing_module\.task"):
        module_task("failing_module.task")
    sys.modules.pop("failing_module", None)


@pytest.mark.parametrize("path", ["", ".", "work", "tests.tasks.work.", "tests.tasks.work.nothing", "a\0b.c"])
def test_a_path_that_leads_nowhere_is_an_unknown_task(path):
    with pytest.raises(UnknownTask):
        module_task(path)


@pytest.mark.parametrize(
    "overrides",
    [
        "{",
        "5",
        "[1]",
        json.dumps({"an_option_of_a_newer_release": 1}),
        json.dumps({"queue_name": "other"}),
        json.dumps({"retry_on": [{"path": "os.path.join"}]}),
        json.dumps({"fail_on": ["ValueError"]}),
        json.dumps({"fail_on": [{"path": "builtins.int"}]}),
        json.dumps({"retry_on": [{"path": "nowhere.Error"}]}),
        json.dumps({"backoff": {"path": "tests.tasks.work.nothing"}}),
        json.dumps({"backoff": {"path": 5}}),
        json.dumps({"backoff": {"path": "sys.path"}}),
        json.dumps({"backoff": {"exponential": ["1", 2, 3]}}),
        json.dumps({"backoff": {"exponential": [1]}}),
        json.dumps({"backoff": "soon"}),
        json.dumps({"backoff": []}),
        json.dumps({"max_attempts": "3"}),
        json.dumps({"max_attempts": 0}),
        json.dumps({"timeout": "1"}),
        json.dumps({"timeout": -1}),
        json.dumps({"expires": {}}),
        json.dumps({"keep_result": "no"}),
    ],
)
def test_options_that_make_no_sense_are_an_unknown_task(overrides):
    record = new_record(task_path=OPTIONS, overrides=overrides)
    for each in (record, record._replace(run_after=NOW)):
        with pytest.raises(UnknownTask, match=f"{OPTIONS} cannot be restored from its record {record.id}"):
            resolve(each, Defaults())
        assert rules_of(each, Defaults()) == UNKNOWN_TASK_RULES


@pytest.mark.parametrize("metadata", ["{", "5", "[]"])
def test_metadata_that_make_no_sense_are_an_unknown_task(metadata):
    with pytest.raises(UnknownTask):
        resolve(new_record(task_path=OPTIONS, metadata=metadata), Defaults())


def test_what_a_record_changes_is_what_runs():
    record = new_record(task_path=OPTIONS, overrides=json.dumps({"max_attempts": 7, "timeout": 5}))
    resolved = resolve(record, Defaults())
    assert (resolved.rules.max_attempts, resolved.timeout) == (7, 5)
    assert resolved.task.func is work.with_options.func
