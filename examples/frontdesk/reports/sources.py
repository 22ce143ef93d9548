"""Where tables come from: the airports that a package ships, whole or a sample of them."""

import io
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

AIRPORTS_NAME: Final = "airports.csv"


def airports() -> Path:
    """Return the file of the world's airports that the package `airportsdata` ships."""
    # Found without importing the package, which is never needed for its code.
    spec = find_spec("airportsdata")
    if spec is None or spec.origin is None:
        msg = "The package airportsdata is not installed. Run `make demo`, or `pip install airportsdata`."
        raise FileNotFoundError(msg)
    return Path(spec.origin).with_name(AIRPORTS_NAME)


def some_airports(rows: int) -> IO[bytes]:
    """Return so many airports, taken evenly from all of them."""
    header, *lines = airports().read_bytes().splitlines(keepends=True)
    step = max(len(lines) / rows, 1)
    chosen = [lines[int(index * step)] for index in range(min(rows, len(lines)))]
    return io.BytesIO(b"".join([header, *chosen]))
