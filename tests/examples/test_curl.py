"""The curl commands that the pages show to programs, run as they stand there."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.examples.frontdesk import SITE, Frontdesk, Visitor
from tests.examples.test_frontdesk import SLOW
from tests.services.markdown import Block, blocks, pages

# Enough work that the order is not done before it is answered.
TABLE = b"name,size\n" + b"".join(b"n%d,%d.5\n" % (row % 7, row) for row in range(1000))

TEST = "tests/examples/test_curl.py::test_the_curl_commands_of_the_readme"


def blocks_of_the_readmes() -> list[Block]:
    """Return the blocks of curl commands, of the example's own README and of any other page that shows them."""
    found = [block for page in [SITE / "README.md", *pages()] for block in blocks(page)]
    return [block for block in found if block.mark == "test" and block.value == TEST]


@pytest.mark.parametrize("block", blocks_of_the_readmes(), ids=lambda block: block.place)
def test_the_curl_commands_of_the_readme(site: Frontdesk, tmp_path: Path, block: Block):
    assert "http://127.0.0.1:8000" in block.text
    (tmp_path / "table.csv").write_bytes(TABLE)
    run(block.text.replace("http://127.0.0.1:8000", site.address), tmp_path)
    accepted, report = (json.loads((tmp_path / name).read_text()) for name in ("accepted.json", "report.json"))
    assert accepted["state"] in {"ready", "running"}
    assert report["rows"] == 1000
    assert report["columns"][0]["name"] == "name"


def test_the_curl_commands_of_the_page_for_programs(site: Frontdesk, tmp_path: Path):
    page = Visitor(site).get("/programs/").text
    commands = [html.unescape(each) for each in re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page, re.DOTALL)]
    (tmp_path / "table.csv").write_bytes(TABLE)
    order, follow, cancel = commands
    run(f"{order}\n{follow}", tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == 1000
    (tmp_path / "table.csv").write_bytes(SLOW)
    cancelled = json.loads(run(f"{order}\n{cancel}", tmp_path))
    assert cancelled["state"] in {"cancelling", "cancelled"}


def run(commands: str, folder: Path) -> str:
    """Run commands in a folder; fail with what they said unless all went well."""
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
