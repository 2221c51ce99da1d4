"""Copying everything from one place to another, and proving that both have the same (docs/copy.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing

import msgspec

from oneself.errors import StoreDamaged
from oneself.store.place import Place
from oneself.store.transfer.folder import open_folder, open_folder_target
from oneself.store.transfer.tables import TABLES, Rows, Table, Tables, Tally, Target

__all__ = ["Compared", "Copied", "copy", "tables_of"]

Progress = Callable[[int], None]


class Compared(msgspec.Struct, frozen=True):
    """A logical table on both sides: rows and checksum there, where it came from, and here."""

    table: str
    rows: int
    checksum: str
    copied_rows: int
    copied_checksum: str

    @property
    def is_equal(self) -> bool:
        """Whether both sides have the same."""
        return (self.rows, self.checksum) == (self.copied_rows, self.copied_checksum)


class Copied(msgspec.Struct, frozen=True):
    """What a copy came to: as of which position, and every table; it may be used only if it ``is_equal``."""

    position: int
    tables: tuple[Compared, ...]

    @property
    def is_equal(self) -> bool:
        """Whether both sides have the same."""
        return all(table.is_equal for table in self.tables)


def tables_of(place: Place) -> AbstractAsyncContextManager[Tables]:
    """Return what opens the tables of a place, as they are at this moment; servers may be at work on it."""
    if place.database is None:
        return open_folder(place.folder)
    from oneself.store.transfer.database import open_database

    return open_database(place.database)


def _target(place: Place, position: int, *, restart: bool) -> AbstractAsyncContextManager[Target]:
    if place.database is None:
        return open_folder_target(place.folder, position, restart=restart)
    from oneself.store.transfer.database import open_database_target

    return open_database_target(place.database, position, restart=restart)


async def copy(
    origin: Place,
    to: Place,
    *,
    restart: bool = False,
    planned: Progress = lambda _: None,
    done: Progress = lambda _: None,
) -> Copied:
    """Copy everything that a place has into an empty one, and compare what both then have.

    ``planned`` is told how many rows there are to be written and read again, ``done`` of each number that was.
    Unless all is equal, the copy stays unfinished, and no server opens it; ``restart`` makes such a one anew.
    Raises ``StoreError`` where the place is not empty, ``StoreUnavailable`` where either cannot be reached.
    """
    async with tables_of(origin) as tables:
        counts = [await tables.count(table) for table in TABLES]
        async with _target(to, tables.position, restart=restart) as target:
            planned(2 * sum(counts))
            there = {table: await _write(tables, target, table, done) for table in TABLES}
            if there[TABLES[0]].rows != tables.position:
                raise StoreDamaged(
                    f"{origin} has {there[TABLES[0]].rows} entries, and {tables.position} positions: it is damaged. "
                    "Restore a backup."
                )
            async with target.reading() as written:
                here = {table: await _tally(written, table, done) for table in TABLES}
            copied = Copied(tables.position, tuple(_compared(table, there, here) for table in TABLES))
            if copied.is_equal:
                await target.finish()
            return copied


async def _write(tables: Tables, target: Target, table: Table, done: Progress) -> Tally:
    tally = Tally()
    async with aclosing(_ahead(tables.rows(table))) as chunks:
        async for rows in chunks:
            tally.take(rows)
            await target.put(table, rows)
            done(len(rows))
    return tally


async def _tally(tables: Tables, table: Table, done: Progress) -> Tally:
    tally = Tally()
    async with aclosing(_ahead(tables.rows(table))) as chunks:
        async for rows in chunks:
            tally.take(rows)
            done(len(rows))
    return tally


async def _ahead(chunks: AsyncIterator[Rows]) -> AsyncGenerator[Rows, None]:
    """Yield chunks, the next being read while one is worked on."""

    async def read() -> Rows:
        return await anext(chunks, [])

    coming = asyncio.create_task(read())
    try:
        while rows := await coming:
            coming = asyncio.create_task(read())
            yield rows
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def _compared(table: Table, there: dict[Table, Tally], here: dict[Table, Tally]) -> Compared:
    one, other = there[table], here[table]
    return Compared(table.name, one.rows, one.checksum, other.rows, other.checksum)
