"""Folders of caches that are kept in files: nobody but their owner may look into them, or put others in their places."""

from pathlib import Path


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone.

    `mkdir(parents=True)` leaves the ones above to the umask (CVE-2020-24584), and changing that changes it for every other
    thread (CVE-2026-25674).
    """
    for each in reversed([folder, *folder.parents]):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
