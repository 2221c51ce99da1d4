"""Policy versions: where they come from, which is in force, and when servers take one over (docs/policies.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine_at_work import identify, running
from oneself.engine import adopt_policies
from oneself.engine.policies import settings_document, settings_of
from oneself.identity import PolicySettings
from oneself.store import CONFIGURED, EmbeddedStore, PolicyOrigin, PolicyVersion, next_version
from store_factories import AT_MS, BACKENDS, Backend, InMemory, Postgres

pytestmark = pytest.mark.anyio

DEFAULT, LINK, ISOLATION = (PolicySettings(name) for name in ("default", "profile_link", "profile_isolation"))
PROMOTED = PolicyOrigin("promotion", "ann", "why not")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=BACKENDS, ids=lambda kind: kind.__name__)
async def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A store of every engine in every state, empty."""
    async for made in _backend(request.param, tmp_path):
        yield made


@pytest.fixture(params=(InMemory, Postgres), ids=lambda kind: kind.__name__)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A store of each engine, empty."""
    async for made in _backend(request.param, tmp_path):
        yield made


async def _backend(kind: type[Backend], folder: Path) -> AsyncIterator[Backend]:
    made = kind(folder)
    await made.start()
    yield made
    await made.stop()


async def promote(backend: Backend, settings: PolicySettings, made: PolicyOrigin = PROMOTED) -> PolicyVersion:
    return await backend.store.add_policy("acme", AT_MS, settings_document(settings), made)


async def adopt(backend: Backend, settings: PolicySettings) -> tuple[int, list[str]]:
    """Start with a configuration; return the version in force, and what was logged."""
    with capture_logs() as logs:
        governing = await adopt_policies(backend.store, {"acme": settings}, lambda: AT_MS)
    return governing["acme"].version, [str(line["event"]) for line in logs]


# -- versions -------------------------------------------------------------------------------------------------------


async def test_a_version_keeps_where_it_came_from(anywhere: Backend) -> None:
    one = await promote(anywhere, DEFAULT, CONFIGURED)
    await anywhere.one()
    two = await promote(anywhere, LINK)
    three = await promote(anywhere, DEFAULT, PolicyOrigin("restoration", "bob", "\u2603 'quoted'", 1))
    assert [one.origin, two.origin, three.origin] == ["configuration", "promotion", "restoration"]
    assert (two.author, two.note, two.position, three.restores) == ("ann", "why not", 2, 1)
    assert settings_of(three) == DEFAULT
    await anywhere.reopen()
    assert await anywhere.store.policies() == [one, two, three]


async def test_what_is_in_force_already_is_no_new_version(anywhere: Backend) -> None:
    first = await promote(anywhere, LINK)
    assert await promote(anywhere, LINK) == first
    assert (await promote(anywhere, DEFAULT, CONFIGURED)).version == 2
    assert (await promote(anywhere, DEFAULT)).version == 2
    assert len(await anywhere.store.policies()) == 2


def test_a_configuration_is_compared_with_the_last_configuration_and_a_promotion_with_what_is_in_force() -> None:
    versions: list[PolicyVersion] = []

    def add(settings: str, made: PolicyOrigin) -> int:
        version = next_version(versions, "acme", 0, 1, settings, made)
        if version.version > len(versions):
            versions.append(version)
        return version.version

    assert add("a", CONFIGURED) == 1
    assert add("b", PROMOTED) == 2
    assert add("a", CONFIGURED) == 2, "the configuration has not changed"
    assert add("b", PROMOTED) == 2
    assert add("a", PROMOTED) == 3
    assert add("c", CONFIGURED) == 4
    assert add("a", CONFIGURED) == 5


# -- starting -------------------------------------------------------------------------------------------------------


async def test_a_promoted_version_stays_in_force_while_the_configuration_is_unchanged(backend: Backend) -> None:
    assert await adopt(backend, DEFAULT) == (1, ["policy adopted"])
    await promote(backend, LINK)
    told = "a promoted policy is in force, not the configuration's"
    for _ in range(2):
        assert await adopt(backend, DEFAULT) == (2, [told])
        await backend.reopen()
    assert await adopt(backend, ISOLATION) == (3, ["policy adopted"])
    assert await adopt(backend, ISOLATION) == (3, [])


async def test_a_configuration_that_catches_up_with_a_promotion_is_in_force(backend: Backend) -> None:
    await adopt(backend, DEFAULT)
    await promote(backend, LINK)
    assert await adopt(backend, LINK) == (3, ["policy adopted"])
    assert await adopt(backend, LINK) == (3, [])


# -- taking over ----------------------------------------------------------------------------------------------------


async def versions_of(backend: Backend) -> list[int]:
    return [entry.policy async for _, entry in backend.store.entries()]


async def test_an_engine_at_work_takes_a_new_version_over(backend: Backend) -> None:
    async with running(backend.store, {"acme": DEFAULT}) as engine:
        await engine.submit(identify())
        await promote(backend, ISOLATION)
        async with asyncio.timeout(5):
            while engine.policies.of("acme").strategy != "profile_isolation":
                await asyncio.sleep(0.02)
        await engine.submit(identify())
    assert await versions_of(backend) == [1, 2]


async def test_another_server_takes_it_over(tmp_path: Path) -> None:
    async for backend in _backend(Postgres, tmp_path):
        other = backend.make()
        await other.open()
        async with running(backend.store, {"acme": DEFAULT}) as here, running(other, {"acme": DEFAULT}) as there:
            await promote(backend, ISOLATION)
            async with asyncio.timeout(5):
                while {one.policies.of("acme").strategy for one in (here, there)} != {"profile_isolation"}:
                    await asyncio.sleep(0.02)
        await other.close()


async def test_what_waits_is_decided_under_the_version_it_was_taken_in_under(backend: Backend) -> None:
    async with running(backend.store, {"acme": DEFAULT}) as engine:
        waiting = [engine.submit(identify(email=f"{number}@example.com")) for number in range(5)]
        await promote(backend, ISOLATION)
        await engine.policies.take_over()
        waiting += [engine.submit(identify(email=f"{number}@example.com")) for number in range(5)]
        await asyncio.gather(*waiting)
    assert await versions_of(backend) == [1] * 5 + [2] * 5


async def test_a_version_is_kept_in_a_folder_beside_the_server_at_work_on_it(tmp_path: Path) -> None:
    backend = InMemory(tmp_path)
    await backend.start()
    async with running(backend.store, {"acme": DEFAULT}) as engine:
        await asyncio.gather(*(engine.submit(identify(other=str(number))) for number in range(50)))
        beside = EmbeddedStore(backend.store.folder, read_only=True)
        await beside.open()
        added, *_ = await asyncio.gather(
            beside.add_policy("acme", AT_MS, settings_document(LINK), PROMOTED),
            *(engine.submit(identify(other=str(number))) for number in range(50, 100)),
        )
        await beside.close()
        assert added.version == 2
        assert 51 <= added.position <= 101
        await engine.policies.take_over()
        assert engine.policies.of("acme").strategy == "profile_link"
    await backend.stop()
