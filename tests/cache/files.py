"""Cache files of tests that are over: a process keeps each open for good, and a run of all tests would run out of descriptors."""

from __future__ import annotations

import mmap

from backroom.cache.nearby import memory
from backroom.cache.nearby.news import NewsInFile
from backroom.cache.onefile import file


def forget_files() -> None:
    """Close every cache file, for this thread; whatever cache is left of a test that is over must not be used again."""
    for each in file._files.values():
        each.links.mine.close()
        if isinstance(each.demand.bytes, mmap.mmap):
            each.demand.slots.release()
            each.demand.bytes.close()
    file._files.clear()
    for place, each_memory in list(memory._memories.items()):
        news = each_memory.news
        if isinstance(news, NewsInFile):
            news.tokens.release()
            news._map.close()
            del memory._memories[place]
