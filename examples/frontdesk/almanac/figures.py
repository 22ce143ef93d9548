"""The almanac's figures, and the two seconds that they take: it stands for a report, a search or another's slow API."""

import csv
import os
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

from reports.sources import airports

SECONDS: Final = 2.0
MOST: Final = 8


def compile_almanac() -> dict[str, Any]:
    """Return figures on all airports, slowly."""
    until = time.monotonic() + SECONDS
    with airports().open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["lat"] and row["lon"] and row["elevation"]]
    countries = Counter(row["country"] for row in rows)
    zones = Counter(row["tz"] for row in rows)
    time.sleep(max(0.0, until - time.monotonic()))
    return {
        "compiled_at": f"{datetime.now(UTC):%H:%M:%S}",
        "process": os.getpid(),
        "airports": len(rows),
        "countries": countries.most_common(MOST),
        "zones": zones.most_common(MOST),
        "highest": _named(max(rows, key=lambda row: float(row["elevation"]))),
        "northernmost": _named(max(rows, key=lambda row: float(row["lat"]))),
        "southernmost": _named(min(rows, key=lambda row: float(row["lat"]))),
    }


def _named(row: dict[str, str]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "country": row["country"],
        "feet": round(float(row["elevation"])),
        "lat": float(row["lat"]),
    }
