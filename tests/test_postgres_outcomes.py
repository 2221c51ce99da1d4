"""Commits whose answer was lost: whether they are durable is found out, and one that comes late does nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from engine_at_work import SPACE, all_of, identify, logout, running
from journal_fold import assert_store_is, fold_of
from oneself.engine import Call, Engine
from oneself.errors import OneselfError, StoreUnavailable
from oneself.identity import IdentityChange, Request
from oneself.store.postgres import PostgresStore, commit, database
from oneself.store.postgres.health import Health
from own_database import Breakable, breakable
from postgres_server import asked
from store_factories import Contended
from tcp_proxy import Proxy, proxied

pytestmark = pytest.mark.anyio

LOGOUT = b'"logout"'
"""What the entry of a logout has in it, and no look-up has."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Breakable]:
    """A cluster that these tests may break."""
    with breakable() as made:
        yield made


@asynccontextmanager
async def served(url: str) -> AsyncIterator[Engine]:
    """An engine at work on a database."""
    store = PostgresStore(url)
    await store.open()
    try:
        dice = random.Random()
        async with running(store, mpids=lambda: dice.randrange(1, 1 << 62)) as engine:
            yield engine
    finally:
        await store.close()


@asynccontextmanager
async def far_away(cluster: Breakable) -> AsyncIterator[tuple[Engine, Proxy, str]]:
    """An engine at work on a database of its own behind a proxy, and the database's own URL."""
    url = cluster.database()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(cluster.port, random.Random(0)))
        engine = await stack.enter_async_context(served(url.replace(f":{cluster.port}/", f":{proxy.port}/")))
        await engine.submit(logout("first"))
        yield engine, proxy, url


async def assert_is_sound(url: str, decisions: int) -> None:
    """Assert that a database has so many decisions, and that its tables are what they say."""
    store = PostgresStore(url)
    await store.open()
    try:
        fold = await fold_of(store)
        assert fold.position == decisions
        await assert_store_is(store, fold)
    finally:
        await store.close()


async def test_what_is_durable_though_its_answer_was_lost_is_answered_and_not_done_again(cluster: Breakable) -> None:
    async with far_away(cluster) as (engine, proxy, url):
        proxy.swallow_next = LOGOUT
        outcome = await engine.submit(logout())  # without a request id
        assert proxy.swallowed == 1
        assert outcome.position == 2
        entry = await engine.store.entry(2)
        assert entry is not None
        assert entry.decision == outcome.decision
    await assert_is_sound(url, 2)


async def test_what_never_came_to_the_database_is_done_once(cluster: Breakable) -> None:
    """The connection is lost before the database is asked; later on it is asked after all, and does nothing."""
    async with far_away(cluster) as (engine, proxy, url):
        proxy.hold_next = LOGOUT
        outcome = await engine.submit(logout())
        assert proxy.held == 1
        assert outcome.position == 2
        proxy.let_flow()
        await proxy.rest()
    await assert_is_sound(url, 2)


async def test_what_came_late_does_nothing_though_others_committed_meanwhile(cluster: Breakable) -> None:
    async with far_away(cluster) as (engine, proxy, url), served(url) as other:
        proxy.hold_next = LOGOUT
        outcomes = [await engine.submit(logout()), *await all_of(other, logout(), logout("r2"))]
        assert proxy.held == 1
        proxy.let_flow()
        await proxy.rest()
        assert len({outcome.decision.mpid for outcome in outcomes}) == 3
    await assert_is_sound(url, 4)


async def test_what_came_late_does_nothing_though_nothing_that_it_saw_has_changed(cluster: Breakable) -> None:
    """Where others commit, too, a group proves no more than what it saw: that somebody matched, and is who he was."""
    async with far_away(cluster) as (engine, proxy, url):
        engine.store.committer = Contended(engine.store.database)
        first = await engine.submit(identify("r", customerid="c1"))
        proxy.hold_next = b'"identify"'
        outcome = await engine.submit(identify(customerid="c1"))
        assert proxy.held == 1
        assert (outcome.position, outcome.decision.mpid) == (3, first.decision.mpid)
        proxy.let_flow()
        await proxy.rest()
    await assert_is_sound(url, 3)


