"""Data that grows old: what goes, what stays, and that a rebuild comes to the same (docs/retention.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batches import all_devices, bad, event, taken
from journal_fold import replay
from oneself.engine import Call
from oneself.identity import Request, Upkeep
from oneself.jobs import ExpiryJob, RetentionJob
from oneself.journal import BatchRecord
from oneself.profiles import info_of, values_of
from oneself.store import REQUESTS, KnownUser, event_keys, events_of
from oneself.store.keys import batch_key
from profile_world import NOW_MS, change, source
from rebuilding import assert_backend_rebuilds, tables_now
from store_factories import BACKENDS, SPACE, Backend
from upkeep_world import DAY_MS, FOREVER_SERVER, LAB_SERVER, SHOP_SERVER, World, key_of

pytestmark = pytest.mark.anyio

WEB = source("web")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.__name__)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    backend: Backend = request.param(tmp_path)
    await backend.start()
    made = World(backend)
    yield made
    assert await replay_of(made) == made.store.position
    await backend.stop()
    await assert_backend_rebuilds(backend, tmp_path / "rebuilt")


async def replay_of(world: World) -> int:
    """Decide the journal again, but for expiries: they look at profiles, which identities do not tell."""
    kinds = [entry.request.kind async for _, entry in world.store.entries()]
    return await replay(world.store) if "expiry" not in kinds else world.store.position


async def record(world: World, position: int) -> BatchRecord | None:
    return (await world.store.batches([position])).get(position)


async def known(world: World, mpid: int, workspace: str = "shop") -> KnownUser:
    user = await world.store.user(mpid, workspace)
    assert user is not None
    return user


async def attributes(world: World, mpid: int, workspace: str = "shop") -> dict[str, Any] | None:
    user = await known(world, mpid, workspace)
    return None if user.workspace is None else values_of(user.workspace.attributes)


def ana(**more: Any) -> dict[str, Any]:
    return {"user_identities": {"customer_id": "ana"}} | more


# -- events ---------------------------------------------------------------------------------------------------------


async def test_events_go_when_they_were_received_longer_ago_than_they_are_kept(world: World) -> None:
    first = await world.take(ana(events=[event("old", at_ms=NOW_MS)], user_attributes={"a": "x"}))
    world.later(29)
    second = await world.take(ana(events=[event("late", at_ms=NOW_MS - 50 * DAY_MS)]))
    mpid = first.decision.mpid
    assert mpid is not None
    user, devices = await known(world, mpid), await all_devices(world.store, mpid, "shop")
    await world.grow_old()
    assert len(await world.events(mpid)) == 2
    await world.grow_old(1.001)
    assert await world.events(mpid) == [(NOW_MS - 50 * DAY_MS, "late")]
    trimmed, whole = await record(world, first.position), await record(world, second.position)
    assert trimmed is not None
    assert trimmed.batch is not None
    assert (trimmed.trimmed, trimmed.batch.events, trimmed.batch.attributes) == (True, (), {"a": "x"})
    assert whole is not None
    assert not whole.trimmed
    assert await known(world, mpid) == user
    assert await all_devices(world.store, mpid, "shop") == devices
    assert await world.store.event_names("shop") == {"old", "late"}
    assert await world.store.swept(events_of("shop")) == first.position
    assert world.counts.done == {"batches_trimmed": 1, "events_deleted": 1}


async def test_everything_of_a_profile_outlives_its_events(world: World) -> None:
    document = ana(
        events=[
            event("own"), change("$FirstName", "Ana"), change("gone", None, deleted=True),
            {"event_type": "opt_out", "data": {"is_opted_out": True}},
            {"event_type": "push_registration", "data": {"register": True, "registration_token": "t"}},
            {"event_type": "first_run", "data": {}},
        ],
        mp_deviceid="d1", ip="10.0.0.1", consent_state={"gdpr": {"ads": {"consented": True}}},
        device_info={"brand": "b", "limit_ad_tracking": True, "att_authorization_status": "denied"},
        attribution_info={"publisher": "north", "campaign": "spring"}, context={"location": {"latitude": 1}},
        application_info={"application_name": "shop", "install_referrer": "r"},
    )  # fmt: skip
    mpid = (await world.take(document, WEB)).decision.mpid
    assert mpid is not None
    await world.take(ana(user_attributes={"b": "y"}, deleted_user_attributes=["c"]))
    user, devices = await known(world, mpid), await all_devices(world.store, mpid, "shop")
    assert user.workspace is not None
    assert values_of(user.workspace.attributes) == {"$firstname": "Ana", "b": "y"}
    await world.grow_old(31)
    assert await world.events(mpid) == []
    assert await known(world, mpid) == user
    assert await all_devices(world.store, mpid, "shop") == devices
    kept = await world.store.batches(range(1, 10))
    assert all(one.trimmed and one.batch is not None and not one.batch.context for one in kept.values())


async def test_what_was_set_aside_and_what_is_nobodys_goes_whole(world: World) -> None:
    aside = await world.take({"user_identities": [7]})
    refused = await world.take({"user_identities": {"customer_id": "null"}, "events": [event()]})
    part = await world.take(ana(events=[event(), bad()]))
    only_read = source("server", "only_read")
    nobodys = await world.take(ana(events=[event("nobody's")]), only_read)
    assert [row.position for row in await world.store.quarantined("shop")][-1] == aside.position
    await world.grow_old(31)
    assert await world.store.quarantined("shop") == []
    assert await record(world, aside.position) is None
    assert await record(world, refused.position) is None
    assert await record(world, nobodys.position) is None
    left = await record(world, part.position)
    assert left is not None
    assert left.quarantined == ()
    assert await world.store.event_names("shop") >= {"nobody's", "Clicked"}


async def test_each_workspace_keeps_its_events_for_as_long_as_it_says(world: World) -> None:
    mpid = await world.user("ana")
    for by in (LAB_SERVER, FOREVER_SERVER):
        await world.take(ana(events=[event("x", at_ms=world.now_ms)]), by)
    counts = []
    for days in (0, 31, 170, 1000):
        await world.grow_old(days)
        counts.append([len(await world.events(mpid, name)) for name in ("shop", "lab", "forever")])
    assert counts == [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1]]


async def test_events_that_are_gone_do_not_block_new_ones(world: World) -> None:
    mpid = await world.user("ana")
    await world.grow_old(31)
    await world.take(ana(events=[event("new", at_ms=NOW_MS)]))
    assert await world.events(mpid) == [(NOW_MS, "new")]
    await world.grow_old(31)
    assert await world.events(mpid) == []
    assert world.counts.done["batches_trimmed"] == 2


async def test_a_step_looks_at_few_batches_and_the_rest_follows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oneself.jobs.retention.STEP", 2)
    mpid = await world.user("ana")
    for number in range(6):
        await world.take(
            ana(events=[event(f"e{number}", at_ms=NOW_MS - number)]), (SHOP_SERVER, LAB_SERVER)[number % 2]
        )
    world.later(31)
    first = await world.store.swept(events_of("shop"))
    done = await world.round(RetentionJob, steps=2)
    assert (first, done) == (0, 2)
    assert len(await world.events(mpid)) == 2
    await world.round(RetentionJob)
    assert await world.events(mpid) == []
    assert len(await world.events(mpid, "lab")) == 3
    assert world.counts.done["batches_trimmed"] == 4


async def test_events_and_ids_stay_for_a_day_whatever_is_configured(world: World) -> None:
    brief = msgspec.structs.replace(world.config.workspaces[0], data_retention_ms=1)
    world.config = msgspec.structs.replace(world.config, workspaces=(brief, *world.config.workspaces[1:]))
    document = ana(source_request_id="r1", events=[event("one", at_ms=NOW_MS)])
    mpid = (await world.take(document)).decision.mpid
    assert mpid is not None
    await world.grow_old(0.99)
    assert (await world.take(document)).repeated
    assert len(await world.events(mpid)) == 1
    await world.grow_old(0.02)
    assert await world.events(mpid) == []
    assert not (await world.take(document)).repeated


# -- request ids ----------------------------------------------------------------------------------------------------


async def test_ids_are_known_for_as_long_as_the_first_events_that_go(world: World) -> None:
    document = ana(source_request_id="r1", events=[event("one", "m1")])
    again = ana(source_request_id="r2", events=[event("one", "m1")])
    first = await world.take(document)
    identify = Call(SPACE, "shop/web", Request("identify", {"customerid": "ana"}), "i1")
    asked = (await world.decide(identify))[0]
    world.later(29)
    repeated = await world.take(document)
    assert (repeated.position, repeated.repeated) == (first.position, True)
    assert (await world.decide(identify))[0].position == asked.position
    await world.grow_old(2)
    keys = [batch_key(SHOP_SERVER.input, "r1"), key_of(SHOP_SERVER, "m1")]
    assert (await world.store.read({}, keys)).answered == {}
    assert await world.store.find_request("r1") == await world.store.find_request("i1") == []
    assert await world.store.swept(REQUESTS) >= asked.position
    taken_again = await world.take(document)
    assert not taken_again.repeated
    assert (await world.decide(identify))[0].position > taken_again.position
    assert len(await world.events(taken_again.decision.mpid or 0)) == 1
    assert (await world.take(document)).repeated
    other = await record(world, (await world.take(again)).position)
    assert other is not None
    assert other.batch is not None
    assert event_keys(other.batch) == []


@pytest.mark.parametrize("flushed", [True, False])
async def test_an_id_that_comes_again_before_its_row_is_gone_counts_from_then_on(world: World, flushed: bool) -> None:
    document = ana(source_request_id="r1")
    await world.take(document)
    if flushed:
        await world.backend_flushed()
    world.later(31)
    assert await world.round(RetentionJob, steps=1) == 1
    again = await world.take(document)
    assert not again.repeated
    await world.backend_flushed()
    repeated = await world.take(document)
    assert (repeated.position, repeated.repeated) == (again.position, True)
    await world.grow_old(1)
    assert (await world.take(document)).repeated


async def test_forgotten_ids_leave_the_tables_and_new_ones_stay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await world.take(ana(source_request_id=f"r{number}"))
    await world.grow_old(31)
    await world.take(ana(source_request_id="new"))
    await world.backend_flushed()
    await world.grow_old(1)
    await world.backend_flushed()
    assert await world.store.find_request("new")
    assert not await world.store.find_request("r0")
    if world.store.shared:  # tables take turns there, and one goes when the next has been written for as long
        await world.grow_old(31)
        await world.take(ana(source_request_id="newest"))
        await world.grow_old(1)
    rows = {key for key, _ in tables_now(world.backend)["request"]}
    assert batch_key(SHOP_SERVER.input, "newest" if world.store.shared else "new") in rows
    assert not rows & {batch_key(SHOP_SERVER.input, f"r{number}") for number in range(5)}


# -- profiles -------------------------------------------------------------------------------------------------------


async def test_a_profile_expires_in_a_workspace_that_heard_nothing_of_it(world: World) -> None:
    mpid = await world.user("ana", user_attributes={"a": "shop"}, mp_deviceid="d1")
    await world.take(ana(user_attributes={"b": "lab"}, mp_deviceid="d1"), LAB_SERVER)
    person = (await known(world, mpid)).person
    await world.grow_old(44.9)
    assert await attributes(world, mpid, "lab") == {"b": "lab"}
    await world.grow_old(0.2)
    assert await attributes(world, mpid, "lab") is None
    assert await all_devices(world.store, mpid, "lab") == []
    assert await attributes(world, mpid) == {"a": "shop"}
    assert (await known(world, mpid)).person == person
    await world.grow_old(45)
    user = await known(world, mpid)
    assert (user.person, user.workspace) == (None, None)
    assert await all_devices(world.store, mpid, "shop") == []
    assert ("customerid", "ana") in [identity[:2] for identity in user.profile.identities]
    assert world.counts.done["profiles_expired"] == 2


async def test_new_data_makes_a_profile_live_again_from_nothing_under_its_mpid(world: World) -> None:
    mpid = await world.user("ana", user_attributes={"a": "x"}, mp_deviceid="d1", ip="10.0.0.1")
    await world.grow_old(91)
    assert (await known(world, mpid)).person is None
    assert await world.user("ana", user_attributes={"b": "y"}, mp_deviceid="d2") == mpid
    user = await known(world, mpid)
    assert user.person is not None
    assert user.workspace is not None
    assert (user.person.first_seen_ms, user.person.ip) == (world.now_ms - 60_000, None)
    assert user.workspace.first_seen_ms == world.now_ms - 60_000
    assert await attributes(world, mpid) == {"b": "y"}
    assert [name for name, _ in await all_devices(world.store, mpid, "shop")] == ["d2"]
    await world.grow_old(91)
    assert (await known(world, mpid)).person is None


async def test_what_came_after_an_expiry_outlives_its_events_too(world: World) -> None:
    mpid = await world.user("ana", user_attributes={"a": "x"})
    await world.grow_old(91)
    again = await world.take(ana(user_attributes={"b": "y"}, events=[event("back", at_ms=world.now_ms)]))
    assert again.decision.mpid == mpid
    await world.grow_old(31)
    assert await world.events(mpid) == []
    assert await attributes(world, mpid) == {"b": "y"}
    left = await world.store.batches(range(1, world.store.position + 1))
    assert list(left) == [again.position]


async def test_a_server_that_nobody_asks_anything_comes_to_rest(world: World) -> None:
    await world.user("ana", source_request_id="r1")
    await world.grow_old(91)
    await world.grow_old(91)
    position = world.store.position
    for _ in range(3):
        await world.grow_old(91)
    assert world.store.position == position


async def test_what_is_left_of_the_batches_goes_with_the_last_workspace(world: World) -> None:
    mpid = await world.user("ana")
    in_lab = await world.take(ana(events=[event("lab", at_ms=world.now_ms)]), LAB_SERVER)
    await world.grow_old(46)
    assert await attributes(world, mpid, "lab") is None
    left = await world.store.batches(range(1, 10))
    assert [one.trimmed for one in left.values()] == [True, False]
    await world.grow_old(50)
    left = await world.store.batches(range(1, world.store.position + 1))
    assert list(left) == [in_lab.position]
    assert await world.events(mpid, "lab") != []
    await world.grow_old(150)
    assert await world.store.batches(range(1, world.store.position + 1)) == {}
    await world.backend_flushed()
    tables = tables_now(world.backend)
    assert tables["loose"] == tables["remainder"] == tables["activity"] == tables["device"] == []
    assert {person for *_, person in tables["profile"]} == {None}
    assert world.counts.done["batches_discarded"] == 2


async def test_data_that_arrives_keeps_a_profile(world: World) -> None:
    mpid = await world.user("ana", user_attributes={"a": "x"})
    for _ in range(4):
        await world.grow_old(80)
        await world.take({"mpid": mpid})
    assert await attributes(world, mpid) == {"a": "x"}


async def test_historical_data_keeps_a_profile_by_the_time_it_arrives(world: World) -> None:
    mpid = await world.user("ana")
    world.later(89)
    await world.take(ana(events=[event("old", at_ms=NOW_MS - 500 * DAY_MS)]))
    await world.grow_old(2)
    assert (await known(world, mpid)).workspace is not None


def expiry(world: World, *mpids: int, workspace: str = "shop") -> Call:
    """Return the call that asks for the expiry of some profiles, idle for 90 days."""
    asked = Upkeep((workspace,), before_ms=world.now_ms - 90 * DAY_MS, mpids=mpids)
    return Call(SPACE, "/expiry", Request("expiry", upkeep=asked))


async def test_a_batch_earlier_in_the_group_keeps_its_profile_and_a_later_one_finds_nothing(world: World) -> None:
    before = {"user_attributes": {"a": "x"}, "mp_deviceid": "d1", "device_info": {"brand": "old"}}
    ana_, ben = await world.user("ana", **before), await world.user("ben", **before)
    world.later(91)
    again = {"user_attributes": {"b": "y"}, "mp_deviceid": "d1", "device_info": {"product": "new"}}
    first, asked, second = await world.decide(
        world.batch({"mpid": ana_} | again), expiry(world, ana_, ben, 404), world.batch({"mpid": ben} | again)
    )
    assert [tuple(msgspec.structs.astuple(made)) for made in asked.decision.changes] == [(ben, "shop", True)]
    assert await attributes(world, ana_) == {"a": "x", "b": "y"}
    assert await attributes(world, ben) == {"b": "y"}
    user = await known(world, ben)
    assert user.person is not None
    assert user.person.stored_ms == world.now_ms
    ((_, device),) = await all_devices(world.store, ben, "shop")
    assert info_of(device.info) == {"product": "new"}
    assert first.position < asked.position < second.position


async def test_a_batch_of_another_workspace_in_the_group_keeps_the_person(world: World) -> None:
    mpid = await world.user("ana", ip="10.0.0.1")
    world.later(91)
    await world.decide(taken({"mpid": mpid}, LAB_SERVER, world.now_ms), expiry(world, mpid))
    user = await known(world, mpid)
    assert user.workspace is None
    assert user.person is not None
    assert user.person.ip is not None
    assert (await known(world, mpid, "lab")).workspace is not None


async def test_a_late_batch_that_was_received_long_ago_does_not_keep_its_profile(world: World) -> None:
    mpid = await world.user("ana", user_attributes={"a": "x"}, mp_deviceid="d1")
    world.later(91)
    late = taken({"mpid": mpid, "user_attributes": {"b": "y"}, "mp_deviceid": "d2"}, SHOP_SERVER, NOW_MS + 1)
    await world.decide(late, expiry(world, mpid))
    user = await known(world, mpid)
    assert (user.person, user.workspace) == (None, None)
    assert await all_devices(world.store, mpid, "shop") == []
    await world.decide(late, expiry(world, mpid), world.batch({"mpid": mpid, "mp_deviceid": "d3"}))
    assert await attributes(world, mpid) == {}
    assert [name for name, _ in await all_devices(world.store, mpid, "shop")] == ["d3"]


async def test_profiles_are_gone_through_in_small_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneself.jobs.expiry.STEP", 2)
    monkeypatch.setattr("oneself.jobs.expiry.AT_ONCE", 1)
    people = [await world.user(f"c{number}") for number in range(5)]
    await world.take({"mpid": people[0]}, LAB_SERVER)
    await world.backend_flushed()
    world.later(91)
    assert await world.round(ExpiryJob, steps=1) == 1
    expired = world.counts.done["profiles_expired"]
    assert expired == 2
    assert await world.round(ExpiryJob) > 2
    assert world.counts.done["profiles_expired"] == 6
    assert [(await known(world, mpid)).person for mpid in people] == [None] * 5


async def test_an_attribute_that_is_named_like_a_time_neither_keeps_nor_ends_a_profile(world: World) -> None:
    mpid = await world.user("ana", user_attributes={"stored_ms": "99999999999999", '"stored_ms":0': "x"})
    await world.grow_old(10)
    assert (await known(world, mpid)).person is not None
    await world.grow_old(91)
    assert (await known(world, mpid)).person is None


async def test_an_expired_profile_can_be_found_and_changed_still(world: World) -> None:
    mpid = await world.user("ana")
    await world.grow_old(91)
    found = (await world.decide(Call(SPACE, "shop/web", Request("identify", {"customerid": "ana"}))))[0]
    assert found.decision.mpid == mpid
    profile = await world.store.profile(mpid)
    assert profile is not None
    kinds = [(await world.store.entry(at)).request.kind for at in profile.decisions]
    assert kinds == ["batch", "expiry"]
