"""Bringing a database to the newest schema, safe with several servers starting at once (docs/storage.md)."""

from __future__ import annotations

from typing import Final

import asyncpg
import structlog

from oneself.errors import StoreError, StoreUnavailable, StoreVersion
from oneself.store.postgres.database import Connection, Database, pause
from oneself.store.postgres.errors import Address
from oneself.store.postgres.schema import HEAD, MIGRATIONS, VERSION
from oneself.store.unfinished import is_unfinished, unfinished_copy

__all__ = ["check_version", "migrate", "outdated", "stored_version"]

_log = structlog.get_logger("oneself.store")

UPGRADE_SECONDS: Final = 3_600
"""So long an upgrade may take, and the wait for another server's."""

_TRIES: Final = 20
_RACED: Final = frozenset({"23505", "42P07", "42710"})
"""What making the first table fails with where another server makes it at the same time."""


async def migrate(database: Database) -> None:
    """Make what is missing of the schema; one server does while the others wait for the row of ``journal_head``.

    Raises ``StoreVersion`` where the database is of a newer version, ``StoreDamaged`` where it is not ours, and
    ``StoreError`` where it holds a copy that was not finished.
    """
    before = await database.retried(lambda: _head(database))
    _refuse_unfinished(database, before)
    if before < VERSION:
        before = await database.retried(lambda: _upgrade(database))
    _refuse_newer(database, before)
    if before < VERSION:
        _log.info("schema upgraded", database=database.address.name, before=before, now=VERSION)


async def _head(database: Database) -> int:
    """Return the version of the schema, making the table that says it where it is missing."""
    for tries in range(_TRIES):
        async with database.connection() as connection:
            version = await stored_version(connection)
            if version is not None:
                return version
            try:
                for statement in HEAD:
                    await connection.execute(statement)
            except asyncpg.PostgresError as error:
                if error.sqlstate not in _RACED:
                    raise
        await pause(tries)
    raise StoreUnavailable(f"The database {database.address.name} is being set up by another server.", 1)


async def _upgrade(database: Database) -> int:
    """Bring the schema to the newest version; return the version that it had."""
    async with database.transaction("ISOLATION LEVEL READ COMMITTED", seconds=UPGRADE_SECONDS) as connection:
        await connection.execute(f"SET LOCAL lock_timeout = '{UPGRADE_SECONDS}s'")
        version: int = await connection.fetchval("SELECT version FROM journal_head WHERE id = 1 FOR UPDATE")
        _refuse_unfinished(database, version)
        for number in range(version, VERSION):
            for statement in MIGRATIONS[number]:
                await connection.execute(statement)
        if version < VERSION:
            await connection.execute("UPDATE journal_head SET version = $1 WHERE id = 1", VERSION)
    return version


async def check_version(database: Database) -> None:
    """Raise ``StoreVersion`` or ``StoreUnavailable`` unless a database has the newest schema."""
    async with database.connection() as connection:
        version = await stored_version(connection)
    if version is None:
        raise StoreUnavailable(
            f"The database {database.address.name} holds no data. Start `oneself serve` on it once to make it."
        )
    _refuse_unfinished(database, version)
    _refuse_newer(database, version)
    if version < VERSION:
        raise StoreVersion(
            f"The database {database.address.name} has schema {version}; start `oneself serve` once to upgrade it."
        )


async def stored_version(connection: Connection) -> int | None:
    """Return the version of the schema; None where there is none yet."""
    try:
        rows = await connection.fetch("SELECT version FROM journal_head WHERE id = 1")
    except asyncpg.UndefinedTableError:
        return None
    return rows[0]["version"] if rows else None


def _refuse_newer(database: Database, version: int) -> None:
    if version > VERSION:
        raise StoreVersion(outdated(database.address, version))


def _refuse_unfinished(database: Database, version: int) -> None:
    if is_unfinished(version):
        raise StoreError(unfinished_copy(f"The database {database.address.name}"))


def outdated(address: Address, version: int) -> str:
    """Say that a database is of a newer version, or is being copied into."""
    if is_unfinished(version):
        return unfinished_copy(f"The database {address.name}")
    return (
        f"The database {address.name} was written by a newer version of Oneself (schema {version}, this one knows "
        f"{VERSION}). Upgrade Oneself to use it."
    )
