"""Aliases in a database (docs/alias.md)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, cast

from oneself.identity import AliasRow, AliasState
from oneself.identity.model import AliasWhy
from oneself.store.contract import Store
from oneself.store.postgres.database import Database, Record
from oneself.store.postgres.rows import text

__all__ = ["ALIAS", "END", "Aliases", "alias_of"]

END: Final = 1 << 62
"""Later than any time or position."""

ALIAS: Final = (
    "alias.space, alias.position, alias.source, alias.destination, alias.start_ms, alias.end_ms, alias.due_ms,"
    " alias.scope, alias.device, alias.outcome, alias.why, alias.processed"
)

_OF: Final = f"""
    SELECT * FROM (SELECT {ALIAS} FROM alias WHERE source = $1 AND position < $2 ORDER BY position DESC LIMIT $3) AS a
    UNION
    SELECT * FROM (
        SELECT {ALIAS} FROM alias WHERE destination = $1 AND position < $2 ORDER BY position DESC LIMIT $3) AS b
    ORDER BY position DESC LIMIT $3
"""
_DUE: Final = f"""
    SELECT {ALIAS} FROM alias WHERE outcome = 'waiting' AND due_ms <= $1
    AND ($2::bytea[] IS NULL OR space = ANY($2::bytea[])) ORDER BY due_ms, position LIMIT $3
"""
_TO: Final = f"""
    SELECT {ALIAS} FROM alias WHERE outcome = 'applied' AND destination = $1 AND (end_ms, position) < ($2, $3)
    ORDER BY end_ms DESC, position DESC LIMIT $4
"""
_TO_OLDEST: Final = f"""
    SELECT {ALIAS} FROM alias WHERE outcome = 'applied' AND destination = $1 AND (end_ms, position) > ($2, $3)
    ORDER BY end_ms, position LIMIT $4
"""


def alias_of(row: Record) -> tuple[str, AliasRow]:
    """Return the space and the alias of a row of ``ALIAS``."""
    space, position, source, destination, start_ms, end_ms, due_ms, scope, device, outcome, why, processed = row
    alias = AliasRow(
        position, source, destination, start_ms, end_ms, due_ms, scope.decode(), device.decode(),
        cast(AliasState, outcome.decode()), cast(AliasWhy, why.decode()), processed,
    )  # fmt: skip
    return space.decode(), alias


class Aliases(Store):
    """The part of the PostgreSQL store that knows of aliases."""

    database: Database

    async def alias(self, position: int) -> tuple[str, AliasRow] | None:
        """Return the space and the row of the alias that was accepted at a position."""
        rows = await self.database.fetch(f"SELECT {ALIAS} FROM alias WHERE position = $1", position)
        return alias_of(rows[0]) if rows else None

    async def aliases(self, mpid: int, *, before: int = 0, limit: int = 100) -> list[AliasRow]:
        """Return aliases from or to a profile, in every state, latest request first."""
        rows = await self.database.fetch(_OF, mpid, before or END, limit)
        return [alias_of(row)[1] for row in rows]

    async def due_aliases(
        self, now_ms: int, limit: int = 100, *, spaces: Collection[str] | None = None
    ) -> list[tuple[str, AliasRow]]:
        """Return those that wait and are due, longest due first."""
        named = None if spaces is None else [text(space) for space in spaces]
        return [alias_of(row) for row in await self.database.fetch(_DUE, now_ms, named, limit)]

    async def sources(
        self, mpid: int, *, after: tuple[int, int] | None = None, limit: int = 100, oldest: bool = False
    ) -> list[AliasRow]:
        """Return the aliases in effect whose destination is a profile, by the end of their windows."""
        start = after or ((-END, 0) if oldest else (END, 0))
        rows = await self.database.fetch(_TO_OLDEST if oldest else _TO, mpid, *start, limit)
        return [alias_of(row)[1] for row in rows]
