"""What goes in comes out: the same value of the same type, under its key and no other."""

import datetime as dt
import decimal
import uuid
from typing import Any, Final

import pytest
from django.utils.safestring import SafeString, mark_safe

from backroom.testing.cache.case import CacheCase

VALUES: Final[tuple[Any, ...]] = (
    "",
    "text",
    "Iñtërnâtiônàlizætiøn ☃",
    "with\0nul",
    "long " * 50_000,
    b"",
    b"bytes \x00\xff",
    b"\x04" + b"looks like a header",
    0,
    -7,
    2**63 - 1,
    2**200,
    -(2**63) - 1,
    0.0,
    -1.5,
    1e300,
    float("inf"),
    True,
    False,
    None,
    [],
    {},
    (),
    ["a", 1, 1.0, None, True, ["b"]],
    {"a": {"b": [1, 2, {"c": None}]}},
    ("a", 1),
    ["a", ("b",)],
    {1: "int keys", None: "other keys"},
    {"a", "b"},
    bytearray(b"mutable"),
    decimal.Decimal("1.10"),
    dt.datetime(2026, 11, 22, 20, 30, tzinfo=dt.UTC),
    dt.timedelta(minutes=5),
    uuid.UUID(int=7),
)


class Storing(CacheCase):
    """Values, keys, and many at once."""

    def test_a_value_comes_back_as_itself(self) -> None:
        for value in VALUES:
            self.cache.set("key", value)
            found = self.cache.get("key")
            assert found == value
            assert type(found) is type(value)

    def test_values_come_back_as_themselves_when_stored_together(self) -> None:
        together = {f"key-{number}": value for number, value in enumerate(VALUES) if len(repr(value)) < 1_000}
        assert self.cache.set_many(together) == []
        found = self.cache.get_many(together)
        assert found == together
        assert {key: type(value) for key, value in found.items()} == {key: type(v) for key, v in together.items()}

    def test_text_that_is_no_utf_8_comes_back(self) -> None:
        for value in ("half a pair: \ud800", ["half a pair: \udfff"]):
            self.cache.set_many({"many": value})
            self.cache.set("set", value)
            self.cache.add("added", value)
            assert self.cache.get_many(["many", "set", "added"]) == dict.fromkeys(["many", "set", "added"], value)
            self.cache.delete("added")

    def test_text_that_is_safe_for_a_page_stays_safe(self) -> None:
        self.cache.set("key", mark_safe("<b>"))
        assert type(self.cache.get("key")) is SafeString
        self.cache.set("key", ["<b>", mark_safe("<b>")])
        assert list(map(type, self.cache.get("key"))) == [str, SafeString]

    def test_not_a_number_comes_back(self) -> None:
        self.cache.set("key", float("nan"))
        found = self.cache.get("key")
        assert found != found  # noqa: PLR0124 - which is true of it alone

    def test_what_comes_back_is_a_copy(self) -> None:
        value = {"list": [1]}
        self.cache.set("key", value)
        value["list"].append(2)
        self.cache.get("key")["list"].append(3)
        assert self.cache.get("key") == {"list": [1]}

    def test_what_contains_itself_comes_back(self) -> None:
        ring: list[Any] = [1]
        ring.append(ring)
        self.cache.set("key", ring)
        found = self.cache.get("key")
        assert found[0] == 1
        assert found[1] is found

    def test_none_is_a_value(self) -> None:
        self.cache.set("key", None)
        assert self.cache.get("key", "default") is None
        assert self.cache.get_many(["key"]) == {"key": None}
        assert self.cache.has_key("key")
        assert self.cache.add("key", 1) is False
        assert self.cache.get_or_set("key", 1) is None

    def test_what_is_missing_is_the_default(self) -> None:
        assert self.cache.get("key") is None
        assert self.cache.get("key", "default") == "default"
        assert self.cache.get_many(["key", "other"]) == {}
        assert "key" not in self.cache

    def test_a_later_value_takes_the_place_of_an_earlier(self) -> None:
        for value in ("text", 7, ["list"], b"bytes", ("tuple",)):
            self.cache.set("key", value)
            assert self.cache.get("key") == value

    def test_what_cannot_be_stored_raises(self) -> None:
        with pytest.raises(Exception, match=r"."):
            self.cache.set("key", lambda: None)

    def test_delete_tells_whether_there_was_something(self) -> None:
        self.cache.set("key", 1)
        assert self.cache.delete("key") is True
        assert self.cache.delete("key") is False
        assert self.is_gone("key")

    def test_many_more_keys_than_fit_into_one_statement(self) -> None:
        values = {f"key-{number}": number for number in range(1_234)}
        assert self.cache.set_many(values) == []
        assert self.cache.get_many([*values, "missing"]) == values
        self.cache.delete_many([*list(values)[:1_000], "missing"])
        assert len(self.cache.get_many(values)) == 234

    def test_a_key_that_is_asked_for_twice_is_found_once(self) -> None:
        self.cache.set("key", 1)
        assert self.cache.get_many(["key", "key"]) == {"key": 1}

    def test_nothing_at_once_is_nothing(self) -> None:
        assert self.cache.set_many({}) == []
        assert self.cache.get_many([]) == {}
        assert self.cache.delete_many([]) is None

    def test_keys_may_be_any_text(self) -> None:
        keys = ["ключ", "100%", "a:b", ":", "%s{}'\""]
        self.cache.set_many({key: key for key in keys})
        assert self.cache.get_many(keys) == {key: key for key in keys}

    def test_get_or_set_stores_what_a_function_returns(self) -> None:
        assert self.cache.get_or_set("key", lambda: [1]) == [1]
        assert self.cache.get_or_set("key", lambda: [2]) == [1]

    def test_versions_are_apart(self) -> None:
        self.cache.set_many({"key": 1})
        self.cache.set_many({"key": 2}, version=2)
        assert (self.cache.get("key"), self.cache.get("key", version=2)) == (1, 2)
        assert self.make_cache(VERSION=2).get("key") == 2
        self.cache.delete("key", version=2)
        assert (self.cache.get("key"), self.cache.get("key", version=2)) == (1, None)

    def test_a_value_moves_to_another_version(self) -> None:
        self.cache.set("key", ["moved"])
        assert self.cache.incr_version("key") == 2
        assert (self.cache.get("key"), self.cache.get("key", version=2)) == (None, ["moved"])
        assert self.cache.decr_version("key", version=2) == 1
        assert self.cache.get("key") == ["moved"]

    def test_prefixes_are_apart(self) -> None:
        other = self.make_cache(KEY_PREFIX="other")
        self.cache.set("key", 1)
        other.set("key", 2)
        assert (self.cache.get("key"), other.get("key")) == (1, 2)

    def test_a_function_of_the_project_makes_the_keys(self) -> None:
        custom = self.make_cache(KEY_FUNCTION=lambda key, prefix, version: f"custom-{prefix}-{version}-{key}")
        custom.set("key", 1)
        assert custom.get("key") == 1
        assert self.cache.get("key") is None
        assert self.make_cache(KEY_FUNCTION=lambda *_parts: "custom--1-key").get("anything") == 1

    def test_clear_empties_it(self) -> None:
        self.cache.set_many({f"key-{number}": number for number in range(300)})
        self.cache.set("key", 1, version=7)
        self.cache.clear()
        assert self.cache.get_many([f"key-{number}" for number in range(300)]) == {}
        assert self.cache.get("key", version=7) is None

    def test_clear_leaves_another_prefix_alone(self) -> None:
        ours, theirs = self.make_cache(KEY_PREFIX="ours"), self.make_cache(KEY_PREFIX="theirs")
        for cache in (ours, theirs, self.cache):
            cache.set("key", 1)
        ours.clear()
        assert [cache.get("key") for cache in (ours, theirs, self.cache)] == [None, 1, 1]
        self.cache.clear()
        assert [cache.get("key") for cache in (theirs, self.cache)] == [1, None]

    def test_close_is_not_the_end(self) -> None:
        self.cache.set("key", 1)
        self.cache.close()
        assert self.cache.get("key") == 1
