"""Uploads between their order and their report: one file each in settings.MEDIA_ROOT, under a random name.

A file is deleted when its task has finished, however it finished. What a crash leaves behind is found by `sweep()`.
"""

import hashlib
import json
import re
import secrets
import time
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from backroom.tasks import queries
from backroom.tasks.records import DEFERRED, READY, RUNNING, Query

UPLOAD: Final = "upload"
"""The name in a task's metadata of the key of the file that it reads."""

ORPHANED_SECONDS: Final = 3_600.0
"""Age from which a file without a task is one that nobody will ask for; a younger one may be just being ordered."""

UNFINISHED: Final = (DEFERRED, READY, RUNNING)

_KEY: Final = re.compile(r"[0-9a-f]{32}")


def keep(upload: "UploadedFile[bytes]") -> str:
    """Write an upload to the spool and return its key."""
    key = secrets.token_hex(16)
    try:
        with path_of(key).open("xb") as file:
            file.writelines(upload.chunks())
    except BaseException:
        drop(key)
        raise
    return key


def digest_of(upload: "UploadedFile[bytes]") -> str:
    """Return what tells one file's content from another's."""
    digest = hashlib.sha256()
    for chunk in upload.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def path_of(key: str) -> Path:
    """Return where the file with a key is kept; raise `ValueError` for what is no key."""
    if not _KEY.fullmatch(key):
        msg = f"{key!r} is not the key of an upload."
        raise ValueError(msg)
    return Path(settings.MEDIA_ROOT, f"{key}.csv")


def drop(key: str) -> None:
    """Delete an upload, if it is still there."""
    path_of(key).unlink(missing_ok=True)


def drop_finished(*, task_result: Any, **_kwargs: Any) -> None:
    """Delete the upload of a task that has finished: a receiver of Django's `task_finished`."""
    if key := getattr(task_result, "metadata", {}).get(UPLOAD):
        drop(key)


def sweep(*, older_than: float = ORPHANED_SECONDS) -> list[Path]:
    """Delete files that no unfinished task reads and that are older than so many seconds; return them."""
    needed = _needed()
    latest = time.time() - older_than
    swept = []
    for path in sorted(Path(settings.MEDIA_ROOT).iterdir()):
        if path.stem not in needed and path.stat().st_mtime <= latest:
            path.unlink(missing_ok=True)
            swept.append(path)
    return swept


def _needed() -> set[str]:
    """Return the keys of the uploads that are still to be read."""
    query = Query(states=UNFINISHED)
    needed: set[str] = set()
    after: str | None = None
    while True:
        page = queries.find(query, after=after, limit=500)
        needed |= {json.loads(record.metadata).get(UPLOAD, "") for record in page.records if record.metadata}
        after = page.next_after
        if after is None:
            return needed
