"""Where RQ's worker finds its server."""

from benchmarks.tasks.systems.base import redis

REDIS_URL = redis()
QUEUES = ["default"]
