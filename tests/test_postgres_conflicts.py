"""Several servers on one PostgreSQL: one order of all decisions, each by what the ones before it left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from batches import kept, of, put, taken
from engine_at_work import running
from histories import SCOPES, Caller
from journal_fold import assert_store_is, assert_unique, fold_of, replay
from oneself.engine import Call, Engine, Outcome
from oneself.errors import Conflict
from oneself.identity import Create, build
from oneself.journal import BatchRecord
from oneself.store import Touched, Wanted
from oneself.store.postgres import PostgresStore
from postgres_server import fresh_schema
from store_factories import SPACE, PostgresShared, draft, entry_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def servers(count: int, url: str, dice: random.Random) -> AsyncIterator[list[Engine]]:
    """Engines at work, each over a store of its own, on one database."""
    async with AsyncExitStack() as stack:
        engines = []
        for _ in range(count):
            store = PostgresStore(url)
            await store.open()
            stack.push_async_callback(store.close)
            engines.append(await stack.enter_async_context(running(store, mpids=partial(dice.randrange, 1, 1 << 62))))
        yield engines


@pytest.mark.parametrize("count", [2, 4])
async def test_what_servers_that_fight_over_few_identities_answer_is_one_history(
    count: int, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} {count}")
    made: list[tuple[Call, Outcome]] = []
    url = fresh_schema()
    async with servers(count, url, dice) as engines:
        caller = Caller(dice)

        async def client(engine: Engine) -> None:
            for _ in range(12):
                calls = [caller.call() for _ in range(1 + int(dice.expovariate(0.3)))]
                for call, outcome in zip(calls, await asyncio.gather(*map(engine.submit, calls)), strict=True):
                    made.append((call, outcome))
                    caller.learn(call, outcome.decision.mpid)

        await asyncio.gather(*[client(engine) for engine in engines for _ in range(4)])
        conflicts = [dict(engine.store.committer.conflicts) for engine in engines]
        print(conflicts, [e.store.position for e in engines])
        store = engines[0].store
        await store.read({})
        fold = await fold_of(store)
        await assert_store_is(store, fold)
        assert await replay(store) == fold.position
        for call, outcome in made:
            if outcome.position:
                entry = await store.entry(outcome.position)
                assert entry is not None
                assert (entry.decision, entry.request) == (outcome.decision, outcome.request)
                assert outcome.repeated or entry.request == call.request
        for scope, settings in SCOPES.items():
            assert_unique(fold, scope, build(settings))
        assert sum(map(len, conflicts))


async def test_rows_that_another_server_wrote_meanwhile_are_not_read_into_a_group(tmp_path: Path) -> None:
    """What is in them stands at positions that the group took for its own."""
    backend = PostgresShared(tmp_path)
    await backend.start()
    try:
        await backend.one(Create(7))
        ours, theirs = backend.store, backend._other
        first = await ours.read({SPACE: Wanted(mpids=[7])})
        first.keep(entry_of(draft(mpid=7)))
        backend.store, backend._other = theirs, ours
        await put(backend, kept(7, record_of("c1")))  # and then it is the other one's turn again
        with pytest.raises(Conflict):
            await ours.read_parts(first, [Touched(7, "shop", "")])
        again = await ours.read({SPACE: Wanted(mpids=[7])})
        again.keep(entry_of(draft(mpid=7)))
        await ours.read_parts(again, [Touched(7, "shop", "")])
        assert again.people[7] is not None
    finally:
        await backend.stop()


def record_of(customer: str) -> BatchRecord:
    """Return what is kept of a batch."""
    brought = taken(of(customer, user_attributes={"a": "1"})).delivery
    assert brought is not None
    return BatchRecord(brought.batch)
