"""What servers keep for themselves, and how one of several is told from the others."""

from __future__ import annotations

from typing import ClassVar, Final

from oneself.store.contract import Store
from oneself.store.postgres.database import Database
from oneself.store.postgres.rows import text

__all__ = ["Servers"]

_SETTING: Final = "SELECT value FROM setting WHERE name = $1"
_SET: Final = """
    INSERT INTO setting(name, value) VALUES($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_SET_FIRST: Final = "INSERT INTO setting(name, value) VALUES($1, $2) ON CONFLICT (name) DO NOTHING"

# By the database's clock, which is the same for all servers.
_NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_LEASE: Final = f"""
    INSERT INTO lease(name, holder, until_ms) VALUES($1, $2, {_NOW} + $3::bigint)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms
    WHERE lease.holder = excluded.holder OR lease.until_ms < {_NOW} RETURNING holder
"""
_END: Final = "DELETE FROM lease WHERE name = $1 AND holder = $2"


class Servers(Store):
    """The part of the PostgreSQL store that is about servers, not about users."""

    database: Database
    shared: ClassVar[bool] = True

    async def setting(self, name: str) -> str | None:
        """Return a value that the server keeps for itself."""
        rows = await self.database.fetch(_SETTING, text(name))
        return rows[0]["value"].decode() if rows else None

    async def set_setting(self, name: str, value: str) -> None:
        """Keep a value for the server itself."""
        await self.database.execute(_SET, text(name), text(value))

    async def first_setting(self, name: str, value: str) -> str:
        """Keep a value for the server itself unless there is one; return the one that is kept."""
        await self.database.execute(_SET_FIRST, text(name), text(value))
        return await self.setting(name) or value

    async def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Give a lease to a holder, or renew it; False where another server has it."""
        return bool(await self.database.fetch(_LEASE, text(name), text(holder), int(seconds * 1000)))

    async def end_lease(self, name: str, holder: str) -> None:
        """Take a lease back from a holder that has it."""
        await self.database.execute(_END, text(name), text(holder))
