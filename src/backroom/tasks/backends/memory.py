"""What the doubles share: a store in this process's memory for each alias, the same for all its threads."""

from typing import Final

from backroom.tasks.backends.base import Backend
from backroom.tasks.stores.memory import MemoryStore

STORES: Final[dict[str, MemoryStore]] = {}


class MemoryBackend(Backend):
    """Keeps tasks as long as the process lives."""

    is_shared = False

    @property
    def store(self) -> MemoryStore:
        """The store of this alias."""
        return STORES.get(self.alias) or STORES.setdefault(self.alias, MemoryStore())


def forget_everything() -> None:
    """Empty the stores of all doubles."""
    for store in STORES.values():
        store.clear()
