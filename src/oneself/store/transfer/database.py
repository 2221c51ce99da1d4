"""The logical tables of a database: read as of one moment, and written into an empty one (docs/copy.md)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from zlib import crc32

import structlog

from oneself.errors import StoreDamaged, StoreError, StoreUnavailable, StoreVersion
from oneself.store.postgres.bodies import device_of, encoded, person_of, profile_body, profile_of, workspace_of
from oneself.store.postgres.database import Connection, Database, Snapshot
from oneself.store.postgres.errors import Address, plain_errors
from oneself.store.postgres.migrate import check_version, migrate, stored_version
from oneself.store.postgres.packs import entries_of
from oneself.store.postgres.schema import VERSION
from oneself.store.transfer.tables import TABLES, Row, Rows, Table, Tables, Target
from oneself.store.unfinished import is_unfinished, unfinished_copy

__all__ = ["DatabaseTables", "DatabaseTarget", "open_database", "open_database_target"]

_log = structlog.get_logger("oneself.store")

_STEPS: Final = (20, 200, 1_000, 5_000)
"""So many rows are read at a time: as many as have about ``_BYTES`` of bodies, by those that came before."""

_BYTES: Final = 4_000_000

_HEAD: Final = "SELECT position FROM journal_head WHERE id = 1"
_ONLY: Final = {"guarded_value": " WHERE NOT released"}
_FROM: Final = {"request": "(SELECT key, max(position) AS position FROM request GROUP BY key) AS request"}
_INTO: Final = {"request": "request_0"}  # the first that is written

# -- reading ---------------------------------------------------------------------------------------------------------

_CHANGED: Final = frozenset({"profile", "person", "workspace_profile", "device"})
_CHECKED: Final = frozenset({"entry", "batch"})


def _select(table: Table) -> str:
    names = table.names
    more = ["changed"] if table.name in _CHANGED else ["checksum"] if table.name in _CHECKED else []
    more += ["count"] if table.name == "entry" else []
    key = ", ".join(names[: table.key])
    return f"SELECT {', '.join(names + more)} FROM {_from(table)} ORDER BY {key}"


def _from(table: Table) -> str:
    return _FROM.get(table.name, table.name) + _ONLY.get(table.name, "")


def _into(table: Table) -> str:
    return _INTO.get(table.name, table.name)


def _plain(table: Table) -> Callable[[Any], Row]:
    """Return what makes a row of a table whose columns are the logical ones, text being kept as UTF-8."""
    texts = table.of_kind("text")

    def made(record: Any) -> Row:
        values = list(record)
        for at in texts:
            values[at] = values[at].decode()
        return tuple(values)

    return made if texts else tuple


def _checked(table: Table) -> Callable[[Any], Row]:
    plain = _plain(table)

    def made(record: Any) -> Row:
        *row, checksum = record
        if crc32(row[-1]) != checksum:
            raise ValueError(f"{table.name} {row[0]} does not match its checksum")
        return plain(row)

    return made


def _entries(record: Any) -> Rows:
    """Return the rows of the entries that share one, all of the same time."""
    position, at_ms, body, checksum, count = record
    if crc32(body) != checksum:
        raise ValueError(f"entry {position} does not match its checksum")
    return [(at, at_ms, one) for at, one in entries_of(position, count, body)]


def _profile(record: Any) -> Row:
    mpid, space, created, body, changed = record
    return mpid, space.decode(), created, profile_body(profile_of(mpid, created, changed, body))


def _settled(table: Table, of: Callable[[int, bytes], object]) -> Callable[[Any], Row]:
    """Return what makes a row whose body may have positions that count back from ``changed``."""
    plain = _plain(table)

    def made(record: Any) -> Row:
        *row, body, changed = record
        return plain([*row, encoded(of(changed, body))])

    return made


_BODIES: Final[dict[str, Callable[[int, bytes], object]]] = {
    "person": person_of,
    "workspace_profile": workspace_of,
    "device": device_of,
}


def _made(table: Table) -> Callable[[list[Any]], Rows]:
    """Return what makes the rows of a table from those of the database."""
    if table.name == "entry":
        return lambda records: [row for record in records for row in _entries(record)]
    made = _maker(table)
    return lambda records: list(map(made, records))


def _maker(table: Table) -> Callable[[Any], Row]:
    if table.name == "profile":
        return _profile
    if table.name in _BODIES:
        return _settled(table, _BODIES[table.name])
    return _checked(table) if table.name in _CHECKED else _plain(table)


class DatabaseTables(Tables):
    """The tables of a database, by a transaction that sees one moment."""

    def __init__(self, snapshot: Snapshot, position: int) -> None:
        self.position = position
        self._snapshot = snapshot

    async def count(self, table: Table) -> int:
        """Return how many rows a table has; of the journal's entries there is one for each position."""
        if table.name == "entry":
            return self.position
        rows = await self._snapshot.fetch(f"SELECT count(*) FROM {_from(table)}")
        return int(rows[0][0])

    async def rows(self, table: Table) -> AsyncIterator[Rows]:
        """Yield the rows of a table in the order of its key, by a cursor."""
        made, bodies = _made(table), table.of_kind("json")
        cursor = f"copy_{table.name}"
        count = _STEPS[0] if bodies else _STEPS[-1]
        await self._snapshot.fetch(f"DECLARE {cursor} NO SCROLL CURSOR FOR {_select(table)}")
        while records := await self._snapshot.fetch(f"FETCH {count} FROM {cursor}"):
            try:
                rows = made(records)
            except ValueError as error:
                where = self._snapshot.address.name
                raise StoreDamaged(f"The database {where} is damaged ({error}): restore a backup.") from error
            yield rows
            if bodies:
                count = _step(sum(len(row[-1]) for row in rows) / len(records))
        await self._snapshot.fetch(f"CLOSE {cursor}")


