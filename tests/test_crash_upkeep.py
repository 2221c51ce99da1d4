"""A kill while old data goes: nothing goes that is to be kept, and the tables are what the journal makes of it.

``ONESELF_CRASH_ROUNDS`` sets how often the process is killed; 12 times unless it is given.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from batches import assert_rebuilds
from crash_upkeep_worker import __file__ as WORKER
from oneself.identity import Discard, Expire, Trim
from oneself.store import EmbeddedStore, events_of
from upkeep_world import CONFIG

ROUNDS = int(os.environ.get("ONESELF_CRASH_ROUNDS", "12"))
RETENTIONS = {one.name: one.data_retention_ms for one in CONFIG.workspaces}


class Acknowledged(NamedTuple):
    """A batch whose answer was seen before the process was killed."""

    position: int
    workspace: str
    received_ms: int
    events: int


def test_a_kill_while_old_data_goes_leaves_all_of_what_is_kept(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = str(request.config.getoption("--hypothesis-seed"))
    print(f"repeat with: --hypothesis-seed={seed}")
    dice, data = random.Random(seed), tmp_path / "data"
    account: list[Acknowledged] = []
    for round_ in range(ROUNDS):
        account += _until_killed(data, f"{seed}-{round_}", dice.randrange(1, 120))
        asyncio.run(_look(data, account, tmp_path / f"rebuilt {round_}"))
    assert len({one.position for one in account}) == len(account) > ROUNDS
    done = asyncio.run(_done(data))
    assert {Trim, Expire, Discard} <= done, done


def _until_killed(data: Path, name: str, enough: int) -> list[Acknowledged]:
    """Run the process until it has acknowledged some batches, kill it, and return what it acknowledged."""
    lines: list[bytes] = []
    answered = threading.Event()
    worker = subprocess.Popen([sys.executable, WORKER, str(data), name], stdout=subprocess.PIPE)

    def listen() -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            lines.append(line)
            if len(lines) >= enough:
                answered.set()
        answered.set()

    listening = threading.Thread(target=listen)
    listening.start()
    try:
        assert answered.wait(60)
    finally:
        worker.kill()
        code = worker.wait()
        listening.join()
        assert worker.stdout is not None
        worker.stdout.close()
    assert code == -9
    told = [line.decode().split() for line in lines if line.endswith(b"\n")]
    return [Acknowledged(int(at), workspace, int(received), int(events)) for at, workspace, received, events in told]


async def _look(data: Path, account: list[Acknowledged], rebuilt: Path) -> None:
    """Assert that what is to be kept is there, and that the tables can be made again from the journal."""
    store = EmbeddedStore(data)
    await store.open()
    try:
        last = await store.entry(store.position)
        assert last is not None
        swept = {name: await store.swept(events_of(name)) for name in RETENTIONS}
        records = await store.batches([one.position for one in account])
        for one in account:
            kept_ms = RETENTIONS[one.workspace]
            record = records.get(one.position)
            if not kept_ms or one.received_ms > last.at_ms - kept_ms:
                assert record is not None
                assert record.batch is not None
                assert len(record.batch.events) == one.events
                assert not record.trimmed
            elif one.position <= swept[one.workspace]:
                assert record is None or (record.trimmed and record.batch is not None and not record.batch.events)
    finally:
        await store.close()
    await assert_rebuilds(data, rebuilt)


async def _done(data: Path) -> set[type]:
    """Return what kinds of change the journal has."""
    store = EmbeddedStore(data, read_only=True)
    await store.open()
    try:
        return {type(change) async for _, entry in store.entries() for change in entry.decision.changes}
    finally:
        await store.close()
