"""The batches that came last, for those who watch (docs/admin-api.md, "Live stream").

One ring of batches is shared by all readers, each of which has a place in it. Ingestion puts a batch there and
never waits; a reader whose place was written over is too slow.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from oneself.http.wire import HttpError
from oneself.journal import BatchRecord, Entry

__all__ = ["Arrival", "Feed", "Reader", "TooSlow"]

SIZE: Final = 2_048
"""A reader may be this many batches behind."""

MOST_READERS: Final = 32
MOST_READERS_A_CLIENT: Final = 8
_RETRY_SECONDS: Final = 15


class Arrival(NamedTuple):
    """A batch that came in: its place in the journal, its entry, and what is kept of it."""

    position: int
    entry: Entry
    record: BatchRecord | None


class TooSlow(Exception):
    """A reader has missed batches, because it was not as fast as they came."""


class Feed:
    """Keeps the latest batches while somebody reads them; give ``note`` to an engine's listeners.

    ``position`` is that of the last batch that was put in. ``on_readers`` is told when the first reader comes, and
    when the last one has left.
    """

    def __init__(self) -> None:
        self._size = SIZE
        self._ring: list[Arrival] = []
        self._count = 0  # of batches since somebody began to read
        self._readers: Counter[str] = Counter()
        self._news: asyncio.Event | None = None
        self.ended = False
        self.position = 0
        self.on_readers: Callable[[bool], None] | None = None

    def note(self, position: int, entry: Entry, record: BatchRecord | None) -> None:
        """Keep one batch."""
        if not self._readers:
            return
        arrival = Arrival(position, entry, record)
        if len(self._ring) < self._size:
            self._ring.append(arrival)
        else:
            self._ring[self._count % self._size] = arrival
        self._count += 1
        self.position = position
        self._wake()

    def join(self, client: str) -> Reader:
        """Return a new reader of what comes from now on; raise ``HttpError`` 429 where there are too many."""
        if self._readers.total() >= MOST_READERS or self._readers[client] >= MOST_READERS_A_CLIENT:
            message = (
                f"Too many live streams are open: {MOST_READERS} in all, and {MOST_READERS_A_CLIENT} of one client, "
                "are allowed. End one first."
            )
            raise HttpError(429, message, retry_after=_RETRY_SECONDS)
        if not self._readers and self.on_readers is not None:
            self.on_readers(True)
        self._readers[client] += 1
        return Reader(self, client, self._count)

    def leave(self, client: str) -> None:
        """Give a reader's place free; without readers nothing is kept."""
        self._readers[client] -= 1
        if not self._readers[client]:
            del self._readers[client]
        if not self._readers:
            self._ring, self._count = [], 0
            if self.on_readers is not None:
                self.on_readers(False)

    def end(self) -> None:
        """Tell every reader that nothing more comes."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    def after(self, count: int, limit: int) -> list[Arrival]:
        """Return the batches after so many, at most ``limit``; raise ``TooSlow`` where they are gone."""
        if self._count - count > self._size:
            raise TooSlow
        return [self._ring[at % self._size] for at in range(count, min(self._count, count + limit))]

    async def wait(self, count: int, seconds: float) -> None:
        """Wait until there are more than so many batches, or the feed ends, or some seconds have passed."""
        if self._count > count or self.ended:
            return
        if self._news is None:
            self._news = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass


class Reader:
    """One who reads a feed."""

    def __init__(self, feed: Feed, client: str, count: int) -> None:
        self._feed = feed
        self._client = client
        self._count = count
        self._left = False

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._feed.ended

    def take(self, limit: int) -> list[Arrival]:
        """Return the next batches, at most ``limit``; raise ``TooSlow`` where some were missed."""
        arrivals = self._feed.after(self._count, limit)
        self._count += len(arrivals)
        return arrivals

    async def wait(self, seconds: float) -> None:
        """Wait until there is something to take, or the feed ends, or some seconds have passed."""
        await self._feed.wait(self._count, seconds)

    def leave(self) -> None:
        """Stop reading; more than once is as good as once."""
        if not self._left:
            self._left = True
            self._feed.leave(self._client)
