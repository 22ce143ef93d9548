"""Lua scripts, which a server keeps by their digest and forgets when it restarts."""

import hashlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError

from backroom.redis.servers import Server

type Argument = str | bytes | int | float


def is_unknown(reply: Any) -> bool:
    """Tell whether a reply to EVALSHA says that the server does not know the script, and so has done nothing."""
    return isinstance(reply, NoScriptError)


class Script:
    """One script. All keys that it touches must share one hash tag."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def in_files(cls, *paths: Path) -> "Script":
        """Return the script that these files make when they are put one after the other."""
        return cls("\n".join(path.read_text() for path in paths))

    def run(self, server: Server, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run it in one round trip, two where the server does not know it yet, and return its reply."""
        try:
            return server.call("EVALSHA", self.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return server.call("EVAL", self.text, len(keys), *keys, *arguments)

    def steps(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Generator[list[Any], list[Any], Any]:
        """Yield what `call_each` is to be asked, be sent its replies, and return the script's: for any kind of server."""
        [reply] = yield [("EVALSHA", self.digest, len(keys), *keys, *arguments)]
        if isinstance(reply, NoScriptError):
            [reply] = yield [("EVAL", self.text, len(keys), *keys, *arguments)]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def run_each(self, server: Server, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]) -> list[Any]:
        """Run it several times in one round trip; return the replies. Raise the first error among them."""
        replies = server.call_each(
            [("EVALSHA", self.digest, len(keys), *keys, *arguments) for keys, arguments in calls]
        )
        for index, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                replies[index] = self.run(server, *calls[index])
            elif isinstance(reply, Exception):
                raise reply
        return replies
