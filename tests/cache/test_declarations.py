"""A mistake in a decorator of the cache is told where it stands, when its module is imported."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest

from backroom.cache import (
    CachedFunction,
    afetch,
    apurge,
    cache_page,
    cached,
    depend_on,
    fetch,
    invalidate,
    invalidate_on_commit,
    purge,
)
from backroom.cache.declarations import MistakenOptions
from backroom.cache.functions import UnusableFunction

MISTAKES: list[tuple[Any, dict[str, Any], str]] = [
    (cached, {"timeout": int}, "@cached: It has no brackets. Write @cached(300), with"),
    (cached, {"timeout": "300"}, "@cached: Option 'timeout' is '300'. Use a number or None."),
    (cached, {"stale": "600"}, "@cached: Option 'stale' is '600'. Use a number."),
    (cached, {"errors": LookupError}, "@cached: Option 'errors' is <class 'LookupError'>. Use a list."),
    (cached, {"keep": 1}, "@cached: Option 'keep' is 1. Use a function."),
    (cached, {"tag": "prices"}, "@cached: Unknown option 'tag'. Did you mean 'tags'?"),
    (cached, {"cache": "other"}, "@cached: Unknown option 'cache'. Known: alias, early, "),
    (cached, {"alias": None}, "@cached: Option 'alias' is None. Use a string."),
    (cached, {"key": 7}, "@cached: Option 'key' is 7. Use a string, a function or None."),
    (cached, {"vary_on": ["region"]}, "@cached: Option 'vary_on' has 'region'. Use functions without arguments"),
    (cached, {"jitter": 30}, "Option 'jitter' is 30. It is a share, such as 0.1 for up to a tenth."),
    (cached, {"vary_on": len}, "@cached: Option 'vary_on' is <built-in function len>. Use a list."),
    (cached, {"tags": 7}, "@cached: Option 'tags' is 7. Use a string, a list or a function."),
    (cached, {"tags": [7]}, "@cached: Option 'tags' has 7. Use strings, such as 'product:7'."),
    (cached, {"errors": "LookupError"}, "@cached: Option 'errors' is 'LookupError'. Use a list."),
    (cache_page, {"timeout": 300, "ignore_parameters": "utm_*"}, "Option 'ignore_parameters' is 'utm_*'. Use a list"),
    (cache_page, {"timeout": int}, "@cache_page: It has no brackets. Write @cache_page(300), with"),
    (cache_page, {"timeout": "300"}, "@cache_page: Option 'timeout' is '300'. Use a number"),
    (cache_page, {"timeout": 300, "stale": "600"}, "@cache_page: Option 'stale' is '600'. Use a number."),
    (cache_page, {"timeout": 300, "statuses": [404]}, "@cache_page: Option 'statuses' is [404]. Use a dict or None."),
    (cached, {"patience": float("inf")}, "Option 'patience' is inf, which is not finite. Use a number or None."),
    (cached, {"jitter": float("nan")}, "Option 'jitter' is nan, which is not finite. Use a number."),
    (cache_page, {"timeout": 300, "alias": "other"}, "@cache_page: Unknown option 'alias'. Known: browser, cache, "),
    (cache_page, {"timeout": 300, "alias": 7}, "@cache_page: Unknown option 'alias'. Known: browser, cache, "),
    (cache_page, {"timeout": 300, "tag": "prices"}, "@cache_page: Unknown option 'tag'. Did you mean 'tags'?"),
    (cache_page, {"timeout": 300, "unknown": {}}, "@cache_page: Unknown option 'unknown'. Known: "),
    (cache_page, {"timeout": 300, "tags": 7}, "@cache_page: Option 'tags' is 7. Use a string, a list or a function."),
    (cache_page, {"timeout": 300, "tags": {7}}, "@cache_page: Option 'tags' has 7. Use strings"),
]


@pytest.mark.parametrize(("decorator", "said", "sentence"), MISTAKES)
def test_what_a_decorator_does_not_take_is_named_before_it_is_called(decorator, said, sentence):
    with pytest.raises(TypeError, match=re.escape(sentence)) as raised:
        decorator(**said)
    assert raised.type is MistakenOptions


def test_what_a_decorator_takes_is_taken():
    cached(None, stale=1, errors=(LookupError,), keep=bool, tags="t", key=str, vary_on=[dict], ignore=("value",))
    cached(0.5, tags=lambda value: value, negative=None, patience=2, alias="other")
    half: Any = Fraction(1, 2)
    cached(half, tags={"a", "b"}, ignore={"product"}, errors=[LookupError])(_view)
    cache_page(300, cache="other", tags=(tag for tag in "ab"), statuses=Counter({404: 5}), ignore_parameters={"a"})
    cache_page(None, tags=["t"], browser=5, per_user=True)


def _view(product: Any, *rest: Any, **others: Any) -> Any:
    return product, rest, others


@pytest.mark.parametrize(
    "tags", ["product:{product.pk}", ["{rest[0]}", "{others[pid]}"], "{{}}", "odd}", "{product!r:>9}"]
)
def test_a_tag_that_names_a_parameter_is_taken(tags):
    assert isinstance(cached(tags=tags)(_view), CachedFunction)


@pytest.mark.parametrize("tags", ["{pid}", ["all", "product:{pid.pk}"], "{}", "{0}", "{product"])
def test_a_tag_that_names_no_parameter_is_told_at_once(tags):
    with pytest.raises(UnusableFunction, match=r"The tags of tests\.cache\.test_declarations\._view "):
        cached(tags=tags)(_view)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"timeout": "300"}, "Option 'timeout' is '300'. Use a number or None."),
        ({"tag": "prices"}, "Unknown option 'tag'. Did you mean 'tags'?"),
        ({"tags": 7}, "Option 'tags' is 7. Use a string or a list."),
        ({"tags": [7]}, "Option 'tags' has 7."),
        ({"timeout": math.inf}, "Option 'timeout' is inf, which is not finite. Use a number or None."),
        ({"stale": math.inf}, "Option 'stale' is inf, which is not finite. Use a number."),
    ],
)
def test_what_fetch_does_not_take_is_named(said, sentence):
    with pytest.raises(MistakenOptions, match=re.escape(f"fetch(): {sentence}")):
        fetch("k", int, **said)
    with pytest.raises(MistakenOptions, match=re.escape(f"afetch(): {sentence}")):
        asyncio.run(afetch("k", int, **said))


@pytest.mark.parametrize("kind", [TypeError, OverflowError])
def test_an_error_of_the_computation_itself_stays_what_it_is(kind):
    def compute() -> int:
        msg = "my own"
        raise kind(msg)

    with pytest.raises(kind, match=r"^my own$"):
        fetch("k", compute, tags={"a"}, errors=[LookupError])
    with pytest.raises(kind, match=r"^my own$"):
        asyncio.run(afetch("k", compute))


def test_seconds_are_no_share_for_fetch_either():
    with pytest.raises(MistakenOptions, match=r"Option 'jitter' is -1\. It is a share"):
        fetch("k", int, jitter=-1)


@pytest.mark.parametrize("say", [invalidate, invalidate_on_commit])
@pytest.mark.parametrize("tag", [7, ["prices"]])
def test_a_tag_that_is_no_string_is_told(say, tag):
    """On commit it would only be logged."""
    with pytest.raises(TypeError, match=rf"^Tags are strings, such as 'product:7', and not {re.escape(repr(tag))}\.$"):
        say(tag)


def test_a_computation_that_depends_on_what_is_no_tag_is_told():
    wrong: Any = 7
    with pytest.raises(TypeError, match="Tags are strings"):
        cached(key="depending")(lambda: depend_on(wrong))()


@pytest.mark.parametrize("say", [purge, lambda *addresses: asyncio.run(apurge(*addresses))])
@pytest.mark.parametrize("address", ["prices", "prices/?page=2", "example.org/prices/", "?page=2", "", ["/prices/"]])
def test_what_is_no_address_is_not_purged_in_silence(say, address):
    with pytest.raises(ValueError, match=re.escape(f"such as '/prices/' or '/prices/?page=2', and not {address!r}")):
        say("/prices/", address)


def test_a_list_that_may_be_empty_may_be_unpacked():
    invalidate(*[])
    purge(*[])
    purge("https://example.org")
