"""The storage engines that the contract is tested on, each in every state of rest that it can be in.

A ``Backend`` keeps one set of data. ``group`` commits a group of made-up decisions and then brings the store to
that state: rows in memory, in tables, half way between, after a restart or after a crash.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from oneself.identity import Alias, Change, Create, Decision, Identity, Refused, Remove, Request, Revive, Trace
from oneself.journal import Entry
from oneself.store import EmbeddedStore, Reading, Store, Wanted
from oneself.store.embedded import store as embedded
from oneself.store.postgres import PostgresStore
from oneself.store.postgres.commit import Committer
from postgres_server import fresh_schema

SPACE = "acme/production"
INPUT = "shop/web"
AT_MS = int(time.time() * 1000)
"""When decisions were made: lately, since a server that is started on them forgets ids that are old."""


class Draft(NamedTuple):
    """A decision to be kept, made up rather than decided."""

    changes: tuple[Change, ...] = ()
    space: str = SPACE
    input: str = INPUT
    request_id: str = ""
    mpid: int | None = None
    refused: tuple[Refused, ...] = ()


def draft(*changes: Change, request_id: str = "", mpid: int | None = None, space: str = SPACE) -> Draft:
    """Return a decision that makes some changes."""
    return Draft(changes, space, INPUT, request_id, mpid)


def entry_of(made: Draft) -> Entry:
    """Return the journal entry of a draft."""
    trace = Trace("matched", refused=list(made.refused))
    decision = Decision(trace, made.mpid, changes=list(made.changes))
    return Entry(AT_MS, made.space, made.input, 1, Request("identify"), decision, made.request_id)


def wanted_by(drafts: Iterable[Draft]) -> dict[str, Wanted]:
    """Return what a group of drafts must see."""
    spaces: dict[str, Wanted] = {}
    for made in drafts:
        wanted = spaces.setdefault(made.space, Wanted())
        for change in made.changes:
            if isinstance(change, Alias):
                wanted.mpids |= {change.source, change.destination}
            elif isinstance(change, Create | Remove | Revive):
                wanted.mpids.add(change.mpid)
            else:
                wanted.identities.add((change.type, change.value))
                wanted.mpids |= {getattr(change, "mpid", 0)} - {0}
    return spaces


class Backend(ABC):
    """One set of data in a storage engine; ``store`` is open between ``start`` and ``stop``."""

    store: Store

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def make(self) -> Store:
        """Return a store on the data, not yet open."""

    async def start(self) -> None:
        """Open a store on the data."""
        self.store = self.make()
        await self.store.open()

    async def stop(self) -> None:
        """Close the store."""
        await self.store.close()

    async def reopen(self) -> None:
        """Close the store and open the data again."""
        await self.stop()
        await self.start()

    @abstractmethod
    async def crash(self) -> None:
        """Leave the data as a killed process would, and open it again."""

    async def settle(self) -> None:
        """Come to rest after a group, in the way that this backend is there to test."""
        return

    async def group(self, *drafts: Draft) -> list[int]:
        """Commit a group of made-up decisions; return their positions."""
        reading = await self.store.read(wanted_by(drafts), margin=len(drafts))
        positions = [reading.keep(entry_of(made)) for made in drafts]
        await self.store.commit(reading)
        await self.settle()
        return positions

    async def one(self, *changes: Change, request_id: str = "", space: str = SPACE) -> int:
        """Commit one made-up decision; return its position."""
        return (await self.group(draft(*changes, request_id=request_id, space=space)))[0]

    async def see(
        self, *identities: Identity, mpids: Sequence[int] = (), space: str = SPACE, margin: int = 0
    ) -> Reading:
        """Read a part of one space."""
        return await self.store.read({space: Wanted(identities, mpids)}, margin=margin)


class InMemory(Backend):
    """The embedded engine, whose newest rows wait in memory."""

    store: EmbeddedStore

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._held: tuple[threading.Event, asyncio.Task[None]] | None = None

    def make(self) -> EmbeddedStore:
        return EmbeddedStore(self.folder / "data")

    async def stop(self) -> None:
        await self.let_go()
        await super().stop()

    async def crash(self) -> None:
        """Leave the files as a killed process would, and open the data again."""
        await self.let_go()
        await abandon(self.store)
        await self.start()

    async def hold_up(self, *, written: bool) -> None:
        """Begin to write the tables, and stop before or after they are written."""
        await self.let_go()
        held, reached = threading.Event(), threading.Event()
        part, name = (self.store._journal, "checkpoint") if written else (self.store._state, "write")
        original: Callable[..., None] = getattr(part, name)

        def wait(*rows: object) -> None:
            reached.set()
            assert held.wait(60)
            original(*rows)

        setattr(part, name, wait)
        writing = asyncio.create_task(self.store.flush())
        async with asyncio.timeout(30):
            while not reached.is_set() and not writing.done():
                await asyncio.sleep(0.0005)
        setattr(part, name, original)
        self._held = held, writing

    async def let_go(self) -> None:
        """Let the tables be written that were held up."""
        if self._held is not None:
            held, writing = self._held
            self._held = None
            held.set()
            await writing


class InTables(InMemory):
    """The embedded engine, every group written to its tables."""

    async def settle(self) -> None:
        await self.store.flush()


class Frozen(InMemory):
    """The embedded engine, the last group about to be written to its tables."""

    async def settle(self) -> None:
        await self.hold_up(written=False)


class JustWritten(InMemory):
    """The embedded engine, the last group both in its tables and in memory."""

    async def settle(self) -> None:
        await self.hold_up(written=True)


class Reopened(InMemory):
    """The embedded engine, closed and opened after each group."""

    async def settle(self) -> None:
        await self.reopen()


class Crashed(InMemory):
    """The embedded engine, killed after each group."""

    async def settle(self) -> None:
        await self.crash()


class Beside(InMemory):
    """The embedded engine, written by a process of its own."""

    def make(self) -> EmbeddedStore:
        return EmbeddedStore(self.folder / "data", busy=True)


class BesideInTables(Beside):
    """The embedded engine, a process of its own having written every group to the tables."""

    async def settle(self) -> None:
        await self.store.flush()


class Mixed(InMemory):
    """The embedded engine, in any of the states above after each group; ``dice`` choose."""

    dice: random.Random

    async def settle(self) -> None:
        match self.dice.randrange(12):
            case 0:
                await self.let_go()
                await self.store.flush()
            case 1 | 2:
                await self.hold_up(written=False)
            case 3:
                await self.hold_up(written=True)
            case 4:
                await self.let_go()
            case 5:
                await self.reopen()
            case 6:
                await self.crash()


class Postgres(Backend):
    """The PostgreSQL engine, in a schema of its own that goes with the test."""

    store: PostgresStore
    _left: tuple[PostgresStore, ...] = ()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = fresh_schema()

    def make(self) -> PostgresStore:
        return PostgresStore(self.url)

    async def stop(self) -> None:
        await super().stop()
        for store in self._left:
            await store.close()
        self._left = ()

    async def crash(self) -> None:
        """Go on with another server; the one before lets go of its connections only in the end."""
        self._left = (*self._left, self.store)
        await self.start()


class PostgresReopened(Postgres):
    """The PostgreSQL engine, closed and opened after each group."""

    async def settle(self) -> None:
        await self.reopen()


class Contended(Committer):
    """Commits as one does who must reckon with others, whether there are any or not."""

    _alone = property(lambda _: False, lambda _, __: None)  # type: ignore[assignment]


class PostgresShared(Postgres):
    """The PostgreSQL engine, each group by another of two servers that share the data."""

    def make(self) -> PostgresStore:
        store = super().make()
        store.committer = Contended(store.database)
        return store

    async def start(self) -> None:
        self._other = self.make()
        await self._other.open()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await self._other.close()

    async def settle(self) -> None:
        self.store, self._other = self._other, self.store
        await self.store.read({})  # what a server knows of others it learns by reading


async def abandon(store: EmbeddedStore) -> None:
    """Let go of a store as the end of its process would: nothing in memory is written."""
    if store._follower is not None:
        store._follower.cancel()
        await asyncio.wait([store._follower])
    assert store._opened is not None
    store._opened.close()


EMBEDDED: tuple[type[Backend], ...] = (InMemory, InTables, Frozen, JustWritten, Reopened, Crashed)

BESIDE: tuple[type[Backend], ...] = (Beside, BesideInTables)

POSTGRES: tuple[type[Backend], ...] = (Postgres, PostgresReopened, PostgresShared)

BACKENDS: tuple[type[Backend], ...] = (*EMBEDDED, *POSTGRES)
"""Every engine, in every state, that keeps the contract."""

__all__ = [
    "AT_MS", "BACKENDS", "BESIDE", "EMBEDDED", "INPUT", "POSTGRES", "SPACE", "Backend", "Draft", "InMemory", "Mixed",
    "Postgres", "abandon", "draft", "embedded", "entry_of", "wanted_by",
]  # fmt: skip
