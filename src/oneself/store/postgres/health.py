"""Whether a database serves: looked at when nobody asks it anything, and at once when something failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog

from oneself.errors import OneselfError, StoreUnavailable

__all__ = ["Health"]

_log = structlog.get_logger("oneself.store")

LOOK_SECONDS: Final = 1.0
"""So long after the last sign of life a database is asked for one …"""

TROUBLE_SECONDS: Final = 0.25
"""… and so long it is left alone when it gave none."""


class Health:
    """``trouble`` is why the database cannot serve, None while it does.

    ``look`` asks it for a sign of life, ``prove`` whether it takes writes; both raise errors of ours. Where it fails,
    nobody else needs to try: ``prove`` is tried until it succeeds. ``on_trouble`` is told of each failure.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], Awaitable[None]],
        prove: Callable[[], Awaitable[None]],
        on_trouble: Callable[[OneselfError], None],
    ) -> None:
        self.trouble: OneselfError | None = None
        self._name = name
        self._look = look
        self._prove = prove
        self._on_trouble = on_trouble
        self._heard = False
        self._called = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._watch(), name="database health")

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def hear(self) -> None:
        """Take note of a sign of life."""
        self._heard = True

    def suspect(self) -> None:
        """Have it looked at once: something failed that may be the database's fault."""
        self._called.set()

    async def _watch(self) -> None:
        while True:
            suspected = await self._wait()
            if self._heard and not suspected:
                continue
            try:
                await (self._prove() if suspected else self._look())
            except OneselfError as error:
                self._fail(error)
            except Exception as error:  # whatever it is: who looks must not go blind
                _log.error("the database cannot be looked at", exc_info=error)
                self._fail(StoreUnavailable(f"The database {self._name} met an unexpected error."))
            else:
                if self.trouble is not None:
                    _log.info("the database serves again", database=self._name)
                self.trouble = None

    def _fail(self, error: OneselfError) -> None:
        if self.trouble is None:
            _log.warning("the database cannot serve", database=self._name, reason=str(error))
        self.trouble = error
        self._on_trouble(error)

    async def _wait(self) -> bool:
        """Wait until it is to be looked at; tell whether something is known to have failed."""
        self._heard = False
        if self.trouble is not None:
            await asyncio.sleep(TROUBLE_SECONDS)
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._called.wait()
        suspected = self._called.is_set()
        self._called.clear()
        return suspected
