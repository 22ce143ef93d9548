"""Fifty visitors at once, each with a request of their own, and what each was told in `Server-Timing`."""

import re
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

VISITORS: Final = 50
PATIENCE: Final = 60.0


def send_crowd(address: str) -> dict[str, Any]:
    """Visit the almanac's page fifty times at once; count where each visit's figures came from."""
    started = time.perf_counter()
    with ThreadPoolExecutor(VISITORS) as pool:
        said = Counter(pool.map(_visit, [address] * VISITORS))
    return {
        "visitors": VISITORS,
        "made": said["made"],
        "waited": said["waited"],
        "found": said["found"],
        "seconds": round(time.perf_counter() - started, 1),
    }


def _visit(address: str) -> str:
    with urllib.request.urlopen(address, timeout=PATIENCE) as answer:  # noqa: S310 - the site's own address
        outcome = re.match(r"almanac;desc=(\w+)", answer.headers["Server-Timing"] or "")
    return outcome[1] if outcome else "unknown"
