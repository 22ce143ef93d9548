"""One site process on a socket that is open already: `python -m frontdesk.serve FD`. `manage.py demo` starts it."""

import os
import signal
import socket
import sys

import uvicorn

GOODBYE_SECONDS = 2
"""For open pages to end by themselves; an event stream would never."""


def serve(fd: int) -> None:
    """Answer requests until told to stop."""
    config = uvicorn.Config(
        "frontdesk.asgi:application",
        lifespan="off",
        log_level="warning",
        timeout_graceful_shutdown=GOODBYE_SECONDS,
    )
    # uvicorn raises the signal that ended it once more when it has cleaned up; that is the end, and no error.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    with socket.socket(fileno=fd) as listener:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
