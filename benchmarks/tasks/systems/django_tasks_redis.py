"""django-tasks-redis: streams, a hash a task, one task at a time."""

import json
from typing import Any

from benchmarks.tasks.systems.base import redis
from benchmarks.tasks.systems.django import DjangoSystem

PREFIX = "django_tasks:default"


class DjangoTasksRedis(DjangoSystem):
    name = "django-tasks-redis"
    packages = ("django-tasks-redis", "redis", "hiredis")
    apps = ("django_tasks_redis",)
    backend = "django_tasks_redis.RedisTaskBackend"
    is_deep = False
    finished = f"return redis.call('ZCARD', '{PREFIX}:status_index:SUCCESSFUL')"

    def tasks(self) -> dict[str, Any]:
        return {"default": {"BACKEND": self.backend, "OPTIONS": {"REDIS_URL": redis()}}}

    def worker(self) -> list[str]:
        return self.manage("run_redis_tasks", "--continuous")

    def results(self) -> list[list[float]]:
        import redis as client

        connection = client.Redis.from_url(redis())
        pipeline = connection.pipeline(transaction=False)
        for task in connection.zrange(f"{PREFIX}:status_index:SUCCESSFUL", 0, -1):
            pipeline.hget(f"{PREFIX}:result:{task.decode()}", "return_value_json")
        return [json.loads(value) for value in pipeline.execute()]
