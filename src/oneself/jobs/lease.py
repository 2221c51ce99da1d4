"""One server of several runs the jobs; another takes over within seconds when that one dies (docs/operations.md)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from oneself.errors import OneselfError
from oneself.store import Store

__all__ = ["LEASE_SECONDS", "Lease"]

_log = structlog.get_logger("oneself.jobs")

LEASE_SECONDS: Final = 5.0
"""So long after the last sign of life of the server that has the lease another one may take it."""

_RENEW_SECONDS: Final = 1.0
_END_SECONDS: Final = 2.0
_NAME: Final = "jobs"


class Lease(Collector):
    """The lease of the jobs, as far as this server has it; ``clock`` gives seconds of a clock that is never set back.

    It is counted from before it was asked for, so this server never believes in it for longer than the others do.
    """

    def __init__(
        self, store: Store, *, seconds: float = LEASE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.holder = secrets.token_hex(16)
        self._store = store
        self._seconds = seconds
        self._clock = clock
        self._until = 0.0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """Whether this server has it now."""
        return self._clock() < self._until

    async def start(self) -> None:
        """Begin to ask for it, and to renew it."""
        await self._ask()
        self._task = asyncio.create_task(self._keep(), name="lease")

    async def stop(self) -> None:
        """Stop asking, and let another server have it at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self.held:
            self._until = 0.0
            with suppress(OneselfError, TimeoutError):  # else it ends by itself
                async with asyncio.timeout(_END_SECONDS):
                    await self._store.end_lease(_NAME, self.holder)

    async def wait(self) -> None:
        """Wait until this server has it."""
        while not self.held:
            self._changed.clear()
            await self._changed.wait()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            await self._ask()

    async def _ask(self) -> None:
        before, had = self._clock(), self.held
        try:
            given = await self._store.lease(_NAME, self.holder, self._seconds)
        except OneselfError as error:
            if had:
                _log.warning("the lease of the jobs could not be renewed", reason=str(error))
            return
        self._until = before + self._seconds if given else 0.0
        if self.held != had:
            _log.info("this server runs the jobs" if self.held else "another server runs the jobs")
        if self.held:
            self._changed.set()

    def collect(self) -> Iterable[Metric]:
        """Return the metric."""
        return [GaugeMetricFamily("oneself_runs_jobs", "1 where this server runs the jobs.", float(self.held))]
