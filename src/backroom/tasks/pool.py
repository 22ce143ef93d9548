"""Slots: threads for functions and an event loop for coroutines. They know nothing of stores and claims' origins."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final

logger = logging.getLogger("backroom.worker")

type Work = Any
"""What a slot is given; only the two functions that a pool was made with look inside."""

_STOP: Final = object()


class Pace:
    """How long an attempt takes, as a moving average: what a worker may claim ahead depends on it."""

    WEIGHT: Final = 0.05

    def __init__(self) -> None:
        self.seconds = 0.1

    def note(self, seconds: float) -> None:
        """Take one attempt into the average."""
        # A lost update between threads costs a little accuracy and nothing else.
        self.seconds += self.WEIGHT * (seconds - self.seconds)


class Waiting:
    """How long the oldest work of a queue has waited, told from counts alone."""

    def __init__(self) -> None:
        self._put = 0
        self._marks: deque[tuple[float, int]] = deque()

    def put(self, count: int) -> None:
        """Note that so many pieces of work were queued."""
        self._put += count
        self._marks.append((time.monotonic(), self._put))

    def seconds(self, left: int) -> float:
        """Return how long the oldest of the `left` pieces that are still queued has waited."""
        while self._marks and self._marks[0][1] <= self._put - left:
            self._marks.popleft()
        return time.monotonic() - self._marks[0][0] if self._marks else 0.0


class Threads:
    """A fixed number of threads that take work from one queue, in its order."""

    def __init__(self, count: int, run: Callable[[Work, int], None], *, on_idle: Callable[[], None]) -> None:
        self.count = count
        self.pace = Pace()
        self.low = 0
        """How much unstarted work is little enough to ring for more."""
        self._run = run
        self._on_idle = on_idle
        self._queue: SimpleQueue[Work] = SimpleQueue()
        self._waiting = Waiting()
        self._threads = [
            threading.Thread(target=self._work, args=(place,), name=f"backroom-slot-{place}", daemon=True)
            for place in range(count)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def put(self, work: Sequence[Work]) -> None:
        """Queue work."""
        if work:
            self._waiting.put(len(work))
        for item in work:
            self._queue.put(item)

    @property
    def unstarted(self) -> int:
        """How many pieces of work no thread has taken yet."""
        return self._queue.qsize()

    @property
    def waiting_seconds(self) -> float:
        """How long the oldest of them has waited."""
        return self._waiting.seconds(self._queue.qsize())

    def take_back(self) -> list[Work]:
        """Return the work that no thread has taken yet; it is the caller's again."""
        work = []
        try:
            while True:
                work.append(self._queue.get_nowait())
        except Empty:
            return work

    def stop(self) -> None:
        """Let the threads end after the work at hand."""
        for _ in self._threads:
            self._queue.put(_STOP)

    def _work(self, place: int) -> None:
        while (work := self._queue.get()) is not _STOP:
            started = time.perf_counter()
            self._run(work, place)
            self.pace.note(time.perf_counter() - started)
            left = self._queue.qsize()
            if left == 0 or left == self.low:  # noqa: PLR1714 - once for every task: no set is built
                self._on_idle()


class Loop:
    """An event loop in a thread of its own that runs up to `count` coroutines at once."""

    def __init__(
        self, count: int, run: Callable[[Work, int], Coroutine[Any, Any, None]], *, on_idle: Callable[[], None]
    ) -> None:
        self.count = count
        self._run = run
        self._on_idle = on_idle
        self._queue: deque[Work] = deque()
        self._waiting = Waiting()
        self._places = list(range(count))
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopped = False

    def put(self, work: Sequence[Work]) -> None:
        """Queue work; the thread starts with the first piece."""
        if not work:
            return
        self._waiting.put(len(work))
        self._queue.extend(work)
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._keep_running, args=(self._loop,), name="backroom-loop", daemon=True).start()
        self._loop.call_soon_threadsafe(self._pump)

    @property
    def running(self) -> int:
        """How many coroutines run now."""
        return self.count - len(self._places)

    @property
    def has_room(self) -> bool:
        """Whether it has been used and could run more now."""
        return self._loop is not None and len(self._places) > len(self._queue)

    @property
    def unstarted(self) -> int:
        """How many pieces of work have not been started yet."""
        return len(self._queue)

    @property
    def waiting_seconds(self) -> float:
        """How long the oldest of them has waited."""
        return self._waiting.seconds(len(self._queue))

    def take_back(self) -> list[Work]:
        """Return the work that has not been started yet; it is the caller's again."""
        work = []
        try:
            while True:
                work.append(self._queue.popleft())
        except IndexError:
            return work

    def stop(self) -> None:
        """End the thread; what still runs is left where it is."""
        self._is_stopped = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _keep_running(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._is_stopped:
            try:
                loop.run_forever()
            except BaseException:
                # SystemExit and KeyboardInterrupt of a child task end the loop's run; the others' work goes on.
                logger.exception("action=loop_interrupted")

    def _pump(self) -> None:
        while self._places and self._queue:
            try:
                work = self._queue.popleft()
            except IndexError:
                # Taken back between the two looks.
                return
            task = asyncio.ensure_future(self._run_in(work, self._places.pop()), loop=self._loop)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_in(self, work: Work, place: int) -> None:
        try:
            await self._run(work, place)
        finally:
            self._places.append(place)
            self._pump()
            if not self._queue:
                self._on_idle()
