"""The logical tables of a data folder: read as of one moment, and written into a new one (docs/copy.md)."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from zlib import crc32

import apsw
import msgspec

from oneself.errors import StoreDamaged, StoreError
from oneself.profiles import AttributeValue, Device, Person, WorkspaceProfile, WorkspaceRow, apart, together
from oneself.store.embedded.files import DatabaseFile, FolderLock, damage, plain_errors
from oneself.store.embedded.journal import JournalFile
from oneself.store.embedded.state import StateFile
from oneself.store.embedded.store import EmbeddedStore
from oneself.store.embedded.writer import FolderWriter, ThreadWriter
from oneself.store.embedded.writing import Piece
from oneself.store.transfer.tables import Row, Rows, Table, Tables, Target
from oneself.store.unfinished import is_unfinished, unfinished_copy

__all__ = ["FolderTables", "FolderTarget", "open_folder", "open_folder_target"]

T = TypeVar("T")

_ROWS: Final = 5_000
_BYTES: Final = 4_000_000
"""So many rows, or bytes of their bodies, are read at a time."""

_LOG_PAGES: Final = 10_000

_JOURNAL: Final = frozenset({"entry", "batch", "policy", "setting"})
"""The tables of ``journal.db``; all others are in ``state.db``."""


class _Owner(msgspec.Struct):
    mpid: int | None = None


class _Entry(msgspec.Struct):
    """What other columns say of an entry, too."""

    at_ms: int
    input: str
    decision: _Owner


class _Any(msgspec.Struct):
    """A document of which nothing but that it is there counts."""


class _Record(msgspec.Struct):
    batch: _Any | None = None


_entry = msgspec.json.Decoder(_Entry)
_record = msgspec.json.Decoder(_Record)
_held = msgspec.json.Decoder(dict[str, dict[str, int]])
_more = msgspec.json.Decoder(dict[str, int])
_person = msgspec.json.Decoder(Person)
_workspace = msgspec.json.Decoder(WorkspaceProfile)
_row = msgspec.json.Decoder(WorkspaceRow)
_values = msgspec.json.Decoder(dict[str, AttributeValue])
_device = msgspec.json.Decoder(Device)
_halves = msgspec.json.Decoder(tuple[msgspec.Raw, msgspec.Raw])
_encode = msgspec.json.Encoder().encode

# -- reading ---------------------------------------------------------------------------------------------------------

_READ: Final = {
    "entry": "SELECT position, checksum, CAST(body AS BLOB) FROM entry ORDER BY position",
    "batch": """SELECT b.position, b.checksum, CAST(b.body AS BLOB), CAST(e.body AS BLOB)
        FROM batch AS b LEFT JOIN entry AS e ON e.position = b.position ORDER BY b.position""",
    "profile": "SELECT mpid, space, created, held, more FROM profile ORDER BY mpid",
    "person": "SELECT mpid, person FROM profile WHERE person IS NOT NULL ORDER BY mpid",
    "workspace_profile": "SELECT mpid, workspace, shown, body FROM workspace_profile ORDER BY mpid, workspace",
}
"""What tells the rows of a table whose columns are not just the logical ones."""


_COUNT: Final = {"person": "SELECT count(person) FROM profile"}


def _select(table: Table) -> str:
    names = ", ".join(table.names)
    return _READ.get(table.name) or f"SELECT {names} FROM {table.name} ORDER BY {', '.join(table.names[: table.key])}"


def _read_entry(row: Row) -> Row:
    position, checksum, body = row
    _check(f"entry {position}", checksum, body)
    return position, _entry.decode(body).at_ms, body


def _read_batch(row: Row) -> Row:
    position, checksum, body, of = row
    _check(f"batch {position}", checksum, body)
    if of is None:
        raise ValueError(f"batch {position} has no entry")
    entry = _entry.decode(of)
    answer = None if _record.decode(body).batch is None else entry.decision.mpid
    return position, answer, entry.input.partition("/")[0], body


def _check(what: str, checksum: int, body: bytes) -> None:
    if crc32(body) != checksum:
        raise ValueError(f"{what} does not match its checksum")


def _read_profile(row: Row) -> Row:
    mpid, space, created, held, more = row
    return mpid, space, created, _encode((_held.decode(held), _more.decode(more)))


def _read_workspace(row: Row) -> Row:
    mpid, workspace, values, body = row
    known = together(_values.decode(values) if values else None, _row.decode(body))
    return mpid, workspace, known.stored_ms, _encode(known)


_ROW: Final[dict[str, Callable[[Row], Row]]] = {
    "entry": _read_entry,
    "batch": _read_batch,
    "profile": _read_profile,
    "workspace_profile": _read_workspace,
    "person": lambda row: (row[0], _encode(_person.decode(row[1]))),
    "device": lambda row: (*row[:3], _encode(_device.decode(row[3]))),
    "loose": lambda row: (row[0], bool(row[1])),
}


class FolderTables(Tables):
    """The tables of two files, each with a connection that sees one moment."""

    def __init__(self, journal: apsw.Connection, state: apsw.Connection, position: int) -> None:
        self.position = position
        self._journal = journal
        self._state = state
        self._thread = ThreadPoolExecutor(1, "oneself-copy")

    def close(self) -> None:
        """End the thread; the connections are the caller's."""
        self._thread.shutdown()

    async def count(self, table: Table) -> int:
        """Return how many rows a table has; of the journal's entries there is one for each position."""
        if table.name == "entry":
            return self.position
        return int(await self._aside(self._one, table, _COUNT.get(table.name, f"SELECT count(*) FROM {table.name}")))

    async def rows(self, table: Table) -> AsyncIterator[Rows]:
        """Yield the rows of a table in the order of its key."""
        chunks = self._chunks(table)
        while rows := await self._aside(next, chunks, None):
            yield rows

    async def _aside(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _file(self, table: Table) -> apsw.Connection:
        return self._journal if table.name in _JOURNAL else self._state

    def _one(self, table: Table, sql: str) -> Any:
        file = self._file(table)
        with plain_errors(Path(file.filename)):
            return file.execute(sql).get

    def _chunks(self, table: Table) -> Iterator[Rows]:
        file = self._file(table)
        path = Path(file.filename)
        made = _ROW.get(table.name)
        bodies = table.of_kind("json")
        with plain_errors(path):
            cursor = file.execute(_select(table))
            rows: Rows = []
            size = 0
            try:
                for row in cursor if made is None else map(made, cursor):
                    rows.append(row)
                    size += len(row[-1]) if bodies else 0
                    if len(rows) == _ROWS or size >= _BYTES:
                        yield rows
                        rows, size = [], 0
            except (ValueError, msgspec.DecodeError) as error:
                raise StoreDamaged(damage(path, f"{table.name}: {error}")) from error
            if rows:
                yield rows


class _JournalSnapshot(JournalFile):
    """A journal that is read only, and lends the connection that sees its one moment."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, read_only=True)

    @property
    def connection(self) -> apsw.Connection:
        return self._reader


class _StateSnapshot(StateFile):
    """Tables that are read only, likewise."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, read_only=True)

    @property
    def connection(self) -> apsw.Connection:
        return self._reader


class _TablesAlone(FolderWriter):
    """Writes the tables and leaves the journal as it is."""

    def write_tables(self, position: int, pieces: Iterable[Piece]) -> None:
        """Bring the tables up to a position."""
        self.state.write(position, pieces)


class _CatchingUp(EmbeddedStore):
    """A store whose journal is only read, and whose tables, a copy elsewhere, are brought up to it."""

    def __init__(self, folder: Path, journal: JournalFile, state: StateFile) -> None:
        super().__init__(folder)
        self._journal, self._state = journal, state

    def _open_files(self, opened: ExitStack) -> None:
        """Leave the files to whoever made this."""

    async def _open_writer(self, opened: ExitStack) -> None:
        self._writer = ThreadWriter(_TablesAlone(self._journal, self._state))
        opened.callback(self._writer.kill)


@asynccontextmanager
async def open_folder(folder: Path) -> AsyncIterator[FolderTables]:
    """Open a folder as it is at this moment; a server may be writing to it. Nothing in it is changed.

    Where the tables are behind the journal – a server runs, or was killed – they are copied to a temporary folder
    first, and brought up to it there. Raises what opening a store raises.
    """
    async with AsyncExitStack() as opened:
        if not (folder / "journal.db").exists():
            raise StoreError(f"{folder} holds no data. Name the data folder of a server, or a database.")
        # The tables first: they must not come to be ahead of the journal.
        state = opened.enter_context(closing(_StateSnapshot(folder / "state.db")))
        journal = opened.enter_context(closing(_JournalSnapshot(folder / "journal.db")))
        if state.progress > journal.position:
            raise StoreDamaged(
                f"{folder}: state.db has seen decision {state.progress}, but journal.db ends at {journal.position}. "
                "Restore the newest journal.db."
            )
        connection = state.connection
        if state.progress < journal.position:
            connection = await _caught_up(opened, folder, journal, state)
        tables = FolderTables(journal.connection, connection, journal.position)
        opened.callback(tables.close)
        yield tables


async def _caught_up(
    opened: AsyncExitStack, folder: Path, journal: JournalFile, state: _StateSnapshot
) -> apsw.Connection:
    """Return a connection to a temporary copy of the tables that has all that the journal has."""
    made = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="oneself-copy-"))) / "state.db"
    with plain_errors(made):
        with (
            closing(apsw.Connection(str(made))) as copy,
            copy.backup("main", state.connection, "main") as backup,
        ):
            backup.step()
        with closing(StateFile(made)) as file:
            store = _CatchingUp(folder, journal, file)
            await store.open()
            try:
                await store.flush()
            finally:
                await store.close()
        return opened.enter_context(closing(apsw.Connection(str(made), flags=apsw.SQLITE_OPEN_READONLY)))


