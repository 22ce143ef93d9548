"""procrastinate: PostgreSQL only, asynchronous, no results (the tasks' own log is what is verified)."""

from collections.abc import Sequence

from benchmarks.tasks.systems.base import BulkEnqueuer, Claimer, Enqueuer, System, python


class Procrastinate(System):
    name = "procrastinate"
    packages = ("procrastinate",)
    keeps_results = False
    finished = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"

    def worker(self) -> list[str]:
        # Ten at a time is what its users run; with one it claims and finishes in lockstep.
        return python(
            *("-m", "procrastinate", "--log-level", "warning"),
            *("--app", "benchmarks.tasks.systems.procrastinate_jobs.app", "worker", "--concurrency", "10"),
        )

    def setup(self) -> None:
        from benchmarks.tasks.systems.procrastinate_jobs import app

        with app.open():
            app.schema_manager.apply_schema()

    def enqueuer(self) -> Enqueuer:
        from benchmarks.tasks.systems.procrastinate_jobs import app, job

        app.open()
        defer = job.defer

        def one(number: int) -> object:
            return defer(number=number)

        return one

    def bulk_enqueuer(self) -> BulkEnqueuer:
        from benchmarks.tasks.systems.procrastinate_jobs import app, job

        app.open()

        def many(numbers: Sequence[int]) -> object:
            return job.batch_defer(*[{"number": number} for number in numbers])

        return many

    def claimers(self) -> dict[str, Claimer]:
        import asyncio

        from benchmarks.tasks.systems.procrastinate_jobs import app

        loop = asyncio.new_event_loop()
        loop.run_until_complete(app.open_async())
        worker_id = loop.run_until_complete(app.job_manager.register_worker())

        def claim(_limit: int) -> Sequence[object]:
            return [loop.run_until_complete(app.job_manager.fetch_job(queues=None, worker_id=worker_id))]

        return {"1": claim}
