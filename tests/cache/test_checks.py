"""System checks of the cache: an order of MIDDLEWARE in which nothing is stored is told with its cure."""

from __future__ import annotations

import pytest
from django.test import override_settings

from backroom.cache.checks import check_cache, check_cache_of_several_processes
from tests.cache.test_pages import FETCH, OTHERS, SINGLE, UPDATE

DJANGOS = "django.middleware.cache.FetchFromCacheMiddleware"
LOCALE = "django.middleware.locale.LocaleMiddleware"
LOGIN = "django.contrib.auth.middleware.LoginRequiredMiddleware"


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (OTHERS, []),
        ([SINGLE, *OTHERS], []),
        ([*OTHERS, SINGLE], []),
        ([UPDATE, *OTHERS, LOCALE, FETCH], []),
        ([LOCALE, SINGLE, *OTHERS, LOGIN], []),
        ([SINGLE, *OTHERS, DJANGOS], ["backroom.E551"]),
        ([FETCH, *OTHERS, UPDATE], ["backroom.E552"]),
        ([UPDATE, *OTHERS], ["backroom.E552"]),
        ([FETCH, *OTHERS], ["backroom.E552"]),
        ([SINGLE, *OTHERS, FETCH], ["backroom.E552"]),
        ([SINGLE, SINGLE], ["backroom.E552"]),
        ([*OTHERS, LOGIN, SINGLE], ["backroom.W551"]),
        ([SINGLE, LOCALE, *OTHERS], ["backroom.W552"]),
    ],
)
def test_an_order_in_which_the_cache_cannot_work_is_told(order, found):
    with override_settings(MIDDLEWARE=order):
        messages = check_cache()
    assert [message.id for message in messages] == found
    assert all(message.hint for message in messages)


def test_an_alias_that_is_not_there_is_told():
    with override_settings(MIDDLEWARE=[SINGLE], CACHE_MIDDLEWARE_ALIAS="nowhere"):
        assert [message.id for message in check_cache()] == ["backroom.E553"]


def test_a_way_to_refresh_that_does_not_exist_is_told():
    with override_settings(BACKROOM={"CACHE_REFRESH": "magic"}):
        assert [message.id for message in check_cache()] == ["backroom.E554"]


def test_memory_of_one_process_is_told_of_before_a_deployment():
    assert {message.id for message in check_cache_of_several_processes()} == {"backroom.W553"}


@pytest.mark.parametrize(("way", "found"), [("auto", 1), ("tasks", 1), ("threads", 0), ("requests", 0)])
def test_a_queue_to_refresh_with_that_does_not_exist_is_told_where_it_is_asked_for(way, found):
    with override_settings(BACKROOM={"CACHE_REFRESH": way, "CACHE_REFRESH_BACKEND": "nowhere"}):
        assert [message.id for message in check_cache()] == ["backroom.E555"] * found