# -- writing ---------------------------------------------------------------------------------------------------------


def _body(row: Row) -> Row:
    return (*row[:-1], row[-1].decode())


def _write_profile(row: Row) -> Row:
    mpid, space, created, body = row
    held, more = _halves.decode(body)
    return mpid, space, created, bytes(held).decode(), bytes(more).decode()


def _write_workspace(row: Row) -> Row:
    mpid, workspace, _, body = row
    values, beside = apart(_workspace.decode(body))
    return mpid, workspace, _encode(values).decode(), _encode(beside).decode()


_COLUMNS: Final = {
    "entry": "position, checksum, body",
    "batch": "position, checksum, body",
    "profile": "mpid, space, created, held, more",
    "workspace_profile": "mpid, workspace, shown, body",
}
_WRITTEN: Final[dict[str, Callable[[Row], Row]]] = {
    "entry": lambda row: (row[0], crc32(row[2]), row[2].decode()),
    "batch": lambda row: (row[0], crc32(row[3]), row[3].decode()),
    "profile": _write_profile,
    "workspace_profile": _write_workspace,
    "person": lambda row: (row[1].decode(), row[0]),
    "device": _body,
    "loose": lambda row: (row[0], int(row[1])),
}


def _insert(table: Table) -> str:
    if table.name == "person":
        return "UPDATE profile SET person = ? WHERE mpid = ?"
    columns = _COLUMNS.get(table.name) or ", ".join(table.names)
    return f"INSERT INTO {table.name}({columns}) VALUES({', '.join('?' * (columns.count(',') + 1))})"


