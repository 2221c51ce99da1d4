"""The live stream where several servers take batches in: what all of them did is read from the journal.

One task for all readers, for as long as somebody reads; nothing of it is in the path of an answer.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from oneself.errors import OneselfError
from oneself.http.admin.feed import Feed
from oneself.http.ports import Engine
from oneself.journal import Entry

__all__ = ["Follower"]

_log = structlog.get_logger("oneself.http")

_EVERY_SECONDS: Final = 0.25
"""So often it is looked whether the journal has grown …"""

_TROUBLED_SECONDS: Final = 2.0
"""… and so long it is waited after that failed."""

_RECORDS: Final = 200
"""Of so many batches what they brought is read at once."""


class Follower:
    """Puts every batch of the journal into a feed, from the moment when somebody begins to read it."""

    def __init__(self, engine: Engine, feed: Feed) -> None:
        self._engine = engine
        self._feed = feed
        self._task: asyncio.Task[None] | None = None
        feed.on_readers = self.turn

    def turn(self, on: bool) -> None:
        """Begin to follow, or stop."""
        if on and self._task is None:
            self._feed.position = self._engine.store.position
            self._task = asyncio.create_task(self._follow(), name="live stream")
        elif not on and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _follow(self) -> None:
        troubled = False
        while True:
            try:
                await self._catch_up()
            except OneselfError as error:
                if not troubled:
                    _log.warning("the live stream has to wait", reason=str(error))
                troubled = True
            else:
                troubled = False
            await asyncio.sleep(_TROUBLED_SECONDS if troubled else _EVERY_SECONDS)

    async def _catch_up(self) -> None:
        """Put in what the journal has gained."""
        store, feed = self._engine.store, self._feed
        waiting = []
        last = feed.position
        async for position, entry in store.entries(last):
            last = position
            if entry.request.kind == "batch":
                waiting.append((position, entry))
            if len(waiting) == _RECORDS:
                await self._put(waiting)
                waiting = []
        if waiting:
            await self._put(waiting)
        feed.position = max(feed.position, last)

    async def _put(self, rows: list[tuple[int, Entry]]) -> None:
        records = await self._engine.store.batches([position for position, _ in rows])
        for position, entry in rows:
            self._feed.note(position, entry, records.get(position))
        self._feed.position = rows[-1][0]
