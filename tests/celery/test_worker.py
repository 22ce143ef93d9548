"""Tasks in ordinary Celery workers mean what they mean in ours."""

from __future__ import annotations

import pytest

from tests.celery.conftest import CelerySite


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_tasks_run_in_an_ordinary_celery_worker(celery_site: CelerySite, pool: str) -> None:
    worker = celery_site.celery(pool=pool, concurrency=2)
    [task_id] = celery_site.enqueue("add", 1, 2)
    celery_site.enqueue("effect", str(celery_site.effects), many=20)
    celery_site.enqueue("add_in_loop", 3, 4)
    celery_site.enqueue("exits")
    celery_site.wait_for_states(successful=22, failed=1)
    assert sorted(map(int, celery_site.lines())) == list(range(20))
    assert celery_site.column("result", task_id) == "3"
    assert worker.stop() == 0
