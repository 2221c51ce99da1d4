"""What every storage engine promises of batches (docs/storage.md, "The contract"), in every state of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batches import (
    SERVER,
    WEB,
    Kept,
    all_activity,
    all_devices,
    assert_consistent,
    bad,
    event,
    kept,
    of,
    put,
    reading_of,
    user_of,
)
from oneself.identity import Create, Link
from oneself.journal import BatchRecord
from oneself.profiles import Batch, Parts, Quarantined, Source, info_of, read_batch, update, values_of
from oneself.store import HeldProfile, KnownUser, Touched
from oneself.store.contract import Activity, QuarantinedBatch
from oneself.store.keys import batch_key, event_key, request_key
from profile_world import NOW_MS, source
from store_factories import BACKENDS, Backend, draft

pytestmark = pytest.mark.anyio

OTHER_SPACE = "acme/development"
FIRST, LAST = -(1 << 63), (1 << 63) - 1
WORDS = ("quote\"'s", "[1,2]", "{}", "☃ 雪 🎿", "x" * 250, "line\nbreak", "%00", "123", "1e3", "-0", "a,b", "null\0x")
"""Words that a careless statement would change."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=BACKENDS, ids=lambda kind: kind.__name__)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A store of every engine in every state, empty."""
    made: Backend = request.param(tmp_path)
    await made.start()
    yield made
    async with asyncio.timeout(30):
        await made.stop()


def record(document: object, by: Source = SERVER, received_ms: int = NOW_MS) -> BatchRecord:
    """Return what is kept of a document."""
    return BatchRecord(*read_batch(document, by, received_ms))


def batch_of(made: BatchRecord) -> Batch:
    assert made.batch is not None
    return made.batch


def new(mpid: int, made: BatchRecord, space: str = "acme/production") -> Kept:
    """Return a batch that makes a profile."""
    return kept(mpid, made, changes=[Create(mpid)], space=space)


# -- what a batch brought -------------------------------------------------------------------------------------------


async def test_a_new_store_knows_of_no_batch(backend: Backend) -> None:
    store = backend.store
    assert await user_of(store, 7, "shop") is None
    assert await store.devices(7, "shop") == []
    assert await store.activity(7, "shop") == []
    assert await store.batches([0, 1]) == {}
    assert await store.quarantined("shop") == []
    assert await store.event_names("shop") == set()
    assert await store.setting("x") is None


async def test_what_a_batch_brought_is_told_as_the_core_makes_it(backend: Backend) -> None:
    made = record(of("c", event("Bought", "m1"), user_attributes={"a": "x"}, mp_deviceid="d1", ip="192.0.2.1"))
    await put(backend, new(7, made))
    parts = update(Parts(), batch_of(made), 1).parts
    store = backend.store
    profile = await store.profile(7)
    assert profile is not None
    held = HeldProfile(profile.mpid, profile.space, profile.created, profile.identities)
    assert await user_of(store, 7, "shop") == KnownUser(held, parts.person, parts.workspace)
    assert await store.devices(7, "shop") == [("d1", parts.device)]
    assert await store.activity(7, "shop") == [Activity(7, NOW_MS, 1, NOW_MS, "shop", "shop/server", "d1", 1)]
    assert await store.batches([1]) == {1: made}
    assert await store.event_names("shop") == {"Bought"}
    assert await store.quarantined("shop") == []


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1, 1), (6,), (2, 4), (1, 5)])
async def test_batches_are_folded_in_their_order_however_they_are_grouped(
    backend: Backend, sizes: tuple[int, ...]
) -> None:
    made = [
        record(of(user_attributes={"n": str(number), f"k{number % 2}": "x"}, mp_deviceid=f"d{number % 2}"))
        for number in range(6)
    ]
    parts, devices = Parts(), dict.fromkeys(("d0", "d1"))
    for position, one in enumerate(made, 1):
        name = batch_of(one).device
        parts = update(Parts(parts.person, parts.workspace, devices[name]), batch_of(one), position).parts
        devices[name] = parts.device
    group = [new(7, made[0]), *(kept(7, one) for one in made[1:])]
    for size in sizes:
        await put(backend, *group[:size])
        del group[:size]
    user = await user_of(backend.store, 7, "shop")
    assert user is not None
    assert (user.person, user.workspace) == (parts.person, parts.workspace)
    assert dict(await all_devices(backend.store, 7, "shop")) == devices
    await assert_consistent(backend.store)


