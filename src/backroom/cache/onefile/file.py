"""One cache file as a process sees it: a link for each thread, and what becomes of it when something is wrong.

Whatever goes wrong below is a miss to whoever asks, and a warning once a while. A corrupt file is put aside, with
`.corrupt` after its name, and made anew.
"""

import errno
import math
import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final
from weakref import ref

from backroom.cache.onefile import layout, links
from backroom.cache.onefile.demand import Demand
from backroom.cache.onefile.failures import FAILURES, Closed, is_damage, is_locked, primary_code
from backroom.cache.onefile.forks import mark_of_this_process
from backroom.cache.onefile.layout import NotOurs, place_of
from backroom.cache.onefile.links import Link, Links
from backroom.cache.onefile.turns import OPENED, REPLACED, turn
from backroom.cache.onefile.upkeep import Budget, Upkeep
from backroom.cache.trouble import Trouble
from backroom.errors import sentence

LOOK_SECONDS: Final = 1.0
"""How often a thread makes sure that its file is still the one at its path."""
CLOSED_SECONDS: Final = 1.0
"""How long a file that could not be opened is left alone."""

LONGEST_WAIT_SECONDS: Final = 5.0
"""How long a process that forks waits for its other threads."""

INHERITED: Final = (
    "This process was forked while it was in use, and does without. uWSGI needs py-call-uwsgi-fork-hooks or lazy-apps."
)

_CLOSE: Final = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL}


class CacheFile:
    """A file, shared by all caches of this process that name it with the same budget."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self.path = path
        self.budget = budget
        self.trouble = Trouble(str(path))
        # It goes along into a child: caches know its bytes.
        self.demand = Demand(path)
        self.begin()

    def begin(self) -> None:
        """Begin with nothing open, as a new process does."""
        self.is_free = True
        self.generation = 0
        self.links = Links(set[ref[Link]](), set[int]())
        self.demand.begin()
        self.upkeep = Upkeep(self.path, self.budget, self.demand)
        # What a thread of the parent had open cannot be closed here, and must not be used.
        self.closed_until = math.inf if self.path in _inherited else 0.0
        self.hurried_until = 0.0
        self.is_full = False

    def link(self) -> Link:
        """Return this thread's link, to be used until it is `done`; raise one of `FAILURES` when it cannot be opened."""
        if not _mark[0]:
            _begin_anew_untold()
        link = self.links.mine
        link.is_used = True
        if link.generation == self.generation and monotonic() < link.look_at:
            return link
        return self._looked_after(link)

    def done(self) -> None:
        """Take in that this thread uses its link no more, for now."""
        self.links.mine.is_used = False

    def leave(self, deadline: float) -> None:
        """Close what every thread has open, and opens again when it is asked, before the process forks."""
        # Whoever comes from now on looks first, and finds that it has to wait.
        self.generation += 1
        # Until it is: a task that takes too long, say, is stopped anywhere.
        self.is_free = False
        self.is_free = self.links.close(deadline) and self.upkeep.wait_for_checkpoint(deadline - monotonic())
        if not self.is_free:
            self.trouble.warn(
                "forked", "A thread was using it for long while the process forked. The child does without."
            )

    def is_inherited(self) -> bool:
        """Tell, in a child, whether the parent had it open still."""
        return not (self.is_free and self.links.are_closed() and self.upkeep.wait_for_checkpoint(0))

    def failed(self, error: BaseException, action: str) -> None:
        """Take in that an operation failed: say so, and do what lets the next one succeed. Until `done` the link is used."""
        if isinstance(error, Closed):
            return
        self.is_full = False
        link = self._rolled_back()
        code = primary_code(error)
        if code == sqlite3.SQLITE_IOERR and link.is_open:
            # A quota, a limit on the size of files: whatever it is, there is no writing.
            code = sqlite3.SQLITE_FULL
        if is_damage(error) and link.is_open:
            self._put_aside(error, link)
        elif code in _CLOSE or is_damage(error) or isinstance(error, (OSError, NotOurs)):
            self.generation += 1
            self.closed_until = monotonic() + CLOSED_SECONDS
            self.trouble.warn("unusable", f"{action}: {sentence(error)} It counts as missing.")
        elif code == sqlite3.SQLITE_BUSY:
            self.trouble.warn("locked", f"{action}: another process keeps the file locked. It counts as missing.")
        elif code == sqlite3.SQLITE_FULL:
            self.is_full = True
            self.trouble.warn(
                "full",
                f"{action}: {sentence(error)} It cannot be written: the disk or a quota is full, or the disk has an error. "
                "What cannot be stored counts as missing.",
            )
        else:
            # Of a table that is gone, for example: the file was replaced by another.
            self.generation += 1
            self.trouble.warn("failed", f"{action}: {type(error).__name__}: {sentence(error)} It counts as missing.")

    def forget_all(self) -> None:
        """Remove the file, if it is the one that this thread has open. What no statement can do on a full disk, this can."""
        self.is_full = False
        if (link := self.links.mine).is_open:
            self._replace(link)

    def _rolled_back(self) -> Link:
        link = self.links.mine
        if not link.is_used:
            link.take()
        if link.is_open:
            with suppress(sqlite3.Error):
                link.roll_back()
        return link

    def _looked_after(self, link: Link) -> Link:
        link.take()
        if link.generation != self.generation or not self._is_still_there(link):
            link.close()
            if monotonic() < self.closed_until:
                if self.closed_until == math.inf:
                    self.trouble.warn("forked", INHERITED)
                raise Closed("It could not be opened a moment ago.")
            self._open(link)
        link.keep(self.budget.log_bytes)
        link.look_at = monotonic() + LOOK_SECONDS
        return link

    def _open(self, link: Link) -> None:
        try:
            try:
                self._open_as_it_is(link)
            except FAILURES as error:
                if is_locked(error):
                    # It has been waited for, and must not be by everybody who asks.
                    raise OSError(errno.EBUSY, "Another process keeps the file locked.") from error
                if not is_damage(error):
                    raise
                # It is open still, and as long as it is, no other file can have its number.
                self._put_aside(error, link)
                link.close()
                self._open_as_it_is(link)
        except BaseException:
            link.close()
            raise

    def _open_as_it_is(self, link: Link) -> None:
        generation = self.generation
        with turn(self.path, OPENED):
            link.open(self.path)
            layout.set_up(link.connection, log_bytes=self.budget.log_bytes)
        link.generation = generation

    def _is_still_there(self, link: Link) -> bool:
        try:
            return place_of(self.path) == link.place
        except FileNotFoundError:
            return False

    def _put_aside(self, error: BaseException, link: Link) -> None:
        aside = _place_aside(self.path.resolve())
        self.trouble.warn("corrupt", f"{sentence(error)} The file is put aside as {aside.name} and made anew.")
        self._replace(link, aside)

    def _replace(self, link: Link, aside: Path | None = None) -> None:
        self.generation += 1
        with suppress(OSError), turn(self.path, REPLACED):
            if place_of(self.path) != link.place:
                # Another process was quicker; the file that is there now is a good one.
                return
            # SQLite names the log after the file, not after a link to it.
            path = self.path.resolve()
            # Before the file itself: a log that stayed behind would be played back into the new one.
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            if aside:
                path.replace(aside)
            else:
                path.unlink()


