"""Random histories of events and aliases come to what a slow model says, in whatever state the store is."""

from __future__ import annotations

import random
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from alias_model import AliasModel, Asked, Happened
from batches import event
from journal_fold import assert_store_is, fold_of, replay
from oneself.engine import Call
from oneself.identity import AliasRequest, Request
from oneself.jobs import AliasJob
from oneself.store import merged_user
from profile_world import NOW_MS
from rebuilding import assert_backend_rebuilds
from store_factories import SPACE
from upkeep_world import World, mixed

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio

HISTORIES = 12
STEPS = 45
PEOPLE = 5
TIMES = 9
"""Events and windows begin and end at so many times, so that they touch and overlap."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class History:
    """One random history, told to a store and to the model."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.model = AliasModel()
        self.mpids: list[int] = []
        self._names = count()

    async def begin(self) -> None:
        """Let everybody be seen once."""
        for number in range(PEOPLE):
            await self.sends(f"person {number}")

    def time(self) -> int:
        return NOW_MS - 1000 * self.dice.randrange(TIMES)

    async def sends(self, person: str) -> None:
        """Let somebody send a batch, whose events may be far from each other."""
        happened = [(self.time(), f"event {next(self._names)}") for _ in range(self.dice.choice((1, 1, 2, 3)))]
        device = self.dice.choice(("d1", "d2"))
        events = [event(name, at_ms=at_ms) for at_ms, name in happened]
        mpid = await self.world.user(person, events=events, mp_deviceid=device)
        self.model.events += [Happened(mpid, at_ms, name, device) for at_ms, name in happened]
        if mpid not in self.mpids:
            self.mpids.append(mpid)

    async def asks(self) -> None:
        """Ask for some aliases at once."""
        windows, calls = [], []
        for _ in range(self.dice.choice((1, 1, 2, 4))):
            source, destination = self.dice.sample(self.mpids, 2)
            start_ms, end_ms = sorted((self.time(), self.time()))
            device = self.dice.choice(("", "", "", "d1"))
            scope = "device" if device else self.dice.choice(("", "mpid"))
            windows.append((source, destination, start_ms, end_ms, device))
            asked = AliasRequest(source, destination, start_ms, end_ms, scope, device)
            calls.append(Call(SPACE, "shop/web", Request("alias", alias=asked)))
        outcomes = await self.world.decide(*calls)
        for (source, destination, start_ms, end_ms, device), outcome in zip(windows, outcomes, strict=True):
            due_ms = self.world.now_ms + 86_400_000
            self.model.asked.append(Asked(outcome.position, source, destination, start_ms, end_ms, due_ms, device))

    async def decides(self) -> None:
        """Have some aliases decided and others undone in one group, in any order, whether that can be or not."""
        calls, told = [], []
        for alias in self.dice.sample(self.model.asked, min(len(self.model.asked), self.dice.randrange(1, 7))):
            if self.dice.random() < 0.6:
                calls.append(Call(SPACE, "shop/admin", Request("alias_undo", position=alias.position)))
                told.append(self.model.undo(alias.position))
            else:
                calls.append(Call(SPACE, "/alias", Request("alias_process", position=alias.position)))
                told.append(self.model.decide(alias, self.world.now_ms))
        outcomes = await self.world.decide(*calls)
        assert [outcome.decision.error is None for outcome in outcomes] == told

    async def lets_time_go_by(self) -> None:
        """Let some of the aliases come due, and perhaps be decided."""
        self.world.later(self.dice.choice((0.3, 0.5, 1)))
        if self.dice.random() < 0.6:
            self.model.decide_due(self.world.now_ms)
            await self.world.round(AliasJob)

    async def step(self) -> None:
        """Do one thing."""
        what = self.dice.choices(("sends", "asks", "decides", "time"), (6, 8, 6, 6))[0]
        if what == "sends":
            await self.sends(f"person {self.dice.randrange(PEOPLE)}")
        elif what == "asks":
            await self.asks()
        elif what == "decides":
            await self.decides()
        else:
            await self.lets_time_go_by()

    async def compare(self) -> None:
        """Assert that the store tells what the model says."""
        store = self.world.store
        for asked in self.model.asked:
            found = await store.alias(asked.position)
            assert found is not None
            assert (found[0], found[1].outcome, found[1].why) == (SPACE, asked.outcome, asked.why)
        for mpid in self.mpids:
            assert await self.world.events(mpid, page=self.dice.choice((1, 2, 50))) == self.model.shown(mpid)
            user = await merged_user(store, mpid, "shop")
            assert user is not None
            assert user.workspace is not None
            assert user.workspace.first_seen_ms == self.model.first_seen(mpid)


async def test_random_histories_come_to_what_the_model_says(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    decided: Counter[str] = Counter()
    for number in range(HISTORIES):
        seed = f"{request.config.getoption('--hypothesis-seed')} {number}"
        print(f"seed: {seed}")
        decided += await random_history(random.Random(seed), tmp_path / str(number))
    assert {"alias_applied", "alias_dropped", "alias_undone"} <= decided.keys()


async def random_history(dice: random.Random, folder: Path) -> Counter[str]:
    """Tell a history to a store and to the model; return how often aliases came to what end."""
    backend = mixed(folder, dice)
    await backend.start()
    try:
        history = History(World(backend), dice)
        await history.begin()
        for step in range(STEPS):
            await history.step()
            if step % 5 == 4:
                await history.compare()
        await backend.reopen()
        await history.compare()
        await assert_store_is(backend.store, await fold_of(backend.store))
        assert await replay(backend.store) == backend.store.position
        ends = Counter([entry.decision.trace.why async for _, entry in backend.store.entries()])
    finally:
        await backend.stop()
    await assert_backend_rebuilds(backend, folder / "rebuilt")
    return ends
