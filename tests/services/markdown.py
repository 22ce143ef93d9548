"""What a page of documentation holds: its links, its headings, and its fenced blocks with their marks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.services.project import REPOSITORY

MARK = re.compile(r"<!--\s*(?P<kind>settings|background|file|test)(:\s*(?P<value>\S+))?\s*-->")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block; `mark` and `value` are those of the comment above it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str = ""
    value: str = ""

    @property
    def place(self) -> str:
        """Return where the block stands, in the form that editors and terminals link."""
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def pages() -> list[Path]:
    """Return every page that is documentation."""
    return [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]


@cache
def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    before: Token | None = None
    for token in _tokens(page):
        if token.type == "fence":
            mark = MARK.search(before.content) if before and before.type == "html_block" else None
            found.append(
                Block(
                    page=page,
                    line=(token.map or [0])[0] + 1,
                    language=token.info.strip(),
                    text=token.content,
                    mark=mark["kind"] if mark else "",
                    value=(mark["value"] or "") if mark else "",
                )
            )
        before = token
    return found


def blocks_for(test: str) -> list[Block]:
    """Return the blocks that this test, `tests/test_x.py::test_y`, stands for: it runs what the page says."""
    found = [block for page in pages() for block in blocks(page) if block.mark == "test" and block.value == test]
    if not found:
        raise LookupError(f"no page has a block marked <!-- test: {test} -->")
    return found


def commands(block: Block) -> list[tuple[str, str]]:
    """Return the commands of a `bash` or `console` block, each with the output that the page shows for it."""
    if block.language == "bash":
        return [(block.text, "")]
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif found and found[-1][0].endswith("\\"):
            found[-1] = (f"{found[-1][0]}\n{line}", "")
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def links(page: Path) -> list[str]:
    """Return where the page's links and images lead."""
    inner = [child for token in _tokens(page) for child in token.children or []]
    return [str(child.attrs[name]) for child in inner for name in ("href", "src") if name in child.attrs]


def anchors(page: Path) -> set[str]:
    """Return the fragments that a link to this page may have: GitHub's names for its headings."""
    tokens = _tokens(page)
    headings = [tokens[index + 1].content for index, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())
