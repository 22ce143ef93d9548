"""Cache files of tests that are over: a process keeps each open for good, and a run of all tests would run out of descriptors."""

from __future__ import annotations

from backroom.cache.nearby import memory
from backroom.cache.nearby.news import NewsInFile
from backroom.cache.onefile import file


def forget_files() -> None:
    """Let go of every cache file; each closes with the last cache that has it."""
    file._files.clear()
    for place, each in list(memory._memories.items()):
        if isinstance(each.news, NewsInFile):
            del memory._memories[place]
