"""Looking through a data folder for what has grown old, beside the path of answers (docs/retention.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import apsw
import msgspec

from oneself.errors import StoreDamaged
from oneself.journal import BatchRecord, decode_batch
from oneself.store.contract import Idle
from oneself.store.embedded.base import Files
from oneself.store.embedded.files import damage, plain_errors
from oneself.store.reading import REQUESTS, Trimming
from oneself.store.trimming import TrimmingStep

__all__ = ["Sweeps"]

T = TypeVar("T")

_WAIT_MS = 5_000

_BATCHES = """
    SELECT b.position, b.checksum, CAST(b.body AS BLOB), e.body ->> '$.decision.mpid', e.body ->> '$.input'
    FROM batch AS b CROSS JOIN entry AS e ON e.position = b.position
    WHERE b.position > ? AND b.position <= ? ORDER BY b.position LIMIT ?
"""
# One row, put together as JSON: for every row that it takes, this thread makes the one that answers wait. The times
# stand first in a body; to read all of it as JSON would take as long again as the rest.
_KNOWN = """
    SELECT json_group_array(json_array(mpid, workspace, CAST(substr(body, found, 20) AS INTEGER))) FROM (
        SELECT mpid, workspace, body, instr(body, '"stored_ms":') + 12 AS found FROM workspace_profile
        WHERE (mpid, workspace) > (?, ?) ORDER BY mpid, workspace LIMIT ?)
"""
_SPACES = """
    SELECT json_group_array(json_array(p.mpid, p.space))
    FROM json_each(?) AS wanted CROSS JOIN profile AS p ON p.mpid = wanted.value
"""

_known = msgspec.json.Decoder(list[tuple[int, str, int]])
_spaces = msgspec.json.Decoder(list[tuple[int, str]])
_encode = msgspec.json.Encoder().encode


class Sweeps(Files):
    """The part of the embedded store that finds old data.

    It looks through files on a thread and with connections of its own, so that no answer waits for it.
    """

    async def position_at(self, at_ms: int) -> int:
        """Return the position of the last entry that was decided by a time."""
        return self._journal.position_at(at_ms)

    async def swept(self, what: str) -> int:
        """Return through which position something is swept."""
        return self._swept.get(what, 0)

    async def trimming(self, workspaces: Collection[str], after: int, through: int, limit: int) -> Trimming:
        """Make ready to take their events from the next batches of some workspaces."""
        at = self._journal.position
        through = min(through, at)
        return await self._aside(_trimming, self._journal.path, frozenset(workspaces), after, through, limit, at)

    async def idle(
        self, before_ms: Mapping[str, int], after: tuple[int, str] | None, limit: int
    ) -> tuple[list[Idle], tuple[int, str] | None]:
        """Look at the next rows of profiles in workspaces; return the idle ones, and where to go on."""
        return await self._aside(_idle, self._state.path, before_ms, after, limit)

    async def discardable(self, after: int, limit: int) -> list[int]:
        """Return positions of batches without events of which no profile is made any more."""
        return self._state.discardable(after, limit)

    async def drop_forgotten(self, after: bytes, limit: int) -> bytes | None:
        """Delete the rows of forgotten requests among the next keys."""
        with self._state.being_written():
            return await self._writer.drop_forgotten(after, self._swept.get(REQUESTS, 0), limit)

    async def _aside(self, look: Callable[..., T], path: Path, *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._sweeper, look, path, *arguments)


def _fetch(path: Path, sql: str, *bindings: object) -> list[Any]:
    with plain_errors(path), closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        connection.set_busy_timeout(_WAIT_MS)
        return connection.execute(sql, bindings).fetchall()


def _trimming(path: Path, workspaces: frozenset[str], after: int, through: int, limit: int, at: int) -> Trimming:
    rows = _fetch(path, _BATCHES, after, through, limit)
    step = TrimmingStep()
    for position, checksum, body, mpid, input_ in rows:
        workspace = input_.partition("/")[0]
        if workspace in workspaces:
            step.take(position, _record(path, position, checksum, body), mpid, workspace)
    return step.end(rows[-1][0] if len(rows) == limit else max(after, through), at)


def _record(path: Path, position: int, checksum: int, body: bytes) -> BatchRecord:
    if crc32(body) != checksum:
        raise StoreDamaged(damage(path, f"batch {position} does not match its checksum"))
    try:
        return decode_batch(body)
    except msgspec.DecodeError as error:
        raise StoreDamaged(damage(path, f"batch {position}: {error}")) from error


def _idle(
    path: Path, before_ms: Mapping[str, int], after: tuple[int, str] | None, limit: int
) -> tuple[list[Idle], tuple[int, str] | None]:
    rows = sorted(_known.decode(_fetch(path, _KNOWN, *(after or (-(1 << 63), "")), limit)[0][0]))
    found = [row[:2] for row in rows if row[2] < before_ms.get(row[1], row[2])]
    wanted = _encode([mpid for mpid, _ in found]).decode()
    spaces = dict(_spaces.decode(_fetch(path, _SPACES, wanted)[0][0])) if found else {}
    idle = [Idle(mpid, workspace, spaces[mpid]) for mpid, workspace in found if mpid in spaces]
    return idle, (rows[-1][0], rows[-1][1]) if len(rows) == limit else None
