"""Random histories with old data going come to what a slow model says, and a rebuild comes to the same.

The model keeps every batch for ever and asks of each whether it counts still.
"""

from __future__ import annotations

import random
import shutil
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batches import all_devices, event
from oneself.jobs import AliasJob, ExpiryJob, RetentionJob
from oneself.profiles import Parts, update
from oneself.store import events_of
from profile_world import change, source
from rebuilding import assert_backend_rebuilds
from store_factories import Mixed
from upkeep_world import CONFIG, DAY_MS, World, mixed

pytestmark = pytest.mark.anyio

HISTORIES = 8
STEPS = 60
PEOPLE = 6
LIFETIMES = {one.name: one.profile_lifetime_ms for one in CONFIG.workspaces}
RETENTIONS = {one.name: one.data_retention_ms for one in CONFIG.workspaces}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Came(NamedTuple):
    """A batch that was taken in, as it was then."""

    position: int
    mpid: int
    workspace: str
    received_ms: int
    batch: Any


class History:
    """One random history and all that ever came in it."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.came: list[Came] = []
        self.ended: dict[tuple[int, str], int] = {}  # the position at which it last expired
        self.gone: dict[int, int] = {}
        self._numbers = count()

    async def step(self) -> None:
        """Do one thing."""
        what = self.dice.choices(("batches", "time", "retention", "expiry", "stop"), (20, 6, 5, 5, 3))[0]
        if what == "batches":
            await self.batches()
        elif what == "time":
            self.world.later(self.dice.choice((0.5, 5, 20, 40)))
        elif what == "stop":
            await self.stop_in_the_middle()
        else:
            if self.dice.random() < 0.7:
                await self.world.backend_flushed()
            await self.world.round(RetentionJob if what == "retention" else ExpiryJob)

    async def stop_in_the_middle(self) -> None:
        """Let a job do some steps, then end without the rest of its round."""
        steps = self.dice.randrange(1, 6)
        await self.world.round(self.dice.choice((RetentionJob, ExpiryJob, AliasJob)), steps=steps)
        if self.dice.random() < 0.5:
            await self.world.backend.crash()

    async def batches(self) -> None:
        """Take some batches in, in one group."""
        calls = [self._batch() for _ in range(self.dice.choice((1, 1, 2, 5)))]
        outcomes = await self.world.decide(*calls)
        for call, outcome in zip(calls, outcomes, strict=True):
            assert outcome.decision.mpid is not None
            assert call.delivery is not None
            batch = call.delivery.batch
            workspace = batch.source.workspace
            self.came.append(Came(outcome.position, outcome.decision.mpid, workspace, self.world.now_ms, batch))

    def _batch(self) -> Any:
        number, dice, now_ms = next(self._numbers), self.dice, self.world.now_ms
        person = dice.randrange(PEOPLE)
        workspace = dice.choice(("shop", "shop", "lab", "shop" if person % 3 else "forever"))
        by = source(dice.choice(("server", "web", "csv")), workspace=workspace)
        events = [
            event(f"event {dice.randrange(8)}", f"m{number}-{at}", now_ms - dice.randrange(40 * DAY_MS))
            for at in range(dice.randrange(4))
        ]
        if dice.random() < 0.3:
            events.append(change("c", f"{number}", now_ms - dice.randrange(DAY_MS)))
        document = {
            "user_identities": {"customer_id": f"person {person}"},
            "source_request_id": f"r{number}",
            "events": events,
            "user_attributes": {dice.choice("ab"): f"{number}"},
            "mp_deviceid": dice.choice(("", "d1", "d2")),
            "ip": dice.choice(("", "10.0.0.1", "10.0.0.2")),
        }
        return self.world.batch(document, by)

    async def learn(self) -> None:
        """Learn from the journal what expired, and assert that each could."""
        known = set(self.ended.items())
        async for position, entry in self.world.store.entries():
            for made in entry.decision.changes if entry.request.kind == "expiry" else ():
                place = made.mpid, made.workspace
                if (place, position) in known or self.ended.get(place, 0) > position:
                    continue
                counting = [one for one in self.counting(made.mpid, made.workspace) if one.position < position]
                assert counting
                assert max(one.received_ms for one in counting) < entry.at_ms - LIFETIMES[made.workspace]
                self.ended[place] = position
                if made.last:
                    self.gone[made.mpid] = position

    def counting(self, mpid: int, workspace: str) -> list[Came]:
        """Return the batches that a profile in a workspace is made of."""
        since = self.ended.get((mpid, workspace), 0)
        return [one for one in self.came if (one.mpid, one.workspace) == (mpid, workspace) and one.position > since]

    async def compare(self) -> None:
        """Assert that the store tells what all that came makes."""
        await self.learn()
        swept = {name: await self.world.store.swept(events_of(name)) for name in LIFETIMES}
        for name, through in swept.items():
            for one in self.came:
                if one.workspace == name and one.position <= through:
                    assert RETENTIONS[name]
                    assert one.received_ms <= self.world.now_ms - RETENTIONS[name]
        for mpid in {one.mpid for one in self.came}:
            person = None
            for one in self.came:
                if one.mpid == mpid and one.position > self.gone.get(mpid, 0):
                    person = update(Parts(person), one.batch, one.position).parts.person
            for workspace in LIFETIMES:
                await self._compare_place(mpid, workspace, person, swept[workspace])

    async def _compare_place(self, mpid: int, workspace: str, person: Any, through: int) -> None:
        store, row, devices = self.world.store, None, {}
        for one in self.counting(mpid, workspace):
            after = update(Parts(None, row, devices.get(one.batch.device)), one.batch, one.position).parts
            row = after.workspace
            if one.batch.device:
                devices[one.batch.device] = after.device
        user = await store.user(mpid, workspace)
        assert user is not None
        assert (user.person, user.workspace) == (person, row)
        assert await all_devices(store, mpid, workspace) == sorted(devices.items())
        whole = [
            one for one in self.came if one.position > through and (one.mpid, one.workspace) == (mpid, workspace)
        ]
        shown = sorted(((made.at_ms, made.name) for one in whole for made in one.batch.events), reverse=True)
        moments = await self.world.moments(mpid, workspace)
        assert sorted(moment.activity.position for moment in moments) == [one.position for one in whole]
        records = await store.batches([one.position for one in whole])
        told = [(made.at_ms, made.name) for record in records.values() for made in record.batch.events]
        assert sorted(told, reverse=True) == shown


async def test_random_histories_come_to_what_the_model_says(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    trimmed = expired = discarded = 0
    for number in range(HISTORIES):
        seed = f"{request.config.getoption('--hypothesis-seed')} {number}"
        print(f"seed: {seed}")
        done = await random_history(random.Random(seed), tmp_path / str(number))
        trimmed += done["batches_trimmed"]
        expired += done["profiles_expired"]
        discarded += done["batches_discarded"]
    assert min(trimmed, expired, discarded) > 0


async def random_history(dice: random.Random, folder: Path) -> dict[str, int]:
    """Tell a history to a store and to the model; return what the jobs did."""
    backend = mixed(folder, dice)
    await backend.start()
    world = World(backend)
    history = History(world, dice)
    tables, older, copied = backend.folder / "data" / "state.db", folder / "older.db", dice.randrange(STEPS)
    has_tables_aside = isinstance(backend, Mixed)
    try:
        for step in range(STEPS):
            await history.step()
            if step % 6 == 5:
                await history.compare()
            if step == copied and has_tables_aside:
                await backend.stop()
                shutil.copy(tables, older)
                await backend.start()
        await world.grow_old(dice.choice((20, 300)))
        await history.compare()
        await backend.stop()
        await assert_backend_rebuilds(backend, folder / "rebuilt")
        if has_tables_aside:
            shutil.copy(older, tables)  # as far behind as tables can be
        await backend.start()
        await history.compare()
    finally:
        await backend.stop()
    await assert_backend_rebuilds(backend, folder / "rebuilt again")
    return world.counts.done
