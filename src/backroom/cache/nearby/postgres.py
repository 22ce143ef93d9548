"""News by PostgreSQL's NOTIFY: part of the writer's transaction, so nobody hears of what is rolled back."""

import contextlib
import json
import os
import select
import threading
import time
from collections.abc import Collection
from typing import Any, Final

from django.db import connections

from backroom.cache.nearby.news import NoNews
from backroom.cache.trouble import Trouble
from backroom.sql.dialect import DIALECTS, PostgreSQL, in_transaction, vendor_of
from backroom.sql.dialect import select as fetch_rows

CHANNEL: Final = "backroom_cache_news"
MOST: Final = 1_000
"""Stripes that one message names, for it holds less than 8,000 bytes; more of them are all."""
LONGEST: Final = 30.0
"""Seconds after which a connection that says nothing is tried."""


def can_notify(alias: str) -> bool:
    """Tell whether this database has NOTIFY."""
    return isinstance(DIALECTS.get(vendor_of(alias)), PostgreSQL)


class NewsOnPostgres(NoNews):
    """Notifications, and a thread with a connection that listens. While it hears not even itself, memory is not read."""

    def __init__(self, alias: str, *, patience: float) -> None:
        super().__init__()
        self.hears = False
        self._alias = alias
        self._patience = patience
        self._trouble = Trouble(f"database {alias}")

    def start(self) -> None:
        """See News.start()."""
        threading.Thread(target=self._listen, name="backroom-cache-news", daemon=True).start()

    def is_settled(self) -> bool:
        """See News.is_settled()."""
        return not in_transaction(self._alias)

    def changed(self, stripes: Collection[int] | None) -> None:
        """See News.changed()."""
        super().changed(stripes)
        told = None if stripes is None or len(stripes) > MOST else sorted(stripes)
        try:
            fetch_rows(self._alias, "SELECT pg_notify(%s, %s)", [CHANNEL, json.dumps(told)])
        except Exception as error:  # noqa: BLE001 - whatever it is, the others read on for MAX_STALENESS at most
            self._trouble.warn("untold", str(error))

    def _listen(self) -> None:
        pid = os.getpid()
        while os.getpid() == pid:
            wrapper: Any = connections.create_connection(self._alias)
            try:
                with wrapper.cursor() as cursor:
                    cursor.execute(f'LISTEN "{CHANNEL}"')
                self._hear(wrapper)
            except Exception as error:  # noqa: BLE001 - whatever it is, this goes on
                self._trouble.warn("deaf", str(error))
            finally:
                self.hears = False
                with contextlib.suppress(Exception):
                    wrapper.close()
            time.sleep(min(self._patience / 4, 1))

    def _hear(self, wrapper: Any) -> None:
        """Take in notifications until the connection does not hear what it says itself."""
        own = json.dumps(f"{os.getpid()}-{id(self)}")
        connection = wrapper.connection.pgconn
        heard: list[str] = []
        # What arrives with the reply to a statement, the driver hands out itself.
        wrapper.connection.add_notify_handler(lambda notification: heard.append(notification.payload))
        # poll() knows descriptors above 1,023, which select() refuses.
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        while True:
            with wrapper.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, own])
            is_heard = bool(heard)
            self._take_in(heard, own)
            while poll.poll(int(min(self._patience / 4, LONGEST) * 1000) + 1):
                connection.consume_input()
                while notification := connection.notifies():
                    heard.append(notification.extra.decode())
                is_heard = is_heard or bool(heard)
                self._take_in(heard, own)
            if not is_heard:
                return

    def _take_in(self, heard: list[str], own: str) -> None:
        while heard:
            said = heard.pop(0)
            if said == own:
                if not self.hears:
                    # What was told before was not heard.
                    super().changed(None)
                    self.hears = True
            elif not said.startswith('"'):
                super().changed(json.loads(said))
