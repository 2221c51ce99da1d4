"""Looking identities up in a database: who lost one, and what is in crowds."""

from __future__ import annotations

from typing import Final

from oneself.identity import Identity
from oneself.store.contract import Store
from oneself.store.crowds import Crowds, IdentityPast, mpids_of
from oneself.store.keys import holder_key
from oneself.store.postgres.database import Database, Record
from oneself.store.postgres.rows import text
from oneself.store.reading import History

__all__ = ["Identities"]

_LOST: Final = """
    SELECT h.mpid, h.ended, h.linked, h.why, h.moved_to FROM identity_history AS h
    JOIN profile AS p ON p.mpid = h.mpid WHERE h.value = $1 AND h.type = $2 AND p.space = $3
    ORDER BY h.ended DESC, h.mpid DESC LIMIT $4
"""
_GUARDS: Final = "SELECT position FROM guard_decision WHERE key = $1 ORDER BY position"
_VALUES: Final = """
    SELECT key, count(*), max(position) FROM holder WHERE key BETWEEN $1 AND $2 GROUP BY key HAVING count(*) >= $3
"""
_FURTHER: Final = """
    SELECT mpid, type, count(*) FROM further_identity WHERE mpid BETWEEN $1 AND $2 GROUP BY mpid, type
    HAVING count(*) >= $3
"""
_REPLACED: Final = """
    SELECT mpid, type, count(*) FROM identity_history WHERE mpid BETWEEN $1 AND $2 AND why = 'replaced'
    GROUP BY mpid, type HAVING count(*) >= $3
"""
_LAST_KEY: Final = b"\xff" * 16


class Identities(Store):
    """The part of the PostgreSQL store that begins with an identity, not with a profile."""

    database: Database

    async def identity_past(self, space: str, identity: Identity, *, limit: int = 100) -> IdentityPast:
        """Return who held an identity in a space and lost it, and which decisions guarded or released it."""
        type_, value = identity
        lost = await self.database.fetch(_LOST, text(value), text(type_), text(space), limit)
        guards = await self.database.fetch(_GUARDS, holder_key(space, *identity))
        rows = [History(mpid, end, type_, value, linked, why.decode(), to) for mpid, end, linked, why, to in lost]
        return IdentityPast(rows, [position for (position,) in guards])

    async def crowds(self, part: int, *, holders: int, values: int) -> Crowds:
        """Return what a part of the tables has in crowds."""
        first, last = mpids_of(part)
        counted = await self.database.fetch(_VALUES, bytes([part]), bytes([part]) + _LAST_KEY, holders)
        further = await self.database.fetch(_FURTHER, first, last, values)
        replaced = await self.database.fetch(_REPLACED, first, last, values)
        return Crowds({key: (n, at) for key, n, at in counted}, _by_type(further), _by_type(replaced))


def _by_type(rows: list[Record]) -> dict[tuple[int, str], int]:
    return {(mpid, type_.decode()): count for mpid, type_, count in rows}