async def test_two_workspaces_share_the_person_and_nothing_else(backend: Backend) -> None:
    await put(backend, new(7, record(of(user_attributes={"a": "shop"}, mp_deviceid="d", ip="192.0.2.1"))))
    await put(
        backend,
        kept(7, record(of(user_attributes={"a": "lab"}, mp_deviceid="d"), source("server", workspace="lab"))),
        kept(7, record(of(mp_deviceid="e", device_info={"brand": "B"}), source("csv", workspace="lab"))),
    )
    shop, lab = await user_of(backend.store, 7, "shop"), await user_of(backend.store, 7, "lab")
    assert shop is not None
    assert lab is not None
    assert shop.person == lab.person
    assert shop.person is not None
    assert shop.person.ip is not None
    assert shop.workspace is not None
    assert lab.workspace is not None
    assert values_of(shop.workspace.attributes) == {"a": "shop"}
    assert values_of(lab.workspace.attributes) == {"a": "lab"}
    assert list(shop.workspace.inputs) == ["shop/server"]
    assert list(lab.workspace.inputs) == ["lab/server", "lab/csv"]
    assert [name for name, _ in await backend.store.devices(7, "shop")] == ["d"]
    assert [name for name, _ in await backend.store.devices(7, "lab")] == ["d", "e"]
    await assert_consistent(backend.store)


async def test_a_batch_of_nobody_is_kept_and_touches_no_profile(backend: Backend) -> None:
    await put(backend, new(7, record(of())))
    before = await user_of(backend.store, 7, "shop"), await backend.store.activity(7, "shop")
    made = record(of("c", event("Seen", "m1"), mp_deviceid="d"))
    await put(backend, kept(None, made))
    assert (await user_of(backend.store, 7, "shop"), await backend.store.activity(7, "shop")) == before
    assert await backend.store.devices(7, "shop") == []
    assert await backend.store.batches([2]) == {2: made}
    assert await backend.store.event_names("shop") == {"Seen"}
    await assert_consistent(backend.store)


async def test_a_decision_that_keeps_nothing_of_its_batch_leaves_its_entry(backend: Backend) -> None:
    await put(backend, kept(None, None), new(7, record(of())))
    assert await backend.store.batches([1, 2, 3]) == {2: record(of())}
    assert (await backend.store.entry(1)) is not None
    await assert_consistent(backend.store)


async def test_a_trimmed_batch_is_on_no_timeline_and_still_counts(backend: Backend) -> None:
    made = BatchRecord(read_batch(of(user_attributes={"a": "x"}), SERVER, NOW_MS)[0], trimmed=True)
    await put(backend, new(7, made))
    user = await user_of(backend.store, 7, "shop")
    assert user is not None
    assert user.workspace is not None
    assert values_of(user.workspace.attributes) == {"a": "x"}
    assert await backend.store.activity(7, "shop") == []
    await assert_consistent(backend.store)


# -- reading in the path of an answer -------------------------------------------------------------------------------


async def test_rows_are_read_for_the_batches_that_touch_them(backend: Backend) -> None:
    await put(backend, new(7, record(of(mp_deviceid="d"))), new(8, record(of(mp_deviceid="d"))))
    reading = await backend.see(mpids=[7])
    wanted = [Touched(7, "shop", "d"), Touched(7, "shop", ""), Touched(7, "lab", "d"), Touched(9, "shop", "d")]
    await backend.store.read_parts(reading, wanted)
    user = await user_of(backend.store, 7, "shop")
    assert user is not None
    assert reading.people == {7: user.person, 9: None}
    assert reading.workspaces == {(7, "shop"): user.workspace, (7, "lab"): None, (9, "shop"): None}
    assert {row: seen is not None for row, seen in reading.devices.items()} == {
        Touched(7, "shop", "d"): True,
        Touched(7, "shop", ""): False,
        Touched(7, "lab", "d"): False,
        Touched(9, "shop", "d"): False,
    }


async def test_rows_that_a_reading_has_are_not_read_again(backend: Backend) -> None:
    await put(backend, new(7, record(of(user_attributes={"a": "old"}, mp_deviceid="d"))))
    made = kept(7, record(of(user_attributes={"a": "new"}, mp_deviceid="d", device_info={"brand": "B"})))
    reading = await reading_of(backend.store, made)
    before = dict(reading.people), dict(reading.workspaces), dict(reading.devices)
    await backend.store.read_parts(reading, [Touched(7, "shop", "d"), Touched(7, "shop", "e")])
    devices = {row: seen for row, seen in reading.devices.items() if row.device == "d"}
    assert (reading.people, reading.workspaces, devices) == before


