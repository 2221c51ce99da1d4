"""What a copy refuses, and that one which was not finished never passes for a whole one (docs/copy.md)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from copying import PLACES, Database, Folder, contents, full, place_of
from oneself.errors import OneselfError, StoreDamaged, StoreError, StoreInUse, StoreUnavailable, StoreVersion
from oneself.store import Place
from oneself.store.postgres.schema import VERSION
from oneself.store.transfer import copy
from oneself.store.transfer.copying import Target
from oneself.store.transfer.database import DatabaseTarget
from oneself.store.transfer.folder import FolderTarget
from postgres_server import asked, free_port
from store_factories import Backend

pytestmark = pytest.mark.anyio

UNFINISHED = "holds a copy that was not finished. Make it anew with `oneself copy --restart`"
TARGETS: tuple[type[Target], ...] = (FolderTarget, DatabaseTarget)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=PLACES, ids=lambda backend: f"to_{backend.__name__}")
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A place that is empty."""
    backend: Backend = request.param(tmp_path / "copy")
    return backend


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with rows in every table, at rest."""
    backend = Folder(tmp_path_factory.mktemp("made once"))

    async def make() -> None:
        await backend.start()
        await full(backend)
        await backend.stop()

    asyncio.run(make())
    return backend.folder


@pytest.fixture
def origin(made_once: Path, tmp_path: Path) -> Backend:
    """The same, for a test to do with what it likes."""
    shutil.copytree(made_once, tmp_path / "origin")
    return Folder(tmp_path / "origin")


def at_put(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[list[Any]], list[Any]]) -> None:
    """Have something done to the rows of the ``number``th put of any copy."""
    for kind in TARGETS:
        original, count = kind.put, 0

        async def put(self: Any, table: Any, rows: Any, original: Any = original) -> None:
            nonlocal count
            count += 1
            await original(self, table, act(rows) if count == number else rows)

        monkeypatch.setattr(kind, "put", put)


async def assert_unfinished(backend: Backend) -> None:
    """Assert that nothing takes a place for a store, or for an empty place."""
    for read_only in (False, True):
        with pytest.raises(StoreError, match=UNFINISHED):
            await place_of(backend).store(read_only=read_only).open()
    with pytest.raises(StoreError, match=UNFINISHED):
        await copy(place_of(backend), Place(backend.folder / "elsewhere"))
    assert not (backend.folder / "elsewhere").exists()


# -- interrupted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 7, 22])
async def test_a_copy_that_failed_is_no_store_until_it_is_made_anew(
    origin: Backend, other: Backend, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: list[Any]) -> list[Any]:
        raise StoreUnavailable("The disk is full.")

    with monkeypatch.context() as patched:
        at_put(patched, number, fail)
        with pytest.raises(StoreUnavailable, match="The disk is full"):
            await copy(place_of(origin), place_of(other))
    await assert_unfinished(other)
    with pytest.raises(StoreError, match=UNFINISHED):
        await copy(place_of(origin), place_of(other))
    assert (await copy(place_of(origin), place_of(other), restart=True)).is_equal
    assert contents(other) == contents(origin)


@pytest.mark.parametrize("number", [1, 12, 22])
async def test_a_copy_that_was_killed_is_no_store_until_it_is_made_anew(
    origin: Backend, other: Backend, number: int
) -> None:
    assert await stopped(origin, other, number, signal.SIGKILL) == -signal.SIGKILL
    await assert_unfinished(other)
    assert (await copy(place_of(origin), place_of(other), restart=True)).is_equal
    assert contents(other) == contents(origin)


async def stopped(origin: Backend, other: Backend, number: int, by: signal.Signals, **more: str) -> int:
    """Run the command in a process that gets a signal at its ``number``th write; return its exit code."""
    place = place_of(other)
    worker = [sys.executable, str(Path(__file__).parent / "copy_worker.py"), str(place_of(origin).folder)]
    process = await asyncio.to_thread(
        subprocess.run, [*worker, place.database or str(place.folder), str(number), str(int(by))],
        env=os.environ | more, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert process.returncode, "it came to its end before"
    return process.returncode


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
async def test_a_copy_that_is_told_to_stop_leaves_nothing_in_temporary_folders(
    tmp_path: Path, other: Backend, by: signal.Signals
) -> None:
    origin = Folder(tmp_path / "origin")
    await origin.start()
    await full(origin)  # its newest rows are not in the tables
    (tmp_path / "temporary").mkdir()
    assert await stopped(origin, other, 9, by, TMPDIR=str(tmp_path / "temporary")) == 1
    assert list((tmp_path / "temporary").iterdir()) == []
    await origin.stop()
    await assert_unfinished(other)


async def test_a_copy_that_came_out_different_stays_unfinished_and_says_where(
    origin: Backend, other: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_one(rows: list[Any]) -> list[Any]:
        return rows[1:]

    with monkeypatch.context() as patched:
        at_put(patched, 6, lose_one)
        copied = await copy(place_of(origin), place_of(other))
    assert not copied.is_equal
    (different,) = [table for table in copied.tables if not table.is_equal]
    assert different.table == "profile"
    assert different.rows == different.copied_rows + 1
    await assert_unfinished(other)


async def test_a_changed_value_is_found(origin: Backend, other: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def change_one(rows: list[Any]) -> list[Any]:
        return [(*rows[0][:-1], rows[0][-1] + 1), *rows[1:]]

    with monkeypatch.context() as patched:
        at_put(patched, 10, change_one)
        copied = await copy(place_of(origin), place_of(other))
    assert [(table.table, table.rows - table.copied_rows) for table in copied.tables if not table.is_equal] == [
        ("request", 0)
    ]


async def test_a_second_copy_in_the_place_of_the_first_one_is_noticed(
    origin: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Database(origin.folder)
    asked_to_finish = DatabaseTarget.finish

    async def finish_late(target: DatabaseTarget) -> None:
        monkeypatch.setattr(DatabaseTarget, "finish", asked_to_finish)
        await copy(place_of(origin), place_of(other), restart=True)
        asked(f"UPDATE journal_head SET version = {-VERSION}, position = -5", url=other.url)
        await asked_to_finish(target)

    monkeypatch.setattr(DatabaseTarget, "finish", finish_late)
    with pytest.raises(StoreError, match=UNFINISHED):
        await copy(place_of(origin), place_of(other))


async def test_a_copy_that_an_older_version_began_is_left_alone(origin: Backend) -> None:
    other = Database(origin.folder)
    await other.start()
    await other.stop()
    asked(f"UPDATE journal_head SET version = {-VERSION - 1}", url=other.url)
    with pytest.raises(StoreVersion, match="another version of Oneself began"):
        await copy(place_of(origin), place_of(other), restart=True)


# -- places that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
async def test_a_place_with_data_is_refused_and_stays_as_it_is(
    origin: Backend, other: Backend, restart: bool
) -> None:
    await other.start()
    await other.store.set_setting("mine", "kept")
    await other.stop()
    with pytest.raises(StoreError, match=r"is not empty.*in an empty place only"):
        await copy(place_of(origin), place_of(other), restart=restart)
    await other.start()
    assert await other.store.setting("mine") == "kept"
    await other.stop()


async def test_an_empty_folder_that_has_a_configuration_is_empty(origin: Backend, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "oneself.toml").write_text("# mine")
    assert (await copy(place_of(origin), Place(folder))).is_equal
    assert (folder / "oneself.toml").read_text() == "# mine"


async def test_a_folder_that_is_served_is_refused(origin: Backend, tmp_path: Path) -> None:
    other = Folder(tmp_path / "copy")
    await other.start()
    with pytest.raises(StoreInUse):
        await copy(place_of(origin), place_of(other), restart=True)
    await other.stop()


async def test_a_server_that_runs_on_the_database_can_do_nothing_until_the_copy_is_whole(
    origin: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Database(origin.folder)
    await other.start()

    def look(rows: list[Any]) -> list[Any]:
        raise StoreUnavailable("stopped here")

    with monkeypatch.context() as patched:
        at_put(patched, 3, look)
        with pytest.raises(StoreUnavailable, match="stopped here"):
            await copy(place_of(origin), place_of(other))
    with pytest.raises(StoreVersion, match=UNFINISHED):
        await other.store.read({})
    await other.stop()


@pytest.mark.parametrize(
    "place",
    [Place(Path(), "postgresql://postgres:secret@127.0.0.1:{port}/test"), Place(Path("nowhere"))],
    ids=["database", "folder"],
)
async def test_an_origin_that_is_not_there_leaves_the_other_place_alone(place: Place, tmp_path: Path) -> None:
    if place.database is not None:
        place = Place(Path(), place.database.format(port=free_port()))
    else:
        place = Place(tmp_path / "nowhere")
    with pytest.raises(OneselfError) as failed:
        await copy(place, Place(tmp_path / "copy"))
    assert "secret" not in str(failed.value)
    assert not (tmp_path / "copy").exists()
    assert not (tmp_path / "nowhere").exists()


async def test_a_database_that_is_not_there_is_told(origin: Backend) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await copy(place_of(origin), Place(Path(), f"postgresql://postgres@127.0.0.1:{free_port()}/test"))


async def test_a_folder_that_cannot_be_written_is_told(origin: Backend, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        await copy(place_of(origin), Place(tmp_path / "file" / "data"))


# -- damage ---------------------------------------------------------------------------------------------------------

DAMAGE = {
    "entry": ("UPDATE entry SET body = replace(body, 'shop', 'spoh') WHERE position = 2", "checksum"),
    "batch": ("UPDATE batch SET checksum = 1 WHERE position = (SELECT max(position) FROM batch)", "checksum"),
    "no entry": ("DELETE FROM entry WHERE position = (SELECT min(position) FROM batch)", "has no entry"),
    "end": ("DELETE FROM entry WHERE position = (SELECT max(position) FROM entry)", "state.db has seen decision"),
    "gap": (
        "DELETE FROM entry WHERE position = (SELECT min(position) FROM entry WHERE body LIKE '%released%')",
        "damaged",
    ),
    "profile": ("UPDATE profile SET held = '[]' WHERE mpid = (SELECT max(mpid) FROM profile)", "damaged"),
    "person": (
        "UPDATE profile SET person = '{' WHERE mpid = (SELECT max(mpid) FROM profile WHERE person != '')",
        "damaged",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_damage_of_the_origin_stops_the_copy(origin: Backend, other: Backend, kind: str) -> None:
    statement, says = DAMAGE[kind]
    name = "state.db" if kind in ("profile", "person") else "journal.db"
    with closing(apsw.Connection(str(place_of(origin).folder / name))) as file:
        file.execute(statement)
        assert file.changes() == 1
    with pytest.raises(StoreDamaged, match=says):
        await copy(place_of(origin), place_of(other))
    if kind != "end":  # which is seen before anything is written
        await assert_unfinished(other)


async def test_damage_of_a_database_stops_the_copy(origin: Backend, tmp_path: Path) -> None:
    other = Database(tmp_path)
    await copy(place_of(origin), place_of(other))
    asked("UPDATE entry SET body = body || ' '::bytea WHERE position = 2", url=other.url)
    with pytest.raises(StoreDamaged, match="entry 2 does not match its checksum"):
        await copy(place_of(other), Place(tmp_path / "back"))