class FolderTarget(FolderTables, Target):
    """A folder that a copy is being written to: until it is finished, its files are of no version that opens."""

    def __init__(self, folder: Path, journal: _File, state: _File, position: int) -> None:
        super().__init__(journal.connection, state.connection, position)
        self._folder = folder
        self._last = (state, journal)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Tables]:
        """Lend what was written, to be read."""
        yield self

    async def put(self, table: Table, rows: Rows) -> None:
        """Write rows of a table."""
        await self._aside(self._put, table, rows)

    def _put(self, table: Table, rows: Rows) -> None:
        file, made = self._file(table), _WRITTEN.get(table.name)
        with plain_errors(Path(file.filename)), file:
            file.executemany(_insert(table), rows if made is None else map(made, rows))

    async def finish(self) -> None:
        """Make it a whole store, durably: ``journal.db``, which no server is without, becomes one last."""
        await self._aside(self._finish)

    def _finish(self) -> None:
        with plain_errors(self._folder / "state.db"):
            self._state.execute("UPDATE progress SET position = ?", (self.position,))
        for file in self._last:
            with plain_errors(Path(file.connection.filename)):
                file.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                file.connection.pragma("synchronous", "full")
                file.connection.pragma("user_version", file.version)
        _sync(self._folder)


class _File(NamedTuple):
    """A file that is being written, and the version that it will be of."""

    connection: apsw.Connection
    version: int


@asynccontextmanager
async def open_folder_target(folder: Path, position: int, *, restart: bool) -> AsyncIterator[FolderTarget]:
    """Make an empty folder ready for a copy as of a position; with ``restart``, too, one with an unfinished copy.

    Raises ``StoreError`` where it holds data, ``StoreInUse`` where a server or another copy is at work on it.
    """
    with ExitStack() as opened:
        lock = FolderLock(folder)
        lock.take()
        opened.callback(lock.release)
        _make_empty(folder, restart=restart)
        journal = _begun(opened, folder / "journal.db", JournalFile)
        state = _begun(opened, folder / "state.db", StateFile)
        target = FolderTarget(folder, journal, state, position)
        opened.callback(target.close)
        yield target


def _make_empty(folder: Path, *, restart: bool) -> None:
    """Take away what is left of a copy that was not finished; raise ``StoreError`` where there is anything else."""
    files = [folder / name for name in ("journal.db", "state.db") if (folder / name).exists()]
    if not files:
        return
    if not any(map(_is_part_of_copy, files)):
        raise StoreError(
            f"{folder} is not empty: it holds the data of a server. A copy is made in an empty place only; name "
            "another folder."
        )
    if not restart:
        raise StoreError(unfinished_copy(str(folder)))
    for path in files:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            (folder / name).unlink(missing_ok=True)


def _is_part_of_copy(path: Path) -> bool:
    with plain_errors(path), closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as file:
        return is_unfinished(int(file.pragma("user_version")))


def _begun(opened: ExitStack, path: Path, kind: Callable[[Path], DatabaseFile]) -> _File:
    """Make an empty file of a kind that no server opens, and open it; it has its name only when it is so."""
    new = path.with_name(f"{path.name}-new")
    new.unlink(missing_ok=True)
    kind(new).close()
    with plain_errors(new), closing(apsw.Connection(str(new))) as file:
        version = int(file.pragma("user_version"))
        file.pragma("user_version", -version)
    new.rename(path)
    _sync(path.parent)
    with plain_errors(path):
        connection = opened.enter_context(closing(apsw.Connection(str(path))))
        connection.pragma("synchronous", "normal")
        connection.pragma("cache_size", -65_536)
        connection.wal_autocheckpoint(_LOG_PAGES)
    return _File(connection, version)


def _sync(folder: Path) -> None:
    """Make sure that the names of a folder's files are on disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