async def test_a_commit_under_way_is_seen_by_the_next_group_and_told_to_nobody(backend: Backend) -> None:
    await put(backend, new(7, record(of(user_attributes={"a": "1"}))))
    told = await user_of(backend.store, 7, "shop"), await backend.store.activity(7, "shop")
    first = await reading_of(
        backend.store, kept(7, record(of("c", event("New", "m1"), user_attributes={"b": "2"}, mp_deviceid="d")))
    )
    durable = asyncio.ensure_future(backend.store.begin(first))
    assert await backend.store.event_names("shop") == {"New"}
    key = event_key("shop/server", "m1")
    assert (await backend.store.read({}, [key])).answered == {key: 2}
    second = await reading_of(backend.store, kept(7, record(of(user_attributes={"c": "3"}, mp_deviceid="d"))))
    if not durable.done():  # a reading may wait for its end
        assert (await user_of(backend.store, 7, "shop"), await backend.store.activity(7, "shop")) == told
    await durable
    await backend.store.commit(second)
    await backend.settle()
    user = await user_of(backend.store, 7, "shop")
    assert user is not None
    assert user.workspace is not None
    assert values_of(user.workspace.attributes) == {"a": "1", "b": "2", "c": "3"}
    assert await backend.store.event_names("shop") == {"New"}
    await assert_consistent(backend.store)


async def test_a_reading_of_batches_that_is_let_go_leaves_nothing(backend: Backend) -> None:
    await put(backend, new(7, record(of("c", event("Old", "m0"), source_request_id="r0"))))
    before = await user_of(backend.store, 7, "shop")
    made = BatchRecord(*read_batch(of("c", event("New", "m1"), bad(), source_request_id="r1"), SERVER, NOW_MS))
    await reading_of(backend.store, kept(7, made), new(8, made))
    assert await user_of(backend.store, 7, "shop") == before
    assert await user_of(backend.store, 8, "shop") is None
    assert await backend.store.event_names("shop") == {"Old"}
    assert await backend.store.quarantined("shop") == []
    assert await backend.store.find_request("r1") == []
    keys = [event_key("shop/server", "m1"), batch_key("shop/server", "r1")]
    assert (await backend.store.read({}, keys)).answered == {}
    assert await put(backend, kept(7, made)) == [2]
    await assert_consistent(backend.store)


async def test_ids_of_batches_events_and_requests_are_apart(backend: Backend) -> None:
    await backend.group(draft(request_id="one"))
    await put(backend, new(7, record(of("c", event(id_="two"), source_request_id="one"))))
    await put(backend, kept(7, record(of("c", event(id_="one"), source_request_id="two"), WEB)))
    await put(backend, kept(7, record(of("c", event(id_="one"), source_request_id="three"))))
    keys = {
        request_key("shop/web", "one"): 1,
        batch_key("shop/server", "one"): 2,
        event_key("shop/server", "two"): 2,
        batch_key("shop/web", "two"): 3,
        event_key("shop/web", "one"): 3,
        batch_key("shop/server", "three"): 4,
        event_key("shop/server", "one"): 4,
    }
    others = [
        make(input_, id_)
        for make in (request_key, batch_key, event_key)
        for input_ in ("shop/web", "shop/server", "lab/web")
        for id_ in ("one", "two", "three", "")
    ]
    assert (await backend.store.read({}, others)).answered == keys
    assert await backend.store.find_request("one") == [1, 2]
    assert await backend.store.find_request("two") == [3]
    await assert_consistent(backend.store)


# -- looking things up ----------------------------------------------------------------------------------------------


async def test_devices_are_told_by_name_page_by_page_each_as_it_is_now(backend: Backend) -> None:
    names = ["b", "a", "é", "B", "10", "9", "雪", "🎿", "\uffff"]
    await put(backend, new(7, record(of(mp_deviceid=names[0]))))
    for at in range(1, len(names), 2):
        await put(backend, *(kept(7, record(of(mp_deviceid=name))) for name in names[at : at + 2]))
    await put(backend, kept(7, record(of(mp_deviceid="a", device_info={"brand": "B"}))))
    await put(backend, kept(7, record(of(mp_deviceid="z"), source("server", workspace="lab"))))
    told = await all_devices(backend.store, 7, "shop")
    assert [name for name, _ in told] == sorted(names)
    assert {name: info_of(device.info) for name, device in told if device.info} == {"a": {"brand": "B"}}
    assert await backend.store.devices(7, "shop", after="b", limit=2) == told[5:7]
    assert [name for name, _ in await backend.store.devices(7, "lab")] == ["z"]
    assert await backend.store.devices(8, "shop") == []


