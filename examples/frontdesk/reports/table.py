"""A CSV file of unknown make: find its encoding and its delimiter, and refuse what is no table with a clear word why.

Reads a binary stream from its beginning; knows no Django, and nothing of what is done with the rows.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Final

from reports.encodings import ASSUMED, encoding_of
from reports.refusal import NotATable

MAX_BYTES: Final = 20 * 1024 * 1024
MAX_ROWS: Final = 500_000
MAX_COLUMNS: Final = 200

DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}

_HEAD: Final = 65_536
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)*|[.,]\d+)(?:[eE][+-]?\d+)?%?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a file is written, and how much is in it."""

    encoding: str
    delimiter: str
    header: tuple[str, ...]
    rows: int
    size: int

    @property
    def is_encoding_assumed(self) -> bool:
        """Tell whether the encoding is a guess: the file neither is UTF-8 nor says what it is."""
        return self.encoding in ASSUMED


def survey(source: IO[bytes]) -> Layout:
    """Read all of a file once and return its layout; raise `NotATable` if it is no table, or too large a one."""
    size = _size(source)
    encoding = encoding_of(source)
    with _text(source, encoding) as lines:
        sample = "".join(islice(_within(lines, _HEAD), 2000))
    delimiter = _delimiter(sample)
    with _text(source, encoding) as lines:
        rows = _checked_rows(lines, delimiter)
        header = _header(next(rows, None))
        count = _count(rows, len(header))
    return Layout(encoding=encoding, delimiter=delimiter, header=header, rows=count, size=size)


def read(source: IO[bytes], layout: Layout, *, tick: Callable[[int], None] = lambda _done: None) -> list[list[str]]:
    """Return a surveyed file's columns, each a list of its stripped cells. `tick` hears how many rows are read."""
    columns: list[list[str]] = [[] for _ in layout.header]
    # Most columns repeat themselves: one string for equal cells keeps a 20 MB file within 200 MB of memory.
    seen: dict[str, str] = {}
    with _text(source, layout.encoding) as lines:
        rows = _checked_rows(lines, layout.delimiter)
        next(rows)
        for done, (_, row) in enumerate(rows, start=1):
            for column, cell in zip(columns, row, strict=True):
                text = cell.strip()
                column.append(seen.setdefault(text, text) if len(seen) < _HEAD else seen.get(text, text))
            if done % 500 == 0:
                tick(done)
    tick(layout.rows)
    return columns


def too_large(size: int) -> str:
    """Return the message about a file of so many bytes."""
    return f"The file has {size / 1024**2:.1f} MB; at most {MAX_BYTES // 1024**2} MB are read."


def is_numeric(cell: str) -> bool:
    """Tell whether a cell looks like a number, in any common notation."""
    return _NUMBER.fullmatch(cell.strip()) is not None


# ── Text ─────────────────────────────────────────────────────────────────────────────────────────


def _size(source: IO[bytes]) -> int:
    size = source.seek(0, io.SEEK_END)
    if size == 0:
        raise NotATable("empty", "The file is empty.")
    if size > MAX_BYTES:
        raise NotATable("too_large", too_large(size))
    return size


@contextmanager
def _text(source: IO[bytes], encoding: str) -> Iterator[io.TextIOWrapper]:
    source.seek(0)
    lines = io.TextIOWrapper(source, encoding=encoding, newline="")
    try:
        yield lines
    finally:
        # A wrapper closes its stream when it is collected, and this one is the caller's.
        lines.detach()


def _within(lines: Iterable[str], limit: int) -> Iterator[str]:
    """Yield lines until together they have so many characters."""
    for line in lines:
        yield line[:limit]
        limit -= len(line)
        if limit <= 0:
            return


def _delimiter(sample: str) -> str:
    """Return the delimiter that makes the most even table of the sample."""
    return max(DELIMITERS, key=lambda delimiter: _evenness(sample, delimiter))


def _evenness(sample: str, delimiter: str) -> tuple[float, int]:
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [row for row in islice(reader, 200) if row]
    except csv.Error:
        return (0, 0)
    # The sample may end in the middle of its last row.
    widths = Counter(len(row) for row in rows[:-1] or rows)
    width = len(rows[0]) if rows else 0
    return (widths[width] / widths.total(), width) if width > 1 else (0, 0)


def _checked_rows(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank with the number of its last line."""
    reader = csv.reader(_printable(lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    started = 1
    try:
        for row in reader:
            if any(row) or len(row) > 1:
                yield reader.line_num, row
            started = reader.line_num + 1
    except csv.Error as error:
        raise NotATable("quotes", _quoting_problem(str(error), started)) from error


def _quoting_problem(error: str, line: int) -> str:
    if "unexpected end of data" in error or "field larger" in error:
        return f"A quote that opens in line {line:,} is never closed, or a cell is longer than 131,072 characters."
    return f"The quotes in line {line:,} are broken: a cell in quotes must end with its quote."


def _printable(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if _CONTROL.search(line):
            raise NotATable("binary", "The file holds binary data, not text. Export it as CSV and try again.")
        yield line


def _header(first: tuple[int, list[str]] | None) -> tuple[str, ...]:
    names = [name.strip() for name in first[1]] if first else []
    if not any(names):
        raise NotATable("empty", "There is nothing but blank space in the file.")
    if len(names) > MAX_COLUMNS:
        raise NotATable("columns", f"The first line names {len(names):,} columns; at most {MAX_COLUMNS} are read.")
    if number := next((name for name in names if is_numeric(name)), None):
        raise NotATable(
            "header",
            f"There is no header: the first line must name the columns, and {_short(number)} looks like data.",
        )
    return _distinct([name or f"(column {index})" for index, name in enumerate(names, start=1)])


def _distinct(names: list[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for name in names:
        unique, number = name, 2
        while unique in found:
            unique, number = f"{name} ({number})", number + 1
        found[unique] = None
    return tuple(found)


def _count(rows: Iterator[tuple[int, list[str]]], width: int) -> int:
    count = 0
    for line, row in rows:
        count += 1
        if len(row) != width:
            cells = "1 cell" if len(row) == 1 else f"{len(row):,} cells"
            raise NotATable("ragged", f"Line {line:,} has {cells}, but the header names {width:,} columns.")
        if count > MAX_ROWS:
            raise NotATable("rows", f"The file has more than {MAX_ROWS:,} rows, and no more are read.")
    if count == 0:
        raise NotATable("no_rows", "The file has a header, but no row below it.")
    return count


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
