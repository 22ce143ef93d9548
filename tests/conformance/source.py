"""Django's own tests of its tasks, sessions and caches, out of the source distribution of the Django that is installed.

The wheel has no tests. The source distribution is fetched once for each version, with pip, checked against the hashes
of the lock file, and kept in a folder that git ignores. None of it is part of this project.
"""

from __future__ import annotations

import fcntl
import importlib
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Final

import django

from tests.services.project import REPOSITORY

VERSION: Final = django.get_version()
FOLDER: Final = REPOSITORY / ".cache" / f"django-{VERSION}"
SUITES: Final = ("tasks", "sessions_tests", "cache", "decorators", "template_tests")
MODULES: Final = ("test_immediate_backend", "test_dummy_backend", "test_tasks", "test_custom_backend")
SECONDS: Final = 300


class SourceMissing(Exception):
    """The source distribution could not be had."""


def load() -> dict[str, ModuleType]:
    """Return Django's test modules of tasks by their names; raise `SourceMissing` when they cannot be had."""
    prepare()
    return {name: importlib.import_module(f"tasks.{name}") for name in MODULES}


def prepare() -> None:
    """Have Django's tests at hand under the names that its own runner gives them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    # One of the test processes fetches it, and the others wait for that: pip builds what it downloads.
    with FOLDER.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((FOLDER / suite).is_dir() for suite in SUITES):
            _fetch()
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))


def _fetch() -> None:
    # Beside its place, so that each gets there whole by a rename.
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as name:
        folder = Path(name)
        _download(folder)
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            wanted = [each for each in opened.getmembers() if each.isfile() and _suite_of(each.name) in SUITES]
            opened.extractall(folder, members=wanted, filter="data")
        (tests,) = folder.glob("*/tests")
        for suite in SUITES:
            if not (FOLDER / suite).is_dir():
                (tests / suite).rename(FOLDER / suite)


def _suite_of(name: str) -> str:
    return name.partition("/tests/")[2].partition("/")[0]


def _download(folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(_locked() or f"django=={VERSION}\n")
    command = [
        *[sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"],
        *["--no-deps", "--no-binary=django", f"--dest={folder}", f"--requirement={requirements}"],
    ]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SourceMissing(
            "Django's own tests are run against our backends, and pip could not download the source distribution "
            f"of Django {VERSION} that they come in: {error}\n{error.stderr!s}"
        ) from None


def _locked() -> str:
    """Return the lock file's lines for this version of Django, hashes included; "" when it locks another one."""
    lock = (REPOSITORY / "requirements/dev.txt").read_text()
    found = re.search(rf"^django=={re.escape(VERSION)} (?:\\\n *--hash=\S+ ?)+", lock, re.MULTILINE | re.IGNORECASE)
    return f"{found[0]}\n" if found else ""
