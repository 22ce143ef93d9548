"""The doorbell trusts no folder that somebody else may have put there."""

import os
import socket
from pathlib import Path

import pytest

from backroom.tasks.transports import wakeups
from backroom.tasks.transports.wakeups import Doorbell, is_heard


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "u" / "db"
    folder.mkdir(mode=0o700, parents=True)
    folder.parent.chmod(0o700)
    return folder


@pytest.fixture
def hang_up():
    """Give a function that hangs up a bell in a folder."""
    bells = []

    def hang_up_one(folder: Path, name: str = "1-bell") -> socket.socket:
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bells.append(bell)
        bell.settimeout(0)
        bell.bind(str(folder / name))
        return bell

    yield hang_up_one
    for bell in bells:
        bell.close()


@pytest.fixture
def doorbell_of():
    """Give a function that makes the doorbell of a folder."""
    made = []

    def make(folder: Path) -> Doorbell:
        made.append(Doorbell("default", folder))
        return made[-1]

    yield make
    for each in made:
        if each._sender is not None:
            each._sender.close()


def is_rung(bell: socket.socket) -> bool:
    try:
        return bell.recv(1) == b"!"
    except BlockingIOError:
        return False


def test_a_ring_reaches_every_bell(folder, hang_up, doorbell_of):
    bells = [hang_up(folder, str(number)) for number in range(3)]
    doorbell_of(folder).ring()
    assert [is_rung(bell) for bell in bells] == [True] * 3


def test_a_folder_that_comes_later_is_found_at_once(tmp_path, doorbell_of):
    folder = tmp_path / "u" / "db"
    doorbell = doorbell_of(folder)
    doorbell.ring()
    listener = doorbell.listener()
    listener.open()
    doorbell.ring()
    assert is_heard(listener, within=10)
    listener.close()


@pytest.mark.parametrize("part", ["parent", "folder"])
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_may_write_to_is_left_alone(folder, part, mode, hang_up, doorbell_of):
    bell = hang_up(folder)
    (folder if part == "folder" else folder.parent).chmod(mode)
    doorbell_of(folder).ring()
    assert not is_rung(bell)


@pytest.mark.parametrize("part", ["parent", "folder"])
def test_a_link_is_left_alone(folder, tmp_path, part, hang_up, doorbell_of):
    bell = hang_up(folder)
    if part == "folder":
        link = folder.parent / "link"
        link.symlink_to(folder)
    else:
        (tmp_path / "link").symlink_to(folder.parent)
        link = tmp_path / "link" / folder.name
    doorbell_of(link).ring()
    assert not is_rung(bell)


def test_the_folder_of_another_user_is_left_alone(folder, monkeypatch, hang_up, doorbell_of):
    bell = hang_up(folder)
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    doorbell_of(folder).ring()
    assert not is_rung(bell)


def test_a_folder_is_not_looked_at_anew_for_every_ring(folder, monkeypatch, doorbell_of):
    looks: list[Path] = []
    monkeypatch.setattr(wakeups, "_check_private", looks.append)
    doorbell = doorbell_of(folder)
    for _ in range(5):
        doorbell.ring()
    assert looks == [folder]
    monkeypatch.setattr(wakeups, "TRUST", 0.0)
    doorbell = doorbell_of(folder)
    for _ in range(5):
        doorbell.ring()
    assert len(looks) == 6


def test_a_ring_reaches_no_more_bells_than_it_has_time_for(folder, monkeypatch, hang_up, doorbell_of):
    monkeypatch.setattr(wakeups, "MOST_BELLS", 2)
    bells = [hang_up(folder, str(number)) for number in range(5)]
    doorbell_of(folder).ring()
    assert sum(is_rung(bell) for bell in bells) == 2
