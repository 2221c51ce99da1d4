"""Recorded histories for tests: random ones, small ones written by hand, and the sample shop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from batches import event, taken
from engines import place_of
from histories import INPUTS, SCOPES, SPACES, counted, request
from oneself.demo import Inputs, fill
from oneself.engine import Call, Engine, Outcome, adopt_policies
from oneself.identity import AliasRequest, PolicySettings, Request
from oneself.store import Place, Store
from profile_world import NOW_MS, source

__all__ = ["Clock", "Player", "at_work", "fill_shop", "looking", "play"]

SHOP_MS = 1_760_000_000_000


class Clock:
    """A time that goes on by a minute whenever it is looked at."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        self.now_ms += 60_000
        return self.now_ms


@asynccontextmanager
async def at_work(
    place: Path | Place,
    scopes: Mapping[str, PolicySettings] = SCOPES,
    *,
    clock: Callable[[], int] | None = None,
    mpids: Callable[[], int] | None = None,
) -> AsyncIterator[Engine]:
    """An engine at work on a data folder, or on another place."""
    with capture_logs():
        store = (place_of(place) if isinstance(place, Path) else place).store()
        await store.open()
        clock = clock or Clock()
        engine = Engine(store, await adopt_policies(store, scopes, clock), clock=clock, mpids=mpids or counted())
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()
            await store.close()


@asynccontextmanager
async def looking(place: Path | Place) -> AsyncIterator[Store]:
    """A store that looks into a data folder, or another place."""
    store = (Place(place) if isinstance(place, Path) else place).store(read_only=True)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


class Player:
    """Makes random calls of every kind on an engine; later ones name the MPIDs that earlier ones were given."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.mpids: dict[str, list[int]] = {space: [404] for space in SPACES}
        self.aliases: dict[str, list[int]] = {space: [] for space in SPACES}
        self._ids = count()

    def call(self) -> Call:
        """Return a call."""
        dice = self.dice
        space = dice.choice(SPACES)
        scope, _, environment = space.partition("/")
        mpids = self.mpids[space]
        named = dice.choice(mpids[:2] if dice.random() < 0.5 else mpids)
        kind = dice.random()
        if kind < 0.15 and environment == "production":
            who: dict[str, Any] = {"mpid": named} if dice.random() < 0.6 else {
                "user_identities": {"customer_id": f"cu{dice.randrange(6)}"}
            }  # fmt: skip
            events = [event(f"e{n}") for n in range(dice.randrange(4))]
            by = source(dice.choice(("web", "server")), dice.choice(("create_and_update", "only_update")))
            document = {**who, "mp_deviceid": f"de{dice.randrange(6)}", "events": events}
            return taken(document, by, NOW_MS + next(self._ids), scope=scope)
        if kind < 0.2 and self.aliases[space]:
            what = dice.choice(("alias_process", "alias_process", "alias_undo"))
            return Call(space, "/alias", Request(what, position=dice.choice(self.aliases[space])))
        if kind < 0.23:
            return Call(space, "shop/web", Request("alias", alias=AliasRequest(named, dice.choice(mpids))))
        if kind < 0.25:
            return taken({"events": "none"}, source("web"), scope="acme")
        id_ = f"r{next(self._ids)}" if dice.random() < 0.8 else ""
        return Call(space, dice.choice(INPUTS), request(dice, mpids), id_)

    async def play(self, engine: Engine, calls: int) -> list[tuple[Call, Outcome]]:
        """Submit so many calls one after another; return what each came to."""
        made = []
        for _ in range(calls):
            call = self.call()
            outcome = await engine.submit(call)
            self.learn(call, outcome)
            made.append((call, outcome))
        return made

    def learn(self, call: Call, outcome: Outcome) -> None:
        """Remember whom a call was answered with."""
        known = self.mpids[call.space]
        mpid = outcome.decision.mpid
        if mpid is not None and mpid not in known:
            known.insert(-1, mpid)
        if call.request.kind == "alias" and outcome.decision.error is None:
            self.aliases[call.space].append(outcome.position)


def play(folder: Path, calls: Iterable[Call], scopes: Mapping[str, PolicySettings] = SCOPES) -> list[Outcome]:
    """Submit calls one after another to an engine on a data folder; return what they came to."""

    async def run() -> list[Outcome]:
        async with at_work(folder, scopes) as engine:
            return [await engine.submit(call) for call in calls]

    return asyncio.run(run())


def fill_shop(folder: Path, settings: PolicySettings | None = None) -> None:
    """Fill a data folder with the sample shop, in the scope ``default``; the same one every time."""

    async def run() -> None:
        scopes = {"default": settings or PolicySettings()}
        numbers = random.Random("sample shop")
        mpids = iter(lambda: numbers.choice((-1, 1)) * numbers.randrange(1, 2**63), 0)
        async with at_work(folder, scopes, clock=Clock(SHOP_MS), mpids=mpids.__next__) as engine:
            inputs = Inputs(*(source(kind, workspace="default") for kind in ("web", "ios", "server")))
            await fill(engine, "default", inputs, SHOP_MS)

    asyncio.run(run())
