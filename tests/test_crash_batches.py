"""Every batch that was acknowledged is there after a kill, once: its profile, its place on the timeline, its events.

``ONESELF_CRASH_ROUNDS`` sets how often the process is killed; 15 times unless it is given.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from batches import Known, all_activity, assert_consistent, assert_knows, assert_rebuilds, known_of
from crash_batches_worker import __file__ as WORKER
from crash_batches_worker import sent
from engine_at_work import running
from journal_fold import come_to_rest
from oneself.engine import Outcome
from oneself.store import EmbeddedStore, Store

ROUNDS = int(os.environ.get("ONESELF_CRASH_ROUNDS", "15"))
SENT_AGAIN = 200


class Acknowledged(NamedTuple):
    """A batch whose answer was seen before the process was killed."""

    name: str
    number: int
    position: int


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """The seed of this run, which is printed."""
    seed = str(request.config.getoption("--hypothesis-seed"))
    print(f"repeat with: --hypothesis-seed={seed}")
    return seed


def test_batches_that_were_acknowledged_are_there_once_after_any_number_of_kills(tmp_path: Path, seed: str) -> None:
    dice, data = random.Random(seed), tmp_path / "data"
    account: list[Acknowledged] = []
    for round_ in range(ROUNDS):
        name = f"{seed}-{round_}"
        fresh = _load_until_killed(data, name, dice.uniform(0, 0.4))
        account += fresh
        asyncio.run(_after_a_kill(data, fresh, dice, whole=round_ % 5 == 4))
        asyncio.run(_send_again(data, account, fresh, dice))
    assert len({(one.name, one.number) for one in account}) == len(account) > ROUNDS
    asyncio.run(_at_the_end(data, account, tmp_path / "rebuilt"))


def _load_until_killed(data: Path, name: str, seconds: float) -> list[Acknowledged]:
    """Run the process for a while after its first answer, kill it, and return what it acknowledged."""
    lines: list[bytes] = []
    answered = threading.Event()
    worker = subprocess.Popen([sys.executable, WORKER, str(data), name], stdout=subprocess.PIPE)
    assert worker.stdout is not None

    def listen() -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            lines.append(line)
            answered.set()

    listening = threading.Thread(target=listen)
    listening.start()
    try:
        assert answered.wait(60)
        time.sleep(seconds)
    finally:
        worker.kill()
        code = worker.wait()
        listening.join()
        worker.stdout.close()
    assert code == -9
    come_to_rest(data)
    told = [line.split() for line in lines if line.endswith(b"\n")]
    return [Acknowledged(name, int(number), int(position)) for number, position in told]


async def _after_a_kill(data: Path, fresh: list[Acknowledged], dice: random.Random, *, whole: bool) -> None:
    """Look at what the kill left, with the tables as far behind as they are."""
    store = EmbeddedStore(data, read_only=True)
    await store.open()
    try:
        known = await known_of(store)
        await _assert_there_once(store, known, fresh)
        if whole:
            await assert_knows(store, known)
    finally:
        await store.close()


async def _assert_there_once(store: Store, known: Known, account: list[Acknowledged]) -> None:
    for one in account:
        call = sent(one.name, one.number)
        assert known.found[call.request_id] == [one.position]
        entry = await store.entry(one.position)
        assert entry is not None
        assert (entry.request, entry.request_id, entry.input) == (call.request, call.request_id, call.input)
        record, brought = known.batches.get(one.position), call.delivery
        assert brought is not None
        if entry.decision.trace.why == "user_unknown":
            assert record is None
            continue
        assert record is not None
        if entry.decision.error is not None:
            assert (record.batch, record.document) == (None, brought.document)
            continue
        assert (record.batch, record.quarantined) == (brought.batch, brought.quarantined)
        mpid, workspace = entry.decision.mpid, entry.input.partition("/")[0]
        if mpid is None:
            continue
        assert record.batch is not None
        before = record.batch.at_ms, one.position + 1
        [row] = await store.activity(mpid, workspace, before=before, limit=1)
        assert (row.position, row.at_ms, row.events) == (one.position, record.batch.at_ms, len(record.batch.events))
        user = await store.user(mpid, workspace)
        assert user is not None
        assert (user.person, user.workspace) == (known.people[mpid], known.workspaces[mpid, workspace])


async def _send_again(
    data: Path, account: list[Acknowledged], fresh: list[Acknowledged], dice: random.Random
) -> None:
    """Repeat batches: those that were acknowledged change nothing, the others are taken in if they were not."""
    store = EmbeddedStore(data)
    await store.open()
    try:
        async with running(store, mpids=None) as engine:
            before = await known_of(store)
            some = dice.sample(account, min(len(account), SENT_AGAIN)) + fresh[-SENT_AGAIN:]
            outcomes = await asyncio.gather(*[engine.submit(sent(one.name, one.number)) for one in some])
            for one, outcome in zip(some, outcomes, strict=True):
                assert (outcome.repeated, outcome.position) == (True, one.position)
            assert vars(await known_of(store)) == vars(before)
            answered = {one.number for one in fresh}
            lost = [number for number in range(max(answered) + 30) if number not in answered]
            calls = [sent(fresh[0].name, number) for number in lost]
            first: list[Outcome] = await asyncio.gather(*[engine.submit(call) for call in calls])
            again: list[Outcome] = await asyncio.gather(*engine.submit_all(calls))
            for one_, other in zip(first, again, strict=True):
                assert (other.repeated, other.position, other.decision) == (True, one_.position, one_.decision)
    finally:
        await store.close()


async def _at_the_end(data: Path, account: list[Acknowledged], elsewhere: Path) -> None:
    store = EmbeddedStore(data)
    await store.open()
    try:
        known = await assert_consistent(store)
        await _assert_there_once(store, known, account)
        rows = [row for place in known.workspaces for row in await all_activity(store, *place)]
        assert len(rows) == len({row.position for row in rows})
    finally:
        await store.close()
    await assert_rebuilds(data, elsewhere)
