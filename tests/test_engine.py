"""The engine: each request once, in one order, in groups; what it accepted it answers (docs/engine.md)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine_at_work import DEVICE, SPACE, all_of, identify, logout, running, working
from engines import backend_at, store_at
from histories import INPUTS, SCOPES, mpid_of
from journal_fold import assert_store_is, fold_of, replay
from oneself.engine import Call, Engine, adopt_policies
from oneself.errors import StoreUnavailable
from oneself.identity import IdentityChange, PolicySettings, Request, build

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# -- idempotence --------------------------------------------------------------------------------------------------


async def test_a_repeated_request_gets_the_same_answer_and_has_no_second_effect(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        first = await engine.submit(logout("r1"))
        again = await engine.submit(logout("r1"))
        assert (first.repeated, again.repeated) == (False, True)
        assert (again.decision, again.position, again.request) == (first.decision, 1, first.request)
        assert store.position == 1
        assert (await engine.submit(logout("r2"))).decision.mpid != first.decision.mpid


async def test_a_request_repeated_within_its_group_is_answered_once(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        outcomes = await all_of(engine, logout("r1"), logout("r2"), logout("r1"), logout("r1"))
        assert store.groups == [2]
        assert [outcome.repeated for outcome in outcomes] == [False, False, True, True]
        assert {outcome.decision.mpid for outcome in (outcomes[0], *outcomes[2:])} == {mpid_of(1)}
        assert [outcome.position for outcome in outcomes] == [1, 2, 1, 1]


@pytest.mark.parametrize("crash", [False, True])
async def test_a_repeated_request_gets_the_same_answer_after_a_restart(tmp_path: Path, crash: bool) -> None:
    backend = backend_at(tmp_path)
    await backend.start()
    async with running(backend.store) as engine:
        first = await all_of(engine, logout("r1"), logout("r2"))
    await (backend.crash() if crash else backend.reopen())
    async with running(backend.store, mpids=lambda: 77) as engine:
        again = await all_of(engine, logout("r2"), logout("r1"))
    assert [outcome.decision for outcome in again] == [first[1].decision, first[0].decision]
    assert backend.store.position == 2
    await backend.stop()


async def test_requests_of_two_inputs_with_one_id_are_two_requests(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        outcomes = await all_of(engine, *(identify("r1", input=name) for name in INPUTS))
        assert not any(outcome.repeated for outcome in outcomes)
        assert await store.find_request("r1") == [1, 2, 3]


async def test_requests_without_an_id_are_each_decided(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, _):
        outcomes = await all_of(engine, logout(), logout())
        assert len({outcome.decision.mpid for outcome in outcomes}) == 2


async def test_an_id_that_was_used_for_another_kind_is_refused_and_nothing_is_done(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        first, second = await all_of(engine, identify("r1"), logout("r1"))
        third = await engine.submit(Call(SPACE, "shop/web", Request("modify", mpid=5), "r1"))
        for outcome in (second, third):
            assert outcome.decision.error is not None
            assert (outcome.decision.error.status, outcome.decision.error.code) == (400, "BAD_REQUEST")
            assert "request_id" in outcome.decision.error.message
            assert (outcome.decision.mpid, outcome.position) == (None, 0)
        assert store.position == 1
        assert (await engine.submit(identify("r1"))).decision == first.decision


async def test_a_refusal_is_repeated_too(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        first = await engine.submit(identify("r1", email="null"))
        again = await engine.submit(identify("r1", email="null"))
        assert first.decision.error is not None
        assert (again.decision, again.repeated, store.position) == (first.decision, True, 1)


# -- what writes nothing --------------------------------------------------------------------------------------------


async def test_searches_and_read_only_requests_write_nothing(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        known = await engine.submit(identify(email="a@example.com"))
        before = [row async for row in store.entries()]
        mpid = known.decision.mpid
        change = Request("modify", mpid=mpid, changes=(IdentityChange("other", None, "x"),))
        asked = [
            identify("q1", read_only=True, email="a@example.com", other="new"),
            identify("q2", read_only=True, email="b@example.com"),
            Call(SPACE, "shop/web", Request("search", {"email": "a@example.com"}), "q3"),
            Call(SPACE, "shop/web", Request("search", {"email": "b@example.com"}), "q4"),
            Call(SPACE, "shop/web", change, "q5", read_only=True),
        ]
        outcomes = await all_of(engine, *asked)
        assert [outcome.position for outcome in outcomes] == [0, 0, 0, 0, 0]
        assert [outcome.decision.mpid for outcome in outcomes] == [mpid, None, mpid, None, mpid]
        assert outcomes[1].decision.error is None
        assert outcomes[3].decision.error is not None
        assert [row async for row in store.entries()] == before
        assert [await store.find_request(f"q{number}") for number in range(1, 6)] == [[]] * 5
        assert sum(store.groups) == 1


async def test_a_read_only_request_sees_the_requests_that_stand_before_it_in_its_group(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, _):
        before, made, after = await all_of(engine, identify(read_only=True), identify(), identify(read_only=True))
        assert (before.decision.mpid, after.decision.mpid) == (None, made.decision.mpid)


async def test_an_id_that_a_read_only_request_had_is_still_free(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, _):
        asked, made = await all_of(engine, identify("r1", read_only=True), identify("r1"))
        assert (asked.decision.mpid, made.repeated) == (None, False)
        assert made.decision.mpid is not None


# -- new profiles ---------------------------------------------------------------------------------------------------


async def test_an_mpid_that_was_drawn_before_is_not_given_again(tmp_path: Path) -> None:
    drawn = iter([5, 5, 6, 7, 7, 8, 9])
    async with working(tmp_path, mpids=lambda: next(drawn)) as (engine, store):
        assert (await engine.submit(identify())).decision.mpid == 5
        other = Call("acme/development", "shop/web", Request("identify", {**DEVICE}))
        assert (await engine.submit(other)).decision.mpid == 6
        outcomes = await all_of(engine, logout(), logout())
        assert {outcome.decision.mpid for outcome in outcomes} == {8, 9}
        await assert_store_is(store, await fold_of(store))


# -- groups ---------------------------------------------------------------------------------------------------------


async def test_one_group_takes_no_more_than_its_limit(tmp_path: Path) -> None:
    async with working(tmp_path, max_group=7) as (engine, store):
        await all_of(engine, *(logout(f"r{number}") for number in range(7)))
        store.gate = asyncio.Event()
        rest = [engine.submit(logout(f"s{number}")) for number in range(7)]
        await asyncio.sleep(0.01)
        rest += [engine.submit(logout(f"t{number}")) for number in range(7)]
        store.gate.set()
        await asyncio.gather(*rest)
        assert store.groups == [7, 7, 7]


# -- starting and stopping ------------------------------------------------------------------------------------------


async def test_stopping_answers_what_was_accepted(tmp_path: Path) -> None:
    async with working(tmp_path, max_group=3) as (engine, store):
        store.gate = asyncio.Event()
        answers = [engine.submit(logout(f"r{number}")) for number in range(10)]
        stopping = asyncio.create_task(engine.stop())
        await asyncio.sleep(0.01)
        assert not stopping.done()
        assert not engine.ready
        with pytest.raises(StoreUnavailable):
            engine.submit(logout("late"))
        store.gate.set()
        await stopping
        assert all(answer.done() for answer in answers)
        assert len({answer.result().decision.mpid for answer in answers}) == 10
        assert store.position == 10


async def test_an_engine_that_was_not_started_takes_no_calls(tmp_path: Path) -> None:
    store = store_at(tmp_path / "data")
    await store.open()
    engine = Engine(store, await adopt_policies(store, SCOPES, lambda: 0))
    assert not engine.ready
    with pytest.raises(StoreUnavailable):
        engine.submit(identify())
    await engine.stop()
    await store.close()


async def test_each_group_is_reported_with_its_size(tmp_path: Path) -> None:
    sizes: list[int] = []

    def report(size: int, seconds: float, writing: float) -> None:
        sizes.append(size if 0 < writing < seconds else -1)

    async with working(tmp_path, on_group=report) as (engine, _):
        await all_of(engine, logout(), logout(), logout())
        await engine.submit(identify())
    assert sizes == [3, 1]


# -- policies -------------------------------------------------------------------------------------------------------


async def test_settings_that_are_new_become_the_next_version_of_their_scope(tmp_path: Path) -> None:
    backend = backend_at(tmp_path)
    await backend.start()
    first, second = {"acme": PolicySettings()}, {"acme": PolicySettings("profile_link"), "solo": PolicySettings()}
    clock = iter(range(1_000, 0, -100))  # a clock that goes back does not change what is newest

    async def adopt(scopes: dict[str, PolicySettings]) -> dict[str, int]:
        governing = await adopt_policies(backend.store, scopes, lambda: next(clock))
        for scope, settings in scopes.items():
            assert governing[scope].policy == build(settings)
        return {scope: of.version for scope, of in governing.items()}

    assert await adopt(first) == {"acme": 1}
    assert await adopt(first) == {"acme": 1}
    assert await adopt(second) == {"acme": 2, "solo": 1}
    assert await adopt(second) == {"acme": 2, "solo": 1}
    await backend.reopen()
    assert await adopt(second) == {"acme": 2, "solo": 1}
    assert await adopt(first) == {"acme": 3}
    assert [(row.scope, row.version) for row in await backend.store.policies()] == [
        ("acme", 1), ("solo", 1), ("acme", 2), ("acme", 3),
    ]  # fmt: skip
    await backend.stop()


async def test_entries_name_the_policy_version_that_decided(tmp_path: Path) -> None:
    backend = backend_at(tmp_path)
    await backend.start()
    for strategy in ("default", "profile_isolation", "default"):
        scopes = {"acme": PolicySettings(strategy, alias_delay=0)}
        engine = Engine(backend.store, await adopt_policies(backend.store, scopes, lambda: 0))
        await engine.start()
        for number in range(3):
            await engine.submit(logout(email=f"{number % 2}@example.com", device_application_stamp="d"))
        await engine.stop()
        await backend.reopen()
    assert [entry.policy async for _, entry in backend.store.entries()] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert await replay(backend.store) == 9
    await backend.stop()
