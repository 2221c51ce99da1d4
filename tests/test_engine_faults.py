"""An engine with too much to do, or whose store fails: refused early, all of a group or nothing, ready again."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from engine_at_work import SPACE, FullDisk, all_of, identify, logout, running, working
from journal_fold import assert_store_is, fold_of, replay
from oneself.engine import Call, Outcome
from oneself.engine import engine as engine_module
from oneself.errors import Overloaded, StoreDamaged, StoreUnavailable
from oneself.identity import IdentityChange, Request
from store_factories import InMemory

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# -- overload -------------------------------------------------------------------------------------------------------


async def test_too_many_calls_are_refused_at_once_and_the_others_answered(tmp_path: Path) -> None:
    async with working(tmp_path, max_group=4, max_waiting=10) as (engine, store):
        store.gate = asyncio.Event()
        taken: list[asyncio.Future[Outcome]] = []
        refusals: list[Overloaded] = []
        for number in range(40):
            try:
                taken.append(engine.submit(logout(f"r{number}")))
            except Overloaded as refusal:
                refusals.append(refusal)
            assert engine.waiting <= 10
            if number == 5:
                await asyncio.sleep(0.01)  # what is taken from the queue makes room
        assert len(taken) > 10
        assert refusals
        assert all(type(refusal.retry_after) is int and refusal.retry_after >= 1 for refusal in refusals)
        store.gate.set()
        assert len({(await answer).decision.mpid for answer in taken}) == len(taken)
        assert store.position == len(taken)
        assert (await engine.submit(logout("one more"))).position == len(taken) + 1


async def test_calls_that_would_wait_too_long_are_refused_while_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MAX_WAIT_SECONDS", 0.0)
    async with working(tmp_path, max_group=4) as (engine, store):
        for turn in range(3):
            await all_of(engine, *(logout(f"r{turn} {number}") for number in range(4)))
        store.gate = asyncio.Event()
        taken = [engine.submit(logout(f"s{number}")) for number in range(4)]
        await asyncio.sleep(0.01)
        taken += [engine.submit(logout(f"t{number}")) for number in range(4)]
        taken.append(engine.submit(logout("one more")))
        with pytest.raises(Overloaded) as refusal:
            engine.submit(logout("too many"))
        assert type(refusal.value.retry_after) is int
        store.gate.set()
        await asyncio.gather(*taken)


async def test_a_burst_after_quiet_is_answered(tmp_path: Path) -> None:
    """Lone requests say nothing of how many could be answered together."""
    async with working(tmp_path, max_group=8) as (engine, store):
        commit = store._journal.sync

        def slow() -> None:
            threading.Event().wait(0.05)
            commit()

        store._journal.sync = slow  # type: ignore[method-assign]
        for number in range(10):
            await engine.submit(logout(f"r{number}"))
        outcomes = await all_of(engine, *(logout(f"s{number}") for number in range(100)))
        assert len({outcome.decision.mpid for outcome in outcomes}) == 100


async def test_what_waits_is_refused_when_the_store_finds_that_it_cannot_serve(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        store.gate = asyncio.Event()
        taken = [engine.submit(logout("r1"))]
        await asyncio.sleep(0.01)
        taken += [engine.submit(logout("r2")), *engine.submit_all([logout("r3"), logout("r4")])]
        await asyncio.sleep(0.01)
        taken.append(engine.submit(logout("r5")))
        store.on_trouble(StoreUnavailable("It is away.", 1))
        assert engine.waiting == 0
        store.gate.set()
        answers = await asyncio.gather(*taken, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
        assert refused
        assert refused == answers[-len(refused) :]
        assert store.position == len(answers) - len(refused)
        assert (await engine.submit(logout("r5"))).position == store.position


# -- faults ---------------------------------------------------------------------------------------------------------


async def test_a_group_that_cannot_be_kept_leaves_no_trace(tmp_path: Path) -> None:
    backend = InMemory(tmp_path)
    store = FullDisk(tmp_path / "data")
    backend.store = store
    await store.open()
    async with running(store) as engine:
        held = await engine.submit(identify("r0", email="a@example.com", other="o1"))
        mpid = held.decision.mpid
        assert mpid is not None
        before = await store.profile(mpid)
        store.refusals = 1
        calls = [
            identify("r1", email="a@example.com", other="o2"),
            logout("r2"),
            Call(
                SPACE, "shop/web", Request("modify", mpid=mpid, changes=(IdentityChange("other", "o1", None),)), "r3"
            ),
            identify(read_only=True, email="a@example.com"),
        ]
        answers = await asyncio.gather(*[engine.submit(made) for made in calls], return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 4
        assert await store.profile(mpid) == before
        assert store.position == 1
        assert [await store.find_request(f"r{number}") for number in range(4)] == [[1], [], [], []]
        assert [at async for at, _ in store.entries()] == [1]
        outcomes = await all_of(engine, *calls)
        assert [outcome.position for outcome in outcomes] == [2, 3, 4, 0]
        assert not any(outcome.repeated for outcome in outcomes)
        await assert_store_is(store, await fold_of(store))
    await backend.crash()
    await assert_store_is(backend.store, await fold_of(backend.store))
    await backend.stop()


@pytest.mark.parametrize("refused", [False, True])
async def test_what_is_decided_while_a_group_is_on_its_way_sees_it_and_is_decided_again_if_that_fails(
    tmp_path: Path, refused: bool
) -> None:
    store = FullDisk(tmp_path / "data")
    await store.open()
    async with running(store) as engine:
        held = (await engine.submit(identify("r0", email="a@example.com"))).decision.mpid
        store.refusals = int(refused)
        store.go.clear()
        change = Request("modify", mpid=held, changes=(IdentityChange("email", "a@example.com", None),))
        first = [engine.submit(identify("r1")), engine.submit(Call(SPACE, "shop/web", change, "r2"))]
        await asyncio.sleep(0.01)
        second = [
            engine.submit(identify("r1")),
            engine.submit(identify("r3")),
            engine.submit(identify("r4", email="a@example.com")),
            engine.submit(identify(read_only=True, other="o1", email="a@example.com")),
        ]
        await asyncio.sleep(0.01)
        third = engine.submit(identify(read_only=True))
        await asyncio.sleep(0.01)
        early = [answer.done() for answer in (*first, *second, third)]
        told = store.position, [at async for at, _ in store.entries()], await store.find_request("r1")
        store.go.set()
        answers = await asyncio.gather(*first, return_exceptions=True)
        again, same, found, looked = await asyncio.gather(*second)
        assert not any(early)
        assert told == (1, [1], [])
        assert again.decision.mpid == same.decision.mpid == (await third).decision.mpid
        assert found.decision.mpid == looked.decision.mpid
        if refused:
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
            assert [again.repeated, again.position, same.position, found.position] == [False, 2, 3, 4]
            assert found.decision.mpid == held
        else:
            assert [again.repeated, again.position, same.position, found.position] == [True, 2, 4, 5]
            assert found.decision.mpid != held
        await assert_store_is(store, await fold_of(store))
        assert await replay(store) == store.position
    await store.close()


async def test_readiness_goes_when_answers_fail_and_comes_back(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        assert engine.ready
        store.fault = StoreUnavailable("The disk is full.", 3600)
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await engine.submit(identify())
        assert not engine.ready
        store.fault = None
        await engine.submit(identify())
        assert engine.ready
        store.fault = StoreUnavailable("The disk is full.", 0)
        with pytest.raises(StoreUnavailable):
            await engine.submit(identify())
        assert engine.ready  # after that time it may be tried again
        store.fault = None
    assert not engine.ready


async def test_a_damaged_store_is_told_as_such(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        store.fault = StoreDamaged("journal.db is damaged.")
        with pytest.raises(StoreUnavailable, match=r"journal\.db is damaged"):
            await engine.submit(identify())
        assert not engine.ready
        store.fault = None
        await engine.submit(identify())


async def test_a_call_that_cannot_be_kept_does_not_fail_its_neighbours(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        unwritable = identify("r2", other="\ud800")
        answers = await asyncio.gather(
            *[engine.submit(made) for made in (logout("r1"), unwritable, logout("r3"))], return_exceptions=True
        )
        assert isinstance(answers[1], UnicodeEncodeError)
        for answer in (answers[0], answers[2]):
            assert isinstance(answer, Outcome)
        assert engine.ready
        assert store.position == 2
        await assert_store_is(store, await fold_of(store))


async def test_a_call_that_was_given_up_does_not_hurt_its_neighbours(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        first, given_up, last = (engine.submit(logout(f"r{number}")) for number in range(3))
        given_up.cancel()
        assert len({(await first).decision.mpid, (await last).decision.mpid}) == 2
        assert given_up.cancelled()
        store.fault = StoreUnavailable("The disk is full.")
        first, given_up, last = (engine.submit(logout(f"s{number}")) for number in range(3))
        given_up.cancel()
        for answer in (first, last):
            with pytest.raises(StoreUnavailable):
                await answer
        store.fault = None
        assert (await engine.submit(logout("t"))).decision.mpid is not None


@pytest.mark.parametrize("turns", range(6))
async def test_trouble_that_comes_while_a_group_is_gathered_stops_nothing(tmp_path: Path, turns: int) -> None:
    async with working(tmp_path) as (engine, store):
        refused = engine.submit(logout())
        for _ in range(turns):
            await asyncio.sleep(0)
        store.on_trouble(StoreUnavailable("It is away.", 1))
        await asyncio.wait([refused], timeout=20)
        await asyncio.sleep(0.01)
        assert turns > 1 or isinstance(refused.exception(), StoreUnavailable)
        assert refused.exception() is None or isinstance(refused.exception(), StoreUnavailable)
        assert engine.ready
        assert (await asyncio.wait_for(engine.submit(logout()), 20)).decision.error is None
