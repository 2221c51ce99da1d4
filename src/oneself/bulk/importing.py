"""Taking rows in, chunk by chunk, in their order, so that a run that is stopped can go on (docs/import-export.md)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from oneself.bulk.checkpoint import Checkpoint, Counts
from oneself.bulk.job import Job, Piece
from oneself.bulk.model import BulkError, Chunk, Rejected
from oneself.bulk.rejects import Rejects
from oneself.errors import OneselfError

__all__ = ["Import", "Taken", "Taker"]

_UNDER_WAY: Final = 2
"""So many chunks are under way: one on its way to the disk, and one that is decided."""

_CHECKPOINT_SECONDS: Final = 1.0


class Taken(NamedTuple):
    """What became of some rows: how they count, and those that were rejected."""

    counts: Counts
    rejected: Sequence[Rejected]


class Taker(Protocol):
    """Takes rows in, in the order in which it is given them."""

    def begin(self, rows: Sequence[tuple[int, dict[str, Any]]], *, tabular: bool) -> Awaitable[Taken]:
        """Begin to take rows in, which may be changed; the awaitable tells what became of them, durably.

        It raises an ``OneselfError`` where they could not be taken in, and nothing or all of that may be told of
        them.
        """

    @property
    def position(self) -> int:
        """The journal's position, 0 where it is not known."""


class _UnderWay(NamedTuple):
    piece: int
    chunk: Chunk
    taken: Awaitable[Taken]


class Import:
    """One run of a job; ``stop`` ends it after what is under way, and the next run of the job goes on there.

    ``resumed_rows`` were done when it began; ``stopping`` tells that it was told to stop.
    """

    def __init__(self, job: Job, taker: Taker, checkpoint: Path, rejects: Path) -> None:
        """Find out how far the job is; raise ``BulkError`` where a file cannot be read or written."""
        self.job = job
        self._taker = taker
        self._path = checkpoint
        self._at = Checkpoint.read(checkpoint, job.name, taker.position)
        self._rejects = Rejects(rejects, self._at.rejects_bytes)
        self.stopping = False
        self._ended = False
        self._broken = False
        self.resumed_rows = self.counts.rows

    @property
    def counts(self) -> Counts:
        """What became of the rows of the job so far, in this run and those before it."""
        return self._at.counts

    @property
    def size(self) -> int:
        """How many bytes there are to read."""
        return sum(piece.part.size for piece in self.job.pieces)

    def stop(self) -> None:
        """End the run after what is under way."""
        self.stopping = True

    async def run(self, progress: Callable[[int, Counts], None]) -> bool:
        """Take in what is left, and tell whether that is all; ``progress`` is told the bytes read and the counts.

        Raises ``OneselfError`` where the run cannot go on. Whatever was done by then is remembered.
        """
        under_way: deque[_UnderWay] = deque()
        saved = time.monotonic()
        try:
            for number, chunk in self._chunks():
                if self.stopping:
                    break
                piece = self.job.pieces[number]
                rows = [self._complete(piece, *row) for row in chunk.rows]
                under_way.append(_UnderWay(number, chunk, self._taker.begin(rows, tabular=piece.part.tabular)))
                if len(under_way) == _UNDER_WAY:
                    await self._finish(under_way.popleft(), progress)
                    if time.monotonic() - saved >= _CHECKPOINT_SECONDS:
                        self._save()
                        saved = time.monotonic()
            else:
                self._ended = True
            while under_way:
                await self._finish(under_way.popleft(), progress)
        except OneselfError:
            await self._give_up(under_way, progress)
            raise
        if self._ended:
            Checkpoint.remove(self._path)
        else:
            self._save()
        return self._ended

    def _chunks(self) -> Iterator[tuple[int, Chunk]]:
        """Yield the chunks that are left, each with the number of its piece."""
        begin, after = self._at.piece, self._at.row
        for number, piece in enumerate(self.job.pieces[begin:], begin):
            for chunk in piece.part.chunks(after if number == begin else 0):
                yield number, chunk

    def _complete(self, piece: Piece, number: int, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Give a row what it does not say itself, above all an id by which it is taken in once."""
        if self.job.environment is not None and document.get("environment") is None:
            document["environment"] = self.job.environment
        if not document.get("source_request_id"):
            document["source_request_id"] = f"{piece.prefix}{number}"
        return number, document

    async def _finish(self, one: _UnderWay, progress: Callable[[int, Counts], None]) -> None:
        """Wait for a chunk, and count it."""
        try:
            taken = await one.taken
        except OneselfError:
            self._broken = True
            raise
        piece, counts, new = self.job.pieces[one.piece], self.counts, taken.counts
        rejected = [*one.chunk.rejected, *(bad._replace(row=_as_read(piece, bad.row)) for bad in taken.rejected)]
        self._rejects.write(piece.part.label, sorted(rejected, key=lambda bad: bad.number))
        counts.taken += new.taken
        counts.repeated += new.repeated
        counts.unknown += new.unknown
        counts.set_aside += new.set_aside
        counts.rejected += new.rejected + len(one.chunk.rejected)
        self._at.piece, self._at.row = one.piece, one.chunk.last
        before = sum(piece.part.size for piece in self.job.pieces[: one.piece])
        progress(before + one.chunk.read, counts)

    async def _give_up(self, under_way: deque[_UnderWay], progress: Callable[[int, Counts], None]) -> None:
        """Let what is under way end; it counts only while nothing before it failed."""
        while under_way:
            one = under_way.popleft()
            with suppress(OneselfError):
                if self._broken:
                    await one.taken
                else:
                    await self._finish(one, progress)
        with suppress(BulkError):  # where it cannot be written either, the ids of the rows still tell what is done
            self._save()

    def _save(self) -> None:
        self._rejects.sync()
        self._at.rejects_bytes = self._rejects.bytes
        self._at.position = self._taker.position
        self._at.write(self._path)


def _as_read(piece: Piece, row: Any) -> Any:
    """Return a rejected row without the id that it was given."""
    if isinstance(row, dict) and str(row.get("source_request_id")).startswith(piece.prefix):
        return {name: value for name, value in row.items() if name != "source_request_id"}
    return row
