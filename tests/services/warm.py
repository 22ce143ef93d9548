"""Code in a process of its own, forked from one that has imported Django: importing it anew takes half a second.

The tests have hundreds of projects enqueue something. What they are about (a worker, a site, a command) is started
as its users start it; only what a test itself says to a project goes this way.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.services.servers import die_with_parent

ROOT = Path(__file__).resolve().parents[2]

# What needs no settings. Nothing of ours: tests ask which of our modules import which.
PRELOADED = (
    *("asyncio", "celery.app.base", "kombu.transport.pyamqp", "kombu.transport.redis", "psycopg"),
    *("django.contrib.admin", "django.contrib.sessions.middleware", "django.core.management", "django.tasks"),
    *("django.db.backends.postgresql.base", "django.db.backends.sqlite3.base", "django.views.generic"),
)


class Warm:
    """The process that forks. It is started when it is first needed, and ends with the one that started it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, code: str, *, env: Mapping[str, str], cwd: Path, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run the code as `python -c` would, to its end."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            job = {"code": code, "env": dict(env), "cwd": str(cwd), "out": str(out), "err": str(err)}
            try:
                status = self._ask(job, seconds)
            except BaseException:
                # What it is at now would be taken for the answer to the next question.
                self.close()
                raise
            return subprocess.CompletedProcess(code, status, out.read_text(), err.read_text())

    def close(self) -> None:
        """End the process, and what it is at."""
        if (process := self._process) is not None:
            self._process = None
            with process:
                process.kill()

    def _ask(self, job: dict[str, Any], seconds: float) -> int:
        process = self._running()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], seconds)[0]:
            raise subprocess.TimeoutExpired(job["code"], seconds)
        return int(process.stdout.readline())

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from tests.services.warm import serve\nserve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))},
            )
        return self._process


warm = Warm()
atexit.register(warm.close)


def serve() -> None:
    """Fork for each line of standard input, and answer with the exit status of what was forked."""
    die_with_parent()
    for name in PRELOADED:
        import_module(name)
    for line in sys.stdin.buffer:
        if (pid := os.fork()) == 0:
            # Returning from here is the end of its program, with all that an interpreter does at its end.
            return _become(**json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(1, f"{status}\n".encode())
    return None


def _become(code: str, env: dict[str, str], cwd: str, out: str, err: str) -> None:
    die_with_parent()
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_CREAT),
        (2, err, os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    own = ["", *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:] = own + [entry for entry in sys.path if entry not in {*own, str(ROOT)}]
    main = sys.modules["__main__"].__dict__
    main.clear()
    main |= {"__name__": "__main__", "__builtins__": __builtins__}
    exec(compile(code, "<string>", "exec"), main)
