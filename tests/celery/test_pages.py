"""The page on a Celery cluster, followed from its beginning to its end."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from tests.services.markdown import blocks_for, commands
from tests.services.project import PLAIN, Project, wait_until
from tests.services.servers import RedisServer

PLACE = re.compile(r"# (?P<path>[\w/]+\.py)\n")
BROKER = "redis://localhost:6379/0"


def test_the_page_runs_on_a_cluster(make_project: Callable[..., Project], redis_server: RedisServer) -> None:
    project = make_project(base=PLAIN, migrate=False)
    for block in blocks_for("tests/celery/test_pages.py::test_the_page_runs_on_a_cluster"):
        if place := PLACE.match(block.text):
            if place["path"] == "mysite/settings.py":
                assert BROKER in block.text
                # A server of the tests' own, and queues that nobody else uses.
                project.add_settings(block.text.replace(BROKER, f"redis+socket://{redis_server.socket}"))
                prefix = os.urandom(4).hex()
                project.add_settings(f"CELERY_BROKER_TRANSPORT_OPTIONS = {{'global_keyprefix': '{prefix}'}}")
            else:
                project.write(place["path"], block.text)
            continue
        for command, shown in commands(block):
            if command.endswith(" &"):
                project.start("bash", "-c", f"exec {command.removesuffix(' &')}").wait_for_output(" ready.", seconds=60)
            else:
                printed = project.call("bash", "-ec", command).stdout
                for line in shown.splitlines():
                    assert re.search(".*".join(map(re.escape, line.split("..."))), printed), printed
    states = "SELECT state, result FROM backroom_tasks_taskrecord"
    wait_until(lambda: project.query(states) == [("successful", '"invoice 7"')], what="the invoice")
