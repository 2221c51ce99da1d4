"""Opening the files of a data folder: the lock, the schema versions, and SQLite's errors in plain words."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import apsw

from oneself.errors import OneselfError, StoreDamaged, StoreError, StoreInUse, StoreUnavailable, StoreVersion
from oneself.store.unfinished import is_unfinished, unfinished_copy

__all__ = ["DatabaseFile", "FolderLock", "damage", "plain_errors"]

_WAIT_MS = 5_000

_DEAD_SECONDS = 10.0
"""So long the lock of a server that is dead may still be held by the process that wrote for it."""


class FolderLock:
    """The lock that keeps a second server off a data folder; it ends with the process that holds it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "oneself.lock"
        self._file: int | None = None

    def take(self) -> None:
        """Take the lock; raise ``StoreInUse`` or, where the folder cannot be written, ``StoreError``."""
        try:
            self._path.parent.mkdir(0o700, parents=True, exist_ok=True)  # it will hold personal data
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _folder_error(self._path.parent, error) from error
        try:
            _lock(file)
        except OSError as error:
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip()
            os.close(file)
            who = f" (process {holder})" if holder else ""
            raise StoreInUse(
                f"Another server{who} is using the data folder {self._path.parent}. Stop it first, or give this "
                "one a folder of its own with --data; several servers on the same data need PostgreSQL."
            ) from error
        try:
            os.ftruncate(file, 0)
            os.write(file, f"{os.getpid()}\n".encode())
        except OSError as error:
            os.close(file)
            raise _folder_error(self._path.parent, error) from error
        self._file = file

    @property
    def descriptor(self) -> int:
        """The open lock: a process that has it, too, keeps others off the folder until it ends."""
        assert self._file is not None
        return self._file

    def release(self) -> None:
        """Give the lock back; one that was not taken stays so."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _lock(file: int) -> None:
    """Lock a file; where its holder is dead, wait for what that one started, which is about to end."""
    deadline = time.monotonic() + _DEAD_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline or _lives(os.pread(file, 32, 0)):
                raise
            time.sleep(0.01)
        else:
            return


def _lives(pid: bytes) -> bool:
    """Tell whether there is a process of that number; one that is nobody's is taken to live."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True


def _folder_error(folder: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"The disk of the data folder {folder} is full. Free some space and start again.")
    reason = error.strerror or str(error)
    return StoreError(f"The data folder {folder} cannot be written: {reason}. Check its owner, mode and mount.")


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors on a file into ours."""
    try:
        yield
    except apsw.Error as error:
        raise plain(path, error) from error


def plain(path: Path, error: apsw.Error) -> OneselfError:
    """Return one of SQLite's errors as one of ours: damaged needs somebody, unavailable may pass."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.SQLError):  # SQLError: the tables are not ours
        return StoreDamaged(damage(path, str(error)))
    if isinstance(error, apsw.FullError):
        return StoreUnavailable(f"The disk is full: {path} cannot grow. Free some space.")
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError | apsw.CantOpenError):
        return StoreUnavailable(f"{path} cannot be opened or written: {error}. Check its owner, mode and mount.")
    return StoreUnavailable(f"{path} cannot be used now: {error}.")


def damage(path: Path, reason: str) -> str:
    """Say what is damaged and how to go on without losing anything."""
    if path.name == "state.db":
        return (
            f"{path} is damaged ({reason}). It is derived from journal.db and nothing is lost: move state.db, "
            "state.db-wal and state.db-shm out of the folder and start again to rebuild it."
        )
    return (
        f"{path} is damaged ({reason}). It is the record of every decision: keep a copy of the whole folder, then "
        "put a backup of journal.db and oneself.toml in an empty folder and start there; state.db is rebuilt."
    )


class DatabaseFile:
    """A SQLite file in WAL mode, with a connection that writes and one beside it that reads.

    ``MARK`` is a table that a file of its kind has in every version. Opened ``read_only`` it is one snapshot: a
    server may be writing, and from the first look on all looks agree.
    """

    MARK: ClassVar[str]

    def __init__(self, path: Path, migrations: Sequence[str], *, read_only: bool = False) -> None:
        """Open the file, bringing its schema to the newest version.

        ``migrations[n]`` leads from version n to n + 1 and runs in one transaction. Raises ``StoreVersion`` where
        the file is newer than this code, ``StoreDamaged`` where it is no database of ours. A file that is refused
        stays as it was.
        """
        self.path = path
        if read_only and not path.exists():
            raise StoreUnavailable(f"{path} is not there. Start `oneself serve` on its folder once to make it.")
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        with plain_errors(path):
            self._writer = self._reader = _connected(path, flags)
            try:
                _check_version(self._writer, path, self.MARK, len(migrations), read_only=read_only)
                if read_only:
                    self._reader.execute("BEGIN")
                else:
                    _migrate(self._writer, migrations)
                    self._reader = _connected(path, apsw.SQLITE_OPEN_READONLY)
                self._prepare(read_only)
            except BaseException:
                self.close()
                raise

    def _prepare(self, read_only: bool) -> None:
        """Set the connections up and look at what they need to know."""

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._writer.close()

    def _fetch(self, sql: str, *bindings: object) -> list[Any]:
        try:  # in the path of answers, where a context manager costs as much as the call
            return self._reader.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise plain(self.path, error) from error


def _connected(path: Path, flags: int) -> apsw.Connection:
    """Open a connection that plans a statement once, whatever values it is given."""
    connection = apsw.Connection(str(path), flags=flags)
    connection.set_busy_timeout(_WAIT_MS)
    # SQLite would plan some again for every other value, which takes several times as long as to run them.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    return connection


def _migrate(connection: apsw.Connection, migrations: Sequence[str]) -> None:
    connection.pragma("journal_mode", "wal")
    for number in range(int(connection.pragma("user_version")), len(migrations)):
        with connection:
            connection.execute(migrations[number])
            connection.pragma("user_version", number + 1)


def _check_version(connection: apsw.Connection, path: Path, mark: str, newest: int, *, read_only: bool) -> None:
    version = int(connection.pragma("user_version"))
    if is_unfinished(version):
        raise StoreError(unfinished_copy(str(path.parent)))
    if version and not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = ?", (mark,)).get:
        raise StoreDamaged(damage(path, f"it has no table named {mark}"))
    if version > newest:
        raise StoreVersion(
            f"{path} was written by a newer version of Oneself (schema {version}, this one knows {newest}). "
            "Upgrade Oneself to open it."
        )
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").get:
        raise StoreDamaged(damage(path, "it is a database of another program"))
    if read_only and version < newest:
        raise StoreVersion(f"{path} has schema {version}; start `oneself serve` once to upgrade it.")
