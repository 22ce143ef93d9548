"""Pages in trouble: visitors who go away or ask too much, caches that refuse, transactions that are taken back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.signals import request_finished
from django.db import transaction
from django.http import HttpResponse
from django.test import AsyncRequestFactory, Client, override_settings

from backroom.cache import cache_page, invalidate_on_commit, waiting
from backroom.cache.middleware import CacheMiddleware, FetchFromCacheMiddleware, UpdateCacheMiddleware
from backroom.cache.pages.shelf import Shelf
from tests.cache import site
from tests.cache.test_functions import noting, waiting_for
from tests.cache.test_pages import FETCH, OTHERS, SINGLE, UPDATE, fresh_site, get, text

__all__ = ["fresh_site"]
pytestmark = [pytest.mark.urls("tests.cache.site"), pytest.mark.django_db]


def locks() -> list[str]:
    """Return the locks that somebody has."""
    cache: Any = caches["default"]
    return [key for key in cache._cache if "backroom.lock" in key and key.rpartition(".")[2] not in {"asked", "failed"}]


# ── Visitors ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["decorator", "middleware"])
def test_nobody_holds_a_page_up_with_more_parameters_than_django_reads(place, settings):
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 5
    settings.MIDDLEWARE = OTHERS if place == "decorator" else [SINGLE, *OTHERS]
    address = "/cached/plain/" if place == "decorator" else "/plain/"
    flood = "&".join(f"utm_{number}=1" for number in range(6))
    assert text(f"{address}?{flood}") == "plain 1"
    assert locks() == []
    assert get(address).headers["Cache-Status"].startswith("Backroom; fwd=uri-miss; stored")
    assert text(f"{address}?{flood.rpartition('&')[0]}") == "plain 2"
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = None
    assert text(f"{address}?{flood}") == "plain 2"


def by_decorator(view):
    return cache_page(300)(view)


def by_pair(view):
    return UpdateCacheMiddleware(FetchFromCacheMiddleware(view))


@pytest.mark.parametrize("cached", [by_decorator, CacheMiddleware, by_pair])
def test_a_visitor_who_goes_away_leaves_no_lock(cached):
    async def story():
        begun = asyncio.Event()

        async def view(request):
            begun.set()
            if "wait" in request.headers:
                await asyncio.Event().wait()
            return HttpResponse("page")

        handler = cached(view)
        task = asyncio.create_task(handler(AsyncRequestFactory().get("/", headers={"wait": "yes"})))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert locks() == []
        response = await handler(AsyncRequestFactory().get("/"))
        return response.headers["Cache-Status"]

    assert asyncio.run(story()) == "Backroom; fwd=uri-miss; stored; ttl=300"


def test_an_error_between_the_claim_and_the_view_leaves_no_lock(monkeypatch):
    looks = []

    def look(self, original=Shelf.look, **options):
        looks.append(1)
        if len(looks) == 2:
            raise ConnectionError
        return (yield from original(self, **options))

    monkeypatch.setattr(Shelf, "look", look)
    with pytest.raises(ConnectionError):
        get("/cached/plain/")
    assert locks() == []


@pytest.mark.parametrize("cached", [by_decorator, CacheMiddleware, by_pair])
def test_an_error_in_the_place_of_a_page_leaves_no_lock_and_nothing_to_store(cached, rf):
    def view(request):
        raise ZeroDivisionError

    handler: Any = cached(view)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            handler(rf.get("/"))
    assert locks() == []


@pytest.mark.parametrize("order", [OTHERS, [SINGLE, *OTHERS], [UPDATE, *OTHERS, FETCH]])
def test_what_fails_when_it_is_posted_fails_as_it_would_without_a_cache(order, settings):
    settings.MIDDLEWARE = order
    address = "/cached/failing/" if order is OTHERS else "/failing/"
    assert Client().post(address).content == b"once up"
    with pytest.raises(OSError, match="down"):
        Client().post(address)


# ── Caches ──────────────────────────────────────────────────────────────────────────────────────


def refusing(self, data, *_args, **_kwargs):
    return list(data)


def failing(self, *_args, **_kwargs):
    raise ConnectionError


@pytest.mark.parametrize("set_many", [refusing, failing])
def test_a_page_that_the_cache_does_not_take_is_served_all_the_same_and_not_waited_for(monkeypatch, set_many):
    monkeypatch.setattr(LocMemCache, "set_many", set_many)
    first, second = get("/cached/plain/"), get("/cached/plain/")
    assert (first.content, first.headers["Cache-Status"]) == (b"plain 1", "Backroom; fwd=uri-miss; detail=not-stored")
    assert (second.content, second.headers["Cache-Status"]) == (b"plain 2", "Backroom; fwd=bypass; detail=not-stored")


@override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}})
def test_nobody_is_told_that_a_dummy_has_stored_a_page():
    first, second = get("/cached/plain/"), get("/cached/plain/")
    assert [answer.content for answer in (first, second)] == [b"plain 1", b"plain 2"]
    assert (
        first.headers["Cache-Status"] == second.headers["Cache-Status"] == "Backroom; fwd=uri-miss; detail=not-stored"
    )


def test_a_cache_that_goes_away_while_a_page_is_made_does_not_cost_the_page(monkeypatch, caplog):
    with monkeypatch.context() as gone:
        view = site.plain

        def plain(request):
            for name in ("get", "set", "set_many", "delete"):
                gone.setattr(LocMemCache, name, failing)
            return view(request)

        response = cache_page(300)(plain)(_request("/cached/plain/"))
    assert response.content == b"plain 1"
    assert {"action=not-stored", "action=lock-not-given-back"} <= {
        word for record in caplog.records for word in record.getMessage().split()
    }


def _request(address):
    from django.test import RequestFactory

    return RequestFactory().get(address)


def test_an_answer_that_an_old_page_stands_in_for_is_put_away_and_the_request_goes_on(clock, rf):
    ends: list[str] = []
    statuses = [200, 500]

    def view(_request):
        response: Any = HttpResponse("page", status=statuses.pop(0))
        response._resource_closers.append(lambda: ends.append("answer"))
        return response

    def end(**_signal: Any) -> None:
        ends.append("request")

    request_finished.connect(end)
    try:
        page = cache_page(300, stale_if_error=600)(view)
        assert page(rf.get("/")).content == b"page"
        clock.go_on(301)
        assert page(rf.get("/")).headers["Cache-Status"].endswith("detail=stale-if-error")
    finally:
        request_finished.disconnect(end)
    assert (statuses, ends) == ([], ["answer"])


# ── One at a time ───────────────────────────────────────────────────────────────────────────────


def test_a_stale_page_that_another_has_just_made_is_not_made_again(clock, monkeypatch):
    # By such a header no task can ask for the page.
    site.answers["headers"] = {"Vary": "X-Kind"}
    assert text("/stale/headers/") == "headers 1"
    clock.go_on(301)
    tried: list[int] = []

    def late(self, original=Shelf.claim):
        if not tried:
            tried.append(1)
            # Another comes, makes the page and is gone before this one claims it.
            clock.go_on(1)
            assert text("/stale/headers/") == "headers 2"
        return (yield from original(self))

    monkeypatch.setattr(Shelf, "claim", late)
    answer = get("/stale/headers/")
    assert answer.content == b"headers 2"
    assert answer.headers["Cache-Status"].startswith("Backroom; hit")
    assert locks() == []


def test_a_stale_page_that_is_forgotten_before_it_is_made_anew_is_made(clock, monkeypatch):
    site.answers["headers"] = {"Vary": "X-Kind"}
    assert text("/stale/headers/") == "headers 1"
    clock.go_on(301)

    def forgetful(self, original=Shelf.claim):
        caches["default"].clear()
        return (yield from original(self))

    monkeypatch.setattr(Shelf, "claim", forgetful)
    assert text("/stale/headers/") == "headers 2"


def test_a_hit_is_one_read_and_no_write(monkeypatch):
    asked: list[str] = []
    get("/cached/plain/")
    for name in ("get", "get_many", "set", "add", "delete", "touch", "incr", "set_many"):
        monkeypatch.setattr(LocMemCache, name, noting(name, getattr(LocMemCache, name), asked))
    assert get("/cached/plain/").headers["Cache-Status"].startswith("Backroom; hit")
    # LocMemCache gets many one by one.
    assert [name for name in asked if name != "get"] == ["get_many"]


@pytest.mark.parametrize(
    "stored",
    [None, 7, [], ["backroom-page-1"], ["backroom-page-1", [[]], 0], ["backroom-page-1", 7, 0], ["other", [[], []], 0]],
)
def test_what_else_lies_under_the_key_of_an_address_is_a_miss(stored):
    assert text("/cached/plain/") == "plain 1"
    cache: Any = caches["default"]
    (meta,) = [key for key in cache._cache if ".page." in key and len(key.split(".")) == 3]
    cache.set(meta.removeprefix(":1:"), stored)
    assert text("/cached/plain/") == "plain 2"
    assert text("/cached/plain/") == "plain 2"


@pytest.mark.parametrize("stored", [None, 7, [], [1, 2, 3, 4, 5, 6, 7], "backroom"])
def test_what_else_lies_under_the_key_of_a_page_is_a_miss(stored):
    assert text("/cached/plain/") == "plain 1"
    cache: Any = caches["default"]
    (page,) = [key for key in cache._cache if key.endswith(".GET.plain")]
    cache.set(page.removeprefix(":1:"), stored)
    assert text("/cached/plain/") == "plain 2"


@pytest.mark.parametrize("value", [None, 7, [], [200, "OK", [], b"", {}]])
def test_an_entry_that_has_no_page_in_it_is_a_miss(value):
    assert text("/cached/plain/") == "plain 1"
    cache: Any = caches["default"]
    (page,) = [key.removeprefix(":1:") for key in cache._cache if key.endswith(".GET.plain")]
    entry = cache.get(page)
    cache.set(page, [entry[0], value, *entry[2:]])
    assert text("/cached/plain/") == "plain 2"


@pytest.mark.parametrize(("options", "seconds"), [({"lease": 0.05}, 0.1), ({"patience": 0.02}, 0.02)])
def test_who_has_waited_for_twice_the_lease_makes_the_page(monkeypatch, caplog, rf, options, seconds):
    monkeypatch.setattr(waiting, "is_always_claimed", lambda _alias: True)
    monkeypatch.setattr(LocMemCache, "add", lambda *_args, **_kwargs: False)
    assert cache_page(300, **options)(site.plain)(rf.get("/plain/")).content == b"plain 1"
    assert f"action=gave-up-waiting path=/plain/ seconds={seconds:g}\n" in caplog.text


def test_nobody_waits_for_a_lock_that_is_not_there(monkeypatch, caplog, rf):
    """A cache that takes no writes gives no lock, and no page either."""
    monkeypatch.setattr(LocMemCache, "add", lambda *_args, **_kwargs: False)
    assert cache_page(300)(site.plain)(rf.get("/plain/")).content == b"plain 1"
    assert "action=cache_no_lock cache=default path=/plain/" in caplog.text


def have_three_wait(monkeypatch):
    """Have whoever makes a page go on when three others wait for it."""
    all_wait = waiting_for(monkeypatch, 3)

    def count(name):
        site.made[name] += 1
        assert all_wait.wait(30)
        return site.made[name]

    monkeypatch.setattr(site, "count", count)


@pytest.mark.django_db(transaction=True)
def test_those_who_wait_for_a_page_that_fails_get_the_old_one_at_once(clock, monkeypatch, together):
    assert text("/stale/failing/") == "once up"
    clock.go_on(301)
    have_three_wait(monkeypatch)
    pages = together(4, lambda _n: get("/stale/failing/"))
    assert {page.content for page in pages} == {b"once up"}
    assert {page.headers["Cache-Status"].rpartition("=")[2] for page in pages} == {"stale-if-error"}
    assert site.made["failing"] == 2


def failing_together(monkeypatch, together, path, **headers):
    """Return what four visitors get who come at once, the others while the first one's page is being made."""
    have_three_wait(monkeypatch)
    client = Client(raise_request_exception=False, headers=headers)
    return together(4, lambda _n: client.get(path))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("prefix", ["", "/cached"])
