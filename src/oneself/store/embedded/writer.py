"""What writes a data folder: groups into the journal, and beside them rows into the tables (docs/storage.md)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable
from concurrent.futures import ThreadPoolExecutor

import structlog

from oneself.errors import OneselfError
from oneself.store.embedded.journal import Group, JournalFile
from oneself.store.embedded.pending import Generation
from oneself.store.embedded.state import StateFile
from oneself.store.embedded.writing import Piece, pieces_of

__all__ = ["FolderWriter", "ThreadWriter", "Writer"]

_log = structlog.get_logger("oneself.store")


class FolderWriter:
    """Writes both files and waits for the disk; one thread may commit groups while another writes the tables."""

    def __init__(self, journal: JournalFile, state: StateFile) -> None:
        self.journal = journal
        self.state = state
        self.restart_log = False

    def commit(self, group: Group) -> None:
        """Add a group to the journal; when this returns it is on disk, and where it raises nothing of it is there."""
        try:
            self.journal.append(group)
            self.journal.sync()
        except BaseException:
            self.journal.undo()
            raise

    def after_commit(self) -> None:
        """Let the journal's log begin anew where the tables have been written: between two groups that is quick."""
        if self.restart_log:
            self.restart_log = False
            try:
                self.journal.restart_log()
            except OneselfError as error:  # the group is durable all the same; the log grows until the next time
                _log.warning("the log of journal.db cannot be shortened", reason=str(error))

    def write_tables(self, position: int, pieces: Iterable[Piece]) -> None:
        """Bring the tables up to a position of the journal, and move the journal's log into its file.

        Tables that were written before, and what became of it did not get through, stay as they are.
        """
        if self.state.through() < position:
            self.state.write(position, pieces)
        self.journal.checkpoint()
        self.restart_log = True

    def drop_forgotten(self, after: bytes, through: int, limit: int) -> bytes | None:
        """Delete requests through a position among the next keys after one; return the last key, None at the end."""
        return self.state.drop_forgotten(after, through, limit)


class Writer(ABC):
    """Has a data folder written without waiting: one group at a time, and beside it one run of rows."""

    @abstractmethod
    def commit(self, group: Group) -> Awaitable[None]:
        """Begin to make a group durable; it is, when the awaitable ends. Where that raises, nothing was done."""

    @abstractmethod
    async def write_tables(self, rows: Generation, due: asyncio.Event) -> None:
        """Bring the tables up to date with rows, which must not change meanwhile; without haste until more is due."""

    @abstractmethod
    async def drop_forgotten(self, after: bytes, through: int, limit: int) -> bytes | None:
        """Do what ``FolderWriter.drop_forgotten`` does."""

    @abstractmethod
    async def close(self) -> None:
        """End what writes, when it has done what it was asked."""

    @abstractmethod
    def kill(self) -> None:
        """End what writes at once, as far as it has not ended; nothing that was answered is lost."""


class ThreadWriter(Writer):
    """Writes on threads of this process: quick to start, and what it takes of the interpreter others wait for."""

    def __init__(self, files: FolderWriter) -> None:
        self._files = files
        self._commits = ThreadPoolExecutor(1, "oneself-commit")
        self._tables = ThreadPoolExecutor(1, "oneself-tables")

    def commit(self, group: Group) -> Awaitable[None]:
        """Begin to make a group durable."""
        return asyncio.get_running_loop().run_in_executor(self._commits, self._commit, group)

    def _commit(self, group: Group) -> None:
        self._files.commit(group)
        self._files.after_commit()

    async def write_tables(self, rows: Generation, due: asyncio.Event) -> None:  # noqa: ARG002
        """Bring the tables up to date with rows."""
        run = asyncio.get_running_loop().run_in_executor
        await run(self._tables, self._files.write_tables, rows.position, pieces_of(rows))

    async def drop_forgotten(self, after: bytes, through: int, limit: int) -> bytes | None:
        """Do what ``FolderWriter.drop_forgotten`` does."""
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._tables, self._files.drop_forgotten, after, through, limit)

    async def close(self) -> None:
        """End the threads when they have done what they were asked."""
        self.kill()

    def kill(self) -> None:
        """End the threads, which cannot be ended before they have done what they were asked."""
        self._commits.shutdown()
        self._tables.shutdown()