def _place_aside(path: Path) -> Path:
    """Return where a corrupt file goes: in the place of the one before, unless that is a folder by now."""
    place = path.with_name(f"{path.name}.corrupt")
    return place if not place.is_dir() else _place_aside(place)


_files: dict[tuple[Path, Budget], CacheFile] = {}
_files_lock = threading.Lock()

_mark: Final = mark_of_this_process()
_beginning = threading.RLock()
_inherited: set[Path] = set()
"""The files that this process and its children do without: SQLite lets nobody open anew what an ancestor had open."""


def cache_file(path: Path, budget: Budget) -> CacheFile:
    """Return this process's only object for a file and a budget."""
    with _files_lock:
        if (path, budget) not in _files:
            _files[path, budget] = CacheFile(path, budget)
        return _files[path, budget]


def _begin_anew_in_a_child() -> None:
    global _files_lock  # noqa: PLW0603 - another thread of the parent may have held it
    _files_lock = threading.Lock()
    links.begin_anew()
    layout.begin_anew()
    # By their paths: a file with two budgets is one to SQLite.
    files = list(_files.values())
    _inherited.update(file.path for file in files if file.is_inherited())
    for file in files:
        file.begin()
    _mark[0] = 1


def _begin_anew_untold() -> None:
    """Begin anew in a child of a fork that no hook told of, such as uWSGI's."""
    with _beginning:
        if not _mark[0]:
            _begin_anew_in_a_child()


def _leave_before_a_fork() -> None:
    if not _mark[0]:
        # Nothing of a parent's may be closed here.
        _begin_anew_untold()
    links.shut()
    deadline = monotonic() + LONGEST_WAIT_SECONDS
    for file in list(_files.values()):
        file.leave(deadline)


os.register_at_fork(
    before=_leave_before_a_fork, after_in_parent=links.open_again, after_in_child=_begin_anew_in_a_child
)
