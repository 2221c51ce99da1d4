"""Looking through a database for what has grown old, beside the path of answers (docs/retention.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from oneself.journal import decode_batch
from oneself.store.contract import Idle, Store
from oneself.store.postgres.database import Database
from oneself.store.postgres.lookups import checked
from oneself.store.postgres.rows import text
from oneself.store.postgres.schema import REQUEST_PARTS
from oneself.store.reading import REQUESTS, Trimming
from oneself.store.trimming import TrimmingStep

__all__ = ["Sweeps"]

# Servers' clocks differ a little, and so times go up with positions only nearly: the search is one by halves.
_AT_MS: Final = "SELECT at_ms FROM entry WHERE position <= $1 ORDER BY position DESC LIMIT 1"
_HEAD: Final = "SELECT position FROM journal_head WHERE id = 1"
_BATCHES: Final = """
    SELECT position, mpid, workspace, checksum, body FROM batch WHERE position > $1 AND position <= $2
    ORDER BY position LIMIT $3
"""
_KNOWN: Final = """
    SELECT w.mpid, w.workspace, p.space, w.stored_ms FROM (
        SELECT mpid, workspace, stored_ms FROM workspace_profile WHERE (mpid, workspace) > ($1, $2)
        ORDER BY mpid, workspace LIMIT $3
    ) AS w LEFT JOIN LATERAL (SELECT space FROM profile WHERE profile.mpid = w.mpid LIMIT 1) AS p ON true
    ORDER BY w.mpid, w.workspace
"""
_DISCARDABLE: Final = "SELECT position FROM loose WHERE trimmed AND position > $1 ORDER BY position LIMIT $2"

_WAIT: Final = "SET LOCAL lock_timeout = '500ms'"
# A group that was read before a turn, and would still write the table before, is decided again.
_FENCE: Final = "UPDATE journal_head SET epoch = epoch + 1 WHERE id = 1 RETURNING position"
_TURNS: Final = "SELECT number, first FROM request_turn ORDER BY number"
_TURN: Final = "INSERT INTO request_turn(number, first) VALUES($1, $2) ON CONFLICT DO NOTHING"
_TURNED: Final = "DELETE FROM request_turn WHERE number = $1"


class Sweeps(Store):
    """The part of the PostgreSQL store that finds old data."""

    database: Database

    async def position_at(self, at_ms: int) -> int:
        """Return the position of the last entry that was decided by a time."""
        [(last,)] = await self.database.fetch(_HEAD)
        first = 0
        while first < last:
            middle: int = (first + last + 1) // 2
            rows = await self.database.fetch(_AT_MS, middle)
            if rows and rows[0]["at_ms"] > at_ms:
                last = middle - 1
            else:
                first = middle
        return first

    async def swept(self, what: str) -> int:
        """Return through which position something is swept."""
        rows = await self.database.fetch("SELECT through FROM swept WHERE what = $1", text(what))
        return rows[0]["through"] if rows else 0

    async def trimming(self, workspaces: Collection[str], after: int, through: int, limit: int) -> Trimming:
        """Make ready to take their events from the next batches of some workspaces."""
        [(last,)] = await self.database.fetch(_HEAD)
        through = min(through, last)
        rows = await self.database.fetch(_BATCHES, after, through, limit)
        wanted = frozenset(workspaces)
        step = TrimmingStep()
        for position, mpid, workspace, checksum, body in rows:
            name = workspace.decode()
            if name in wanted:
                record = checked(self.database.address, f"batch {position}", checksum, body, decode_batch)
                step.take(position, record, mpid, name)
        return step.end(rows[-1]["position"] if len(rows) == limit else max(after, through), last)

    async def idle(
        self, before_ms: Mapping[str, int], after: tuple[int, str] | None, limit: int
    ) -> tuple[list[Idle], tuple[int, str] | None]:
        """Look at the next rows of profiles in workspaces; return the idle ones, and where to go on."""
        mpid, workspace = after or (-(1 << 63), "")
        rows = [
            (mpid, name.decode(), None if space is None else space.decode(), stored_ms)
            for mpid, name, space, stored_ms in await self.database.fetch(_KNOWN, mpid, text(workspace), limit)
        ]
        idle = [
            Idle(mpid, name, space)
            for mpid, name, space, stored_ms in rows
            if space is not None and stored_ms < before_ms.get(name, stored_ms)
        ]
        return idle, (rows[-1][0], rows[-1][1]) if len(rows) == limit else None

    async def discardable(self, after: int, limit: int) -> list[int]:
        """Return positions of batches without events of which no profile is made any more."""
        return [at for (at,) in await self.database.fetch(_DISCARDABLE, after, limit)]

    async def drop_forgotten(self, after: bytes, limit: int) -> bytes | None:  # noqa: ARG002
        """Empty the oldest table of request ids if all are forgotten, and begin the next if the newest has such."""
        through = await self.swept(REQUESTS)
        turns = await self._turns()
        if len(turns) > 1 and turns[1][1] <= through:
            async with self.database.transaction("ISOLATION LEVEL READ COMMITTED") as connection:
                await connection.execute(_WAIT)  # who reads it holds it, and whoever comes after waits for us
                oldest = turns.pop(0)[0]
                if await connection.fetch(f"{_TURNED} RETURNING number", oldest):  # else another server did
                    await connection.execute(f"TRUNCATE request_{oldest % REQUEST_PARTS}")
        number, first = turns[-1]
        if len(turns) < REQUEST_PARTS and first <= through:
            async with self.database.transaction("ISOLATION LEVEL READ COMMITTED") as connection:
                position = await connection.fetchval(_FENCE)
                await connection.fetch(_TURN, *turns[0])
                await connection.fetch(_TURN, number + 1, position + 1)
        return None

    async def _turns(self) -> list[tuple[int, int]]:
        """Return the tables of request ids that have some, oldest first: number, and first position."""
        return [(number, first) for number, first in await self.database.fetch(_TURNS)] or [(0, 1)]
