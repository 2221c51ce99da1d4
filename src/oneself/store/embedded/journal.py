"""``journal.db``: the entries in their order, synced to disk before they are answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import apsw
import msgspec

from oneself.errors import StoreDamaged
from oneself.journal import BatchRecord, Entry, decode, decode_batch, encode, encode_batch
from oneself.store.embedded.files import DatabaseFile, damage, plain_errors
from oneself.store.policies import PolicyOrigin, PolicyVersion, next_version
from oneself.store.reading import Trimmed

__all__ = ["Group", "JournalFile", "group_of"]

T = TypeVar("T")

_MIGRATIONS = (
    """
    CREATE TABLE entry(
        position INTEGER PRIMARY KEY,
        checksum INTEGER NOT NULL,         -- CRC-32 of the body
        body     TEXT NOT NULL             -- JSON: oneself.journal.Entry
    ) STRICT;
    CREATE TABLE policy(
        scope    TEXT NOT NULL,
        version  INTEGER NOT NULL,
        at_ms    INTEGER NOT NULL,
        position INTEGER NOT NULL,         -- the first position it may decide
        settings TEXT NOT NULL,            -- JSON: oneself.identity.PolicySettings
        origin   TEXT NOT NULL,            -- configuration, promotion or restoration
        author   TEXT NOT NULL,            -- who it came from
        note     TEXT NOT NULL,            -- why
        restores INTEGER NOT NULL,         -- the version whose settings it brings back; 0 for none
        PRIMARY KEY (scope, version)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE batch(                    -- what the batches brought, as long as it is kept
        position INTEGER PRIMARY KEY,
        checksum INTEGER NOT NULL,         -- CRC-32 of the body
        body     TEXT NOT NULL             -- JSON: oneself.journal.BatchRecord
    ) STRICT;
    CREATE TABLE setting(                  -- what the server keeps for itself
        name  TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
)

# As bytes: a damaged body may be no text.
_SELECT = "SELECT position, checksum, CAST(body AS BLOB) FROM entry"
_BATCHES = "SELECT position, checksum, CAST(body AS BLOB) FROM batch"

_OWNERS = """
    SELECT e.position, coalesce(b.body ->> '$.moved_to', e.body ->> '$.decision.mpid'), e.body ->> '$.input'
    FROM entry AS e LEFT JOIN batch AS b ON b.position = e.position
    WHERE e.position IN (SELECT value FROM json_each(?)) AND e.body ->> '$.decision.mpid' IS NOT NULL
"""
_OWNED = """
    SELECT b.position, coalesce(b.body ->> '$.moved_to', e.body ->> '$.decision.mpid'), e.body ->> '$.input',
        b.body ->> '$.batch.at_ms', b.body ->> '$.trimmed'
    FROM batch AS b CROSS JOIN entry AS e ON e.position = b.position WHERE b.position > ? AND b.position <= ?
"""

_POLICIES = "SELECT scope, version, at_ms, position, settings, origin, author, note, restores FROM policy"

_CHUNK = 1_000
_BODIES = 200
"""So many undecoded entries are read at a time: what is read at once should be used before it leaves the caches."""

_WAIT_MS = 10_000
"""So long a new policy version waits for the group that a server is just committing."""


class Group(msgspec.Struct, frozen=True, array_like=True):
    """What one commit does to a journal: ``(position, body)`` of its entries and of the batches that came with them.

    ``rewrites`` are new bodies of earlier batches; None deletes one.
    """

    entries: list[tuple[int, bytes]]
    batches: list[tuple[int, bytes]]
    rewrites: list[tuple[int, bytes | None]]


_NONE: Mapping[int, BatchRecord] = {}
_NO_REWRITES: Mapping[int, bytes | None] = {}


def group_of(
    entries: Sequence[tuple[int, Entry]],
    batches: Mapping[int, BatchRecord] = _NONE,
    rewrites: Mapping[int, bytes | None] = _NO_REWRITES,
) -> Group:
    """Return a group of entries, batches, and bodies that are encoded already."""
    return Group(
        [(position, encode(entry)) for position, entry in entries],
        [(position, encode_batch(record)) for position, record in batches.items()],
        list(rewrites.items()),
    )


class JournalFile(DatabaseFile):
    """The journal of one data folder. One thread, or a process beside, appends to it while others read.

    ``position`` is that of the last entry that was durable when it was opened; a store takes it along.
    """

    MARK = "entry"

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.position = 0
        super().__init__(path, _MIGRATIONS, read_only=read_only)

    def _prepare(self, read_only: bool) -> None:
        if not read_only:
            self._writer.pragma("synchronous", "full")
            # A checkpoint in the path of an answer would hold it up; ``checkpoint`` does it beside.
            self._writer.wal_autocheckpoint(0)
        self.position = int(self._fetch("SELECT coalesce(max(position), 0) FROM entry")[0][0])

    def append(self, group: Group) -> None:
        """Begin a transaction and put a group in it; ``sync`` ends it, ``undo`` takes it back."""
        entries = [_row(*row) for row in group.entries]
        batches = [_row(*row) for row in group.batches]
        changed = [(crc32(body), body.decode(), at) for at, body in group.rewrites if body is not None]
        gone = [(position,) for position, body in group.rewrites if body is None]
        with plain_errors(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany("INSERT INTO entry VALUES(?, ?, ?)", entries)
            if batches:
                self._writer.executemany("INSERT INTO batch VALUES(?, ?, ?)", batches)
            if changed:
                self._writer.executemany("UPDATE batch SET checksum = ?, body = ? WHERE position = ?", changed)
            if gone:
                self._writer.executemany("DELETE FROM batch WHERE position = ?", gone)

    def sync(self) -> None:
        """Commit what was appended; when this returns it is on disk."""
        with plain_errors(self.path):
            self._writer.execute("COMMIT")

    def undo(self) -> None:
        """Take back what was appended and not synced."""
        if self._writer.in_transaction:
            with plain_errors(self.path):
                self._writer.execute("ROLLBACK")

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file as far as nobody waits for it."""
        with plain_errors(self.path):
            connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                connection.pragma("user_version")  # before its first read a connection knows of no log
                _checkpoint(connection)
            finally:
                connection.close()

    def restart_log(self) -> None:
        """Let the write-ahead log begin anew once it is long; quick after ``checkpoint``, between two groups."""
        with plain_errors(self.path):
            _checkpoint(self._writer)

    def entry(self, position: int) -> Entry | None:
        """Return the entry at a position."""
        rows = self._fetch(f"{_SELECT} WHERE position = ?", position)
        return self._decoded(*rows[0])[1] if rows else None

    def entries(self, after: int) -> Iterator[list[tuple[int, Entry]]]:
        """Yield the entries after a position in chunks."""
        while True:
            rows = self._fetch(f"{_SELECT} WHERE position > ? ORDER BY position LIMIT ?", after, _CHUNK)
            if not rows:
                return
            yield [self._decoded(*row) for row in rows]
            after = rows[-1][0]

    def bodies(self, after: int) -> Iterator[list[tuple[int, bytes]]]:
        """Yield the entries after a position in chunks, checked and not decoded."""
        while True:
            rows = self._fetch(f"{_SELECT} WHERE position > ? ORDER BY position LIMIT ?", after, _BODIES)
            if not rows:
                return
            for position, checksum, body in rows:
                if crc32(body) != checksum:
                    self._checked(f"entry {position}", checksum, body, decode)
            yield [(position, body) for position, _, body in rows]
            after = rows[-1][0]

    def batches(self, positions: Iterable[int]) -> dict[int, BatchRecord]:
        """Return what the batches at some positions brought, as far as it is kept."""
        array = msgspec.json.encode(list(positions)).decode()
        rows = self._fetch(f"{_BATCHES} WHERE position IN (SELECT value FROM json_each(?))", array)
        return dict(self._batch(*row) for row in rows)

    def batches_between(self, first: int, last: int) -> dict[int, BatchRecord]:
        """Return what the batches from one position through another brought, as far as it is kept."""
        rows = self._fetch(f"{_BATCHES} WHERE position BETWEEN ? AND ?", first, last)
        return dict(self._batch(*row) for row in rows)

    def position_at(self, at_ms: int) -> int:
        """Return the position of the last entry that was decided by a time; times go up with the positions."""
        first, last = 0, self.position
        while first < last:
            middle = (first + last + 1) // 2
            rows = self._fetch("SELECT body ->> '$.at_ms' FROM entry WHERE position = ?", middle)
            if rows and rows[0][0] > at_ms:
                last = middle - 1
            else:
                first = middle
        return first

    def owners(self, positions: Iterable[int]) -> list[Trimmed]:
        """Return whose timeline some batches stood on, of those that stood on one; their times are not known."""
        array = msgspec.json.encode(list(positions)).decode()
        rows = self._fetch(_OWNERS, array)
        return [Trimmed(mpid, input_.partition("/")[0], None, at) for at, mpid, input_ in rows if mpid]

    def trimmed_between(self, after: int, through: int, workspaces: Collection[str]) -> list[Trimmed]:
        """Return those batches of some workspaces between two positions that have lost their events."""
        rows = self._fetch(_OWNED, after, through)
        found = [(Trimmed(mpid, input_.partition("/")[0], at_ms, at), gone) for at, mpid, input_, at_ms, gone in rows]
        return [row for row, gone in found if gone and row.mpid and row.workspace in workspaces]

    def setting(self, name: str) -> str | None:
        """Return a value that the server keeps for itself."""
        rows = self._fetch("SELECT value FROM setting WHERE name = ?", name)
        return rows[0][0] if rows else None

    def set_setting(self, name: str, value: str) -> None:
        """Keep a value for the server itself, synced."""
        with plain_errors(self.path):
            self._writer.execute("INSERT OR REPLACE INTO setting VALUES(?, ?)", (name, value))

    def first_setting(self, name: str, value: str) -> str:
        """Keep a value for the server itself unless there is one, synced; return the one that is kept."""
        with plain_errors(self.path):
            self._writer.execute("INSERT OR IGNORE INTO setting VALUES(?, ?)", (name, value))
        return self.setting(name) or value

    def policies(self) -> list[PolicyVersion]:
        """Return every policy version, oldest first."""
        rows = self._fetch(f"{_POLICIES} ORDER BY position, version, scope")
        return [PolicyVersion(*row) for row in rows]

    def add_policy(self, scope: str, at_ms: int, settings: str, made: PolicyOrigin) -> PolicyVersion:
        """Keep new settings of a scope as its next version, synced; return the version.

        It has a connection of its own: a server may be at work, in this process or another.
        """
        with plain_errors(self.path), closing(_connected(self.path)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # closing takes back what was not committed
            rows: list[Any] = connection.execute(f"{_POLICIES} WHERE scope = ? ORDER BY version", (scope,)).fetchall()
            position = int(connection.execute("SELECT coalesce(max(position), 0) + 1 FROM entry").get)
            policy = next_version([PolicyVersion(*row) for row in rows], scope, at_ms, position, settings, made)
            if policy.version > len(rows):
                row = msgspec.structs.astuple(policy)
                connection.execute("INSERT INTO policy VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
        return policy

    def _decoded(self, position: int, checksum: int, body: bytes) -> tuple[int, Entry]:
        return position, self._checked(f"entry {position}", checksum, body, decode)

    def _batch(self, position: int, checksum: int, body: bytes) -> tuple[int, BatchRecord]:
        return position, self._checked(f"batch {position}", checksum, body, decode_batch)

    def _checked(self, what: str, checksum: int, body: bytes, decoded: Callable[[bytes], T]) -> T:
        if crc32(body) != checksum:
            raise StoreDamaged(damage(self.path, f"{what} does not match its checksum"))
        try:
            return decoded(body)
        except msgspec.DecodeError as error:
            raise StoreDamaged(damage(self.path, f"{what}: {error}")) from error


def _row(position: int, body: bytes) -> tuple[int, int, str]:
    return position, crc32(body), body.decode()


def _connected(path: Path) -> apsw.Connection:
    """Return a further connection to a journal; its transactions wait for those of a server, and are synced."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(_WAIT_MS)
    connection.pragma("synchronous", "full")
    connection.wal_autocheckpoint(0)
    return connection


def _checkpoint(connection: apsw.Connection) -> None:
    with suppress(apsw.BusyError):  # another thread is at it
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
