"""The site's secret key: made at the first start, kept in the state folder, never in the code."""

import os
import secrets
from pathlib import Path


def secret_key(path: Path) -> str:
    """Return the key in a file, and write one there first if there is none."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48), encoding="ascii")
        # Site and worker may start at once: whoever links first has made the key, and both read that one.
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text(encoding="ascii")
