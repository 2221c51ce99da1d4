"""Engines at work on stores that fail or wait when a test says so, and the calls that tests make."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engines import place_of
from histories import SCOPES, counted
from oneself.engine import Call, Engine, Outcome, adopt_policies
from oneself.errors import StoreUnavailable
from oneself.identity import PolicySettings, Request
from oneself.store import EmbeddedStore, Reading, Store
from oneself.store.embedded.journal import JournalFile
from oneself.store.postgres import PostgresStore
from store_factories import Backend, Postgres

SPACE = "acme/production"
DEVICE = {"device_application_stamp": "d1"}


class Faulty(Store):
    """A store whose commits fail, wait or count when the test says so."""

    def __init__(self, place: Any) -> None:
        super().__init__(place)
        self.fault: BaseException | None = None
        self.gate: asyncio.Event | None = None
        self.groups: list[int] = []

    def begin(self, reading: Reading) -> Awaitable[None]:
        if self.fault is not None:
            raise self.fault
        self.groups.append(len(reading.effects.entries))
        begun = super().begin(reading)
        return begun if self.gate is None else self._wait(self.gate, begun)

    async def _wait(self, gate: asyncio.Event, begun: Awaitable[None]) -> None:
        await gate.wait()
        await begun


class FaultyFolder(Faulty, EmbeddedStore):
    """One of the embedded engine."""


class FaultyDatabase(Faulty, PostgresStore):
    """One of PostgreSQL."""


def faulty(folder: Path) -> Faulty:
    """Return such a store, not yet open, on the data of a folder."""
    place = place_of(folder)
    return FaultyFolder(folder) if place.database is None else FaultyDatabase(place.database)


def faulty_at(backend: Backend) -> Faulty:
    """Return such a store, not yet open, on the data of a backend."""
    return FaultyDatabase(backend.url) if isinstance(backend, Postgres) else FaultyFolder(backend.folder / "data")


class FullDisk(EmbeddedStore):
    """A store whose journal refuses to be synced some times, and waits for ``go`` before each."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refusals = 0
        self.go = threading.Event()
        self.go.set()

    async def open(self) -> None:
        await super().open()
        self._journal.sync = self._sync  # type: ignore[method-assign]

    def _sync(self) -> None:
        assert self.go.wait(20)
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("The disk is full.")
        JournalFile.sync(self._journal)


@asynccontextmanager
async def running(store: Store, scopes: dict[str, PolicySettings] = SCOPES, **options: Any) -> AsyncIterator[Engine]:
    """An engine at work on an open store."""
    options.setdefault("mpids", counted())
    engine = Engine(store, await adopt_policies(store, scopes, lambda: 0), **options)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@asynccontextmanager
async def working(folder: Path, **options: Any) -> AsyncIterator[tuple[Engine, Faulty]]:
    """An engine at work on a store that can be told to fail."""
    store = faulty(folder / "data")
    await store.open()
    try:
        async with running(store, **options) as engine:
            try:
                yield engine, store
            finally:
                store.fault = None
                if store.gate is not None:
                    store.gate.set()
    finally:
        await store.close()


def identify(request_id: str = "", *, read_only: bool = False, input: str = "shop/web", **identities: str) -> Call:
    return Call(SPACE, input, Request("identify", dict(identities or DEVICE)), request_id, read_only)


def logout(request_id: str = "", **identities: str) -> Call:
    return Call(SPACE, "shop/web", Request("logout", dict(identities or DEVICE)), request_id)


async def all_of(engine: Engine, *calls: Call) -> list[Outcome]:
    """Submit calls at once, so that they stand in one group, and return their outcomes."""
    return list(await asyncio.gather(*[engine.submit(made) for made in calls]))
