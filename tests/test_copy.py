"""A copy is the same store, whatever the engine, and goes on where the first one was (docs/copy.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from batches import event
from copying import CONFIG, PLACES, Database, Folder, contents, full, place_of
from oneself.engine import Call
from oneself.identity import Request
from oneself.jobs import Counts
from oneself.store import Store
from oneself.store.embedded.journal import JournalFile
from oneself.store.embedded.state import StateFile
from oneself.store.postgres.schema import REQUEST_PARTS
from oneself.store.reading import REQUESTS
from oneself.store.transfer import TABLES, Copied, Tally, copy, database, folder, tables_of
from postgres_server import asked, own_schema
from rebuilding import assert_backend_rebuilds
from store_factories import SPACE, Backend, Crashed, InTables
from upkeep_world import World, counted

pytestmark = pytest.mark.anyio

PARTS = {f"request_{part}" for part in range(REQUEST_PARTS)}
SERVERS_ALONE = {"journal_head", "lease", "progress", "request_turn", *PARTS}
"""What is of the engine, or of the servers that run now, and not of the data."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[Folder, InTables, Crashed, Database], ids=lambda backend: backend.__name__)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A store with rows in every table, which is open, as that of a server is."""
    backend: Backend = request.param(tmp_path / "origin")
    await backend.start()
    made = await full(backend)
    yield made
    await backend.stop()


