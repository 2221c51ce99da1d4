"""Each batch and each event counts once for each input (docs/profiles.md, "Once"), however it comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from batches import SERVER, WEB, assert_consistent, bad, event, of, taken
from engine_at_work import SPACE, Faulty, all_of, faulty_at, running, working
from engines import backend_at
from histories import counted, mpid_of
from oneself.engine import Call, Engine, Outcome
from oneself.identity import Request
from oneself.journal import BatchRecord
from oneself.profiles import values_of
from oneself.store import Store
from profile_world import NOW_MS, change, source
from rebuilding import assert_backend_rebuilds
from store_factories import Backend

pytestmark = pytest.mark.anyio

WAYS = ("one by one", "in one group", "together", "on its way", "reopened", "killed")
"""How the second of two things can come after the first."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Shop:
    """An engine whose calls come after one another in some way."""

    def __init__(self, backend: Backend, way: str) -> None:
        self.backend = backend
        self.way = way

    @property
    def store(self) -> Store:
        return self.backend.store

    async def take(self, *calls: Call) -> list[Outcome]:
        """Submit calls in the way that is tested; return their outcomes."""
        mpids = counted()
        if self.way in ("reopened", "killed"):
            outcomes = []
            for call in calls:
                async with running(self.store, mpids=mpids) as engine:
                    outcomes.append(await engine.submit(call))
                await (self.backend.crash() if self.way == "killed" else self.backend.reopen())
            return outcomes
        async with running(self.store, mpids=mpids) as engine:
            return await self._submit(engine, calls)

    async def _submit(self, engine: Engine, calls: tuple[Call, ...]) -> list[Outcome]:
        if self.way == "in one group":
            return await all_of(engine, *calls)
        if self.way == "together":
            return list(await asyncio.gather(*engine.submit_all(calls)))
        if self.way == "one by one":
            return [await engine.submit(call) for call in calls]
        assert isinstance(self.store, Faulty)
        self.store.gate = asyncio.Event()
        answers = []
        for call in calls:  # each is decided while the one before it is on its way to the disk
            answers.append(engine.submit(call))
            await asyncio.sleep(0.005)
        self.store.gate.set()
        return list(await asyncio.gather(*answers))


