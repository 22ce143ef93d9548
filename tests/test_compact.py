"""JSON as stores keep it."""

import json
from typing import Any

import pytest

from backroom.compact import dumps, loads, writer

VALUES = [None, True, 0, -1.5, "", 'ü\ud800\x00"', [], {}, [1, [2, {"a": [None]}]], {"args": [1], "kwargs": {"b": "c"}}]


@pytest.mark.parametrize("value", VALUES)
def test_it_writes_what_json_writes_without_blanks_and_reads_it_again(value: Any) -> None:
    text = dumps(value)
    assert text == json.dumps(value, separators=(",", ":"))
    assert loads(text) == value


@pytest.mark.parametrize("value", [*VALUES, float("inf"), {"é\u2028": "\x1f\ud800"}])
def test_a_writer_for_a_store_of_any_letters_writes_them_as_they_are(value: Any) -> None:
    text = writer(allow_nan=True, ensure_ascii=False)(value)
    assert text == json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert loads(text) == value


def test_what_somebody_wrote_by_hand_is_read_too() -> None:
    assert loads(' {"args": [1]}\n') == {"args": [1]}


@pytest.mark.parametrize("text", ["", "{", "{}x", "[1] [2]", "nothing", " x"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1 column"):
        loads(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**5000], ids=["nan", "inf", "digits"])
def test_numbers_that_cannot_travel_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"JSON|digits"):
        dumps([value])
