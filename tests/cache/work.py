"""Cached functions that another process can find."""

import os
import time
from pathlib import Path

from backroom.cache import cached

made: list[str] = []


@cached(10, stale=600, early=0)
def price(name: str, amount: int = 1) -> str:
    made.append(name)
    return f"{name}×{amount} {len(made)}"


@cached(10, stale=600, early=0)
async def aprice(name: str) -> str:
    made.append(name)
    return f"{name} {len(made)}"


@cached(300)
def slow(log: str) -> int:
    """Take a while, and leave a line for each time it was computed."""
    with Path(log).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.3)
    return os.getpid()