@pytest.fixture(params=WAYS)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop whose batches come one after the other in some way."""
    backend = backend_at(tmp_path)
    await backend.start()
    if request.param == "on its way":
        await backend.stop()
        backend.store = faulty_at(backend)
        await backend.store.open()
    yield Shop(backend, request.param)
    await assert_consistent(backend.store)
    await backend.stop()
    await assert_backend_rebuilds(backend, tmp_path / "rebuilt")


async def events_at(store: Store, position: int) -> list[Any]:
    """Return the names of the events that the batch at a position kept."""
    record = (await store.batches([position]))[position]
    assert record.batch is not None
    return [one.name for one in record.batch.events]


async def attributes(store: Store, number: int = 1) -> dict[str, Any]:
    user = await store.user(mpid_of(number), "shop")
    assert user is not None
    assert user.workspace is not None
    return values_of(user.workspace.attributes)


# -- batches --------------------------------------------------------------------------------------------------------


async def test_a_batch_that_comes_again_gets_the_same_answer_and_changes_nothing(shop: Shop) -> None:
    document = of("c1", event("A"), source_request_id="r1", user_attributes={"a": "1"})
    later = of("c2", event("B"), source_request_id="r1", user_attributes={"a": "2"})
    first, again, other = await shop.take(taken(document), taken(document), taken(later, received_ms=NOW_MS + 9))
    assert [outcome.repeated for outcome in (first, again, other)] == [False, True, True]
    for outcome in (again, other):
        assert (outcome.decision, outcome.position) == (first.decision, 1)
    assert shop.store.position == 1
    assert await attributes(shop.store) == {"a": "1"}
    assert len(await shop.store.activity(mpid_of(1), "shop")) == 1
    assert await shop.store.find_request("r1") == [1]


async def test_batches_of_different_inputs_with_one_id_are_two(shop: Shop) -> None:
    document = of("c1", source_request_id="r1")
    outcomes = await shop.take(
        taken(document), taken(document, WEB), taken(document, source("server", workspace="lab")), taken(document)
    )
    assert [outcome.repeated for outcome in outcomes] == [False, False, False, True]
    assert await shop.store.find_request("r1") == [1, 2, 3]


async def test_batches_without_an_id_are_each_taken(shop: Shop) -> None:
    for_none = of("c1", source_request_id=None)
    outcomes = await shop.take(
        taken(of("c1")), taken(of("c1")), taken(for_none), taken(of("c1", source_request_id=""))
    )
    assert [outcome.position for outcome in outcomes] == [1, 2, 3, 4]
    assert len(await shop.store.activity(mpid_of(1), "shop")) == 4


async def test_ids_of_batches_and_of_identity_requests_do_not_meet(shop: Shop) -> None:
    identify = Call(SPACE, SERVER.input, Request("identify", {"customerid": "c1"}), "r1")
    batch = taken(of("c1", event("A", "r1"), source_request_id="r1"))
    outcomes = await shop.take(identify, batch, identify, batch)
    assert [(outcome.position, outcome.repeated) for outcome in outcomes] == [
        (1, False), (2, False), (1, True), (2, True),
    ]  # fmt: skip
    assert await shop.store.find_request("r1") == [1, 2]


async def test_what_was_set_aside_is_set_aside_once(shop: Shop) -> None:
    document = of("c1", mpid=5, source_request_id="r1")
    first, again = await shop.take(taken(document), taken(document))
    assert (again.repeated, again.decision) == (True, first.decision)
    assert [row.position for row in await shop.store.quarantined("shop")] == [1]


# -- events ---------------------------------------------------------------------------------------------------------


async def test_an_event_that_came_before_is_left_out_and_the_rest_of_its_batch_is_taken(shop: Shop) -> None:
    await shop.take(
        taken(of("c1", event("A", "m1"), event("B", "m2"), source_request_id="r1", user_attributes={"a": "1"})),
        taken(of("c1", event("C", "m3"), event("A", "m1"), source_request_id="r2", user_attributes={"a": "2"})),
        taken(of("c2", event("B", "m2"), source_request_id="r3")),
    )
    assert [await events_at(shop.store, position) for position in (1, 2, 3)] == [["A", "B"], ["C"], []]
    assert await attributes(shop.store) == {"a": "2"}
    assert [row.events for row in await shop.store.activity(mpid_of(1), "shop")] == [1, 2]
    assert await shop.store.quarantined("shop") == []


async def test_an_event_that_stands_twice_in_a_batch_is_taken_once(shop: Shop) -> None:
    twice = of("c1", event("A", "m1"), event("B", "m2"), event("again", "m1"), event("C"), event("C"))
    await shop.take(taken(twice), taken(twice))
    assert [await events_at(shop.store, position) for position in (1, 2)] == [["A", "B", "C", "C"], ["C", "C"]]


async def test_events_of_different_inputs_with_one_id_are_two(shop: Shop) -> None:
    document = of("c1", event("A", "m1"))
    lab = source("server", workspace="lab")
    await shop.take(taken(document), taken(document, WEB), taken(document, lab), taken(document))
    assert [await events_at(shop.store, position) for position in (1, 2, 3, 4)] == [["A"], ["A"], ["A"], []]


async def test_an_event_that_came_before_does_nothing_a_second_time(shop: Shop) -> None:
    """Of two things at one time the last counts, so what came again would win over what came in between."""
    opted = {"event_type": "opt_out", "data": {"is_opted_out": True, "timestamp_unixtime_ms": NOW_MS - 9}}
    opted["data"]["source_message_id"] = "m1"  # type: ignore[index]
    back = {"event_type": "opt_out", "data": {**opted["data"], "is_opted_out": False, "source_message_id": "m2"}}  # type: ignore[dict-item]
    old, new = change("a", "old", NOW_MS - 9), change("a", "new", NOW_MS - 9)
    old["data"]["source_message_id"], new["data"]["source_message_id"] = "m3", "m4"
    first, second = of("c1", opted, old), of("c1", back, new)
    await shop.take(*(taken(document, WEB) for document in (first, second, first)))
    user = await shop.store.user(mpid_of(1), "shop")
    assert user is not None
    assert user.person is not None
    assert user.person.opted_out is not None
    assert not user.person.opted_out.value
    assert await attributes(shop.store) == {"a": "new"}


async def test_a_batch_stays_as_old_as_it_was_when_its_events_are_left_out(shop: Shop) -> None:
    old = of("c1", event("A", "m1", NOW_MS - 50), event("A", "m2", NOW_MS - 40), user_attributes={"a": "old"})
    new = of("c1", event("A", "m3", NOW_MS - 30), user_attributes={"a": "new"})
    part = of("c1", event("A", "m2", NOW_MS - 40), event("B", "m4", NOW_MS - 60), user_attributes={"a": "part"})
    await shop.take(taken(old), taken(new), taken(old, received_ms=NOW_MS + 5), taken(part, received_ms=NOW_MS + 6))
    assert await attributes(shop.store) == {"a": "new"}
    rows = await shop.store.activity(mpid_of(1), "shop")
    assert [(row.position, NOW_MS - row.first_ms, NOW_MS - row.at_ms, row.events) for row in rows] == [
        (2, 30, 30, 1), (4, 60, 40, 1), (3, 50, 40, 0), (1, 50, 40, 2),
    ]  # fmt: skip


async def test_a_historical_batch_that_comes_again_is_taken_without_its_events(shop: Shop) -> None:
    at_ms = NOW_MS - 80 * 3_600_000
    document = of("c1", event("A", "m1", at_ms), user_attributes={"a": "1"})
    more = of("c1", event("A", "m1", at_ms), event("B", "m2", at_ms))
    await shop.take(*(taken(one, historical=True) for one in (document, document, more)))
    assert [await events_at(shop.store, position) for position in (1, 2, 3)] == [["A"], [], ["B"]]
    user = await shop.store.user(mpid_of(1), "shop")
    assert user is not None
    assert user.workspace is not None
    assert user.workspace.last_seen_ms == at_ms


async def test_bad_events_stay_where_they_stood_and_take_nobodys_id(shop: Shop) -> None:
    document = of("c1", event("A", "m1"), bad("m2"), event("A", "m1"), bad("m1"), event("B", "m2"), bad())
    await shop.take(taken(document), taken(document))
    for position, names in ((1, ["A", "B"]), (2, [])):
        record = (await shop.store.batches([position]))[position]
        assert await events_at(shop.store, position) == names
        assert [(aside.index, aside.event) for aside in record.quarantined] == [
            (1, bad("m2")), (3, bad("m1")), (5, bad()),
        ]  # fmt: skip


async def test_ids_that_are_no_text_count_as_they_are_written(shop: Shop) -> None:
    ids: list[Any] = [5, "5", True, "true", 1.5, "1.5", {"a": 1}, [], "", None]
    names = [str(place) for place in range(len(ids))]
    document = of("c1", *(event(name, id_) for name, id_ in zip(names, ids, strict=True)))
    await shop.take(taken(document), taken(document))
    assert await events_at(shop.store, 1) == ["0", "2", "4", "6", "7", "8", "9"]
    assert await events_at(shop.store, 2) == ["6", "7", "8", "9"]


async def test_events_that_were_not_taken_in_are_free_to_come_again(shop: Shop) -> None:
    """Those of a batch that was set aside or refused, and those whose user nobody knew."""
    careful = source("server", "only_update")
    await shop.take(
        taken(of("c1", event("A", "m1"), mpid=5)),
        taken(of("c1", event("B", "m2"), mpid=6), refuse=True),
        taken(of("c1", event("C", "m3")), careful),
        taken({"events": [event("D", "m4")]}),
        taken(of("c1", event("A", "m1"), event("B", "m2"), event("C", "m3"), event("D", "m4"))),
    )
    assert await events_at(shop.store, 5) == ["A", "B", "C", "D"]
    assert sorted(await shop.store.batches([1, 2, 3, 4, 5])) == [1, 4, 5]


async def test_events_that_are_kept_for_nobody_are_kept_once(shop: Shop) -> None:
    looking = source("server", "only_read")
    document = of("c1", event("A", "m1"))
    await shop.take(taken(document, looking), taken(document, looking), taken(document))
    assert [await events_at(shop.store, position) for position in (1, 2, 3)] == [["A"], [], []]


async def test_a_repeated_batch_in_another_environment_is_the_same_batch(shop: Shop) -> None:
    document = of("c1", event("A", "m1"), source_request_id="r1")
    first, again = await shop.take(taken(document), taken({**document, "environment": "development"}))
    assert (again.repeated, again.decision) == (True, first.decision)


# -- a great many ---------------------------------------------------------------------------------------------------


async def test_ten_thousand_events_of_a_batch_are_told_from_those_that_came(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        await engine.submit(taken(of("c1", *(event("A", f"m{number}") for number in range(0, 10_000, 2)))))
        await engine.submit(taken(of("c1", *(event("A", f"m{number}") for number in range(10_000)))))
        [second] = (await store.batches([2])).values()
        assert isinstance(second, BatchRecord)
        assert second.batch is not None
        assert [one.id for one in second.batch.events] == [f"m{number}" for number in range(1, 10_000, 2)]
        await assert_consistent(store)
