"""One of the operator's verbs on the tasks that a person selected in the admin, and what that person is told of it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import batched
from typing import Final

from django.contrib import messages

from backroom.tasks import control, queries
from backroom.tasks.lifecycle import Label, label
from backroom.tasks.records import RUNNING
from backroom.tasks.tables import asked_to_stop, count, counts

ORDERED: Final = 10_000
"""Tasks that one action serves at most: a request must end."""
BATCH: Final = 500

type Verb = Callable[..., list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an action is called where."""

    verb: Verb
    command: str
    """The subcommand that does the same without a limit."""
    done_word: str
    takes: str
    """Which tasks it is for."""


@dataclass(slots=True, kw_only=True)
class Served:
    """What became of an order."""

    selected: int
    done: list[str] = field(default_factory=list)
    were: Counter[Label] = field(default_factory=Counter)
    """What those that were served were before."""
    left: Counter[Label] = field(default_factory=Counter)
    seconds_to_stop: float = 0.0


def serve(order: Order, named: Sequence[tuple[str, str]]) -> Served:
    """Carry out an order on tasks, named by the alias of their backend and their id, as many as a request may."""
    served = Served(selected=len(named))
    for alias in queries.shared_aliases():
        for batch in batched([id_ for name, id_ in named[:ORDERED] if name == alias], BATCH):
            labels = {record.id: label(record) for record in queries.get_many(batch, using=alias)}
            done = order.verb(batch, using=alias)
            served.done += done
            served.were.update(labels[id_] for id_ in done if id_ in labels)
            served.left.update(word for id_, word in labels.items() if id_ not in done)
            served.seconds_to_stop = max(served.seconds_to_stop, control.seconds_to_stop(using=alias))
    return served


def told(order: Order, served: Served) -> Iterator[tuple[int, str]]:
    """Yield what to say, each with its level."""
    number = len(served.done)
    what = f": {counts(served.were.elements())}" if served.were else ""
    running = served.were[RUNNING] + served.were["cancelling"]
    also = asked_to_stop(running, served.seconds_to_stop)
    yield messages.SUCCESS if number else messages.INFO, f"{order.done_word} {count(number, 'task')}{what}{also}."
    if left := min(served.selected, ORDERED) - number:
        are = f" ({counts(served.left.elements())})" if served.left else ""
        yield (
            messages.WARNING,
            f"{count(left, 'task')} left alone{are}: this is for {order.takes} tasks of a backend in TASKS.",
        )
    if served.selected > ORDERED:
        yield (
            messages.WARNING,
            f"These were the newest {ORDERED}. Do it again for the others, or use manage.py backroom {order.command}.",
        )
