"""Batches that become durable as one, and batches whose commit fails: all is done or nothing (docs/engine.md)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from batches import SERVER, WEB, assert_consistent, assert_knows, assert_rebuilds, event, known_of, of, taken
from disk import disk
from engine_at_work import FullDisk, all_of, logout, running, working
from histories import SCOPES, counted, in_bursts
from journal_fold import fold_of
from oneself.engine import Call, Engine, Outcome, adopt_policies
from oneself.errors import Overloaded, StoreUnavailable
from oneself.store import EmbeddedStore, Store
from oneself.store.keys import batch_key, event_key
from profile_world import NOW_MS, source
from store_factories import embedded

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def batch(number: int, **more: Any) -> Call:
    """Return a numbered batch of one of a few customers."""
    return taken(
        of(
            f"c{number % 7}", event(f"E{number}", f"m{number}"), source_request_id=f"r{number}",
            user_attributes={"n": number}, mp_deviceid=f"d{number % 3}", **more,
        )
    )  # fmt: skip


def several(first: int, count: int) -> list[Call]:
    return [batch(number) for number in range(first, first + count)]


def unwritable(number: int) -> Call:
    """Return a batch with half a character, which no JSON decoder gives and no journal can take."""
    return batch(number, user_attributes_note="\ud800", context={"x": "\ud800"})


async def outcomes_of(answers: Sequence[asyncio.Future[Outcome]]) -> list[Outcome | BaseException]:
    return await asyncio.gather(*answers, return_exceptions=True)


async def assert_nothing_of(store: Store, *numbers: int) -> None:
    """Assert that a store knows nothing of numbered batches, nor that it ever saw them."""
    for number in numbers:
        assert await store.find_request(f"r{number}") == []
        assert f"E{number}" not in await store.event_names("shop")
    keys = [make(SERVER.input, id_) for n in numbers for make, id_ in ((batch_key, f"r{n}"), (event_key, f"m{n}"))]
    assert (await store.read({}, keys)).answered == {}


# -- together -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7, 8, 30])
async def test_what_is_submitted_together_becomes_durable_as_one_however_much_it_is(
    tmp_path: Path, count: int
) -> None:
    async with working(tmp_path, max_group=7) as (engine, store):
        outcomes = await asyncio.gather(*engine.submit_all(several(0, count)))
        assert [outcome.position for outcome in outcomes] == list(range(1, count + 1))
        assert store.groups == [count]
        await assert_consistent(store)


async def test_what_is_submitted_together_stays_together_among_others(tmp_path: Path) -> None:
    async with working(tmp_path, max_group=4) as (engine, store):
        store.gate = asyncio.Event()
        answers = [engine.submit(logout("first"))]
        await asyncio.sleep(0.01)
        answers += [engine.submit(batch(number)) for number in range(3)]
        answers += engine.submit_all(several(3, 6))
        answers += [engine.submit(batch(9))]
        answers += engine.submit_all(several(10, 2))
        answers += engine.submit_all(several(12, 2))
        store.gate.set()
        outcomes = await asyncio.gather(*answers)
        assert [outcome.position for outcome in outcomes] == list(range(1, 16))
        assert store.groups == [1, 9, 5]
        await assert_consistent(store)


async def test_of_nothing_nothing_is_done(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        assert engine.submit_all([]) == []
        assert (await engine.submit(batch(1))).position == 1
        assert store.groups == [1]


async def test_overload_refuses_all_or_takes_all(tmp_path: Path) -> None:
    async with working(tmp_path, max_group=4, max_waiting=10) as (engine, store):
        store.gate = asyncio.Event()
        answers = [engine.submit(batch(0))]
        await asyncio.sleep(0.01)
        answers += engine.submit_all(several(1, 9))
        answers += engine.submit_all(several(10, 20))
        assert engine.waiting == 29
        with pytest.raises(Overloaded) as refusal:
            engine.submit_all(several(30, 2))
        assert refusal.value.retry_after >= 1
        assert engine.waiting == 29
        store.gate.set()
        assert [outcome.position for outcome in await asyncio.gather(*answers)] == list(range(1, 31))
        await assert_nothing_of(store, 30, 31)
        await asyncio.gather(*engine.submit_all(several(30, 2)))
        await assert_consistent(store)


async def test_an_engine_that_stops_answers_all_of_what_it_took_and_takes_no_more(tmp_path: Path) -> None:
    async with working(tmp_path, max_group=4) as (engine, store):
        store.gate = asyncio.Event()
        answers = [engine.submit(batch(0))]
        await asyncio.sleep(0.01)
        answers += engine.submit_all(several(1, 9))
        stopping = asyncio.create_task(engine.stop())
        await asyncio.sleep(0.01)
        with pytest.raises(StoreUnavailable):
            engine.submit_all(several(10, 2))
        store.gate.set()
        await stopping
        assert [answer.result().position for answer in answers] == list(range(1, 11))


async def test_a_call_that_cannot_be_prepared_keeps_all_out(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        stray = taken(of("c1"), scope="no scope")
        with pytest.raises(KeyError):
            engine.submit_all([*several(0, 3), stray, *several(3, 3)])
        assert engine.waiting == 0
        assert (await engine.submit(batch(6))).position == 1
        await assert_nothing_of(store, *range(6))


@pytest.mark.parametrize("place", [0, 2, 4])
async def test_a_call_that_cannot_be_kept_fails_those_it_came_with_and_nobody_else(
    tmp_path: Path, place: int
) -> None:
    async with working(tmp_path) as (engine, store):
        with_bad = several(10, 4)
        with_bad.insert(place, unwritable(14))
        answers = [
            engine.submit(batch(0)), *engine.submit_all(several(1, 3)), *engine.submit_all(with_bad),
            engine.submit(batch(4)), *engine.submit_all(several(5, 2)),
        ]  # fmt: skip
        outcomes = await outcomes_of(answers)
        for outcome in outcomes[4:9]:
            assert isinstance(outcome, UnicodeEncodeError)
        others = [outcome for outcome in (*outcomes[:4], *outcomes[9:]) if isinstance(outcome, Outcome)]
        assert [outcome.position for outcome in others] == list(range(1, 8))
        await assert_nothing_of(store, *range(10, 15))
        again = await asyncio.gather(*engine.submit_all(several(10, 5)))
        assert not any(outcome.repeated for outcome in again)
        await assert_consistent(store)


async def test_a_caller_who_left_does_not_keep_the_others_out(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        answers = engine.submit_all(several(0, 4))
        answers[1].cancel()
        await outcomes_of(answers)
        assert store.position == 4
        await assert_consistent(store)


# -- a commit that fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
async def test_of_a_commit_that_fails_nothing_is_there_and_the_same_batches_then_go_in(
    tmp_path: Path, together: bool
) -> None:
    store = FullDisk(tmp_path / "data")
    await store.open()
    async with running(store, max_group=7) as engine:
        await all_of(engine, *several(0, 7))
        before = await known_of(store)
        calls = several(7, 14)
        for _ in range(3):
            store.refusals = 1 if together else 2  # alone they are two groups
            answers = engine.submit_all(calls) if together else [engine.submit(made) for made in calls]
            assert {type(outcome) for outcome in await outcomes_of(answers)} == {StoreUnavailable}
            assert store.refusals == 0
            assert store.position == 7
            await assert_nothing_of(store, *range(7, 21))
            await assert_knows(store, before)
        answers = engine.submit_all(calls) if together else [engine.submit(made) for made in calls]
        outcomes = await asyncio.gather(*answers)
        assert not any(outcome.repeated for outcome in outcomes)
        assert [outcome.position for outcome in outcomes] == list(range(8, 22))
        await assert_consistent(store)
    await store.close()
    await assert_rebuilds(tmp_path / "data", tmp_path / "rebuilt")


async def test_a_batch_decided_over_one_that_fails_is_decided_again(tmp_path: Path) -> None:
    """The second has an event, a name and a user in common with the first, which never becomes durable."""
    store = FullDisk(tmp_path / "data")
    await store.open()
    async with running(store) as engine:
        store.refusals = 1
        store.go.clear()
        lost = of("c1", event("A", "m1"), source_request_id="r1", user_attributes={"a": "lost", "b": "lost"})
        first = engine.submit(taken(lost))
        await asyncio.sleep(0.01)
        second = engine.submit(taken(of("c1", event("A", "m1"), event("B", "m2"), user_attributes={"a": "kept"})))
        again = engine.submit(taken(lost))
        await asyncio.sleep(0.01)
        store.go.set()
        assert isinstance((await outcomes_of([first]))[0], StoreUnavailable)
        assert [(await second).position, (await again).position, (await again).repeated] == [1, 2, False]
        made = await store.batches([1, 2])
        assert [[one.id for one in record.batch.events] for record in made.values() if record.batch] == [
            ["m1", "m2"], [],
        ]  # fmt: skip
        await assert_consistent(store)
    await store.close()


def test_whatever_the_disk_refuses_each_batch_is_taken_in_or_not(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("FLUSH_ROWS", 60), ("FLUSH_SECONDS", 0.005), ("RETRY_SECONDS", 0.005)):
        monkeypatch.setattr(embedded, name, seconds)
    seed = request.config.getoption("--hypothesis-seed")
    print(f"repeat with: --hypothesis-seed={seed}")
    for round_ in range(3):
        assert asyncio.run(_on_a_failing_disk(tmp_path / str(round_), f"{seed} {round_}")) > 0


async def _on_a_failing_disk(folder: Path, seed: str) -> int:
    """Take batches in on a disk that often fails; return how many were refused at first."""
    dice, moments = random.Random(seed), random.Random(f"{seed} moments")
    rate = 0.0
    refused = 0

    def fail(what: str, name: str) -> None:
        if moments.random() < rate:
            raise moments.choice((apsw.FullError, apsw.IOError))("no luck")

    with disk() as below:
        store = EmbeddedStore(folder / "data")
        await store.open()
        below.fault = fail
        engine = Engine(store, await adopt_policies(store, SCOPES, lambda: 0), mpids=counted())
        await engine.start()
        waiting = [_random_batch(dice, number) for number in range(300)]
        while waiting:
            rate = dice.choice((0.0, 0.02, 0.1, 0.5)) if len(waiting) > 30 else 0.0
            some = waiting[: dice.randrange(1, 12)]
            if dice.random() < 0.4:
                outcomes = await outcomes_of(engine.submit_all(some))
                assert len({type(outcome) for outcome in outcomes}) == 1
            else:
                outcomes = await in_bursts(engine, dice, some)
            again = []
            for made, outcome in zip(some, outcomes, strict=True):
                if isinstance(outcome, StoreUnavailable):
                    again.append(made)
                else:
                    assert isinstance(outcome, Outcome), repr(outcome)
                    assert not outcome.repeated
            refused += len(again)
            waiting[: len(some)] = again
            dice.shuffle(waiting)
        rate = 0.0
        await engine.stop()
        known = await assert_consistent(store)
        taken_in = {one.id for record in known.batches.values() if record.batch for one in record.batch.events}
        assert taken_in == {f"m{number}" for number in range(300)}
        assert (await fold_of(store)).position == 300
        await store.close()
    await assert_rebuilds(folder / "data", folder / "rebuilt")
    return refused


def _random_batch(dice: random.Random, number: int) -> Call:
    at_ms = NOW_MS - dice.randrange(50)
    document = of(
        f"c{dice.randrange(5)}", event(dice.choice("ABC"), f"m{number}", at_ms), source_request_id=f"r{number}",
        user_attributes={dice.choice("ab"): number}, mp_deviceid=f"d{dice.randrange(4)}",
    )  # fmt: skip
    return taken(document, dice.choice((SERVER, WEB, source("csv"))), NOW_MS + number)
