"""Where a server that the demo starts listens: a socket in a folder that is this user's alone, and one demo's."""

import os
import socket
from pathlib import Path


class Unfit(Exception):
    """This machine, or the environment, has not what the demo needs; the message says what to do."""


def claim(path: Path) -> None:
    """Make the folder of a socket; refuse one that somebody else has, or that the server of another demo listens on."""
    folder = path.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        msg = f"{folder} belongs to somebody else. Name another folder for temporary files: TMPDIR=…"
        raise Unfit(msg)
    if listens(path):
        # A second server would take the first one's place, and write into its files.
        msg = (
            "Another demo runs here with a server of its own. End it, or give this one a folder of its own: "
            "FRONTDESK_STATE=/tmp/another make demo …"
        )
        raise Unfit(msg)


def listens(path: Path) -> bool:
    """Tell whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
        return True
