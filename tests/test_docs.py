"""README.md and docs/: every link leads somewhere, every command and snippet runs.

docs/reference/docs.md tells an author how to mark a block. A test that runs the blocks of a page itself gets them
from `tests.services.markdown.blocks_for()`.
"""

import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.markdown import Block, anchors, blocks, blocks_for, commands, links, pages
from tests.services.project import PLAIN, REPOSITORY, Process, Project

RUNNABLE = {"python", "bash", "console"}
# Shown, not run. A language that is in neither list is a spelling mistake, or a way round these tests.
SHOWN = {"text", "http", "json", "ini", "toml", "html", "css", "sql", "lua", "nginx", "csv", "diff", "mermaid"}
PAGES = {str(page.relative_to(REPOSITORY)): page for page in pages()}

on_every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
on_every_page_that_runs = pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name)
        for name, page in PAGES.items()
        if any(block.language in RUNNABLE and block.mark != "test" for block in blocks(page))
    ],
)


@on_every_page
def test_links_lead_somewhere(page: Path):
    assert [link for link in links(page) if not _leads_somewhere(page, link)] == []


@on_every_page
def test_blocks_say_what_they_are(page: Path):
    assert [block.place for block in blocks(page) if block.language not in RUNNABLE | SHOWN] == []


@on_every_page
def test_a_block_that_a_test_stands_for_names_one_that_exists(page: Path):
    named = [block for block in blocks(page) if block.mark == "test"]
    assert [block.place for block in named if not _is_a_test(block.value)] == []


@on_every_page_that_runs
def test_commands_and_snippets_run(page: Path, make_project: Callable[..., Project]):
    project = make_project(base=PLAIN)
    running = [process for block in blocks(page) if (process := _run(block, project))]
    for process in running:
        assert process.poll() in {None, 0}, process.output()


def test_every_page_can_be_reached_from_the_readme():
    reached: set[Path] = set()
    ahead = [REPOSITORY / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached:
            reached.add(page)
            ahead += [target for link in links(page) if (target := _target(page, link)).suffix == ".md"]
    assert set(PAGES.values()) - reached == set()


def test_the_makefile_has_every_target_the_readme_names():
    for block in blocks_for("tests/test_docs.py::test_the_makefile_has_every_target_the_readme_names"):
        for command, _ in commands(block):
            subprocess.run(["bash", "-ec", f"{command} --dry-run"], cwd=REPOSITORY, check=True, capture_output=True)


def test_ci_runs_the_readmes_test_command():
    ci = (REPOSITORY / ".ci/run").read_text().splitlines()
    for block in blocks_for("tests/test_docs.py::test_ci_runs_the_readmes_test_command"):
        assert [command for command, _ in commands(block) if command not in ci] == []


@pytest.mark.parametrize("page", ["README.md", "docs/reference/make.md"])
def test_what_the_tests_need_is_told(page):
    recipe = (REPOSITORY / "Makefile").read_text().partition("\ntest:")[2].partition("\n\n")[0]
    [needed] = re.findall(r"system-packages\.sh (.+)", recipe)
    told = (REPOSITORY / page).read_text().lower()
    assert [name for name in needed.split() if name not in told] == []


def test_who_lacks_an_extra_is_told_of_one_that_there_is_and_where_to_get_it():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sources = [*pages(), *(REPOSITORY / "src").rglob("*.py")]
    text = "\n".join(file.read_text() for file in sources)
    named = set(re.findall(r"backroom\[(\w+)\]", text)) | set(re.findall(r"installing\(['\"](\w+)", text))
    assert named - set(extras) == set()
    assert {"redis", "celery", "encryption", "sessions"} <= named
    # It is on no package index: that would be somebody else's.
    assert re.findall(r"pip install ['\"]?backroom", text) == []


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("```python\nraise SystemExit('no')\n```", "no"),
        ("```bash\nfalse\ntrue\n```", "ended with 1"),
        ("```console\n$ echo one\ntwo\n```", "two"),
        ("<!-- settings -->\n```python\nINSTALLED_APPS = ['no_such_app']\n```", "no_such_app"),
    ],
)
def test_a_block_that_does_not_do_as_it_says_fails(make_project, tmp_path, monkeypatch, block, problem):
    monkeypatch.setattr("tests.services.markdown.REPOSITORY", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(block)
    with pytest.raises(AssertionError, match=re.escape(problem)):
        _run(blocks(page)[0], make_project(migrate=False))


def test_the_blocks_of_a_page_build_on_each_other(make_project, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.services.markdown.REPOSITORY", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        """
<!-- file: shop/words.py -->
```python
WORD = "written"
```
<!-- settings -->
```python
SHOP_WORD = "set"
```
```python
from django.conf import settings
from shop.words import WORD
print(WORD, settings.SHOP_WORD, file=open("seen.txt", "w"))
```
```console
$ cat seen.txt
written ...
```
<!-- background -->
```bash
sleep 600
```
"""
    )
    project = make_project(migrate=False)
    running = [_run(block, project) for block in blocks(page)]
    assert (project.folder / "seen.txt").read_text() == "written set\n"
    assert running[-1]
    assert running[-1].poll() is None


def _run(block: Block, project: Project) -> Process | None:
    """Do what the block's mark and language say; return the process of one that runs on."""
    try:
        match block:
            case Block(mark="file"):
                project.write(block.value, block.text)
            case Block(mark="settings"):
                project.add_settings(block.text)
                project.run("check")
            case Block(mark="background"):
                process = project.start("bash", "-euc", "\n".join(command for command, _ in commands(block)))
                if "backroom worker" in block.text:
                    # On a busy machine a page would otherwise give up on a worker that is still being imported.
                    process.wait_for_output("Working on", seconds=60)
                return process
            case Block(mark="", language="python"):
                project.python(block.text)
            case Block(mark="", language="bash" | "console"):
                _run_commands(block, project)
    except AssertionError as error:
        raise AssertionError(f"{block.place}: {error}") from error
    return None


def _run_commands(block: Block, project: Project) -> None:
    for command, shown in commands(block):
        printed = project.call("bash", "-euo", "pipefail", "-c", command)
        for line in shown.splitlines():
            wanted = ".*".join(re.escape(part) for part in line.strip().split("..."))
            assert re.search(wanted, printed.stdout + printed.stderr), (
                f"{command} did not print {line!r}\n{printed.stdout}"
            )


def _leads_somewhere(page: Path, link: str) -> bool:
    if link.startswith(("https://", "mailto:")):
        return True
    fragment = link.partition("#")[2]
    target = _target(page, link)
    return target.exists() and (not fragment or target.suffix != ".md" or fragment in anchors(target))


def _target(page: Path, link: str) -> Path:
    path = link.partition("#")[0]
    return (page.parent / path).resolve() if path else page


def _is_a_test(name: str) -> bool:
    file, _, function = name.partition("::")
    path = REPOSITORY / file
    return (
        path.is_file()
        and re.search(rf"^(async )?def {re.escape(function)}\(", path.read_text(), re.MULTILINE) is not None
    )
