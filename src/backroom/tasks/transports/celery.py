"""Send the ids of tasks through Celery. Knows queues, priorities and the broker; what a task is, the store alone knows.

A message is a hint as well: who sends one may fail to, and the record is safe. So sending never raises and never takes
long: a thread of its own talks to the broker, and after `send_timeout` of silence nobody waits for it any more, nor for
the broker until it is back. A queue that the broker refuses, because it was declared otherwise or must not be made, is
paused alone.
"""

import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import copy_context
from datetime import datetime
from functools import cached_property
from typing import Any, Final, NamedTuple

from django.db import connections

from backroom.clock import Moment, after, to_datetime
from backroom.tasks.records import DEFERRED, Record

logger = logging.getLogger("backroom.celery")

TASK: Final = "backroom.run"
"""The name of the one Celery task that runs them all."""
LOWEST: Final = -100
HIGHEST: Final = 100
SEND_TIMEOUT: Final = 1.0
"""Seconds of the broker's silence after which whoever sends goes on without it."""
QUORUM: Final = range(10)
"""Priorities of RabbitMQ's quorum queues: from RabbitMQ 4 on what is above 4 goes first, and before that nothing does."""
PATIENCE: Final = 2.0
"""Seconds for which a connection to the broker is tried, and after which one that keeps silent is taken for broken."""
RETRIES: Final = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2}
"""One more try: a connection that lay idle may have been closed by the broker."""
LEFT: Final = 1_000
"""Messages that are kept while the broker is away."""
PAUSE: Final = 10.0
"""Seconds after a failure within which nothing is sent; what was not, maintenance sends."""
LATE: Final = 0.005
"""Seconds that a deferred message comes after its moment, so that the clock has surely passed it."""


class Message(NamedTuple):
    """What there is to send of one record."""

    id: str
    fence: int
    queue_name: str
    priority: int
    task_path: str
    due_at: Moment | None
    """When the record may be started, if that is not now."""


class Sent(NamedTuple):
    """What became of messages."""

    ids: frozenset[str]
    """Of those that the broker has taken."""
    is_away: bool = False
    """Whether the others stayed behind because there is no broker; else their queues were refused."""


def message_of(record: Record) -> Message:
    """Return the message for a waiting record."""
    due_at = record.due_at if record.state == DEFERRED else None
    return Message(record.id, record.fence, record.queue_name, record.priority, record.task_path, due_at)


