"""``journal.db``: the entries in their order, synced to disk before they are answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import apsw
import msgspec

from oneself.errors import StoreDamaged
from oneself.journal import Entry, decode, encode
from oneself.store.contract import PolicyVersion
from oneself.store.embedded.files import DatabaseFile, damage, plain_errors

__all__ = ["JournalFile"]

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
        PRIMARY KEY (scope, version)
    ) STRICT, WITHOUT ROWID;
    """,
)

# As bytes: a damaged body may be no text.
_SELECT = "SELECT position, checksum, CAST(body AS BLOB) FROM entry"

_CHUNK = 1_000


class JournalFile(DatabaseFile):
    """The journal of one data folder. One thread appends while another commits, never both at once.

    ``position`` is that of the last durable entry.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.position = 0
        super().__init__(path, _MIGRATIONS, read_only=read_only)

    def _prepare(self, read_only: bool) -> None:
        if not read_only:
            self._writer.pragma("synchronous", "full")
            # A checkpoint in the path of an answer would hold it up; ``checkpoint`` does it beside.
            self._writer.wal_autocheckpoint(0)
        self.position = int(self._fetch("SELECT coalesce(max(position), 0) FROM entry")[0][0])

    def append(self, entries: Sequence[tuple[int, Entry]]) -> None:
        """Begin a transaction and put entries in it; ``sync`` ends it, ``undo`` takes it back."""
        rows = []
        for position, entry in entries:
            body = encode(entry)
            rows.append((position, crc32(body), body.decode()))
        with plain_errors(self.path):
            self.undo()
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany("INSERT INTO entry VALUES(?, ?, ?)", rows)

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

    def policies(self) -> list[PolicyVersion]:
        """Return every policy version, oldest first."""
        rows = self._fetch(
            "SELECT scope, version, at_ms, position, settings FROM policy ORDER BY position, version, scope"
        )
        return [PolicyVersion(*row) for row in rows]

    def add_policy(self, policy: PolicyVersion) -> None:
        """Keep a policy version, synced."""
        with plain_errors(self.path):
            self._writer.execute("INSERT INTO policy VALUES(?, ?, ?, ?, ?)", msgspec.structs.astuple(policy))

    def _decoded(self, position: int, checksum: int, body: bytes) -> tuple[int, Entry]:
        if crc32(body) != checksum:
            raise StoreDamaged(damage(self.path, f"entry {position} does not match its checksum"))
        try:
            return position, decode(body)
        except msgspec.DecodeError as error:
            raise StoreDamaged(damage(self.path, f"entry {position}: {error}")) from error


def _checkpoint(connection: apsw.Connection) -> None:
    with suppress(apsw.BusyError):  # another thread is at it
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
