"""The embedded store: the journal, the tables that follow it, and the rows in memory between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import structlog

from oneself.errors import OneselfError, StoreDamaged, StoreError, StoreUnavailable
from oneself.journal import Entry
from oneself.store.embedded.files import FolderLock, damage
from oneself.store.embedded.identities import Identities
from oneself.store.embedded.journal import JournalFile, group_of
from oneself.store.embedded.pending import Generation
from oneself.store.embedded.process_writer import ProcessWriter
from oneself.store.embedded.recovery import Recovery
from oneself.store.embedded.state import StateFile
from oneself.store.embedded.sweeps import Sweeps
from oneself.store.embedded.writer import FolderWriter, ThreadWriter
from oneself.store.policies import CONFIGURED, PolicyOrigin, PolicyVersion
from oneself.store.reading import Reading, Wanted

__all__ = ["EmbeddedStore"]

_log = structlog.get_logger("oneself.store")

FLUSH_ROWS = 40_000
"""The tables are brought up to date when about this many rows wait in memory …"""

FLUSH_SECONDS = 5.0
"""… or when the oldest of them has waited this long."""

RETRY_SECONDS = 5.0
"""After this long the tables are tried again where they could not be written."""

_FULL_ROWS = 10 * FLUSH_ROWS


class EmbeddedStore(Recovery, Sweeps, Identities):
    """One data folder, for one server at a time; ``read_only`` looks into a folder, even one being served.

    ``read`` runs on the calling thread. Both files are written elsewhere: on threads, or, ``busy``, by a process of
    its own, which takes a while to start and then leaves all of this process's interpreter to it.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, busy: bool = False) -> None:
        self.folder = folder
        self._read_only = read_only
        self._busy = busy
        self._lock = FolderLock(folder)
        self._journal: JournalFile
        self._state: StateFile
        self._active = Generation(0)
        self._frozen: Generation | None = None
        self._staged: Generation | None = None
        self._staged_entries: dict[int, Entry] = {}
        self._guarded: dict[bytes, tuple[str, str, str, str, int]] = {}
        self._event_names: dict[str, set[str]] = {}
        self._swept: dict[str, int] = {}
        self._writer: ThreadWriter | ProcessWriter
        self._sweeper: ThreadPoolExecutor
        self._opened: ExitStack | None = None
        self._follower: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()
        self._due = asyncio.Event()
        self._flushed = asyncio.Event()
        self._written = 0
        self.failure: OneselfError | None = None

    # -- opening and closing -----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the folder and fold in what the tables lack of the journal."""
        with ExitStack() as opened:
            self._open_files(opened)
            progress = self._state.progress
            if progress > self._journal.position:
                raise StoreDamaged(
                    f"{self.folder}: state.db has seen decision {progress}, but journal.db ends at "
                    f"{self._journal.position}. Restore the newest journal.db; if that is the newest, move "
                    "state.db, state.db-wal and state.db-shm out of the folder and start again to rebuild it."
                )
            self._guarded = self._state.guarded()
            self._event_names = {}
            self._add_event_names(self._state.event_names())
            self._swept = self._state.swept()
            self._active, self._frozen = Generation(progress), None
            self._written = progress
            self.failure = None
            await self._open_writer(opened)
            self._sweeper = ThreadPoolExecutor(1, "oneself-sweep")
            opened.callback(self._sweeper.shutdown)
            await self._recover(progress)
            if not self._read_only:
                self._state.hold()
            self._opened = opened.pop_all()
        if not self._read_only:
            self._follower = asyncio.create_task(self._follow())

    def beside(self) -> EmbeddedStore:
        """Return a read only store on the same folder, not yet open."""
        return EmbeddedStore(self.folder, read_only=True)

    def _open_files(self, opened: ExitStack) -> None:
        journal, state = self.folder / "journal.db", self.folder / "state.db"
        if self._read_only:
            if not journal.exists():
                raise StoreUnavailable(f"{self.folder} holds no data. Name the folder with --data DIR.")
            # The tables first: a server may be writing, and they must not come to be ahead of the journal.
            self._state = opened.enter_context(closing(StateFile(state, read_only=True)))
            self._journal = opened.enter_context(closing(JournalFile(journal, read_only=True)))
            return
        self._lock.take()
        opened.callback(self._lock.release)
        if _size(state) and not _size(journal):  # an empty file would be taken for a new journal
            raise StoreDamaged(damage(journal, "it is missing or empty, and state.db is not"))
        self._journal = opened.enter_context(closing(JournalFile(journal)))
        self._state = opened.enter_context(closing(StateFile(state)))

    async def _open_writer(self, opened: ExitStack) -> None:
        if self._busy and not self._read_only:
            self._writer = ProcessWriter(self.folder, self._lock.descriptor)
            await self._writer.start()
        else:
            self._writer = ThreadWriter(FolderWriter(self._journal, self._state))
        opened.callback(self._writer.kill)

    async def close(self) -> None:
        """Write what waits in memory and release the folder."""
        if self._follower is not None:
            self._due.set()
            async with self._flushing:  # what it has begun to write, it ends
                self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None
        if self._opened is None:
            return
        opened, self._opened = self._opened, None
        with opened:
            if not self._read_only and self.failure is None:
                try:
                    await self.flush()
                except OneselfError as error:  # nothing is lost: the next start folds it in
                    _log.warning("state.db was not brought up to date", reason=str(error))
            await self._writer.close()

    async def _recover(self, progress: int) -> None:
        """Fold the journal's tail into memory, flushing on the way where there is much of it."""
        async for reading in self._refold(progress):
            self._take(reading)
            if not self._read_only and self._active.rows >= FLUSH_ROWS:
                await self.flush()

    # -- the path of an answer ---------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The position of the last durable entry."""
        return self._journal.position

    async def read(self, wanted: Mapping[str, Wanted], requests: Sequence[bytes] = (), *, margin: int = 0) -> Reading:
        """Return views of the wanted parts of each space, and which request keys were answered."""
        if self._active.rows >= _FULL_ROWS:
            await self._wait_for_tables()
        return self._read(wanted, requests, margin)

    def begin(self, reading: Reading) -> Awaitable[None]:
        """Append the entries and begin to sync them; their rows are seen at once, and kept once they are on disk."""
        entries = reading.effects.entries
        if not entries:
            return asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        assert self._staged is None, "one commit at a time"
        durable = self._writer.commit(group_of(entries, reading.effects.batches, reading.effects.rewrites))
        self._staged = Generation(entries[-1][0])
        self._staged.take(reading.effects, entries[-1][0])
        self._staged_entries = dict(entries)
        return asyncio.ensure_future(self._end(reading, durable))

    async def _end(self, reading: Reading, durable: Awaitable[None]) -> None:
        """Wait for the disk; then keep the staged rows, or forget them."""
        try:
            await durable
        except StoreError as error:
            self.failure = error
            raise
        else:
            self._take(reading)
        finally:
            self._staged, self._staged_entries = None, {}
        if self._active.rows >= FLUSH_ROWS:
            self._due.set()

    async def _wait_for_tables(self) -> None:
        """Hold a group up while too many rows wait in memory; the queue before it then refuses more."""
        self._flushed.clear()
        self._due.set()
        try:
            async with asyncio.timeout(2 * FLUSH_SECONDS):
                await self._flushed.wait()
        except TimeoutError:
            raise StoreUnavailable(f"{self.folder / 'state.db'} cannot follow the journal.") from None

    def _take(self, reading: Reading) -> None:
        effects = reading.effects
        last = effects.entries[-1][0]
        self._journal.position = max(self._journal.position, last)
        self._active.take(effects, last)
        if effects.event_names:
            self._add_event_names(effects.event_names)
        self._swept |= effects.swept
        for key, guard in effects.guarded.items():
            if guard is None:
                self._guarded.pop(key, None)
            else:
                self._guarded[key] = guard

    def _add_event_names(self, names: Iterable[tuple[str, str]]) -> None:
        for workspace, name in names:
            self._event_names.setdefault(workspace, set()).add(name)

    def _generations(self) -> list[Generation]:
        """Return what the tables may lack, oldest first, but for what is not on disk yet."""
        return [self._active] if self._frozen is None else [self._frozen, self._active]

    def _seen(self) -> list[Generation]:
        """Return what a reading sees beside the tables, oldest first."""
        generations = self._generations()
        if self._staged is not None:
            generations.append(self._staged)
        return generations

    # -- the tables follow -------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Bring the tables up to date with the journal."""
        last = self._active.position
        while self._written < last:
            await self._flush_generation(at_once=True)

    async def _flush_generation(self, *, at_once: bool = False) -> None:
        """Write what waits, without haste unless it is wanted ``at_once``, or until more is due."""
        async with self._flushing:
            if at_once:
                self._due.set()
            else:
                self._due.clear()
            if self._frozen is None:
                if self._active.position == self._written:
                    return
                self._frozen, self._active = self._active, Generation(self._active.position)
            frozen = self._frozen
            with self._state.being_written():
                await self._writer.write_tables(frozen, self._due)
            self._written = frozen.position
            self._frozen = None
            self._flushed.set()
            for _ in frozen.shed():
                await asyncio.sleep(0)

    async def _follow(self) -> None:
        """Flush whenever enough rows wait, or some have waited long enough; try again where that fails."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._due.wait()
            try:
                await self._flush_generation()
            except StoreError as error:
                _log.error("state.db is damaged", reason=str(error))
                self.failure = error
                return
            except Exception as error:  # nothing is lost: the journal has every row
                if isinstance(error, OneselfError):
                    _log.warning("state.db cannot follow the journal", reason=str(error))
                else:
                    _log.error("state.db cannot follow the journal", exc_info=error)
                await asyncio.sleep(RETRY_SECONDS)

    # -- looking things up -------------------------------------------------------------------------------------

    async def existing(self, mpids: Sequence[int]) -> set[int]:
        """Return those of some MPIDs that were ever given to a profile."""
        found = {mpid for rows in self._seen() for mpid in mpids if mpid in rows.profiles}
        return found | {profile.mpid for _, profile in self._state.profiles(mpids)}

    async def entry(self, position: int) -> Entry | None:
        """Return the journal entry at a position."""
        return self._staged_entries.get(position) or self._journal.entry(position)

    async def entries(self, after: int = 0) -> AsyncIterator[tuple[int, Entry]]:
        """Yield the journal in its order."""
        for chunk in self._journal.entries(after):
            for row in chunk:
                yield row

    async def bodies(self, after: int = 0) -> AsyncIterator[list[tuple[int, bytes]]]:
        """Yield the journal in its order, not decoded."""
        for chunk in self._journal.bodies(after):
            yield chunk

    async def policies(self) -> list[PolicyVersion]:
        """Return every policy version, oldest first."""
        return self._journal.policies()

    async def add_policy(
        self, scope: str, at_ms: int, settings: str, made: PolicyOrigin = CONFIGURED
    ) -> PolicyVersion:
        """Keep new settings of a scope as its next version."""
        add = partial(self._journal.add_policy, scope, at_ms, settings, made)
        return await asyncio.get_running_loop().run_in_executor(self._sweeper, add)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