@pytest.fixture(params=PLACES, ids=lambda backend: f"to_{backend.__name__}")
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A place that is empty."""
    backend: Backend = request.param(tmp_path / "copy")
    return backend


def rows_of(copied: Copied) -> dict[str, int]:
    return {table.table: table.rows for table in copied.tables}


# -- what is copied -------------------------------------------------------------------------------------------------


async def test_a_copy_has_everything_and_so_has_a_copy_of_it(world: World, other: Backend, tmp_path: Path) -> None:
    copied = await copy(place_of(world.backend), place_of(other))
    assert copied.is_equal
    assert copied.position == world.store.position
    assert 0 not in rows_of(copied).values(), "the history must have rows in every table"
    back = (Folder if isinstance(other, Database) else Database)(tmp_path / "back")
    again = await copy(place_of(other), place_of(back))
    assert again.tables == copied.tables
    await world.backend.stop()
    expected = contents(world.backend)
    assert set(expected) == {table.name for table in TABLES} - {"person"}  # which stands with the profile
    for one in (other, back):
        found = contents(one)
        assert set(found) == set(expected)
        for table, rows in expected.items():
            assert found[table] == rows, table
    await world.backend.start()


async def test_a_server_goes_on_from_a_copy_where_the_first_one_was(
    world: World, other: Backend, tmp_path: Path
) -> None:
    await copy(place_of(world.backend), place_of(other))
    await other.start()
    copied = World(other, CONFIG)
    copied.now_ms = world.now_ms
    made = await world.store.mpids([SPACE], limit=1000)
    for one in (world, copied):
        one._mpids, one.counts = counted(), Counts()
        for _ in islice(one._mpids, len(made) + 100):
            pass
    told = [await life_goes_on(one) for one in (world, copied)]
    assert told[0] == told[1]
    for one in (world, copied):
        await one.backend.stop()
    expected, found = contents(world.backend), contents(other)
    forgotten = dict(expected["swept"]).get(REQUESTS, 0)
    for tables in (expected, found):  # their rows may still be there
        tables["request"] = [row for row in tables["request"] if row[1] > forgotten]
    for table, rows in expected.items():
        assert found[table] == rows, table
    await assert_backend_rebuilds(other, tmp_path / "rebuilt")
    await world.backend.start()


async def life_goes_on(world: World) -> list[Any]:
    """Ask and change a bit of everything; return all answers."""
    told: list[Any] = []
    repeated = await world.take({"user_identities": {"customer_id": "late"}, "source_request_id": "late 1"})
    assert repeated.repeated
    calls = [
        Call(SPACE, "shop/server", Request("identify", {"email": "b@example.com"}), "asked 1"),
        Call(SPACE, "shop/server", Request("login", {"customerid": "ana", "email": "c@example.com"}), "asked 2"),
        Call(SPACE, "shop/server", Request("login", {"customerid": "new", "device_application_stamp": "device 3"})),
        Call(SPACE, "shop/admin", Request("release", {"email": "b@example.com"}), "released again"),
    ]
    told += [(one.position, one.decision) for one in await world.decide(*calls)]
    taken = await world.take({"user_identities": {"customer_id": "ana"}, "mp_deviceid": "d1", "events": [event("n")]})
    told += [repeated.position, taken.position, taken.decision]
    world.later(2)
    await world.aliases_due()
    await world.grow_old(40)
    told += [await everything(world.store, mpid) for mpid in await world.store.mpids([SPACE], limit=1000)]
    told += [await world.store.guarded(SPACE), await world.store.policies(), await world.store.event_names("shop")]
    return [*told, world.counts.done, await world.store.setting("signing key")]


async def everything(store: Store, mpid: int) -> list[Any]:
    told: list[Any] = [await store.profile(mpid), await store.aliases(mpid), await store.sources(mpid)]
    for workspace in ("shop", "lab"):
        rows = await store.activity(mpid, workspace)
        told += [await store.user(mpid, workspace), await store.devices(mpid, workspace), rows]
        told.append(await store.batches([row.position for row in rows]))
    return told


async def test_chunks_of_any_size_come_to_the_same(
    world: World, other: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await copy(place_of(world.backend), place_of(Folder(tmp_path / "whole")))
    sizes: list[int] = []

    def counted_rows(tally: Tally, rows: list[Any]) -> None:
        sizes.append(len(rows))
        take(tally, rows)

    take = Tally.take
    monkeypatch.setattr(Tally, "take", counted_rows)
    monkeypatch.setattr(folder, "_ROWS", 7)
    monkeypatch.setattr(folder, "_BYTES", 1_500)
    monkeypatch.setattr(database, "_STEPS", (1, 3, 7))
    monkeypatch.setattr(database, "_BYTES", 1_500)
    assert (await copy(place_of(world.backend), place_of(other))).tables == whole.tables
    assert {1, 7} <= set(sizes) <= set(range(1, 8))


async def test_an_empty_store_is_copied_too(tmp_path: Path, other: Backend) -> None:
    backend = Folder(tmp_path / "origin")
    await backend.start()
    await backend.stop()
    copied = await copy(place_of(backend), place_of(other))
    assert copied.is_equal
    assert set(rows_of(copied).values()) == {0}
    await other.start()
    assert other.store.position == 0
    await other.stop()


async def test_the_origin_stays_as_it_is(world: World, tmp_path: Path) -> None:
    if isinstance(world.backend, Database):
        await copy(place_of(world.backend), place_of(Folder(tmp_path / "copy")))
        return
    await world.backend.stop()
    folder = place_of(world.backend).folder
    before = {path.name: path.read_bytes() for path in folder.glob("*.db")}
    await copy(place_of(world.backend), place_of(Folder(tmp_path / "copy")))
    assert {path.name: path.read_bytes() for path in folder.glob("*.db")} == before
    await world.backend.start()


@pytest.mark.parametrize("kind", PLACES)
async def test_a_copy_is_of_one_moment_while_a_server_goes_on(
    kind: type[Backend], other: Backend, tmp_path: Path
) -> None:
    backend = kind(tmp_path / "origin")
    await backend.start()
    world = await full(backend)
    stop = asyncio.Event()

    async def busy() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await world.user(f"busy {number}", mp_deviceid=f"busy {number % 7}")

    before = world.store.position
    work = asyncio.create_task(busy())
    await asyncio.sleep(0.05)
    copied = await copy(place_of(backend), place_of(other))
    stop.set()
    await work
    assert before <= copied.position < world.store.position
    await other.start()
    assert [row async for row in other.store.entries()] == [
        row async for row in world.store.entries() if row[0] <= copied.position
    ]
    await other.stop()
    await assert_backend_rebuilds(other, tmp_path / "rebuilt")
    await backend.stop()


# -- that nothing is left out ----------------------------------------------------------------------------------------


OTHERWISE = {
    "entry": {"checksum"},
    "batch": {"checksum"},
    "profile": {"held", "more", "person"},
    "workspace_profile": {"shown"},
}
"""Columns of a data folder that a logical table has in another form."""


def test_every_table_and_column_of_both_engines_is_told(tmp_path: Path) -> None:
    told = {table.name: set(table.names) for table in TABLES}
    JournalFile(tmp_path / "journal.db").close()
    StateFile(tmp_path / "state.db").close()
    here: dict[str, set[str]] = {}
    for name in ("journal.db", "state.db"):
        with closing(apsw.Connection(str(tmp_path / name))) as file:
            for (table,) in list(file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")):
                columns = file.execute("SELECT name FROM pragma_table_info(?)", (table,))
                here[table] = {column for (column,) in columns}
    here["person"] = {"mpid", "body"}  # in a folder it is a column
    assert set(here) - SERVERS_ALONE == set(told)
    for table, columns in told.items():
        own = OTHERWISE.get(table, set())
        assert here[table] - own - columns == set(), f"{table}: in state.db or journal.db, and not copied"


async def test_every_table_and_column_of_postgresql_is_told() -> None:
    url = own_schema()
    backend = Database(Path())
    backend.url = url
    await backend.start()
    await backend.stop()
    columns = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
    there: dict[str, set[str]] = {}
    for table, column in asked(columns, url=url):
        there.setdefault(table, set()).add(column)
    told = {table.name: set(table.names) for table in TABLES}
    assert set(there) - SERVERS_ALONE == set(told)
    bookkeeping = {"changed", "expired", "checksum", "commit_id", "count", "released"}
    for table, columns in told.items():
        own = bookkeeping | ({"position"} if table == "event_name" else set())
        assert there[table] - own - columns == set(), f"{table}: in PostgreSQL, and not copied"


# -- checksums ------------------------------------------------------------------------------------------------------


async def test_checksums_are_what_the_page_says(world: World, other: Backend) -> None:
    """The sum of the BLAKE2b digests of the rows, each as a MessagePack array, whatever the engine and the order."""
    origin = place_of(world.backend)
    copied = {table.table: table for table in (await copy(origin, place_of(other))).tables}
    async with tables_of(origin) as tables:
        for table in TABLES:
            rows = [row async for chunk in tables.rows(table) for row in chunk]
            assert await tables.count(table) == len(rows)
            keys = [row[: table.key] for row in rows]
            assert keys == sorted(set(keys)), table.name
            digests = [blake2b(msgspec.msgpack.encode(list(row)), digest_size=16).digest() for row in rows]
            total = sum(int.from_bytes(digest, "big") for digest in reversed(digests)) % 2**128
            assert copied[table.name].checksum == copied[table.name].copied_checksum == f"{total:032x}"
