"""How an engine's logic is written once for sync and async: as generators that yield what touches the world.

A generator yields a step and is sent its outcome. `run` does the steps where it is, `arun` awaits them.
"""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol

from asgiref.sync import sync_to_async
from django.dispatch import Signal


class Step(Protocol):
    """Something that waits for the world: a statement, a command, another engine."""

    def do(self) -> Any:
        """Do it and return its outcome."""

    async def ado(self) -> Any:
        """Do it without holding up the event loop."""


type Steps[T] = Generator[Step, Any, T]


class Call(NamedTuple):
    """A function that blocks."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()

    def do(self) -> Any:
        """See Step."""
        return self.function(*self.arguments)

    async def ado(self) -> Any:
        """See Step. Django's connections belong to threads, so it is the one thread that has them."""
        return await sync_to_async(self.function)(*self.arguments)


class Send(NamedTuple):
    """A signal. What a receiver raises is Django's to log, and changes nothing here."""

    signal: Signal
    sender: Any
    arguments: dict[str, Any]

    def do(self) -> Any:
        """See Step."""
        return self.signal.send_robust(self.sender, **self.arguments)

    async def ado(self) -> Any:
        """See Step."""
        return await self.signal.asend_robust(self.sender, **self.arguments)


def run[T](steps: Steps[T]) -> T:
    """Do the steps one after the other; return what the generator returns."""
    try:
        step = next(steps)
        while True:
            try:
                outcome = step.do()
            except Exception as error:  # noqa: BLE001 - it is raised again, where the step was asked for
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def arun[T](steps: Steps[T]) -> T:
    """Await the steps one after the other; return what the generator returns."""
    try:
        step = next(steps)
        while True:
            try:
                outcome = await step.ado()
            except Exception as error:  # noqa: BLE001 - as in run()
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result