async def test_a_timeline_is_told_latest_first_page_by_page_however_batches_arrive(backend: Backend) -> None:
    times = [5, 3, 9, 3, 7, 3, 5, 1]
    made = [record(of("c", event(at_ms=NOW_MS - 10 + at), event(at_ms=NOW_MS - 20))) for at in times]
    await put(backend, new(7, made[0]))
    await put(backend, *(kept(7, one) for one in made[1:5]))
    for one in made[5:]:
        await put(backend, kept(7, one))
    await put(backend, kept(7, record(of(), source("server", workspace="lab"))), new(8, made[0]))
    told = await all_activity(backend.store, 7, "shop")
    order = sorted(((at, place) for place, at in enumerate(times, 1)), reverse=True)
    assert [(row.at_ms - NOW_MS + 10, row.position) for row in told] == order
    assert {(row.first_ms, row.events) for row in told} == {(NOW_MS - 20, 2)}
    before = told[3].at_ms, told[3].position
    assert await backend.store.activity(7, "shop", before=before, limit=2) == told[4:6]
    assert await backend.store.activity(7, "shop", before=(told[3].at_ms, told[3].position + 1), limit=1) == told[3:4]
    assert len(await backend.store.activity(7, "lab")) == 1


async def test_what_was_set_aside_is_told_latest_first_page_by_page_with_its_reason(backend: Backend) -> None:
    document = {"environment": "moon", "x": [1, None, "☃"]}
    whole = BatchRecord(document=document, reason="environment: must be production or development")
    some = record(of("c", bad(), event("Good"), {"event_type": "nonsense"}))
    lab = record(of("c", bad()), source("server", workspace="lab"))
    await put(backend, new(7, some))
    await put(backend, kept(None, whole), kept(7, lab), kept(7, record(of())))
    for _ in range(4):
        await put(backend, kept(7, some))
    told = await backend.store.quarantined("shop")
    reason = some.quarantined[0].reason
    assert told == [
        *(QuarantinedBatch(at, "shop", "shop/server", NOW_MS, 2, reason) for at in (8, 7, 6, 5)),
        QuarantinedBatch(2, "shop", "shop/server", NOW_MS, 0, whole.reason),
        QuarantinedBatch(1, "shop", "shop/server", NOW_MS, 2, reason),
    ]
    assert await backend.store.quarantined("shop", before=6, limit=2) == told[3:5]
    assert [row.position for row in await backend.store.quarantined("lab")] == [3]
    kept_ = await backend.store.batches([1, 2])
    assert kept_[2] == whole
    assert kept_[1].quarantined == (Quarantined(0, reason, bad()), *some.quarantined[1:])
    await assert_consistent(backend.store)


async def test_names_are_told_by_workspace(backend: Backend) -> None:
    screen = {"event_type": "screen_view", "data": {"screen_name": "Home"}}
    label = {"event_type": "breadcrumb", "data": {"label": "not counted"}}
    await put(backend, new(7, record(of("c", event("A"), event("A"), screen, label))))
    await put(backend, kept(7, record(of("c", event("B")), source("web", workspace="lab"))), kept(7, record(of())))
    await put(backend, kept(7, record(of("c", event("A"), event("C")))))
    assert await backend.store.event_names("shop") == {"A", "Home", "C"}
    assert await backend.store.event_names("lab") == {"B"}
    assert await backend.store.event_names("other") == set()


async def test_settings_of_the_server_are_kept(backend: Backend) -> None:
    await backend.store.set_setting("key", "one")
    await backend.store.set_setting("other", "☃\n\"'")
    await backend.settle()
    await backend.store.set_setting("key", "two")
    for _ in range(2):
        assert await backend.store.setting("key") == "two"
        assert await backend.store.setting("other") == "☃\n\"'"
        assert await backend.store.setting("none") is None
        await backend.reopen()
    await put(backend, new(7, record(of())))
    assert await backend.store.setting("key") == "two"


