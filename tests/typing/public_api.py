"""What a project imports from us, as its type checker sees it: checked by mypy and basedpyright, never run.

A public name that loses its type, or becomes `Any`, fails `make types` here.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse

import backroom
from backroom.cache import CachedFunction, afetch, cache_page, cached, fetch, invalidate, purge, tagged, vary_on_cookies
from backroom.cookies import Cookie
from backroom.sessions import (
    SessionInfo,
    recently_authenticated,
    revoke,
    revoke_all,
    revoke_others,
    sessions_of,
    set_label,
)
from backroom.tasks import (
    Exponential,
    Snooze,
    TaskCancelled,
    TaskContext,
    TaskResult,
    TaskTimeout,
    Unique,
    enqueue_many,
    task,
)
from backroom.tasks import Task as BackroomTask
from backroom.tasks.stores.base import Store
from backroom.tasks.stores.memory import MemoryStore
from backroom.testing import (
    FakeClock,
    assert_enqueued,
    assert_not_enqueued,
    captured_tasks,
    clear_doubles,
    run_tasks,
)
from backroom.testing.stores import StoreContract


def of_the_package() -> None:
    assert_type(backroom.__version__, str)


def year_of(year: int) -> str:
    return f"report-{year}"


def of_a_task(report: BackroomTask[[int], str]) -> None:
    assert_type(report.call(2024), str)
    changed = report.using(
        priority=10,
        run_after=timedelta(minutes=5),
        max_attempts=5,
        backoff=Exponential(base=2, cap=600),
        timeout=30,
        expires=timedelta(hours=1),
        unique=Unique(key=year_of, scope="pending"),
        metadata={"asked_by": "a visitor"},
    )
    assert_type(changed, BackroomTask[[int], str])
    assert_type(enqueue_many(report, [((year,), {}) for year in range(2000, 2025)]), list[TaskResult[[int], str]])


@task
def plain(year: int, *, month: int = 1) -> str:
    return f"{year}-{month}"


@task(max_attempts=3, backoff=Exponential(base=2), retry_on=OSError, timeout=30, unique=year_of, queue_name="reports")
def with_options(year: int) -> str:
    return str(year)


@task(takes_context=True, expires=timedelta(hours=1), metadata={"team": "billing"}, atomic=True)
def with_context(context: TaskContext, year: int) -> list[int]:
    return [year, context.attempt]


@task
async def coroutine(year: int) -> str:
    return str(year)


@task(takes_context=True, keep_result=60)
async def coroutine_with_context(context: TaskContext, year: int) -> str:
    return f"{year} {context.attempt}"


def of_the_decorator() -> None:
    assert_type(plain.enqueue(2024, month=2).return_value, str)
    assert_type(with_options.using(timeout=60).enqueue(2024).return_value, str)
    assert_type(with_context.enqueue(year=2024).return_value, list[int])
    assert_type(coroutine.enqueue(2024).return_value, str)
    assert_type(coroutine_with_context.enqueue(2024).return_value, str)
    assert_type(enqueue_many(with_options, [((2024,), {})])[0].return_value, str)
    with_options.enqueue("no year")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    task(max_atempts=3)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]


def of_a_result(result: TaskResult[[int], str]) -> None:
    assert_type(result.label, str)
    assert_type(result.return_value, str)
    assert_type(result.id, str)


def in_a_task(context: TaskContext) -> str:
    context.progress(1, 10, "reading")
    assert_type(context.is_cancelled(), bool)
    assert_type(context.attempt, int)
    try:
        raise Snooze(60)
    except (TaskTimeout, TaskCancelled) as stopped:
        return str(stopped)


def of_a_test(report: BackroomTask[[int], str]) -> None:
    clear_doubles()
    with FakeClock(datetime(2030, 1, 1, tzinfo=UTC)).installed() as clock, captured_tasks() as tasks:
        assert_type(clock, FakeClock)
        report.enqueue(2024)
        assert_type(clock.advance(timedelta(days=1)), int)
        assert_type(clock.today(), datetime)
    assert_type(tasks, list[Any])
    assert_type(run_tasks("default", queues=["reports"]), list[TaskResult[..., Any]])
    assert_type(assert_enqueued(report, args=[2024], kwargs={}, count=1, among=tasks), list[Any])
    assert_not_enqueued(report)


class OfAStore(StoreContract):
    def make_store(self, backend_name: str) -> Store:
        return MemoryStore()


THEME = Cookie("theme", kind=str, max_age=timedelta(days=365), samesite="Strict")
ANYTHING = Cookie("anything", signed=True)


def of_cookies(request: HttpRequest, response: HttpResponse) -> None:
    assert_type(THEME, Cookie[str])
    assert_type(THEME.get(request), str | None)
    assert_type(THEME.get(request, "light"), str)
    THEME.set(response, "dark", max_age=60)
    THEME.delete(response)
    assert_type(ANYTHING, Cookie[Any])


def of_sessions(request: HttpRequest) -> None:
    assert_type(sessions_of(7), list[SessionInfo])
    for session in sessions_of(7):
        assert_type(session.last_seen_at, datetime)
        assert_type(str(session.agent), str)
        assert_type(set_label(session, "Kitchen"), bool)
        assert_type(revoke(session), bool)
    assert_type(revoke_others(request), int)
    assert_type(revoke_all(7), int)


@recently_authenticated(300)
def delicate(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(str(number))


def of_a_delicate_view(request: HttpRequest) -> None:
    assert_type(delicate(request, 7), HttpResponse)


@cached(300, stale=60, tags=["prices", "product:{product_id}"], negative=5, errors=(LookupError,))
def price(product_id: int, *, currency: str = "EUR") -> float:
    return product_id * len(currency)


@cached(None, key="public.api", tags="names")
async def looked_up(name: str) -> str:
    return name


@cache_page(300, tags="prices", stale=60, statuses={404: 5})
@vary_on_cookies("theme")
def page(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(str(number))


async def of_the_cache(request: HttpRequest, model: type[User]) -> None:
    kept: CachedFunction[..., float] = price
    assert_type(kept(7), float)
    assert_type(price(7), float)
    assert_type(price(7, currency="USD"), float)
    assert_type(price.key(7), str)
    assert_type(price.refresh(7), float)
    price.invalidate(7)
    assert_type(await looked_up("a"), str)
    assert_type(fetch("key", lambda: 1, 300, stale=60), int)
    assert_type(await afetch("key", lambda: 1), int)
    assert_type(page(request, 7), HttpResponse)
    assert_type(tagged("users", "user:{pk}")(model), type[User])
    invalidate("prices", alias="default")
    purge("/prices/")