def _step(size: float) -> int:
    """Return how many rows of a size to read at a time."""
    return max(step for step in _STEPS if step == _STEPS[0] or step * size <= _BYTES)


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[DatabaseTables]:
    """Open a database as it is at this moment; servers may be writing to it.

    Raises what opening a store read only raises.
    """
    snapshot = Snapshot(Address(url))
    try:
        await snapshot.open()
        await check_version(snapshot)
        rows = await snapshot.fetch(_HEAD)
        yield DatabaseTables(snapshot, rows[0][0])
    finally:
        await snapshot.close()


# -- writing ---------------------------------------------------------------------------------------------------------

_EMPTY: Final = "SELECT " + " OR ".join(f"EXISTS (SELECT 1 FROM {table.name})" for table in TABLES)
_BEGIN: Final = "UPDATE journal_head SET version = $1, position = $2 WHERE id = 1"
_FINISH: Final = """
    UPDATE journal_head SET version = $1, position = $2 WHERE id = 1 AND version = $3 AND position = $4
    RETURNING position
"""
_DONE: Final = "SELECT position FROM journal_head WHERE id = 1 AND version = $1 AND position = $2"


def _own_columns(position: int) -> dict[str, dict[str, Callable[[Row], object]]]:
    """Return, by table, the columns that only this engine has, and how each follows from a logical row.

    Everything counts as changed by the last entry, which no reading of the new store comes before.
    """

    def last(_: Row) -> object:
        return position

    own: dict[str, dict[str, Callable[[Row], object]]] = {
        table: {"changed": last} for table in (*_CHANGED, "alias", "swept")
    }
    return own | {
        "entry": {"checksum": lambda row: crc32(row[-1])},
        "batch": {"checksum": lambda row: crc32(row[-1])},
        "guarded_value": {"released": lambda _: False, "changed": last},
        "event_name": {"position": last},
    }


