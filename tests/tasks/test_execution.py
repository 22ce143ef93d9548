"""How an attempt under way is stopped from outside, and what it may say and ask."""

import asyncio
import contextlib
import itertools
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from backroom.tasks.exceptions import TaskCancelled, TaskTimeout
from backroom.tasks.execution import KEPT_MESSAGE, Execution, TaskContext
from backroom.testing.stores.case import new_record

NOTHING: Any = None


class StruckInTime(Exception):
    """The interruption was raised inside the call, where it belongs."""


def new_execution(**values) -> Execution:
    return Execution(new_record(state="running", **values), NOTHING)


def spin(started: threading.Event) -> None:
    """Run until something is raised here."""
    started.set()
    for _ in itertools.count():
        pass


class TestThreads:
    @pytest.mark.parametrize("kind", [TaskTimeout, TaskCancelled])
    def test_an_interruption_is_raised_in_the_function(self, kind):
        execution, started = new_execution(), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(execution.call, spin, started)
            assert started.wait(30)
            execution.interrupt(kind)
            assert isinstance(future.exception(30), kind)

    def test_the_function_may_clean_up_and_is_interrupted_once(self):
        execution, started = new_execution(), threading.Event()
        cleaned: list[int] = []

        def careful():
            try:
                spin(started)
            finally:
                execution.interrupt(TaskCancelled)
                cleaned.extend(range(1000))

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(execution.call, careful)
            assert started.wait(30)
            execution.interrupt(TaskTimeout)
            assert isinstance(future.exception(30), TaskTimeout)
        assert len(cleaned) == 1000

    def test_one_that_goes_on_regardless_returns_what_it_returns(self):
        execution, started = new_execution(), threading.Event()

        def stubborn():
            try:
                spin(started)
            except TaskTimeout:
                return "done all the same"

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(execution.call, stubborn)
            assert started.wait(30)
            execution.interrupt(TaskTimeout)
            assert future.result(30) == "done all the same"

    def test_before_and_after_the_function_nothing_is_raised(self):
        execution = new_execution()
        execution.interrupt(TaskTimeout)
        assert execution.call(lambda: sum(range(1000))) == sum(range(1000))
        execution.interrupt(TaskTimeout)
        assert sum(range(100_000))

    def test_an_interruption_that_comes_at_the_very_end_strikes_nothing_else(self):
        execution, here = new_execution(), threading.get_ident()
        started, held, ended = threading.Event(), threading.Event(), threading.Event()

        def function():
            started.set()
            assert held.wait(30)
            ended.set()

        def interrupt_once_it_has_ended():
            assert started.wait(30)
            # As interrupt() does, only that it comes to its second line when the function has returned.
            with execution._lock:
                held.set()
                assert ended.wait(30)
                while sys._current_frames()[here].f_code is not Execution.call.__code__:
                    pass
                execution._interruption = TaskTimeout
                assert execution._interrupt is not None
                execution._interrupt(TaskTimeout)

        with ThreadPoolExecutor(1) as pool:
            interruption = pool.submit(interrupt_once_it_has_ended)
            with contextlib.suppress(StruckInTime):
                self.call(execution, function)
            for _ in range(1_000):
                "what this thread does next"
            interruption.result(30)

    def call(self, execution, function):
        try:
            execution.call(function)
        except TaskTimeout as error:
            innermost = traceback.extract_tb(error.__traceback__)[-1]
            assert innermost.filename == Execution.call.__code__.co_filename
            raise StruckInTime from None

    def test_arguments_and_return_values_pass_through(self):
        assert new_execution().call(lambda *args, **kwargs: (args, kwargs), 1, b=2) == ((1,), {"b": 2})


class TestCoroutines:
    def run(self, story: Any) -> Any:
        return asyncio.run(story)

    @pytest.mark.parametrize("kind", [TaskTimeout, TaskCancelled])
    def test_an_interruption_is_raised_where_the_coroutine_waits(self, kind):
        execution, cleaned = new_execution(), []

        async def wait_for_ever():
            asyncio.get_running_loop().call_soon(execution.interrupt, kind)
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)

        async def story():
            with pytest.raises(kind):
                await execution.acall(wait_for_ever)
            # The slot goes on as if nothing had been cancelled.
            await asyncio.sleep(0)
            current = asyncio.current_task()
            return current is not None and current.cancelling()

        assert self.run(story()) == 0
        assert cleaned == [True]

    def test_an_interruption_that_comes_at_the_very_end_strikes_nothing_else(self):
        execution = new_execution()

        async def end_at_once():
            execution.interrupt(TaskTimeout)
            return "done"

        async def story():
            value = await execution.acall(end_at_once)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return value

        assert self.run(story()) == "done"

    def test_the_end_of_the_loop_is_no_interruption(self):
        execution = new_execution()

        async def story():
            slot = asyncio.ensure_future(execution.acall(asyncio.Event().wait))
            await asyncio.sleep(0)
            slot.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slot

        self.run(story())

    def test_another_thread_may_interrupt(self):
        execution = new_execution()

        async def story():
            started = threading.Event()

            async def wait_for_ever():
                started.set()
                await asyncio.Event().wait()

            def interrupt() -> None:
                assert started.wait(30)
                execution.interrupt(TaskTimeout)

            with pytest.raises(TaskTimeout):
                await asyncio.gather(execution.acall(wait_for_ever), asyncio.to_thread(interrupt))

        self.run(story())


class TestContext:
    def context(self, **values) -> TaskContext:
        return TaskContext(task_result=NOTHING, execution=new_execution(**values))

    def test_the_latest_report_is_taken_once(self):
        context = self.context()
        context.progress(1, 3)
        context.progress(2.5, 3, "reading")
        assert context.execution.take_progress() == '[2.5, 3, "reading"]'
        assert context.execution.take_progress() is None

    def test_an_end_that_is_not_known_is_none(self):
        context = self.context()
        context.progress(7)
        assert context.execution.take_progress() == '[7, null, ""]'

    @pytest.mark.parametrize("values", [(float("nan"),), (1, float("inf")), ("1",), (1, "2"), (None,)], ids=repr)
    def test_progress_takes_finite_numbers(self, values):
        with pytest.raises(ValueError, match=r"progress\(\) takes finite numbers"):
            self.context().progress(*values)

    def test_a_long_message_is_cut(self):
        context = self.context()
        context.progress(1, 2, "x" * 10_000)
        assert len(context.execution.take_progress() or "") < KEPT_MESSAGE + 20

    def test_a_task_can_ask_whether_it_is_to_stop(self):
        context = self.context()
        assert not context.is_cancelled()
        context.raise_if_cancelled()
        context.execution.request_cancel()
        assert context.is_cancelled()
        with pytest.raises(TaskCancelled):
            context.raise_if_cancelled()

    def test_a_claim_that_was_to_stop_already_says_so_from_the_start(self):
        assert self.context(cancel_requested=True).is_cancelled()

    def test_a_task_that_never_asks_is_stopped_at_its_next_report_once(self):
        context = self.context()
        context.progress(1)
        context.execution.request_cancel()
        with pytest.raises(TaskCancelled):
            context.progress(2)
        context.progress(3, message="cleaning up")
        assert context.execution.take_progress() == '[3, null, "cleaning up"]'

    def test_a_task_that_asks_decides_itself_where_it_stops(self):
        context = self.context()
        assert not context.is_cancelled()
        context.execution.request_cancel()
        context.progress(2)
        with pytest.raises(TaskCancelled):
            context.raise_if_cancelled()
