"""Entries that were decided together share a row of the journal in PostgreSQL, and each is found by its position."""

from __future__ import annotations

import zlib
from zlib import crc32

import pytest

from oneself.errors import StoreDamaged
from oneself.journal import decode, encode
from oneself.store.postgres import PostgresStore
from oneself.store.postgres.packs import entries_of, packed
from oneself.store.postgres.schema import HEAD, MIGRATIONS, VERSION
from postgres_server import asked, fresh_schema, own_schema
from store_factories import AT_MS, draft, entry_of

pytestmark = pytest.mark.anyio

GROUPS = (1, 20, 3, 8, 9)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def filled(url: str) -> PostgresStore:
    """Return an open store with groups of some sizes; entry ``n`` is of the request ``r{n}``."""
    store = PostgresStore(url)
    await store.open()
    for size in GROUPS:
        reading = await store.read({})
        for _ in range(size):
            reading.keep(entry_of(draft(request_id=f"r{reading.position}")))
        await store.commit(reading)
    return store


async def test_each_entry_of_a_row_is_found_by_its_position() -> None:
    url = fresh_schema()
    store = await filled(url)
    count = sum(GROUPS)
    assert asked("SELECT count FROM entry ORDER BY position", url=url) == [(n,) for n in (1, 8, 8, 4, 3, 8, 8, 1)]
    for position in range(1, count + 1):
        entry = await store.entry(position)
        assert entry is not None
        assert entry.request_id == f"r{position}"
    assert await store.entry(0) is None
    assert await store.entry(count + 1) is None
    found = await store.entries_at([2, 9, 10, count, count + 1])
    assert {at: entry.request_id for at, entry in found.items()} == {at: f"r{at}" for at in (2, 9, 10, count)}
    assert await store.position_at(AT_MS) == count
    assert await store.position_at(AT_MS - 1) == 0
    await store.close()


async def test_the_journal_is_read_from_any_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneself.store.postgres.lookups._CHUNK", 3)
    store = await filled(fresh_schema())
    count = sum(GROUPS)
    for after in range(count + 2):
        read = [(at, entry.request_id) async for at, entry in store.entries(after)]
        assert read == [(at, f"r{at}") for at in range(after + 1, count + 1)]
        bodies = [row async for chunk in store.bodies(after) for row in chunk]
        assert [(at, decode(body).request_id) for at, body in bodies] == read
    await store.close()


async def test_a_row_that_has_not_what_it_says_is_damage() -> None:
    url = fresh_schema()
    store = await filled(url)
    asked("UPDATE entry SET count = 7 WHERE position = 2", url=url)
    with pytest.raises(StoreDamaged, match="8 entries in the place of 7"):
        await store.entry(3)
    asked(f"UPDATE entry SET body = '{{}}', checksum = {crc32(b'{}')} WHERE position = 2", url=url)
    with pytest.raises(StoreDamaged, match="entry 2"):
        await store.entry(3)
    asked("UPDATE entry SET checksum = 1 WHERE position = 2", url=url)
    with pytest.raises(StoreDamaged, match="checksum"):
        await store.entry(3)
    await store.close()


def test_entries_of_different_times_do_not_share_a_row() -> None:
    entries = [(at, entry_of(draft(request_id=f"r{at}"))) for at in range(5, 9)]
    entries[2][1].at_ms += 1
    entries[3][1].at_ms += 1
    bodies = [encode(entry) for _, entry in entries]
    rows = list(packed(entries, bodies))
    assert [(row.position, row.at_ms, row.entries) for row in rows] == [(5, AT_MS, 2), (7, AT_MS + 1, 2)]
    assert zlib.decompress(rows[0].body) == b"\n".join(bodies[:2])
    unpacked = [row for pack in rows for row in entries_of(pack.position, pack.entries, pack.body)]
    assert unpacked == [(at, body) for (at, _), body in zip(entries, bodies, strict=True)]


async def test_the_journal_of_an_older_schema_stays_as_it_is() -> None:
    url = own_schema()
    for statement in (*HEAD, *MIGRATIONS[0], "UPDATE journal_head SET version = 1, position = 2"):
        asked(statement, url=url)
    for position in (1, 2):
        body = encode(entry_of(draft(request_id=f"r{position}")))
        row = f"{position}, {AT_MS}, {crc32(body)}, '\\x{body.hex()}'"
        asked(f"INSERT INTO entry(position, at_ms, checksum, body) VALUES({row})", url=url)
    store = await filled(url)
    assert asked("SELECT version FROM journal_head", url=url) == [(VERSION,)]
    read = [(at, entry.request_id) async for at, entry in store.entries()]
    assert read == [(at, f"r{at}") for at in range(1, 3 + sum(GROUPS))]
    await store.close()
