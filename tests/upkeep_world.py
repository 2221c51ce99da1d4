"""A store, an engine and the jobs beside it, on a clock that a test sets.

``World`` keeps its data in a ``Backend``, which comes to rest after every step in the way that it is there to test.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from batches import event, taken
from engine_at_work import running
from engines import place_of
from histories import mpid_of
from oneself.config import Config, Workspace
from oneself.engine import Call, Engine, Outcome
from oneself.identity import AliasRequest, PolicySettings, Request, build
from oneself.jobs import AliasJob, Counts, ExpiryJob, Job, RetentionJob, Work
from oneself.profiles import Source
from oneself.store import Moment, timeline
from oneself.store.keys import event_key
from profile_world import NOW_MS, source
from store_factories import SPACE, Backend, InMemory, Mixed, PostgresShared

DAY_MS = 86_400_000
POLICY = PolicySettings("default", alias_delay="1d", max_known_profiles_per_value=0, max_values_per_profile=0)
SHOP = Workspace(1, "shop", 1, 1, "acme", data_retention_ms=30 * DAY_MS, profile_lifetime_ms=90 * DAY_MS)
LAB = Workspace(2, "lab", 1, 1, "acme", data_retention_ms=200 * DAY_MS, profile_lifetime_ms=45 * DAY_MS)
FOREVER = Workspace(3, "forever", 1, 1, "acme", data_retention_ms=0, profile_lifetime_ms=0)
CONFIG = Config(workspaces=(SHOP, LAB, FOREVER), scopes={"acme": POLICY}, policies={"acme": build(POLICY)})

SHOP_SERVER = source("server")
LAB_SERVER = source("server", workspace="lab")
FOREVER_SERVER = source("server", workspace="forever")


def counted() -> Iterator[int]:
    """Yield ``mpid_of(1)``, ``mpid_of(2)`` and so on."""
    number = 0
    while True:
        number += 1
        yield mpid_of(number)


class World:
    """The data of a few workspaces that share a scope, and the time."""

    def __init__(self, backend: Backend, config: Config = CONFIG) -> None:
        self.backend = backend
        self.config = config
        self.now_ms = NOW_MS
        self.counts = Counts()
        self._mpids = counted()

    @property
    def store(self) -> Any:
        return self.backend.store

    def later(self, days: float) -> None:
        """Let time go by."""
        self.now_ms += int(days * DAY_MS)

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        """An engine on the store as it is now; the backend comes to rest behind it."""
        made = running(self.store, self.config.scopes, mpids=self._mpids.__next__, clock=lambda: self.now_ms)
        async with made as engine:
            yield engine
        await self.backend.settle()

    async def decide(self, *calls: Call) -> list[Outcome]:
        """Have calls decided, in one group."""
        async with self.engine() as engine:
            return list(await asyncio.gather(*engine.submit_all(calls)))

    async def take(self, document: Any, by: Source = SHOP_SERVER) -> Outcome:
        """Take a batch in now."""
        return (await self.decide(self.batch(document, by)))[0]

    def batch(self, document: Any, by: Source = SHOP_SERVER) -> Call:
        """Return the call that takes a batch in now."""
        return taken(document, by, self.now_ms)

    async def user(self, name: str, **more: Any) -> int:
        """Send an event of a user, by customer id, a minute ago; return the MPID."""
        document = {"user_identities": {"customer_id": name}, "events": [event(at_ms=self.now_ms - 60_000)]} | more
        mpid = (await self.take(document)).decision.mpid
        assert mpid is not None
        return mpid

    async def alias(
        self,
        source: int,
        destination: int,
        start_ms: int | None = None,
        end_ms: int | None = None,
        *,
        device: str = "",
    ) -> int:
        """Ask for an alias; return its position."""
        asked = AliasRequest(source, destination, start_ms, end_ms, "device" if device else "", device)
        outcome = (await self.decide(Call(SPACE, "shop/web", Request("alias", alias=asked))))[0]
        assert outcome.decision.error is None, outcome.decision.error
        return outcome.position

    async def undo(self, position: int) -> Outcome:
        """Undo an alias."""
        return (await self.decide(Call(SPACE, "shop/admin", Request("alias_undo", position=position))))[0]

    @asynccontextmanager
    async def job(self, kind: Callable[[Work], Job]) -> AsyncIterator[Job]:
        """A job beside an engine."""
        async with self.engine() as engine:
            yield kind(Work(engine, self.config, lambda: self.now_ms, self.counts))

    async def round(self, kind: Callable[[Work], Job], *, steps: int | None = None) -> int:
        """Let a job do a round, or only some steps of it; return how many steps it did.

        Tables that are held up are let go first: old rows leave them by the thread that writes them.
        """
        await self.let_go()
        done = 0
        async with self.job(kind) as job:
            made = job.round()
            async for _ in made:
                done += 1
                if done == steps:
                    break
            await made.aclose()
        return done

    async def aliases_due(self) -> None:
        """Have the aliases decided that are due."""
        await self.round(AliasJob)

    async def grow_old(self, days: float = 0) -> None:
        """Let time go by, then let old data go; what that brings about is dealt with at once, too."""
        self.later(days)
        await self.backend_flushed()
        await self.round(RetentionJob)
        await self.round(ExpiryJob)
        await self.backend_flushed()
        await self.round(RetentionJob)

    async def backend_flushed(self) -> None:
        """Bring the tables up to date, since jobs look there."""
        await self.let_go()
        if isinstance(self.backend, InMemory):
            await self.backend.store.flush()

    async def let_go(self) -> None:
        """Let the tables be written, where the backend holds them up."""
        if isinstance(self.backend, InMemory):
            await self.backend.let_go()

    async def events(self, mpid: int, workspace: str = "shop", page: int = 3) -> list[tuple[int, str]]:
        """Return ``(time, name)`` of the events on a timeline, read page by page."""
        found = []
        for moment in await self.moments(mpid, workspace, page):
            record = (await self.store.batches([moment.activity.position]))[moment.activity.position]
            assert record.batch is not None
            shown = [one for one in record.batch.events if moment.shows(one.at_ms)]
            assert shown or moment.alias is not None
            found += [(one.at_ms, one.name) for one in shown]
        return sorted(found, reverse=True)

    async def moments(self, mpid: int, workspace: str = "shop", page: int = 3) -> list[Moment]:
        """Return a whole timeline, read page by page, after a check of its order."""
        moments: list[Moment] = []
        before = None
        while some := await timeline(self.store, mpid, workspace, before=before, limit=page):
            assert len(some) <= page
            moments += some
            before = some[-1].activity.at_ms, some[-1].activity.position
        places = [(moment.activity.at_ms, moment.activity.position) for moment in moments]
        assert places == sorted(set(places), reverse=True)
        return moments


def mixed(folder: Path, dice: random.Random) -> Backend:
    """Return a backend that comes to rest in any state: of a folder those are many."""
    if place_of(folder).database is not None:
        return PostgresShared(folder)
    backend = Mixed(folder)
    backend.dice = dice
    return backend


def key_of(by: Source, id_: str) -> bytes:
    """Return the key of an event."""
    return event_key(by.input, id_)
