"""The process that writes a data folder: it may die at any moment, and so may the server (docs/storage.md)."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from journal_fold import Tables, assert_store_is, fold_of
from oneself.errors import StoreError, StoreInUse, StoreUnavailable
from oneself.identity import Create, Link, Unlink
from oneself.store import EmbeddedStore
from oneself.store.embedded import process_writer as module
from oneself.store.embedded.process_writer import ProcessWriter
from store_factories import Beside, Draft, draft, embedded

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Beside]:
    """A store that is written by a process, its tables where a test says so."""
    monkeypatch.setattr(embedded, "FLUSH_SECONDS", 3600.0)
    made = Beside(tmp_path)
    await made.start()
    yield made
    async with asyncio.timeout(30):
        await made.stop()


def process_of(store: EmbeddedStore) -> subprocess.Popen[bytes]:
    """Return the process that writes for a store."""
    assert isinstance(store._writer, ProcessWriter)
    return store._writer._running.process


def people(first: int, count: int) -> list[Draft]:
    """New profiles, half of which lose what they hold at once."""
    made = []
    for mpid in range(first, first + count):
        links = [Link(mpid, "email", f"{mpid}@example.com"), Link(mpid, "other", f"v{mpid % 7}")]
        gone = [Unlink(mpid, "other", f"v{mpid % 7}", "removed")] if mpid % 2 else []
        made.append(draft(Create(mpid), *links, *gone, request_id=f"r{mpid}"))
    return made


async def assert_whole(beside: Beside) -> None:
    """Fail unless memory, tables and journal say the same, now and after a restart."""
    fold = await fold_of(beside.store)
    await assert_store_is(beside.store, fold)
    await beside.store.flush()
    Tables(beside.store.folder / "state.db").assert_are(fold)
    await beside.reopen()
    await assert_store_is(beside.store, fold)


@pytest.mark.parametrize("seed", range(3))
async def test_groups_are_kept_once_whenever_the_process_is_killed(beside: Beside, seed: int) -> None:
    dice, mpid = random.Random(seed), 1
    for turn in range(12):
        drafts = people(mpid, dice.randrange(1, 40))
        committed = asyncio.create_task(beside.group(*drafts))
        written = asyncio.create_task(beside.store.flush()) if dice.random() < 0.5 else None
        if turn % 3 == 0:
            await asyncio.sleep(dice.choice((0, 0, 0.0003, 0.001, 0.003)))
            process_of(beside.store).kill()
        assert (await committed)[-1] == mpid + len(drafts) - 1
        if written is not None:
            await written
        mpid += len(drafts)
    await assert_whole(beside)


async def test_tables_are_written_to_the_end_by_the_successor(beside: Beside) -> None:
    for first in range(1, 4_000, 500):
        await beside.group(*people(first, 500))
    written = asyncio.create_task(beside.store.flush())
    for _ in range(8):
        await asyncio.sleep(0)
    process_of(beside.store).kill()
    await written
    assert beside.store._written == 4_000
    await assert_whole(beside)


async def test_tables_that_were_written_unheard_are_not_written_again(beside: Beside) -> None:
    """Killed after its transaction and before its answer: its successor finds the tables where they should be."""
    await beside.group(*people(1, 50))
    assert isinstance(beside.store._writer, ProcessWriter)
    rows = beside.store._active
    await beside.store._writer.write_tables(rows, beside.store._due)
    process_of(beside.store).kill()
    await beside.group(*people(51, 5))
    await beside.store.flush()
    await assert_whole(beside)


async def test_forgotten_ids_are_deleted_before_or_after_tables_are_written_never_between(beside: Beside) -> None:
    for first in range(1, 4_000, 500):
        await beside.group(*people(first, 500))
    process = process_of(beside.store)
    written = asyncio.create_task(beside.store.flush())
    for _ in range(8):
        await asyncio.sleep(0)
    await asyncio.gather(written, *(beside.store.drop_forgotten(b"", 10) for _ in range(3)))
    assert process_of(beside.store) is process
    await assert_whole(beside)


async def test_a_group_that_the_process_dies_of_every_time_is_refused_and_not_done(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await beside.group(*people(1, 5))
    ask, asked = module._Channel.ask, []

    def die(self: module._Channel, message: object) -> object:
        asked.append(message)
        process_of(beside.store).kill()
        process_of(beside.store).wait()
        return ask(self, message)  # type: ignore[arg-type]

    with monkeypatch.context() as deadly:
        deadly.setattr(module._Channel, "ask", die)
        with pytest.raises(StoreUnavailable, match="again and again"):
            await beside.group(*people(6, 5))
    assert len(asked) == 3
    assert beside.store.position == 5
    assert (await beside.group(*people(6, 5)))[-1] == 10
    await assert_whole(beside)


@pytest.mark.parametrize("seconds", [0.0, 0.002, 0.02, 0.1])
async def test_a_store_may_be_closed_while_the_process_is_started_anew(beside: Beside, seconds: float) -> None:
    await beside.group(*people(1, 5))
    process_of(beside.store).kill()
    await asyncio.sleep(seconds)
    await beside.stop()
    assert process_of(beside.store).returncode is not None
    await beside.start()
    await assert_whole(beside)


async def test_a_process_that_cannot_be_started_again_stops_the_store_and_loses_nothing(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await beside.group(*people(1, 5))
    with monkeypatch.context() as broken:
        broken.setattr(module.sys, "executable", "/bin/false")
        process_of(beside.store).kill()
        with pytest.raises(StoreError, match="Restart the server"):
            await beside.group(*people(6, 5))
        with pytest.raises(StoreError):
            await beside.group(*people(6, 5))
        await beside.stop()
    await beside.start()
    assert beside.store.position == 5
    await beside.group(*people(6, 5))
    await assert_whole(beside)


async def test_what_the_disk_has_no_room_for_is_refused_and_may_be_asked_again(beside: Beside) -> None:
    await beside.group(*people(1, 200))
    process = process_of(beside.store).pid
    log = (beside.store.folder / "journal.db-wal").stat().st_size
    before = resource.prlimit(process, resource.RLIMIT_FSIZE, (log, resource.RLIM_INFINITY))
    with pytest.raises(StoreUnavailable, match=r"journal\.db"):
        await beside.group(*people(201, 200))
    with pytest.raises(StoreUnavailable, match=r"state\.db"):
        await beside.store.flush()
    assert beside.store.position == 200
    resource.prlimit(process, resource.RLIMIT_FSIZE, before)
    await beside.group(*people(201, 200))
    assert process_of(beside.store).pid == process
    await assert_whole(beside)


async def test_signals_that_are_meant_for_the_server_do_not_end_the_process(beside: Beside) -> None:
    process = process_of(beside.store)
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    await beside.group(*people(1, 5))
    assert process_of(beside.store) is process
    await beside.stop()
    assert process.returncode == 0
    await beside.start()


_SERVER = """
import asyncio, sys, time
from pathlib import Path
from oneself.store import EmbeddedStore

async def main():
    store = EmbeddedStore(Path(sys.argv[1]), busy=True)
    await store.open()
    print(store._writer._running.process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_process_ends_with_its_server_and_the_next_one_waits_for_that(tmp_path: Path) -> None:
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server.stdout:
        pid = int(server.stdout.readline())
        with pytest.raises(StoreInUse, match=f"process {server.pid}"):
            await EmbeddedStore(tmp_path).open()
        server.kill()
        server.wait()
    successor = EmbeddedStore(tmp_path)
    await successor.open()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and b"embedded.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the process outlives its server"
        await asyncio.sleep(0.01)
    await successor.close()
