"""Request ids in PostgreSQL stand in tables that take turns: none is forgotten too soon, and the old go at once."""

from __future__ import annotations

import random

import pytest

from oneself.errors import Conflict
from oneself.store.keys import request_key
from oneself.store.postgres import PostgresStore
from oneself.store.postgres.rows import text
from oneself.store.postgres.schema import REQUEST_PARTS
from oneself.store.reading import REQUESTS
from postgres_server import asked, fresh_schema
from store_factories import INPUT, draft, entry_of

pytestmark = pytest.mark.anyio

SWEPT = "INSERT INTO swept VALUES($1, $2, $2) ON CONFLICT (what) DO UPDATE SET through = excluded.through"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def take(store: PostgresStore, *ids: str) -> None:
    """Make a group durable of one decision for each request id."""
    keys = [request_key(INPUT, request_id) for request_id in ids]
    reading = await store.read({}, keys)
    for request_id, key in zip(ids, keys, strict=True):
        reading.keep(entry_of(draft(request_id=request_id)), key)
    await store.commit(reading)


async def forget(store: PostgresStore, through: int) -> None:
    """Forget the ids of all decisions up to one, and clear up."""
    await store.database.fetch(SWEPT, text(REQUESTS), through)
    assert await store.drop_forgotten(b"", 100) is None


async def known(store: PostgresStore, *ids: str) -> dict[str, int]:
    keys = {request_key(INPUT, request_id): request_id for request_id in ids}
    return {keys[key]: at for key, at in (await store.read({}, list(keys))).answered.items()}


def kept(url: str) -> list[int]:
    """Return how many rows each table has."""
    return [asked(f"SELECT count(*) FROM request_{part}", url=url)[0][0] for part in range(REQUEST_PARTS)]


async def test_no_id_is_forgotten_too_soon_and_old_ones_go(request: pytest.FixtureRequest) -> None:
    dice = random.Random(str(request.config.getoption("--hypothesis-seed")))
    url = fresh_schema()
    store = PostgresStore(url)
    await store.open()
    given: list[str] = []
    through = 0
    for _ in range(40):
        ids = [f"r{len(given) + number}" for number in range(dice.randrange(1, 5))]
        await take(store, *ids)
        given += ids
        if dice.random() < 0.7:
            through = max(through, len(given) - dice.randrange(3, 12))
            await forget(store, through)
        expected = {name: at for at, name in enumerate(given, 1) if at > through}
        assert await known(store, *given) == expected
        assert sum(kept(url)) <= 3 * 12 + 12, "what is forgotten must not gather"
    assert 0 in kept(url)
    await store.close()


async def test_an_id_that_was_forgotten_counts_anew() -> None:
    url = fresh_schema()
    store = PostgresStore(url)
    await store.open()
    await take(store, "again")
    await forget(store, 1)
    assert await known(store, "again") == {}
    await take(store, "again", "other")
    assert await known(store, "again") == {"again": 2}
    assert kept(url)[:2] == [1, 2], "the old row is still there, and does not count"
    await store.close()


async def test_an_id_that_was_forgotten_and_still_has_its_row_is_taken_in_again() -> None:
    url = fresh_schema()
    store = PostgresStore(url)
    await store.open()
    await take(store, "again", "other")
    await store.database.fetch(SWEPT, text(REQUESTS), 1)
    await take(store, "again", "new")
    assert await known(store, "again", "other", "new") == {"again": 3, "other": 2, "new": 4}
    assert kept(url) == [3, 0, 0]
    await store.close()


async def test_a_group_that_was_read_before_a_turn_is_decided_again() -> None:
    """Or it would write the table before, which is emptied as soon as the ids of its turn are forgotten."""
    url = fresh_schema()
    store = PostgresStore(url)
    await store.open()
    await take(store, "a")
    key = request_key(INPUT, "b")
    before = await store.read({}, [key])
    before.keep(entry_of(draft(request_id="b")), key)
    await forget(store, 1)
    with pytest.raises(Conflict):
        await store.commit(before)
    await take(store, "b")
    assert kept(url) == [1, 1, 0]
    await forget(store, 2)
    assert kept(url) == [0, 1, 0], "and the next turn begins in a later round"
    await store.close()
