"""`manage.py demo`: the whole example from one command. A site process, a worker, and this one, which ends both."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from reports import spool

SITE: Final = Path(__file__).resolve().parents[3]
HOST: Final = "127.0.0.1"
TRIED_PORTS: Final = 20
START_SECONDS: Final = 30.0
GRACE_SECONDS: Final = 2
"""For a report that is being made; one that is not done by then starts over at the next start."""
END_SECONDS: Final = 6.0
"""Time to end after being told to; then a process is killed."""
STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORKER: Final = ("backroom", "worker", "--processes=2", "--threads=1", f"--grace={GRACE_SECONDS}", "--verbosity=0")

_libc = ctypes.CDLL(None)


class Command(BaseCommand):
    """Start the example site and its worker, and end both on Ctrl-C."""

    help = "Start the example site and its worker on SQLite. PORT in the environment names the port (8000)."
    # They would load the whole site here as well; the worker and `manage.py check` do them.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Let the port be named on the command line too."""
        parser.add_argument("--port", type=int, default=os.environ.get("PORT") or 8000, help="default: 8000")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Prepare the state folder, start both processes, and stay until told to stop or one of them ends."""
        with _stop_requests() as requests, self.listener(options["port"]) as listener:
            call_command("migrate", verbosity=0, interactive=False)
            spool.sweep()
            port = listener.getsockname()[1]
            with _running("manage.py", *WORKER) as worker, _running("-m", "frontdesk.serve", keep=listener) as site:
                self.tell(port)
                while not requests and worker.poll() is None and site.poll() is None:
                    time.sleep(0.1)
                ended = None if requests else "worker" if worker.poll() is not None else "site"
        if ended:
            msg = f"The {ended} ended by itself, so all of it was ended. Its reason stands above."
            raise CommandError(msg)
        self.stdout.write(f"\nEnded. Orders and reports are kept in {Path(settings.MEDIA_ROOT).parent}")

    def listener(self, port: int) -> socket.socket:
        """Return a listening socket on the port, or on the next one that is free."""
        for tried in range(port, port + TRIED_PORTS):
            with contextlib.suppress(OSError):
                listener = socket.create_server((HOST, tried), backlog=128)
                if tried != port:
                    self.stderr.write(self.style.WARNING(f"Port {port} is taken, so this is {tried}."))
                return listener
        msg = f"Ports {port} to {port + TRIED_PORTS - 1} are all taken. Name another one: PORT=9000 make demo"
        raise CommandError(msg)

    def tell(self, port: int) -> None:
        """Print the address once the site answers there."""
        address = f"http://{HOST}:{port}/"
        with contextlib.suppress(OSError):
            request = urllib.request.Request(address, headers={"Accept": "text/html"})
            urllib.request.urlopen(request, timeout=START_SECONDS).close()  # noqa: S310 - as above
            self.stdout.write(f"\n  Frontdesk is open at {self.style.SUCCESS(address)}\n  Ctrl-C closes it.\n\n")
            self.stdout.flush()


@contextlib.contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collect the signals that ask for an end, rather than die of them."""
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, receive) for number in STOPPING}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _running(*arguments: str, keep: socket.socket | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python beside this process; at the end tell it to end, and see to it that it does."""
    process = subprocess.Popen(
        [sys.executable, *arguments, *([str(keep.fileno())] if keep else [])],
        cwd=SITE,
        stdin=subprocess.DEVNULL,
        pass_fds=[keep.fileno()] if keep else [],
        # A group of its own: Ctrl-C reaches this process alone, which then ends the others once and in order.
        process_group=0,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread has been started yet
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end_with_parent() -> None:
    """Have Linux end this process when its parent is killed; elsewhere it is the parent's to do."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        _libc.prctl(pr_set_pdeathsig, signal.SIGTERM)
