"""The scripts behind `make`, on machines that lack something."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.services.project import REPOSITORY

NEEDED = ["bash", "dirname", "id", "ls", "env"]


@pytest.fixture
def bare_path(services_folder: Path, own_folder: Path) -> str:
    """Give a PATH on which there is little more than a shell."""
    own_folder.mkdir(mode=0o755)
    for program in NEEDED:
        (own_folder / program).symlink_to(str(shutil.which(program)))
    return str(own_folder)


def _run_as_nobody(script: str, *arguments: str, path: str, **env: str) -> subprocess.CompletedProcess[str]:
    is_root = os.geteuid() == 0
    # The script travels as input: the folder it is in may be closed to others than root.
    return subprocess.run(
        ["bash", "-s", "--", *arguments],
        input=(REPOSITORY / "scripts" / script).read_text(),
        env={"PATH": path, **env},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        user="nobody" if is_root else None,
        extra_groups=[] if is_root else None,
    )


def test_who_may_not_install_a_missing_package_is_told_its_name(bare_path):
    finished = _run_as_nobody("system-packages.sh", "redis", "chromium", path=bare_path)
    assert finished.returncode == 1
    assert "sudo apt-get install redis-server chromium chromium-driver" in finished.stderr


def test_nothing_is_asked_for_when_all_is_there(postgres_server):
    finished = _run_as_nobody("system-packages.sh", "postgresql", path=os.environ["PATH"])
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_machine_without_a_new_enough_python_is_told_which_it_needs(tmp_path, bare_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(REPOSITORY / "scripts/venv.sh", scripts)
    env = {"PATH": bare_path, "HOME": str(tmp_path)}
    finished = subprocess.run(
        ["bash", scripts / "venv.sh", "dev"], env=env, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 1
    assert "needs Python 3.12 or newer" in finished.stderr


@pytest.mark.parametrize(
    ("cache", "environment"), [("sqlite", "demo"), ("redis", "demo"), ("pymemcache", "dev"), ("pylibmc", "dev")]
)
def test_the_demo_has_the_client_of_its_cache(cache, environment):
    asked = ["make", "--dry-run", "--always-make", "demo", f"CACHE={cache}"]
    told = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert f"scripts/venv.sh {environment}\n" in told
    assert f"CACHE={cache} exec" in told