class CeleryTransport:
    """Sends for one backend over one Celery app. Safe to use from several threads, and after a fork."""

    def __init__(
        self, app: Any, alias: str, queue_map: Mapping[str, str], *, send_timeout: float = SEND_TIMEOUT
    ) -> None:
        self.app = app
        self._alias = alias
        self._queue_map = queue_map
        self._send_timeout = send_timeout
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._is_away = False
        self._unanswered: threading.Thread | None = None
        self._left: list[Message] = []
        self._refused_until: dict[str, float] = {}
        self._refused: set[str] = set()
        _alive.add(self)

    def queue_of(self, queue_name: str) -> str:
        """Return the Celery queue that serves a queue of ours: where none is named, Celery's default."""
        default: str = self.app.conf.task_default_queue
        return self._queue_map.get(queue_name, default)

    def send(self, messages: Sequence[Message]) -> Sent:
        """Send messages; wait for a broker that keeps silent no longer than `send_timeout`, and for none known to be away."""
        if not messages or self._is_left_alone():
            self._leave(messages)
            return Sent(frozenset(), is_away=bool(messages))
        patience = 0 if self._is_away else self._send_timeout
        ids: set[str] = set()
        # A process that is about to end waits for it, or its messages would be lost.
        thread = threading.Thread(
            target=copy_context().run, args=(self._deliver_apart, messages, ids), name="backroom-send", daemon=False
        )
        try:
            thread.start()
        except RuntimeError:
            # Python is about to end, or the system has no thread to give.
            self._deliver(messages, ids)
        else:
            self._wait_for(thread, ids, patience)
        return Sent(frozenset(ids), is_away=self._is_away)

    def deliver(self, messages: Sequence[Message]) -> Sent:
        """Send messages in this thread, which has time; tell which the broker has taken."""
        if not messages or self._is_left_alone():
            return Sent(frozenset(), is_away=bool(messages))
        ids: set[str] = set()
        self._deliver(messages, ids)
        return Sent(frozenset(ids), is_away=self._is_away)

    def _leave(self, messages: Sequence[Message]) -> None:
        """Leave messages to whoever finds the broker back in this process; what is not sent so, maintenance sends."""
        with self._lock:
            if len(self._left) + len(messages) <= LEFT:
                self._left.extend(messages)

    def _take_left(self) -> list[Message]:
        with self._lock:
            left, self._left = self._left, []
        return left

    def _is_left_alone(self) -> bool:
        is_asked = self._unanswered is not None and self._unanswered.is_alive()
        return is_asked or time.monotonic() < self._away_until

    def _wait_for(self, thread: threading.Thread, ids: set[str], patience: float) -> None:
        """Wait until all is sent, as long as the broker takes messages."""
        before = -1
        while thread.is_alive() and before < len(ids):
            before = len(ids)
            thread.join(patience)
        if thread.is_alive():
            # What it still sends comes late, which does no harm, and tells that the broker is back.
            self._unanswered = thread
            self._note_absence("silence", pause=0)

    def _deliver_apart(self, messages: Sequence[Message], ids: set[str]) -> None:
        self._deliver(messages, ids)
        while left := self._take_left():
            if not self._is_away:
                self._deliver(left, set())
        # A receiver of Celery's signals may have asked the database, and this thread ends.
        connections.close_all()

    def _deliver(self, messages: Sequence[Message], ids: set[str]) -> None:
        """Send messages over one connection, and note in `ids` which the broker has taken."""
        queues: dict[str, list[Message]] = {}
        for message in messages:
            queues.setdefault(self.queue_of(message.queue_name), []).append(message)
        try:
            with self._producer() as producer:
                for queue, meant in queues.items():
                    if time.monotonic() >= self._refused_until.get(queue, 0.0):
                        self._send_to(producer, queue, meant, ids)
        except Exception as error:  # noqa: BLE001 - each transport raises what its client library does
            self._note_absence(type(error).__name__)
        else:
            if ids:
                self._note_presence()

    def _send_to(self, producer: Any, queue: str, messages: Sequence[Message], ids: set[str]) -> None:
        """Send what one queue is to get, and note it in `ids`; raise when there is no broker."""
        try:
            scale = self.scale_of(queue)
            for message in messages:
                self._publish(producer, message, queue, scale)
                ids.add(message.id)
        except Exception as error:
            if not _is_refusal(error, producer.connection):
                raise
            self._note_refusal(queue, error)
        else:
            self._refused.discard(queue)

    def depth(self, queue: str) -> int | None:
        """Return how many messages wait in a Celery queue; None when the broker does not say."""
        try:
            with self._producer() as producer:
                # Once more on a new connection: this one may have died with the broker that it led to.
                asked = producer.connection.ensure(producer, lambda: _depth(producer.connection, queue), **RETRIES)
                return int(asked())
        except Exception as error:  # noqa: BLE001 - as in send()
            self._note_absence(type(error).__name__)
            return None

    def scale_of(self, queue: str) -> Sequence[int]:
        """Return the priorities that a queue tells apart, from our lowest to our highest; empty when it knows none."""
        match self._driver:
            case "redis":
                # The first step is popped first.
                steps = self.app.conf.broker_transport_options.get("priority_steps") or (0, 3, 6, 9)
                return sorted(steps, reverse=True)
            case "amqp" if self.is_quorum(queue):
                return QUORUM
            case "amqp":
                return range(self.max_priority(queue) + 1) if self.max_priority(queue) else ()
        return ()

    def knows_priorities(self, queue: str) -> bool:
        """Tell whether a queue of a broker that could tell priorities apart has been declared to do so."""
        return self._driver != "amqp" or bool(self.scale_of(queue))

    def is_quorum(self, queue: str) -> bool:
        """Tell whether RabbitMQ keeps a queue on several nodes, as it has been declared to."""
        if self._driver != "amqp":
            return False
        declared = self.app.amqp.queues.get(queue)
        if declared is None:
            return bool(self.app.conf.task_create_missing_queue_type == "quorum")
        return bool((declared.queue_arguments or {}).get("x-queue-type") == "quorum")

    def max_priority(self, queue: str) -> int:
        """Return the `x-max-priority` with which a queue of RabbitMQ has been declared; 0 without one."""
        declared = self.app.amqp.queues.get(queue)
        most = (declared.max_priority if declared is not None else None) or self.app.conf.task_queue_max_priority
        return most or ((declared and declared.queue_arguments) or {}).get("x-max-priority") or 0

    def close(self) -> None:
        """Close this process's connections to the broker."""
        for group in _pools():
            group[self._connection].force_close_all()
            # A pool that was closed gives nothing out any more; the next one that is asked for is new.
            del group[self._connection]

    @cached_property
    def _driver(self) -> str:
        driver: str = self.app.connection_for_write().transport.driver_type
        return driver

    def _publish(self, producer: Any, message: Message, queue: str, scale: Sequence[int]) -> None:
        options: dict[str, Any] = {}
        if scale:
            options["priority"] = on_scale(message.priority, scale)
        if message.due_at is not None:
            options["eta"] = _eta(message.due_at)
        self.app.send_task(
            TASK,
            args=[self._alias, message.id],
            # The same again for what is sent again, and another one for another attempt.
            task_id=f"{message.id}.{message.fence}",
            # What Celery's own logs and Flower show in place of `TASK`.
            shadow=message.task_path,
            queue=queue,
            serializer="json",
            compression=None,
            ignore_result=True,
            add_to_parent=False,
            producer=producer,
            retry=True,
            retry_policy=RETRIES,
            expires=None,
            router=self._router,
            **options,
        )

    @cached_property
    def _router(self) -> Any:
        """Leads to the queue that is named: what `task_routes` say of all tasks would lead ours to exchanges nobody hears."""
        return type(self.app.amqp.router)(queues=self.app.amqp.queues, app=self.app)

    def _producer(self) -> AbstractContextManager[Any]:
        producers, _ = _pools()
        found: AbstractContextManager[Any] = producers[self._connection].acquire(block=True, timeout=PATIENCE)
        return found

    @cached_property
    def _connection(self) -> Any:
        """A connection of the app's, but one that does not wait for long. Kombu pools those that are equal."""
        options = dict(self.app.conf.broker_transport_options)
        # Other client libraries take no option that they do not know.
        match self._driver:
            case "redis":
                options |= {**RETRIES, "connect_retries_timeout": PATIENCE}
                options |= {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
            case "amqp":
                options |= {"read_timeout": PATIENCE, "write_timeout": PATIENCE}
        return self.app.connection_for_write(connect_timeout=PATIENCE, transport_options=options)

    def _note_absence(self, reason: str, *, pause: float = PAUSE) -> None:
        with self._lock:
            self._away_until = max(self._away_until, time.monotonic() + pause)
            if not self._is_away:
                self._is_away = True
                logger.error(
                    "action=broker_away backend=%s reason=%s: tasks are kept, and sent when it is back",
                    self._alias,
                    reason,
                )

    def _note_refusal(self, queue: str, error: Exception) -> None:
        with self._lock:
            self._refused_until[queue] = time.monotonic() + PAUSE
            if queue in self._refused:
                return
            self._refused.add(queue)
        logger.error(
            "action=refused backend=%s queue=%s reason=%s: its tasks are kept, and sent when the broker takes them",
            self._alias,
            queue,
            _cause_of(error),
        )

    def forget_the_parent(self) -> None:
        """Leave the connections alone, after a fork: the parent goes on talking on them, so none is closed either."""
        self._lock = threading.Lock()
        self._left = []
        if "_connection" in self.__dict__:
            for group in _pools():
                dict.pop(group, self._connection.__eqhash__(), None)

    def _note_presence(self) -> None:
        if self._is_away:
            with self._lock:
                self._is_away = False
                self._away_until = 0.0
            logger.warning("action=broker_back backend=%s", self._alias)


_transports: dict[tuple[int, str, float, tuple[tuple[str, str], ...]], CeleryTransport] = {}
_alive: weakref.WeakSet[CeleryTransport] = weakref.WeakSet()
_making = threading.Lock()


def transport_of(app: Any, alias: str, queue_map: Mapping[str, str], send_timeout: float) -> CeleryTransport:
    """Return the transport of this process for a backend, of which there is one in each thread and each context."""
    # An app that a transport holds keeps its id.
    key = (id(app), alias, send_timeout, tuple(sorted(queue_map.items())))
    with _making:
        if key not in _transports:
            _transports[key] = CeleryTransport(app, alias, queue_map, send_timeout=send_timeout)
        return _transports[key]


def _after_fork() -> None:
    global _making  # noqa: PLW0603 - a thread of the parent's may have held it
    _making = threading.Lock()
    for transport in list(_alive):
        transport.forget_the_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def on_scale(priority: int, scale: Sequence[int]) -> int:
    """Return the place of one of Django's priorities on a scale; each place stands for as many of them."""
    span = HIGHEST - LOWEST + 1
    return scale[(min(max(priority, LOWEST), HIGHEST) - LOWEST) * len(scale) // span]


def messages_of(records: Iterable[Record]) -> list[Message]:
    """Return the messages for waiting records, the oldest first."""
    return sorted(message_of(record) for record in records)


def _pools() -> tuple[Any, Any]:
    from kombu import pools

    return pools.producers, pools.connections


def _is_refusal(error: Exception, connection: Any) -> bool:
    """Tell whether it is about one queue, where any other error is taken for a broker that is away."""
    if type(error).__name__ == "QueueNotFound":
        # Celery's. On some transports its base class, KeyError, means that the connection is lost.
        return True
    cause = error.__cause__ or error
    return isinstance(cause, connection.channel_errors) and not isinstance(cause, connection.connection_errors)


def _cause_of(error: Exception) -> str:
    return type(error.__cause__ or error).__name__


def _eta(due_at: Moment) -> datetime:
    return to_datetime(after(due_at, LATE))


def _depth(connection: Any, queue: str) -> int:
    connection.ensure_connection(timeout=PATIENCE, **RETRIES)
    try:
        # A channel for the question alone: RabbitMQ closes the one on which it is asked for a queue that it has not.
        with connection.channel() as channel:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
    except connection.channel_errors:
        # RabbitMQ has never had it, or it is empty: Redis keeps no empty list.
        return 0
