import json
from collections import ChainMap, OrderedDict, deque, namedtuple
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from math import inf, nan
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backroom.compact import dumps
from backroom.tasks.arguments import normalized, payload_of, result_of
from backroom.tasks.exceptions import InvalidArguments


class Colour(StrEnum):
    RED = "red"


class Metres(float):
    """A float of one's own."""


class Size(IntEnum):
    LARGE = 3


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped one is met in the wild

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=30
)
python_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=30,
)


@given(json_values)
def test_json_values_stay_as_they_are(value):
    assert normalized(value, "it") == value


@given(python_values)
def test_what_is_stored_is_what_the_task_gets(value):
    plain = normalized(value, "it")
    assert json.loads(dumps(plain)) == plain
    assert normalized(plain, "it") == plain


@given(st.lists(json_values, max_size=3), st.dictionaries(st.text(), json_values, max_size=3))
def test_a_payload_has_the_arguments_in_ascii(args, kwargs):
    plain_args, plain_kwargs, payload = payload_of(args, kwargs, limit=10**9)
    assert json.loads(payload) == {"args": plain_args, "kwargs": plain_kwargs} == {"args": args, "kwargs": kwargs}
    assert payload.isascii()
    assert "\0" not in payload


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (b"abc \xc3\xa9", "abc é"),
        (Colour.RED, "red"),
        (Size.LARGE, 3),
        (Metres(1.5), 1.5),
        (ChainMap({"a": (1,)}), {"a": [1]}),
        (range(3), [0, 1, 2]),
        ({Colour.RED: 1}, {"red": 1}),
        pytest.param("\0", "\0", id="nul"),
        pytest.param("\ud800", "\ud800", id="surrogate"),
        (deque([1]), [1]),
    ],
)
def test_near_relatives_of_json_types_become_them(value, plain):
    normal = normalized(value, "it")
    assert normal == plain
    assert type(normal) is type(plain)
    if isinstance(normal, dict):
        assert [type(key) for key in normal] == [str] * len(normal)


@pytest.mark.parametrize(
    "value", [datetime(2026, 1, 1, tzinfo=UTC), Decimal(1), uuid4(), {1}, frozenset(), object(), len, 1j, iter([])]
)
def test_other_types_are_refused_by_name(value):
    with pytest.raises(InvalidArguments, match=r"Unsupported type: .* as argument 1\. JSON carries") as caught:
        payload_of([value], {}, limit=1000)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("args", "kwargs", "place"),
    [
        ([1, nan], {}, "argument 2 is nan"),
        ([], {"rate": inf}, "argument 'rate' is inf"),
        ([{"a": [0, {"b": -inf}]}], {}, "argument 1['a'][1]['b'] is -inf"),
        ([(1, {2})], {}, "argument 1[1]"),
        ([], {"rows": {"x": {3: 4}}}, "argument 'rows'['x'] has the key 3 of <class 'int'>"),
        ([{None: 1}], {}, "argument 1 has the key None"),
        ([{True: 1}], {}, "argument 1 has the key True"),
        ([Metres("nan")], {}, "argument 1 is nan"),
        ([b"\xff"], {}, "argument 1 is <class 'bytes'> that is not UTF-8"),
    ],
)
def test_the_message_names_the_place(args, kwargs, place):
    with pytest.raises(InvalidArguments) as caught:
        payload_of(args, kwargs, limit=1000)
    assert place in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_arguments_that_are_too_large_are_refused_and_the_largest_is_named():
    with pytest.raises(InvalidArguments, match=r"take 1,0\d\d bytes as JSON, 1,002 of them argument 'text'.*is 1,000"):
        payload_of([1, "small"], {"text": "x" * 1_000}, limit=1_000)


def test_the_limit_counts_bytes():
    args = ["é" * 100]
    size = len(payload_of(args, {}, limit=10_000)[2].encode())
    payload_of(args, {}, limit=size)
    with pytest.raises(InvalidArguments):
        payload_of(args, {}, limit=size - 1)


def test_arguments_that_contain_themselves_are_refused():
    endless: list = []
    endless.append(endless)
    with pytest.raises(InvalidArguments, match="nested too deeply"):
        payload_of([endless], {}, limit=1_000)


def test_an_integer_of_too_many_digits_is_refused():
    # Python refuses to write it down, with an error that names no argument.
    payload_of([10**4_000], {}, limit=100_000)
    with pytest.raises(InvalidArguments, match=r"argument 'number'.* digits"):
        payload_of([1], {"number": 10**5_000}, limit=100_000)


class TestReturnValues:
    @given(python_values)
    def test_they_are_normalised_like_arguments(self, value):
        assert json.loads(result_of(value, limit=10**9)) == normalized(value, "it")

    @pytest.mark.parametrize("value", [object(), {1}, {1: 2}, nan, [b"\xff"], lambda: 1])
    def test_what_json_lacks_is_a_type_error(self, value):
        with pytest.raises(TypeError, match=r"Unsupported .* return value") as caught:
            result_of(value, limit=1_000)
        assert type(caught.value) is TypeError

    def test_one_that_is_too_large_says_what_to_do(self):
        with pytest.raises(InvalidArguments, match="max_result_bytes"):
            result_of("x" * 1_000, limit=1_000)
        assert result_of("x" * 998, limit=1_000)
