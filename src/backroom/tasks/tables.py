"""Plain text for a terminal: tables, spans of time, and words that a terminal cannot take for orders."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

GAP: Final = "  "
QUANTITY: Final = re.compile(r"(\d{1,12}\+?( \w+( ago)?)?)?")
WHITESPACE: Final = re.compile(r"\s+")
UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))

type Cell = str | int


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Return the lines of a table; a column of numbers stands to the right."""
    texts = [[printable(str(cell)) for cell in row] for row in rows]
    columns = list(zip(*texts, strict=True)) if texts else [()] * len(headers)
    widths = [max(map(len, [header, *column])) for header, column in zip(headers, columns, strict=True)]
    is_right = [any(column) and all(map(QUANTITY.fullmatch, column)) for column in columns]
    return [_line(cells, widths, is_right) for cells in [headers, *texts]]


def span(seconds: float) -> str:
    """Return a span of time in the unit that a person would choose."""
    for size, unit in UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def counts(words: Iterable[str]) -> str:
    """Return how many there are of each word, the most frequent first: `3 failed, 1 lost`."""
    return ", ".join(f"{number} {word}" for word, number in Counter(sorted(words)).most_common())


def asked_to_stop(number: int, seconds: float) -> str:
    """Return what happens to running tasks that are cancelled; the end of a sentence, "" when there are none."""
    return f"; what runs is asked to stop, and does so within {seconds:.0f} s at the latest" if number else ""


def printable(text: str) -> str:
    """Put text on one line and replace what cannot be printed: a name may come from anywhere, and a terminal obeys some."""
    if text.isprintable():
        return text
    # The whole run at once: to look for the line break in each takes the square of its length where there is none.
    line = WHITESPACE.sub(_on_one_line, text)
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def _on_one_line(found: re.Match[str]) -> str:
    return " " if "\n" in found[0] or "\r" in found[0] else found[0]


def _line(cells: Sequence[str], widths: Sequence[int], is_right: Sequence[bool]) -> str:
    aligned = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, is_right, strict=True)
    )
    return GAP.join(aligned).rstrip()
