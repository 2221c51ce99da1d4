"""Several servers on one database: one runs the jobs; tokens, their revocation and the live stream are everyone's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from admin_world import World, admin
from oneself.errors import StoreUnavailable
from oneself.http import tokens
from oneself.jobs import lease as leases
from oneself.jobs.lease import Lease
from oneself.store import Store
from oneself.store.postgres import PostgresStore
from postgres_server import fresh_schema
from store_factories import BACKENDS, Backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens by itself."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.__name__)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    kind: type[Backend] = request.param
    backend = kind(tmp_path)
    await backend.start()
    yield backend.store
    await backend.stop()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Store, Store]]:
    """Two servers' stores on one database."""
    url = fresh_schema()
    stores = PostgresStore(url), PostgresStore(url)
    for one in stores:
        await one.open()
    yield stores
    for one in stores:
        await one.close()


@pytest.fixture
async def worlds(tmp_path: Path) -> AsyncIterator[tuple[World, World]]:
    """Two servers' edges on one database."""
    url = fresh_schema()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(admin(tmp_path, PostgresStore(url)))
        second = await stack.enter_async_context(admin(tmp_path, PostgresStore(url)))
        yield first, second


# -- settings and leases ----------------------------------------------------------------------------------------


async def test_the_first_value_of_a_setting_stays(store: Store) -> None:
    assert await store.first_setting("key", "one") == "one"
    assert await store.first_setting("key", "two") == "one"
    assert await store.setting("key") == "one"
    await store.set_setting("key", "three")
    assert await store.first_setting("key", "two") == "three"


async def test_a_lease_is_one_holders_until_it_ends(store: Store) -> None:
    assert await store.lease("jobs", "a", 60)
    assert await store.lease("jobs", "a", 60), "its holder may renew it"
    assert await store.lease("jobs", "b", 60) is not store.shared, "nobody else may have it where there are others"
    assert await store.lease("other", "b", 60), "another lease has nothing to do with it"
    await store.end_lease("jobs", "b")
    assert await store.lease("jobs", "a", 60), "who does not hold it cannot end it"
    await store.end_lease("jobs", "a")
    assert await store.lease("jobs", "b", 60)


async def test_a_lease_that_is_not_renewed_passes_on(pair: tuple[Store, Store]) -> None:
    one, other = pair
    assert await one.lease("jobs", "a", 0.3)
    assert not await other.lease("jobs", "b", 0.3)
    await asyncio.sleep(0.4)
    assert await other.lease("jobs", "b", 60)
    assert not await one.lease("jobs", "a", 60)


async def test_one_server_leads_and_another_takes_over(
    pair: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_RENEW_SECONDS", 0.02)
    first, second = (Lease(one, seconds=0.5) for one in pair)
    await first.start()
    await second.start()
    for _ in range(20):
        await asyncio.sleep(0.02)
        assert (first.held, second.held) == (True, False)
    await first.stop()
    assert not first.held
    await asyncio.wait_for(second.wait(), 20)
    await first.start()
    assert not first.held
    assert second._task is not None
    second._task.cancel()  # it dies without a word
    await asyncio.wait_for(first.wait(), 20)
    assert not second.held, "nobody believes in a lease for longer than the others do"
    await first.stop()


async def test_a_lease_that_cannot_be_renewed_is_not_believed_in(
    pair: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_RENEW_SECONDS", 0.02)
    one = pair[0]
    held = Lease(one, seconds=0.3)
    await held.start()
    assert held.held

    async def fail(name: str, holder: str, seconds: float) -> bool:
        raise StoreUnavailable("The database is away.")

    monkeypatch.setattr(one, "lease", fail)
    await until(lambda: not held.held)
    monkeypatch.undo()
    await asyncio.wait_for(held.wait(), 20)
    await held.stop()


# -- tokens -----------------------------------------------------------------------------------------------------


async def test_a_token_of_one_server_holds_on_another_until_it_is_revoked(
    worlds: tuple[World, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "FRESH_SECONDS", 0.05)
    first, second = worlds
    headers = await first.headers("admin")
    await second.headers("admin")  # this one has asked for the key, too
    for world in worlds:
        assert (await world.ask("GET", "/admin/workspaces", headers=headers)).status == 200
    assert (await second.ask("POST", "/admin/clients/admin/revoke", {}, headers)).status == 200
    assert (await second.ask("GET", "/admin/workspaces", headers=headers)).status == 401
    await asyncio.sleep(0.06)
    assert (await first.ask("GET", "/admin/workspaces", headers=headers)).status == 401


# -- the live stream --------------------------------------------------------------------------------------------


def signed_up(customer: str) -> dict[str, Any]:
    return {"environment": "development", "user_identities": {"customerid": customer}}


async def test_the_live_stream_shows_what_all_servers_take_in(worlds: tuple[World, World]) -> None:
    first, second = worlds
    before = await first.take(signed_up("before"))
    async with first.watching() as stream:
        sent = []
        for number in range(6):
            world = worlds[number % 2]
            sent.append(await world.take(signed_up(f"user-{number}")))
        seen = await stream.until(6)
        assert [one["position"] for one in seen] == sent
        assert before not in sent
    async with second.watching(headers={"last-event-id": str(sent[1])}) as stream:
        seen = await stream.until(4)
        last = await first.take(signed_up("last"))
        seen = await stream.until(5)
        assert [one["position"] for one in seen] == [*sent[2:], last]