async def test_a_commit_whose_end_cannot_be_found_out_is_refused_and_its_repetition_answered(
    cluster: Breakable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "UNKNOWN_SECONDS", 0.2)
    async with far_away(cluster) as (engine, proxy, url):
        proxy.swallow_next, proxy.then_refuse = LOGOUT, True
        with pytest.raises(StoreUnavailable, match="the same request id") as refusal:
            await engine.submit(logout("r"))
        assert refusal.value.retry_after >= 1
        while engine.store.trouble is None:  # it finds out by itself
            await asyncio.sleep(0.02)
        assert not engine.ready
        with pytest.raises(StoreUnavailable):
            engine.submit(logout("at once"))
        proxy.refuse = False
        while not engine.ready:
            await asyncio.sleep(0.02)
        again = await engine.submit(logout("r"))
        assert again.repeated
        assert again.position == 2
    await assert_is_sound(url, 2)


async def test_nothing_is_parsed_while_the_journals_head_is_locked(cluster: Breakable) -> None:
    """A server that stood still between the parsing of a statement and its running would hold up all others."""
    inside: set[object] = set()
    said: list[bytes] = []

    def overhear(connection: object, data: bytes) -> None:
        if connection in inside:
            said.append(data[:1])
        if data[:1] == b"Q" and b"READ COMMITTED" in data:
            inside.add(connection)
        elif data[:1] == b"Q" and b"COMMIT" in data:
            inside.discard(connection)

    async with far_away(cluster) as (engine, proxy, url):
        proxy.overhear = overhear
        mpid = (await engine.submit(identify(email="a@example.com", other="o1"))).decision.mpid
        for number in range(4):
            away = IdentityChange("other", f"o{number + 1}", f"o{number + 2}")
            await engine.submit(Call(SPACE, "shop/web", Request("modify", mpid=mpid, changes=(away,))))
        proxy.swallow_next = LOGOUT
        await engine.submit(logout())
    assert said.count(b"B") > 8  # statements are bound and run …
    assert b"P" not in said  # … and none of them is parsed
    await assert_is_sound(url, 7)


async def test_a_damage_that_somebody_mends_is_told_and_forgotten(cluster: Breakable) -> None:
    async with far_away(cluster) as (engine, _, url):
        head = asked("DELETE FROM journal_head RETURNING version, position, epoch", url=url)[0]
        with pytest.raises(StoreUnavailable, match="restore a backup"):
            await engine.submit(logout("r"))
        while engine.store.trouble is None:
            await asyncio.sleep(0.02)
        values = ", ".join(map(str, head))
        asked(f"INSERT INTO journal_head(id, version, position, epoch) VALUES (1, {values})", url=url)
        while engine.store.trouble is not None:
            await asyncio.sleep(0.02)
        assert (await engine.submit(logout("r"))).position == 2
    await assert_is_sound(url, 2)


async def test_who_looks_at_the_database_does_not_go_blind() -> None:
    looks: list[str] = []
    told: list[OneselfError] = []
    failures: list[Exception] = [TypeError("nobody expected that"), StoreUnavailable("It is away.")]

    async def look() -> None:
        looks.append("look")

    async def prove() -> None:
        looks.append("prove")
        if failures:
            raise failures.pop()

    health = Health("shop", look, prove, told.append)
    health.start()
    health.suspect()
    while len(looks) < 3:
        await asyncio.sleep(0.01)
    await health.stop()
    assert looks == ["prove"] * 3
    assert list(map(str, told)) == ["It is away.", "The database shop met an unexpected error."]
    assert health.trouble is None


async def test_nothing_is_answered_before_the_standby_has_it_and_no_commit_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cancelled commit would be there, and could be answered, and be lost with the primary."""
    monkeypatch.setattr(commit, "UNKNOWN_SECONDS", 0.2)
    monkeypatch.setattr(commit, "PATH_SECONDS", 0.5)
    monkeypatch.setattr(database, "PATH_SECONDS", 0.5)
    with breakable() as primary:
        standby = await asyncio.to_thread(primary.standby)
        try:
            url = primary.database()
            async with served(url) as engine:
                await engine.submit(logout("first"))
                await asyncio.to_thread(standby.stop)
                with pytest.raises(StoreUnavailable, match="the same request id"):
                    await engine.submit(logout("r"))
                assert asked("SELECT position FROM entry", url=url) == [(1,)]
                await asyncio.to_thread(standby.start)
                while not engine.ready:
                    await asyncio.sleep(0.05)
                again = await engine.submit(logout("r"))
                assert again.position == 2
            await assert_is_sound(url, 2)
            assert "canceling" not in (primary.folder / "log").read_text()
        finally:
            standby.end()