class DatabaseTarget(Target):
    """A database that a copy is being written to: until it is finished, its schema is of no version that opens.

    ``mark`` stands where the journal's head will, so that a second copy that is begun in its place is noticed.
    """

    def __init__(self, database: Database, mark: int, position: int) -> None:
        self._database = database
        self._mark = mark
        self._position = position
        self._own = _own_columns(position)

    async def put(self, table: Table, rows: Rows) -> None:
        """Write rows of a table."""
        own = self._own.get(table.name, {})
        texts = table.of_kind("text")
        records: list[Any] = rows
        if own or texts:
            records = []
            for row in rows:
                record = list(row)
                for at in texts:
                    record[at] = record[at].encode()
                record += [value(row) for value in own.values()]
                records.append(record)
        with plain_errors(self._database.address):
            async with self._database.connection() as connection:
                await connection.copy_records_to_table(_into(table), records=records, columns=[*table.names, *own])

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Tables]:
        """Lend what was written, to be read."""
        snapshot = Snapshot(self._database.address)
        try:
            await snapshot.open()
            yield DatabaseTables(snapshot, self._position)
        finally:
            await snapshot.close()

    async def finish(self) -> None:
        """Make it a whole store, durably. Raises ``StoreError`` where another copy was begun in its place."""
        head = await self._database.fetch(_FINISH, VERSION, self._position, -VERSION, self._mark)
        head = head or await self._database.fetch(_DONE, VERSION, self._position)  # the answer may have been lost
        if not head:
            raise StoreError(unfinished_copy(f"The database {self._database.address.name}"))
        try:  # or the first requests are planned as if it were empty, until the database looks by itself
            for table in TABLES:
                await self._database.execute(f"ANALYZE {_into(table)}")
        except StoreUnavailable as error:
            _log.warning("the new tables could not be analyzed; run ANALYZE", reason=str(error))


@asynccontextmanager
async def open_database_target(url: str, position: int, *, restart: bool) -> AsyncIterator[DatabaseTarget]:
    """Make an empty database ready for a copy as of a position; with ``restart``, too, one with an unfinished copy.

    Raises ``StoreError`` where it holds data, ``StoreVersion``, ``StoreUnavailable``.
    """
    database = Database(Address(url))
    try:
        await database.open()
        mark = await _begun(database, restart=restart)
        yield DatabaseTarget(database, mark, position)
    finally:
        await database.close()


async def _begun(database: Database, *, restart: bool) -> int:
    """Make sure that a database is empty, and mark it as unfinished; return the mark."""
    name = f"The database {database.address.name}"
    async with database.connection() as connection:
        version = await stored_version(connection)
    if version is None or not is_unfinished(version):
        await migrate(database)
    elif not restart:
        raise StoreError(unfinished_copy(name))
    mark = -1 - secrets.randbits(62)

    async def begin() -> None:
        async with database.transaction("ISOLATION LEVEL READ COMMITTED") as connection:
            await _mark(connection, name, mark, restart=restart)

    await database.retried(begin)
    return mark


async def _mark(connection: Connection, name: str, mark: int, *, restart: bool) -> None:
    head = await connection.fetchrow("SELECT version, position FROM journal_head WHERE id = 1 FOR UPDATE")
    if is_unfinished(head["version"]):
        if head["position"] == mark:
            return  # it was this very copy: the answer was lost
        if not restart:
            raise StoreError(unfinished_copy(name))
        if head["version"] != -VERSION:
            raise StoreVersion(
                f"{name} holds a copy that another version of Oneself began, and did not finish. Drop its tables, or "
                "name another database."
            )
        await connection.execute(f"TRUNCATE {', '.join(_into(table) for table in TABLES)}")
    elif head["position"] or await connection.fetchval(_EMPTY):
        raise StoreError(
            f"{name} is not empty: it holds the data of a server. A copy is made in an empty place only; name "
            "another database or schema."
        )
    await connection.execute(_BEGIN, -VERSION, mark)
