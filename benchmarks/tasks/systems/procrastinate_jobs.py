"""The measured task as procrastinate's worker imports it."""

import sys

import procrastinate

from benchmarks.tasks.systems.base import place
from benchmarks.tasks.work import work

# Its workers are asynchronous, the code that enqueues mostly is not: each has a connector of its own.
_connector = (
    procrastinate.PsycopgConnector
    if "worker" in sys.argv or "claims" in sys.argv
    else procrastinate.SyncPsycopgConnector
)

app = procrastinate.App(connector=_connector(conninfo=place()))


@app.task
def job(number: int) -> list[int | float]:
    return work(number)
