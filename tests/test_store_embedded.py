"""The embedded engine: tables that follow the journal, whatever comes between (docs/storage.md)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from structlog.testing import capture_logs

from journal_fold import Tables, assert_store_is, fold_of
from oneself.errors import OneselfError, StoreDamaged, StoreUnavailable
from oneself.identity import INLINE_VALUES, Create, Guard, Link, Release, Unlink
from oneself.store import EmbeddedStore, Wanted
from oneself.store.embedded.journal import JournalFile, group_of
from oneself.store.embedded.writing import pieces_of
from store_factories import SPACE, Draft, InMemory, draft, embedded

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def backend(tmp_path: Path, quick: None) -> AsyncIterator[InMemory]:
    made = InMemory(tmp_path)
    await made.start()
    yield made
    async with asyncio.timeout(30):
        await made.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tables follow at once, and be tried again at once."""
    monkeypatch.setattr(embedded, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(embedded, "RETRY_SECONDS", 0.01)


@pytest.fixture
async def slow(backend: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tables follow only where a test says so."""
    monkeypatch.setattr(embedded, "FLUSH_SECONDS", 3600.0)
    await backend.reopen()


def people(count: int, begin: int = 1) -> list[Draft]:
    """New profiles of many values, the values shared with the neighbours."""
    return [
        draft(
            Create(mpid), Link(mpid, "email", f"{mpid}@example.com"),
            *(Link(mpid, "other", f"v{mpid + number}") for number in range(INLINE_VALUES + 2)), request_id=f"r{mpid}",
        )
        for mpid in range(begin, begin + count)
    ]  # fmt: skip


def moved(count: int, begin: int = 1) -> list[Draft]:
    """Decisions that take values away, bring some back, and guard others."""
    return [
        draft(
            Unlink(mpid, "email", f"{mpid}@example.com", "removed"), Unlink(mpid, "other", f"v{mpid}", "removed"),
            Unlink(mpid, "other", f"v{mpid + INLINE_VALUES}", "removed"), Link(mpid, "other", f"v{mpid}"),
            Guard("other", f"v{mpid}", "max_values_per_profile"), Release("other", f"v{mpid - 1}"),
        )
        for mpid in range(begin, begin + count)
    ]  # fmt: skip


def failing(part: Any, name: str, error: Exception, times: int) -> list[int]:
    """Let a method fail some times; the list that is returned counts the calls."""
    original: Callable[..., None] = getattr(part, name)
    calls = [0]

    def sometimes(*arguments: object) -> None:
        calls[0] += 1
        if calls[0] <= times:
            raise error
        original(*arguments)

    setattr(part, name, sometimes)
    return calls


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens by itself."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


# -- the tables follow ----------------------------------------------------------------------------------------------


async def test_the_tables_follow_by_themselves(backend: InMemory) -> None:
    await backend.group(*people(20))
    await until(lambda: backend.store._written == 20)
    Tables(backend.store.folder / "state.db").assert_are(await fold_of(backend.store))
    await assert_store_is(backend.store, await fold_of(backend.store))


async def test_the_tables_follow_when_enough_rows_wait(
    backend: InMemory, slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "FLUSH_ROWS", 50)
    await backend.reopen()
    await backend.group(*people(20))
    await until(lambda: backend.store._written == 20)
    assert backend.store._frozen is None


async def test_closing_brings_the_tables_up_to_date(backend: InMemory, slow: None) -> None:
    await backend.group(*people(10))
    await backend.group(*moved(5))
    fold = await fold_of(backend.store)
    await backend.stop()
    on_disk = Tables(backend.folder / "data" / "state.db")
    assert on_disk.position == 15
    on_disk.assert_are(fold)
    await backend.start()


@pytest.mark.parametrize("error", [StoreUnavailable("The disk is full."), RuntimeError("a surprise")])
@pytest.mark.parametrize(("part", "name"), [("_state", "write"), ("_journal", "checkpoint")])
async def test_tables_that_could_not_be_written_are_tried_again(
    backend: InMemory, part: str, name: str, error: Exception
) -> None:
    with capture_logs() as logs:
        calls = failing(getattr(backend.store, part), name, error, times=3)
        await backend.group(*people(10))
        await until(lambda: calls[0] >= 2)
        await backend.group(*moved(6))
        await assert_store_is(backend.store, await fold_of(backend.store))
        await until(lambda: backend.store._written == 16)
    assert calls[0] >= 4
    assert {line["event"] for line in logs} == {"state.db cannot follow the journal"}
    fold = await fold_of(backend.store)
    Tables(backend.store.folder / "state.db").assert_are(fold)
    await assert_store_is(backend.store, fold)


async def test_a_store_that_cannot_write_its_tables_may_be_closed_and_loses_nothing(
    backend: InMemory, slow: None
) -> None:
    await backend.group(*people(10))
    fold = await fold_of(backend.store)
    failing(backend.store._state, "write", StoreUnavailable("The disk is full."), times=99)
    await backend.reopen()
    assert backend.store._written == 0
    await assert_store_is(backend.store, fold)


async def test_damage_to_the_tables_stops_commits_and_is_told(backend: InMemory) -> None:
    failing(backend.store._state, "write", StoreDamaged("state.db is damaged."), times=1)
    await backend.group(*people(3))
    await until(lambda: backend.store.failure is not None)
    with pytest.raises(StoreDamaged, match=r"state\.db is damaged"):
        await backend.group(*people(3, 4))
    assert backend.store.position == 3
    await backend.reopen()
    assert await backend.group(*people(3, 4)) == [4, 5, 6]


async def test_more_rows_than_memory_should_hold_wait_for_the_tables(
    backend: InMemory, slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_FULL_ROWS", 100)
    await backend.group(*people(20))
    await backend.hold_up(written=False)
    await backend.group(*people(20, 21))
    waiting = asyncio.create_task(backend.group(*people(20, 41)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await backend.let_go()
    assert (await waiting)[-1] == 60
    await assert_store_is(backend.store, await fold_of(backend.store))


async def test_a_group_is_refused_when_the_tables_do_not_come(
    backend: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_FULL_ROWS", 100)
    await backend.group(*people(20))
    await backend.hold_up(written=False)
    await backend.group(*people(20, 21))
    with pytest.raises(StoreUnavailable, match="cannot follow"):
        await backend.group(*people(20, 41))
    assert backend.store.position == 40
    await backend.let_go()
    await until(lambda: backend.store._written == 40)
    assert await backend.group(*people(1, 41)) == [41]
    await assert_store_is(backend.store, await fold_of(backend.store))


# -- closing at any moment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ticks", range(8))
async def test_a_store_may_be_closed_when_its_tables_are_just_due(backend: InMemory, slow: None, ticks: int) -> None:
    await backend.group(*people(2))
    backend.store._due.set()
    for _ in range(ticks):
        await asyncio.sleep(0)
    closed = asyncio.create_task(backend.store.close())
    done, _ = await asyncio.wait([closed], timeout=20)
    closed.cancel()
    assert done
    await backend.start()
    assert backend.store._written == 2


@pytest.mark.parametrize("written", [False, True])
async def test_a_store_may_be_closed_while_its_tables_are_written(
    backend: InMemory, slow: None, written: bool
) -> None:
    await backend.group(*people(10))
    await backend.hold_up(written=written)
    await backend.group(*moved(5))
    fold = await fold_of(backend.store)
    closed = asyncio.create_task(backend.store.close())
    await asyncio.sleep(0.02)
    assert not closed.done()
    await backend.let_go()
    await closed
    Tables(backend.folder / "data" / "state.db").assert_are(fold)
    await backend.start()
    assert backend.store._written == 15
    await assert_store_is(backend.store, fold)


# -- the log of the journal -----------------------------------------------------------------------------------------


async def test_a_log_that_cannot_be_shortened_does_not_fail_a_durable_group(backend: InMemory, slow: None) -> None:
    await backend.group(*people(5))
    await backend.store.flush()
    calls = failing(backend.store._journal, "restart_log", StoreUnavailable("The disk is full."), times=1)
    assert await backend.group(*people(5, 6)) == [6, 7, 8, 9, 10]
    assert calls == [1]
    assert await backend.group(*people(1, 11)) == [11]
    await assert_store_is(backend.store, await fold_of(backend.store))


async def test_the_log_is_moved_into_the_journal_beside_the_answers_not_in_their_path(
    backend: InMemory, slow: None, tmp_path: Path
) -> None:
    await backend.group(*people(50))
    await backend.store.flush()
    shutil.copy(backend.store.folder / "journal.db", tmp_path / "alone.db")
    with closing(apsw.Connection(str(tmp_path / "alone.db"))) as alone:
        assert alone.execute("SELECT max(position) FROM entry").get == 50


async def test_the_log_of_the_journal_begins_anew_when_the_tables_have_it(backend: InMemory, slow: None) -> None:
    log = backend.store.folder / "journal.db-wal"
    sizes = []
    for turn in range(6):
        await backend.group(*people(300, turn * 300 + 1))
        await backend.store.flush()
        await backend.group(draft())
        sizes.append(log.stat().st_size)
    assert max(sizes) <= 2 * sizes[0]


async def test_the_log_of_the_tables_begins_anew_though_they_are_read_all_the_time(
    backend: InMemory, slow: None
) -> None:
    log = backend.store.folder / "state.db-wal"
    sizes = []
    for turn in range(40):
        await backend.group(*people(100, turn * 100 + 1))
        await backend.store.flush()
        assert await backend.store.profile(1_000_000) is None  # a look into the tables
        sizes.append(log.stat().st_size)
    assert max(sizes) <= 2 * max(sizes[:10])


async def test_two_who_shorten_the_log_at_once_do_not_fail_each_other(backend: InMemory, slow: None) -> None:
    await backend.group(*people(300))
    store = backend.store

    def shorten() -> None:
        for _ in range(50):
            store._journal.checkpoint()

    busy = asyncio.create_task(asyncio.to_thread(shorten))
    for turn in range(40):
        store._writer._files.restart_log = True
        await backend.group(*people(3, 1_000 + 10 * turn))
    await busy
    assert store.position == 420


# -- recovery -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [150, 40_000])
async def test_a_long_tail_of_the_journal_is_folded_in(
    backend: InMemory, slow: None, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Longer than the chunks that it is read in, and with links that later chunks take away."""
    for begin in range(1, 1_301, 130):
        await backend.group(*people(130, begin))
    for begin in range(1, 1_201, 120):
        await backend.group(*moved(120, begin))
    fold = await fold_of(backend.store)
    await backend.crash()
    assert backend.store._written == 0
    await assert_store_is(backend.store, fold)
    monkeypatch.setattr(embedded, "FLUSH_ROWS", rows)
    await backend.crash()
    assert backend.store._written == (fold.position if rows == 150 else 0)
    await assert_store_is(backend.store, fold)
    await backend.store.flush()
    Tables(backend.store.folder / "state.db").assert_are(fold)


async def test_tables_that_were_lost_are_made_again(backend: InMemory) -> None:
    await backend.group(*people(30))
    await backend.group(*moved(20))
    fold = await fold_of(backend.store)
    await backend.stop()
    (backend.folder / "data" / "state.db").unlink()
    await backend.start()
    await assert_store_is(backend.store, fold)
    await backend.store.flush()
    Tables(backend.store.folder / "state.db").assert_are(fold)


# -- looking in from outside ----------------------------------------------------------------------------------------


async def looking_in(backend: InMemory) -> EmbeddedStore:
    reader = EmbeddedStore(backend.store.folder, read_only=True)
    await reader.open()
    return reader


async def test_a_look_into_a_served_folder_sees_one_moment_of_it(backend: InMemory, slow: None) -> None:
    await backend.group(*people(10))
    await backend.store.flush()
    await backend.group(*moved(5))
    fold = await fold_of(backend.store)
    reader = await looking_in(backend)
    for turn in range(3):
        await backend.group(*moved(1, 6 + turn), *people(5, 20 + 10 * turn))
        await backend.store.flush()
    await assert_store_is(reader, fold)
    assert (await fold_of(reader)).position == 15
    await reader.close()
    later = await looking_in(backend)
    await assert_store_is(later, await fold_of(backend.store))
    await later.close()


async def test_a_look_in_while_the_server_writes_is_never_ahead_of_the_journal(
    backend: InMemory, slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backend.group(*people(3))
    store = backend.store

    def meanwhile(path: Path, *, read_only: bool) -> object:
        reading = store._read({SPACE: Wanted()}, (), 0)
        reading.keep(row)
        store._journal.append(group_of(reading.effects.entries))
        store._journal.sync()
        store._take(reading)
        store._state.write(store._active.position, pieces_of(store._active))
        return JournalFile(path, read_only=read_only)

    row = (await _entries(store))[0]
    row.decision.changes, row.request_id = [], ""
    monkeypatch.setattr(embedded, "JournalFile", meanwhile)
    reader = await looking_in(backend)
    assert reader.position == 4
    await assert_store_is(reader, await fold_of(reader))
    await reader.close()


async def _entries(store: EmbeddedStore) -> list[Any]:
    return [entry async for _, entry in store.entries()]


async def test_a_look_into_a_folder_of_a_killed_server_changes_nothing(backend: InMemory, slow: None) -> None:
    await backend.group(*people(10))
    fold = await fold_of(backend.store)
    await backend.crash()
    await backend.stop()
    folder = backend.folder / "data"
    before = {path.name: path.read_bytes() for path in folder.glob("*.db")}
    reader = EmbeddedStore(folder, read_only=True)
    await reader.open()
    await assert_store_is(reader, fold)
    reading = await reader.read({SPACE: Wanted([], [11])})
    reading.keep((await _entries(reader))[0])
    with pytest.raises(OneselfError):
        await reader.commit(reading)
    await reader.close()
    assert {path.name: path.read_bytes() for path in folder.glob("*.db")} == before
    await backend.start()


async def test_a_look_into_a_folder_without_data_says_so(tmp_path: Path) -> None:
    reader = EmbeddedStore(tmp_path / "nothing", read_only=True)
    with pytest.raises(StoreUnavailable, match="holds no data"):
        await reader.open()
    assert not (tmp_path / "nothing").exists()


async def test_a_look_into_a_folder_whose_tables_are_lost_says_what_to_do(backend: InMemory) -> None:
    await backend.group(*people(2))
    await backend.stop()
    (backend.folder / "data" / "state.db").unlink()
    reader = EmbeddedStore(backend.folder / "data", read_only=True)
    with pytest.raises(StoreUnavailable, match="oneself serve"):
        await reader.open()
    await backend.start()


async def test_a_folder_that_is_made_is_for_its_owner_only(backend: InMemory) -> None:
    assert backend.store.folder.stat().st_mode & 0o777 == 0o700
