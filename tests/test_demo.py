"""The sample shop is the same on every run, changes nothing the second time, and is as its page tells."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from engine_at_work import running
from engines import store_at
from histories import counted
from oneself.demo import Inputs, fill
from oneself.engine import Engine
from oneself.identity import PRESETS, PolicySettings
from oneself.profiles import values_of
from oneself.store import KnownUser, Store
from profile_world import source

BOTH_ENGINES = True

NOW_MS = 1_795_294_533_000
HOUR_MS = 3_600_000
WEB, APP, SERVER = source("web"), source("ios"), source("server")
PAGE = (Path(__file__).parents[1] / "docs/sample-shop.md").read_text()

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Shop(NamedTuple):
    engine: Engine
    store: Store
    inputs: Inputs

    async def play(self, now_ms: int = NOW_MS) -> int:
        return await fill(self.engine, "acme", self.inputs, now_ms)

    async def whose(self, step: str) -> int:
        """The user whom a step of the story is about."""
        [position] = await self.store.find_request(step)
        entry = await self.store.entry(position)
        assert entry is not None
        assert entry.decision.mpid is not None
        return entry.decision.mpid

    async def user(self, step: str) -> KnownUser:
        user = await self.store.user(await self.whose(step), "shop")
        assert user is not None
        return user

    async def attributes(self, step: str) -> dict[str, Any]:
        known = (await self.user(step)).workspace
        return values_of(known.attributes) if known else {}

    async def names(self, step: str) -> list[str]:
        """The names of the events on the timeline of a step's user, oldest first."""
        rows = await self.store.activity(await self.whose(step), "shop")
        records = await self.store.batches([row.position for row in rows])
        kept = [batch for row in reversed(rows) if (batch := records[row.position].batch)]
        return [event.name for batch in kept for event in batch.events]


@asynccontextmanager
async def open_shop(folder: Path, inputs: Inputs, strategy: str = "default") -> AsyncIterator[Shop]:
    store = store_at(folder)
    await store.open()
    try:
        scopes = {"acme": PolicySettings(strategy)}
        async with running(store, scopes, mpids=counted(), clock=lambda: NOW_MS) as engine:
            yield Shop(engine, store, inputs)
    finally:
        await store.close()


ALL = Inputs(WEB, APP, SERVER)
FEW = Inputs(WEB, WEB, SERVER)


@pytest.mark.parametrize("inputs", [ALL, FEW], ids=["with an app", "as a new folder has them"])
async def test_what_is_known_when_the_story_is_told(tmp_path: Path, inputs: Inputs) -> None:
    async with open_shop(tmp_path, inputs) as shop:
        made = await shop.play()
        assert made == shop.store.position
        assert await shop.attributes("ana-signs-up") == {
            "$firstname": "Ana", "favourite": "oolong", "interests": ("tea", "ceramics"), "tier": "gold",
            "orders": "1",
        }  # fmt: skip
        ana = (await shop.user("ana-signs-up")).workspace
        assert ana is not None
        assert ana.consent["gdpr"]["newsletter"].consented
        assert ana.inputs.keys() == {source.input for source in inputs}
        names = await shop.names("ana-signs-up")
        assert names[:3] == ["Teas", "Searched", "$FirstName"]
        assert {"add_to_cart", "purchase"} <= set(names)
        assert "Oolong" not in names, "until the alias takes effect"
        assert "Oolong" in await shop.names("ana-looks-around-in-the-app")

        assert await shop.whose("ben-logs-in") != await shop.whose("cora-logs-in")
        assert (await shop.names("ben-logs-in"))[:2] == ["Pots", "purchase"]
        assert (await shop.names("cora-logs-in"))[:2] == ["Cups", "$FirstName"]
        ben = (await shop.user("ben-returns")).person
        assert ben is not None
        assert ben.opted_out is not None
        assert ben.opted_out.value

        assert await shop.names("dan-signs-up") == ["Wrote to support", "$FirstName", "favourite"]
        assert await shop.names("eve-on-a-broken-page") == ["Checkout"]
        [aside] = await shop.store.quarantined("shop")
        assert (aside.events, aside.reason) == (1, "data.screen_name is missing")

        buyers = [number for number in range(1, 151) if await shop.store.find_request(f"shopper-{number}-buys")]
        assert buyers == list(range(3, 151, 3))
        for number in (1, 3):
            assert (await shop.names(f"shopper-{number}-visits"))[:2] == ["Home", "view_detail"]
        assert "purchase" in await shop.names("shopper-3-signs-up")


async def test_the_second_time_changes_nothing(tmp_path: Path) -> None:
    async with open_shop(tmp_path, FEW) as shop:
        assert await shop.play() > 400
        assert await shop.play(NOW_MS + HOUR_MS) == 0


async def test_it_is_the_same_on_every_run(tmp_path: Path) -> None:
    told = []
    for name in "ab":
        async with open_shop(tmp_path / name, ALL) as shop:
            await shop.play()
            entries = [(position, msgspec.json.encode(entry)) async for position, entry in shop.store.entries()]
            told.append((entries, await shop.store.batches(range(1, shop.store.position + 1))))
    assert told[0] == told[1]


@pytest.mark.parametrize("strategy", PRESETS)
async def test_it_can_be_told_under_every_strategy(tmp_path: Path, strategy: str) -> None:
    async with open_shop(tmp_path, FEW, strategy) as shop:
        assert await shop.play() > 400
        assert await shop.play() == 0
        whole = [row for row in await shop.store.quarantined("shop") if not row.events]
        assert whole == []


async def test_the_page_names_steps_that_there_are(tmp_path: Path) -> None:
    steps = [
        step for line in PAGE.splitlines() if line.startswith("| ") for step in re.findall(r"`([\w-]+)`[,| ]", line)
    ]
    steps = [step for step in steps if "-" in step]
    assert len(steps) > 20
    async with open_shop(tmp_path, FEW) as shop:
        made = await shop.play()
        assert 450 < made < 550, "the page says about five hundred"
        for step in steps:
            assert await shop.store.find_request(step), step
