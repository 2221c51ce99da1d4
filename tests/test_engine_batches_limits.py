"""What an input may do to profiles, and how many names a workspace may have (docs/profiles.md)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from batches import SERVER, WEB, assert_consistent, assert_rebuilds, bad, event, of, taken
from engine_at_work import FullDisk, all_of, running, working
from engines import backend_at
from histories import mpid_of
from journal_fold import fold_of
from oneself.identity import Create, Link
from oneself.journal import BatchRecord
from oneself.profiles import values_of
from oneself.store import Store
from profile_world import NOW_MS, custom, source
from rebuilding import assert_backend_rebuilds
from store_factories import BACKENDS, Backend

pytestmark = pytest.mark.anyio

CAREFUL = source("server", "only_update")
LOOKING = source("csv", "only_read")
LAB = source("server", workspace="lab")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def state_of(store: Store) -> dict[int, Any]:
    """Return everything that is known of every profile."""
    return {
        mpid: (
            await store.user(mpid, "shop"),
            await store.devices(mpid, "shop"),
            await store.activity(mpid, "shop"),
        )
        for mpid in (await fold_of(store)).space_of
    }


def full(customer: str = "c1") -> dict[str, Any]:
    """Return a batch that touches every part of a profile."""
    return of(
        customer, event("A", "m1"), custom("attribution", custom_event_type="attribution"), bad(),
        {"event_type": "opt_out", "data": {"is_opted_out": True}},
        {"event_type": "push_registration", "data": {"register": True, "registration_token": "t"}},
        source_request_id="r1", mp_deviceid="d1", user_attributes={"a": "x"}, deleted_user_attributes=["b"],
        device_info={"brand": "B", "limit_ad_tracking": True}, ip="192.0.2.1",
        consent_state={"gdpr": {"p": {"consented": True}}},
    )  # fmt: skip


# -- input protection -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BACKENDS, ids=lambda kind: kind.__name__)
async def test_an_input_that_may_only_update_makes_nobody(kind: type[Backend], tmp_path: Path) -> None:
    """The data of an unknown user is dropped: the decision is told, and nothing else is there."""
    backend = kind(tmp_path)
    await backend.start()
    async with running(backend.store) as engine:
        unknown = [
            full(),
            full() | {"mpid": 5, "source_request_id": "r2"},
            {"mp_deviceid": "d1", "source_request_id": "r3"},
        ]
        outcomes = await all_of(engine, *(taken(document, CAREFUL, refuse=True) for document in unknown))
    await backend.settle()
    for outcome in outcomes:
        assert (outcome.decision.trace.why, outcome.decision.mpid) == ("user_unknown", None)
        assert (outcome.decision.changes, outcome.decision.error) == ([], None)
    store = backend.store
    assert [outcome.position for outcome in outcomes] == [1, 2, 3]
    assert await store.batches([1, 2, 3]) == {}
    assert (await state_of(store), await store.event_names("shop"), await store.quarantined("shop")) == (
        {},
        set(),
        [],
    )
    fold = await fold_of(store)
    assert [view.holders for view in fold.spaces.values()] == [{}]
    await assert_consistent(store)
    await backend.stop()
    await assert_backend_rebuilds(backend, tmp_path / "rebuilt")


async def test_an_input_that_may_only_update_writes_what_it_has_of_known_users(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        await engine.submit(taken(of("c1")))
        document = full()
        document["user_identities"]["email"] = "a@x"
        found = await engine.submit(taken(document, CAREFUL))
        named = await engine.submit(taken({"mpid": mpid_of(1), "user_attributes": {"b": "y"}}, CAREFUL))
        assert [outcome.decision.trace.why for outcome in (found, named)] == ["matched", "mpid_given"]
        assert found.decision.changes == [
            Link(mpid_of(1), "email", "a@x"), Link(mpid_of(1), "device_application_stamp", "d1"),
        ]  # fmt: skip
        user = await store.user(mpid_of(1), "shop")
        assert user is not None
        assert user.workspace is not None
        assert values_of(user.workspace.attributes) == {"a": "x", "b": "y"}
        await assert_consistent(store)


async def test_a_batch_that_was_dropped_is_not_taken_later_under_its_id(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        dropped = await engine.submit(taken(full(), CAREFUL))
        await engine.submit(taken(of("c1"), WEB))
        again = await engine.submit(taken(full(), CAREFUL))
        assert (again.repeated, again.decision) == (True, dropped.decision)
        other = await engine.submit(taken({**full(), "source_request_id": "r2"}, CAREFUL))
        assert other.decision.mpid == mpid_of(2)  # the first number was drawn for the user who was not made
        assert len(await store.activity(mpid_of(2), "shop")) == 2
        await assert_consistent(store)


@pytest.mark.parametrize("kind", BACKENDS, ids=lambda kind: kind.__name__)
async def test_the_batches_of_an_input_that_may_only_read_are_kept_and_change_nobody(
    kind: type[Backend], tmp_path: Path
) -> None:
    backend = kind(tmp_path)
    await backend.start()
    async with running(backend.store) as engine:
        await engine.submit(taken(of("c1", user_attributes={"b": "y"}, timestamp_unixtime_ms=NOW_MS - 9)))
    await backend.settle()
    before = await state_of(backend.store)
    held = await backend.store.profile(mpid_of(1))
    async with running(backend.store) as engine:
        documents = [
            full(),
            full("c9") | {"events": [], "source_request_id": "r2"},
            {"mpid": mpid_of(1)},
            {"mpid": 5},
            {},
        ]
        outcomes = await all_of(engine, *(taken(document, LOOKING) for document in documents))
    await backend.settle()
    store = backend.store
    for outcome in outcomes:
        assert (outcome.decision.trace.why, outcome.decision.mpid) == ("only_read", None)
        assert (outcome.decision.changes, outcome.decision.error) == ([], None)
    assert await state_of(store) == before
    assert await store.profile(mpid_of(1)) == held
    made = await store.batches(range(2, 7))
    assert [record.batch is not None for record in made.values()] == [True] * 5
    assert made[2].batch is not None
    assert [one.name for one in made[2].batch.events][:1] == ["A"]
    assert [row.position for row in await store.quarantined("shop")] == [2]
    assert await store.event_names("shop") == {"A", "attribution"}
    await assert_consistent(store)
    await backend.stop()
    await assert_backend_rebuilds(backend, tmp_path / "rebuilt")


async def test_what_is_no_batch_is_set_aside_whatever_its_input_may_do(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        for by in (CAREFUL, LOOKING, SERVER):
            outcome = await engine.submit(taken({"environment": "moon"}, by))
            assert outcome.decision.error is not None
        assert len(await store.quarantined("shop")) == 3
        assert await state_of(store) == {}
        await assert_consistent(store)


async def test_a_guard_is_not_set_off_by_a_batch_that_is_dropped(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        await all_of(engine, *(taken(of(f"c{number}", mp_deviceid="kiosk")) for number in range(3)))
        made = [change for _, entry in [row async for row in store.entries()] for change in entry.decision.changes]
        assert len([change for change in made if isinstance(change, Create)]) == 3
        await engine.submit(taken(of("c9", mp_deviceid="kiosk"), CAREFUL))
        assert await store.guarded("acme/production") == []
        await engine.submit(taken(of("c9", mp_deviceid="kiosk")))
        assert len(await store.guarded("acme/production")) == 1
        await assert_consistent(store)


# -- names ----------------------------------------------------------------------------------------------------------


async def names_at(store: Store, position: int) -> tuple[list[str], list[tuple[int, str]]]:
    """Return the names of the events that a batch kept, and the places and the reasons of those set aside."""
    record = (await store.batches([position]))[position]
    assert record.batch is not None
    for aside in record.quarantined:
        assert aside.reason
    return (
        [one.name for one in record.batch.events],
        [(aside.index, aside.reason.partition(":")[0]) for aside in record.quarantined],
    )


async def test_events_of_new_names_are_set_aside_once_a_workspace_has_as_many_as_it_may(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        home = {"event_type": "screen_view", "data": {"screen_name": "Home"}}
        label = {"event_type": "breadcrumb", "data": {"label": "not counted"}}
        sent = [label, event("A", "m1"), bad(), event("B", "m2"), home, event("A"), event("D", "m3", flag=1), label]
        await engine.submit(taken(of("c1", *sent, user_attributes={"a": "x"}), max_event_names=3))
        assert await names_at(store, 1) == (
            ["not counted", "A", "B", "Home", "A", "not counted"],
            [(2, "data.event_name is missing"), (6, "too_many_names")],
        )
        record = (await store.batches([1]))[1]
        assert record.quarantined[1].event == sent[6]
        assert "3 names" in record.quarantined[1].reason
        [row] = await store.quarantined("shop")
        assert row.events == 2
        assert await store.event_names("shop") == {"A", "B", "Home"}
        await engine.submit(taken(of("c1", event("D", "m3"), event("B")), max_event_names=3))
        assert await names_at(store, 2) == (["B"], [(0, "too_many_names")])
        await engine.submit(taken(of("c1", event("D", "m3")), max_event_names=4))  # it was not taken in before
        assert await names_at(store, 3) == (["D"], [])
        await engine.submit(taken(of("c1", event("E"), event("F"))))
        assert await store.event_names("shop") == {"A", "B", "Home", "D", "E", "F"}
        await assert_consistent(store)


async def test_workspaces_have_their_names_each_for_itself(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        both = [taken(of("c1", event("A"), event("B")), by, max_event_names=1) for by in (SERVER, LAB)]
        await all_of(engine, *both, taken(of("c1", event("B")), LAB, max_event_names=2))
        assert await store.event_names("shop") == {"A"}
        assert await store.event_names("lab") == {"A", "B"}
        await assert_consistent(store)


@pytest.mark.parametrize("refused", [False, True])
async def test_names_on_their_way_to_the_disk_count_if_they_get_there(tmp_path: Path, refused: bool) -> None:
    store = FullDisk(tmp_path / "data")
    await store.open()
    async with running(store) as engine:
        await engine.submit(taken(of("c1", event("A"))))
        store.refusals = int(refused)
        store.go.clear()
        first = engine.submit(taken(of("c1", event("B")), max_event_names=2))
        await asyncio.sleep(0.01)
        second = engine.submit(taken(of("c1", event("C"), event("B"), event("A")), max_event_names=2))
        await asyncio.sleep(0.01)
        store.go.set()
        await asyncio.gather(first, second, return_exceptions=True)
        if refused:
            assert first.exception() is not None
            assert await names_at(store, 2) == (["C", "A"], [(1, "too_many_names")])
        else:
            assert await names_at(store, 3) == (["B", "A"], [(0, "too_many_names")])
        await assert_consistent(store)
    await store.close()


async def test_an_event_whose_name_is_one_too_many_does_nothing(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        found = {"publisher": "p", "campaign": "c"}
        sent = custom("attribution", custom_event_type="attribution", custom_attributes=found)
        await engine.submit(taken(of("c1", event("A", at_ms=NOW_MS - 5), mp_deviceid="d"), max_event_names=1))
        await engine.submit(taken(of("c1", sent, mp_deviceid="d"), max_event_names=1))
        user = await store.user(mpid_of(1), "shop")
        assert user is not None
        assert user.workspace is not None
        assert user.workspace.attribution is None
        [(_, device)] = await store.devices(mpid_of(1), "shop")
        assert device.attribution is None
        await assert_consistent(store)


async def test_names_of_batches_that_are_kept_for_nobody_count(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        await all_of(engine, taken(of("c1", event("A")), LOOKING, max_event_names=1))
        await engine.submit(taken(of("c1", event("B")), LOOKING, max_event_names=1))
        await engine.submit(taken(of("c1", event("A"), event("B")), max_event_names=1))
        assert await names_at(store, 2) == ([], [(0, "too_many_names")])
        assert await names_at(store, 3) == (["A"], [(1, "too_many_names")])
        await assert_consistent(store)


async def test_names_of_batches_that_are_not_taken_in_do_not_count(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        await all_of(
            engine,
            taken(of("c1", event("A"), mpid=5), max_event_names=1),
            taken(of("c1", event("B")), CAREFUL, max_event_names=1),
            taken(of("c1", event("C")), max_event_names=1),
        )
        assert await store.event_names("shop") == {"C"}
        await assert_consistent(store)


@pytest.mark.parametrize("crash", [False, True])
async def test_names_are_remembered_over_a_restart(tmp_path: Path, crash: bool) -> None:
    backend = backend_at(tmp_path)
    await backend.start()
    async with running(backend.store) as engine:
        await engine.submit(taken(of("c1", event("A"))))
    await (backend.crash() if crash else backend.reopen())
    async with running(backend.store) as engine:
        await engine.submit(taken(of("c1", event("B"), event("A")), max_event_names=1))
    assert await names_at(backend.store, 2) == (["A"], [(0, "too_many_names")])
    assert isinstance((await backend.store.batches([2]))[2], BatchRecord)
    await backend.stop()
    await assert_rebuilds(tmp_path / "data", tmp_path / "rebuilt")
