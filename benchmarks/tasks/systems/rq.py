"""RQ: the worker that does not fork for each job, which is its fastest."""

from collections.abc import Sequence

from benchmarks.tasks.systems.base import BulkEnqueuer, Enqueuer, System, python, redis

FINISHED = "rq:finished:default"


class RQ(System):
    name = "rq"
    packages = ("rq", "redis", "hiredis")
    is_deep = False
    finished = f"return redis.call('ZCARD', '{FINISHED}')"

    def worker(self) -> list[str]:
        return python(
            *("-m", "rq.cli", "worker", "--config", "benchmarks.tasks.systems.rq_settings"),
            *("--worker-class", "rq.worker.SimpleWorker", "--quiet"),
        )

    def enqueuer(self) -> Enqueuer:
        import redis as client
        from rq import Queue

        from benchmarks.tasks.work import work

        queue = Queue(connection=client.Redis.from_url(redis()))
        return lambda number: queue.enqueue(work, number)

    def bulk_enqueuer(self) -> BulkEnqueuer:
        import redis as client
        from rq import Queue

        from benchmarks.tasks.work import work

        queue = Queue(connection=client.Redis.from_url(redis()))

        def many(numbers: Sequence[int]) -> object:
            return queue.enqueue_many([Queue.prepare_data(work, (number,)) for number in numbers])

        return many

    def results(self) -> list[list[float]]:
        import redis as client
        from rq.results import Result

        connection = client.Redis.from_url(redis())
        pipeline = connection.pipeline(transaction=False)
        ids = [job.decode() for job in connection.zrange(FINISHED, 0, -1)]
        for job in ids:
            pipeline.xrevrange(f"rq:results:{job}", count=1)
        return [
            Result.restore(job, key.decode(), payload, connection).return_value
            for job, ((key, payload),) in zip(ids, pipeline.execute(), strict=True)
        ]
