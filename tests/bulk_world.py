"""Imports into a folder, without a command, and what the folder then has of each row."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from engines import place_of, store_at
from import_worker import __file__ as WORKER
from oneself.bulk import Counts, EngineTaker, Import, Job, Settings
from oneself.config import Config, load
from oneself.engine import Engine, adopt_policies
from oneself.engine.engine import clock_ms
from oneself.engine.sources import sources_of
from oneself.journal import BatchRecord, Entry
from oneself.profiles import values_of
from oneself.store import Store, Wanted

CONFIG = """
[[workspace]]
id = 1
name = "shop"

[[input]]
workspace = "shop"
name = "server"
kind = "server"
key = "server-key"
secret = "server-secret"

[[input]]
workspace = "shop"
name = "web"
kind = "web"
key = "web-key"
secret = "web-secret"

[[input]]
workspace = "shop"
name = "feed"
kind = "csv"
key = "feed-key"
secret = "feed-secret"

[[input]]
workspace = "shop"
name = "careful"
kind = "csv"
key = "careful-key"
secret = "careful-secret"
protection = "only_update"

[scope.shop]
"""


def configured(folder: Path, policy: str = "") -> Config:
    """Return the sample configuration, with settings of its scope, written to a folder."""
    path = folder / "oneself.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONFIG + policy)
    return load(path, {})


class Desk:
    """A folder's data, and a desk at which files are imported into it."""

    def __init__(self, folder: Path, store: Callable[[Path], Store] = store_at, policy: str = "") -> None:
        self.folder = folder
        self.config = configured(folder, policy)
        self.rejects = folder / "rejects.jsonl"
        self.store_type = store

    def take(self, *paths: Path, **how: Any) -> Counts:
        """Import files to their end and return what became of the rows."""
        run = asyncio.run(self.run(*paths, **how))
        assert run.done
        return run.counts

    async def run(
        self,
        *paths: Path,
        input: str = "shop/server",
        environment: str | None = None,
        historical: bool = False,
        watch: Callable[[Import], None] = lambda _: None,
        **settings: Any,
    ) -> Run:
        """Import files; ``watch`` is called after each chunk."""
        job = Job.of(paths, Settings(**settings), input, environment)
        async with self.engine() as engine:
            source = sources_of(self.config)[input]
            taker = EngineTaker(engine, source, scope="shop", historical=historical, max_event_names=1_000)
            one = Import(job, taker, self.folder / "import.json", self.rejects)
            done = await one.run(lambda _read, _counts: watch(one))
        return Run(done, one.counts, one.resumed_rows)

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        """An engine at work on the folder."""
        store = self.store_type(self.folder / "data")
        await store.open()
        try:
            engine = Engine(store, await adopt_policies(store, self.config.scopes, clock_ms), max_group=1_000)
            await engine.start()
            try:
                yield engine
            finally:
                await engine.stop()
        finally:
            await store.close()

    def rejected(self) -> list[dict[str, Any]]:
        """Return the rejects file."""
        return read_rejects(self.rejects)

    def batches(self) -> list[tuple[Entry, BatchRecord]]:
        """Return every batch that was taken in, in the journal's order."""
        return asyncio.run(batches_of(self.folder / "data"))

    def attributes(self, *customers: str, environment: str = "production") -> list[dict[str, Any] | None]:
        """Return the user attributes of customers, None for an unknown one."""
        return asyncio.run(attributes_of(self.folder / "data", customers, f"shop/{environment}"))


class Run(msgspec.Struct):
    """How a run of an import ended."""

    done: bool
    counts: Counts
    resumed_rows: int


def read_rejects(path: Path) -> list[dict[str, Any]]:
    """Return a rejects file; empty where there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def batches_of(folder: Path) -> list[tuple[Entry, BatchRecord]]:
    """Return every batch of a folder that was taken in."""
    store = store_at(folder, read_only=True)
    await store.open()
    try:
        entries = {position: entry async for position, entry in store.entries()}
        records = await store.batches(list(entries))
        return [(entries[position], record) for position, record in records.items() if record.batch is not None]
    finally:
        await store.close()


async def attributes_of(folder: Path, customers: Sequence[str], space: str) -> list[dict[str, Any] | None]:
    """Return the user attributes of customers in the workspace shop."""
    store = store_at(folder, read_only=True)
    await store.open()
    try:
        wanted = [("customerid", customer) for customer in customers]
        view = (await store.read({space: Wanted(wanted)})).views[space]
        found: list[dict[str, Any] | None] = []
        for identity in wanted:
            holders = view.holders[identity]
            assert len(holders) <= 1
            user = await store.user(holders[0][1], "shop") if holders else None
            assert user is None or user.workspace is not None
            found.append(None if user is None else values_of(user.workspace.attributes))
        return found
    finally:
        await store.close()


def request_ids(batches: list[tuple[Entry, BatchRecord]]) -> Counter[str]:
    """Return how often each request id was taken in."""
    return Counter(entry.request_id for entry, _ in batches)


def start_import(folder: Path, *files: Path, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start an import in a process of its own."""
    url = place_of(folder / "data").database
    place = ("--data", str(folder / "data")) if url is None else ("--database", url)
    config = ("--config", str(folder / "data" / "oneself.toml"))
    options = (
        *options,
        *place,
        *config,
        "--rejects",
        str(folder / "rejects.jsonl"),
        "--input",
        "shop/server",
        "--json",
    )
    return subprocess.Popen(
        [sys.executable, WORKER, *map(str, files), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