@pytest.mark.parametrize("status", [500, 503])
def test_those_who_wait_for_a_page_that_fails_fail_with_it_and_who_comes_next_tries_again(
    monkeypatch, together, settings, prefix, status
):
    if not prefix:
        settings.MIDDLEWARE = [SINGLE, *OTHERS]
    name = "failing" if status == 500 else "headers"
    site.made["failing"], site.answers["status"] = 1, status
    pages = failing_together(monkeypatch, together, f"{prefix}/{name}/")
    assert [page.status_code for page in pages] == [status] * 4
    assert site.made[name] == (2 if status == 500 else 1)
    if status == 503 or not prefix:
        told = [page.headers["Cache-Status"] for page in pages]
        assert sorted("collapsed; detail=failed" in each for each in told) == [False, True, True, True]
    Client(raise_request_exception=False).get(f"{prefix}/{name}/")
    assert site.made[name] == (3 if status == 500 else 2)
    assert locks() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/cached/failing/", {"Authorization": "Basic bWU="}),
        ("/failing-for/theme/", {}),
        ("/failing-for/user/", {}),
        ("/failing-for/session/", {}),
        ("/failing-for/utm_source/?utm_source=a", {}),
        ("/cached/missing/", {}),
    ],
)
def test_nobody_fails_with_what_may_be_the_first_ones_affair_alone(monkeypatch, together, path, headers):
    site.made["failing"] = 1
    before = sum(site.made.values())
    pages = failing_together(monkeypatch, together, path, **headers)
    assert {page.status_code for page in pages} == {404 if "missing" in path else 500}
    assert sum(site.made.values()) - before == 4
    assert locks() == []