# -- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
async def test_words_that_look_like_something_else_are_kept_as_they_are(backend: Backend, word: str) -> None:
    by = Source(f"{word}/in", word, "server", 1, False)
    document = of(
        "c", event(word, word), {"event_type": word}, source_request_id=word, mp_deviceid=f"d{word}",
        user_attributes={f"k{word}": word}, device_info={"brand": word},
        consent_state={"gdpr": {f"p{word}": {"consented": True, "document": word}}},
    )  # fmt: skip
    made = record(document, by)
    await put(backend, new(7, made))
    await put(backend, kept(7, record({**document, "events": [], "source_request_id": f"{word}2"}, by)))
    user = await user_of(backend.store, 7, word)
    assert user is not None
    assert user.workspace is not None
    assert values_of(user.workspace.attributes) == {f"k{word}": word}
    [(name, device)] = await backend.store.devices(7, word)
    assert (name, info_of(device.info)) == (batch_of(made).device, {"brand": word})
    assert [row.input for row in await backend.store.activity(7, word)] == [f"{word}/in"] * 2
    assert await backend.store.event_names(word) == {word}
    await backend.reopen()
    await assert_consistent(backend.store)


async def test_every_64_bit_mpid_can_have_a_profile(backend: Backend) -> None:
    for mpid in (FIRST, -1, 1, LAST):
        made = record(of("c", event(), mp_deviceid="d", user_attributes={"n": mpid}))
        await put(backend, new(mpid, made))
        await put(backend, kept(mpid, made), kept(mpid, made))
    for mpid in (FIRST, -1, 1, LAST):
        user = await user_of(backend.store, mpid, "shop")
        assert user is not None
        assert user.workspace is not None
        assert values_of(user.workspace.attributes) == {"n": str(mpid)}
        assert len(await backend.store.activity(mpid, "shop")) == 3
        assert len(await backend.store.devices(mpid, "shop")) == 1
    await assert_consistent(backend.store)


async def test_numbers_in_events_and_documents_are_kept_exactly(backend: Backend) -> None:
    numbers = [2**63, 2**64, -(2**64), 2**80, 0.1, 1e22, 5e-324, -0.0, 1.0]
    made = record(of("c", event(custom_attributes={str(place): one for place, one in enumerate(numbers)})))
    whole = BatchRecord(document={"environment": 1, "numbers": numbers}, reason="no")
    await put(backend, new(7, made), kept(None, whole))
    back = await backend.store.batches([1, 2])
    assert back == {1: made, 2: whole}
    assert repr(back[2].document["numbers"]) == repr(numbers)
    assert repr(batch_of(back[1]).events[0].data) == repr(batch_of(made).events[0].data)


async def test_many_small_groups_of_batches_come_to_what_their_journal_says(
    backend: Backend, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} {type(backend).__name__}")
    sources = [
        source(kind, workspace=workspace) for kind in ("web", "server", "csv") for workspace in ("shop", "lab")
    ]
    await put(backend, *(new(mpid, record(of())) for mpid in range(1, 5)))
    count = 0
    for _ in range(25):
        group: list[Kept] = []
        for _ in range(dice.randrange(1, 6)):
            count += 1
            at_ms = NOW_MS - dice.randrange(20)
            events = [event(dice.choice("ABC"), f"m{count}", at_ms), *([bad()] if dice.random() < 0.2 else [])]
            document = of(
                "c", *dice.sample(events, dice.randrange(len(events) + 1)), timestamp_unixtime_ms=at_ms,
                user_attributes={dice.choice("abc"): str(count)}, source_request_id=f"r{count}",
                mp_deviceid=dice.choice(["", "d1", "d2", "d3", "d4"]),
                device_info={dice.choice(["brand", "product"]): "x"},
            )  # fmt: skip
            mpid = dice.choice([None, 1, 2, 3, 4])
            group.append(kept(mpid, record(document, dice.choice(sources), NOW_MS + count)))
        if dice.random() < 0.2:
            group.append(kept(None, BatchRecord(document={"n": count}, reason="no batch")))
        if dice.random() < 0.2:
            mpid = 10 + count
            group.append(kept(mpid, record(of()), changes=[Create(mpid), Link(mpid, "email", f"{mpid}@x")]))
        await put(backend, *group)
    await assert_consistent(backend.store)
    await backend.reopen()
    await assert_consistent(backend.store)
    assert backend.store.position > 50
