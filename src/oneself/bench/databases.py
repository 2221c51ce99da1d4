"""Filled databases for the benchmarks: data folders copied to schemas of their own (docs/benchmarks.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg

from oneself.bench.processes import ServerFailed
from oneself.store import Place
from oneself.store.transfer import copy

__all__ = ["durability", "filled_database"]


@contextmanager
def filled_database(folder: Path, database: str, schema: str, step: Callable[[], None]) -> Iterator[str]:
    """Copy a data folder to a new schema, and give its URL; the schema is gone at the end.

    ``step`` is called when it is there. Raises ``ServerFailed`` where the database cannot be used.
    """
    url = f"{database}{'&' if '?' in database else '?'}search_path={quote(schema)}"
    try:
        asyncio.run(_run(database, f'DROP SCHEMA IF EXISTS "{schema}" CASCADE', f'CREATE SCHEMA "{schema}"'))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ServerFailed(f"PostgreSQL cannot be used: {error}. Name another one with --database.") from error
    try:
        copied = asyncio.run(copy(Place(folder), Place(folder, url)))
        assert copied.is_equal
        step()
        yield url
    finally:
        asyncio.run(_run(database, f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'))


async def _run(database: str, *statements: str) -> None:
    connection = await asyncpg.connect(database, timeout=10)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def durability(database: str) -> dict[str, str]:
    """Return the settings of a database that say when a transaction is durable, and its version."""

    async def ask() -> dict[str, str]:
        connection = await asyncpg.connect(database, timeout=10)
        try:
            names = ("server_version", "fsync", "synchronous_commit")
            return {name: await connection.fetchval("SELECT current_setting($1)", name) for name in names}
        finally:
            await connection.close()

    return asyncio.run(ask())