@pytest.mark.django_db(transaction=True)
def test_what_a_middleware_read_of_the_session_keeps_nobody_from_failing_with_the_first(
    monkeypatch, together, settings
):
    settings.MIDDLEWARE = [*OTHERS, "tests.cache.middlewares.greet"]
    site.made["failing"] = 1
    assert {page.status_code for page in failing_together(monkeypatch, together, "/trusting/failing/")} == {500}
    assert site.made["failing"] == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_known", [False, True])
def test_what_an_error_says_is_told_to_others_only_where_it_is_known_by_what_a_page_varies(
    monkeypatch, together, caplog, is_known
):
    if is_known:
        site.made["keys"] = 1
        assert text("/by-key/", X_Key="another") == "keyed"
    have_three_wait(monkeypatch)
    client = Client(raise_request_exception=False, headers={"X-Key": "k"})
    assert [page.status_code for page in together(4, lambda _n: client.get("/by-key/"))] == [500] * 4
    told = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert sorted(told) == ["no such key: k"] * 4 if is_known else ["", "", "", "no such key: k"]


# ── Transactions ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(transaction=True)
def test_what_a_transaction_has_changed_before_is_on_no_page_that_others_see():
    with transaction.atomic():
        invalidate_on_commit("name:a")
        answer = get("/tagged/a/")
        transaction.set_rollback(True)
    assert answer.headers["Cache-Status"] == "Backroom; fwd=bypass; detail=uncommitted"
    assert "private" in answer.headers["Cache-Control"]
    # And those who come after it wait for one another as before.
    assert get("/tagged/a/").headers["Cache-Status"].startswith("Backroom; fwd=uri-miss; stored")
    assert text("/tagged/a/") == "tagged a 2"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_taken_back", [True, False])
def test_what_a_transaction_changes_on_the_way_is_on_no_page_that_others_see(is_taken_back):
    with transaction.atomic():
        answer = get("/cached/changing/")
        transaction.set_rollback(is_taken_back)
    assert answer.headers["Cache-Status"].endswith("detail=uncommitted")
    assert get("/cached/changing/").headers["Cache-Status"].startswith("Backroom; fwd=uri-miss; stored")


@pytest.mark.django_db(transaction=True)
def test_a_page_of_a_user_who_is_being_changed_is_not_kept():
    alice = User.objects.create_user("alice")
    client = Client()
    client.force_login(alice)
    with transaction.atomic():
        invalidate_on_commit(f"user:{alice.pk}")
        assert get("/per-user/", client).headers["Cache-Status"].endswith("detail=uncommitted")
    assert [text("/per-user/", client) for _ in range(2)] == ["hello alice 2"] * 2
