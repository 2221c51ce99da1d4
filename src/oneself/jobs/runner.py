"""Running jobs: each in a task of its own, tried again after a failure, and stopped between two steps.

Of several servers on one database the one that has the lease runs them. Where it loses the lease in the middle of a
step, the next one may begin the same: every step may be repeated, and what it changes is decided by the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing, suppress

import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from oneself.config import Config
from oneself.engine import Engine
from oneself.engine.engine import clock_ms
from oneself.errors import OneselfError, Overloaded, StoreUnavailable
from oneself.jobs.aliases import AliasJob
from oneself.jobs.expiry import ExpiryJob
from oneself.jobs.job import Counts, Job, Work
from oneself.jobs.lease import Lease
from oneself.jobs.retention import RetentionJob

__all__ = ["Jobs"]

_log = structlog.get_logger("oneself.jobs")

RETRY_SECONDS = 30.0
"""A job that failed in a way that does not say when to come back is tried again after this long."""

BUSY = 64
"""With so many calls waiting for the engine, a job lets them go first."""


class Jobs(Collector):
    """Every job of a server, beside an engine that is at work; stop them before it."""

    def __init__(self, engine: Engine, config: Config, clock: Callable[[], int] = clock_ms) -> None:
        self.counts = Counts()
        work = Work(engine, config, clock, self.counts)
        self.jobs: list[Job] = [AliasJob(work), RetentionJob(work), ExpiryJob(work)]
        self._engine = engine
        self._lease = Lease(engine.store)
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin, each job with a round as soon as this server has the lease."""
        self._stopping.clear()
        await self._lease.start()
        self._tasks = [asyncio.create_task(self._run(job), name=job.name) for job in self.jobs]

    async def stop(self) -> None:
        """Let each job end its step, then end."""
        self._stopping.set()
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)
        await self._lease.stop()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        return [*self.counts.collect(), *self._lease.collect()]

    async def _run(self, job: Job) -> None:
        troubled = False
        while not self._stopping.is_set():
            if not await self._leads():
                return
            try:
                await self._round(job)
            except (Overloaded, StoreUnavailable) as error:
                if not troubled:
                    _log.warning("a job has to wait", job=job.name, reason=str(error))
                troubled, seconds = True, float(error.retry_after)
            except OneselfError as error:
                _log.error("a job cannot go on", job=job.name, reason=str(error))
                troubled, seconds = True, RETRY_SECONDS
            except Exception as error:
                _log.error("a job failed", job=job.name, exc_info=error)
                troubled, seconds = True, RETRY_SECONDS
            else:
                troubled, seconds = False, job.rest_seconds
            if troubled:
                self.counts.failures[job.name] += 1
            await self._wait(seconds)

    async def _round(self, job: Job) -> None:
        async with aclosing(job.round()) as steps:
            async for _ in steps:
                await self._wait(job.pause_seconds)
                while self._engine.waiting > BUSY and not self._stopping.is_set():
                    await self._wait(job.pause_seconds or 0.01)
                if self._stopping.is_set() or not self._lease.held:
                    return

    async def _leads(self) -> bool:
        """Wait until this server has the lease; return False where it is to stop before."""
        if not self._lease.held:
            stopping = asyncio.create_task(self._stopping.wait())
            leading = asyncio.create_task(self._lease.wait())
            await asyncio.wait([stopping, leading], return_when=asyncio.FIRST_COMPLETED)
            for task in (stopping, leading):
                task.cancel()
            await asyncio.gather(stopping, leading, return_exceptions=True)
        return not self._stopping.is_set()

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
