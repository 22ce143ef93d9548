"""`manage.py demo`: the whole example from one command. Site, worker, perhaps a server, and this one, which ends them."""

import contextlib
import os
import signal
import socket
import sys
import time
import urllib.request
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from frontdesk import caches, stores
from frontdesk.children import Child, Restarts
from frontdesk.sockets import Unfit
from reports import spool

HOST: Final = "127.0.0.1"
TRIED_PORTS: Final = 20
LAST_PORT: Final = 65_535
START_SECONDS: Final = 30.0
STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Command(BaseCommand):
    """Start the example site and its worker, and end both on Ctrl-C."""

    help = (
        "Start the example site and its worker. In the environment PORT names the port (8000), and STORE where tasks "
        "wait: sqlite, redis or celery (sqlite). CACHE names where the almanac is kept: locmem, file, database, "
        "pymemcache, pylibmc, redis, sqlite or tiered (sqlite)."
    )
    # They would load the whole site here as well; the worker and `manage.py check` do them.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Let the port be named on the command line too."""
        parser.add_argument("--port", type=port, default=os.environ.get("PORT") or "8000", help="default: 8000")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Prepare the state folder, start everything, and stay until told to stop or something cannot go on."""
        try:
            with (
                _stop_requests() as requests,
                self.listener(options["port"]) as listener,
                stores.server_for(stores.chosen(), _state()) as server,
                caches.server_for(caches.chosen(), _state()) as cache_server,
            ):
                call_command("migrate", verbosity=0, interactive=False)
                if caches.chosen() == caches.DATABASE:
                    call_command("createcachetable", verbosity=0)
                spool.sweep()
                self.run(listener, [each for each in (server, cache_server) if each], requests)
        except Unfit as unfit:
            raise CommandError(str(unfit)) from None
        self.stdout.write(f"\nEnded. Orders and reports are kept in {_state()}")

    def run(self, listener: socket.socket, servers: list[Child], requests: list[int]) -> None:
        """Run site and worker until told to stop."""
        command = [sys.executable, "-m", "frontdesk.serve", str(listener.fileno())]
        site = Child("site", command, keep=listener.fileno())
        worker = stores.worker_for(stores.chosen())
        with _started(worker), _started(site):
            self.tell(listener.getsockname()[1])
            restarts = Restarts()
            while not requests:
                for each in (site, *servers):
                    if fate := each.fate():
                        msg = f"The {each.name} ended by itself ({fate}), so all of it was ended."
                        raise CommandError(msg)
                if fate := worker.fate():
                    self.restart(worker, fate, restarts)
                time.sleep(0.1)

    def restart(self, worker: Child, fate: str, restarts: Restarts) -> None:
        """Start a worker again that ended by itself; what it was at goes on, or starts over."""
        if restarts.are_too_many():
            msg = f"The worker ended by itself again and again (the last time: {fate}), so all of it was ended."
            raise CommandError(msg)
        self.stderr.write(self.style.WARNING(f"The worker ended by itself ({fate}) and is started again."))
        worker.start()

    def listener(self, port: int) -> socket.socket:
        """Return a listening socket on the port, or on the next one that is free."""
        last = min(port + TRIED_PORTS - 1, LAST_PORT)
        for tried in range(port, last + 1):
            with contextlib.suppress(OSError):
                listener = socket.create_server((HOST, tried), backlog=128)
                if tried != port:
                    self.stderr.write(self.style.WARNING(f"Port {port} is taken, so this is {tried}."))
                return listener
        msg = f"Ports {port} to {last} are all taken. Name another one: PORT=9000 make demo"
        raise CommandError(msg)

    def tell(self, port: int) -> None:
        """Print the address once the site answers there."""
        address = f"http://{HOST}:{port}/"
        with contextlib.suppress(OSError):
            request = urllib.request.Request(address, headers={"Accept": "text/html"})
            urllib.request.urlopen(request, timeout=START_SECONDS).close()  # noqa: S310 - as above
            self.stdout.write(f"\n  Frontdesk is open at {self.style.SUCCESS(address)}\n  Ctrl-C closes it.\n\n")
            self.stdout.flush()


def port(text: str) -> int:
    """Return the number of a port."""
    if not text.isdecimal() or not 0 < int(text) <= LAST_PORT:
        msg = f"PORT is {text!r}. Use a number up to {LAST_PORT}: PORT=9000 make demo"
        raise ArgumentTypeError(msg)
    return int(text)


def _state() -> Path:
    return Path(settings.MEDIA_ROOT).parent


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
def _started(child: Child) -> Iterator[None]:
    """Run a process inside the block."""
    child.start()
    try:
        yield
    finally:
        child.end()
