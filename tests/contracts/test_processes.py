"""Processes that share one store: no record is had by two, and none of them is ever told that the database is locked."""

import json
from collections import Counter

import pytest

WORKERS = 3
RECORDS = 150

# The write lock of SQLite is not asked for at the start of a transaction here, and hardly waited for.
IMPATIENT = """
if "sqlite3" in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["OPTIONS"] = {"timeout": 0.01}
"""

# Each process inserts, claims and finishes, in small batches, until it has nothing left to insert or to claim.
WORK = f"""
import json, sys, time
from pathlib import Path
from django.tasks import task_backends
from backroom.testing.stores.case import new_record, request, succeeded, unique

number, gate = sys.argv[1:]
backend = task_backends["default"]
store, worker = backend.store, f"worker-{{number}}"
print("ready", flush=True)
while not Path(gate).exists():
    time.sleep(0.001)
finished, inserted, transitions = [], 0, []
while True:
    if inserted < {RECORDS}:
        store.insert([new_record(backend_name="default") for _ in range(5)])
        store.insert([new_record(backend_name="default", **unique("the one", "pending"))])
        inserted += 5
    exchange = store.exchange(transitions, request(4, worker_id=worker))
    finished += exchange.applied
    transitions = [succeeded(claim) for claim in exchange.claims]
    if not transitions and inserted >= {RECORDS}:
        break
print("finished", json.dumps(finished), flush=True)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_processes_finish_each_record_once(make_project, database, tmp_path):
    project = make_project(database, settings=IMPATIENT)
    project.python("from django.tasks import task_backends; task_backends['default'].prepare()")
    script = project.write("work.py", f"import django\ndjango.setup()\n{WORK}")
    gate = tmp_path / "gate"
    workers = [project.start("python", str(script), str(number), str(gate)) for number in range(WORKERS)]
    for worker in workers:
        worker.wait_for_output("ready")
    gate.touch()
    outputs = []
    for worker in workers:
        assert worker.wait(120) == 0, worker.output()
        outputs.append(worker.output())
    assert not any("Error" in output or "locked" in output for output in outputs)
    finished = Counter(id_ for output in outputs for id_ in json.loads(output.partition("finished ")[2]))
    assert set(finished.values()) == {1}
    rows = project.query("SELECT state, attempts, fence, unique_scope FROM backroom_tasks_taskrecord")
    # A worker that skips what another has locked may stop with a few left.
    assert len([row for row in rows if row[3] is None]) == WORKERS * RECORDS
    assert Counter(row[0] for row in rows)["successful"] == len(finished)
    assert {row[:3] for row in rows} <= {("successful", 1, 2), ("ready", 0, 0)}
    assert len([row for row in rows if row[0] == "ready" and row[3]]) <= 1
