"""Batches in the engine: whose each is, what is kept of it, and that all of it follows from the journal."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from batches import SERVER, WEB, assert_consistent, assert_knows, bad, event, known_of, of, taken
from engine_at_work import SPACE, all_of, identify, logout, running, working
from engines import backend_at, store_at
from histories import counted, identities, in_bursts, mpid_of
from journal_fold import fold_of, replay
from oneself.engine import Call, Engine, Outcome
from oneself.errors import StoreUnavailable
from oneself.identity import Link, Request
from oneself.identity.names import TABLE, USER_TYPES
from oneself.journal import BatchRecord, Entry
from oneself.profiles import values_of
from oneself.store import Store
from profile_world import NOW_MS, change, server_batch, source, web_batch
from rebuilding import assert_backend_rebuilds
from store_factories import BACKENDS, Backend, InMemory

pytestmark = pytest.mark.anyio

LAB = source("server", workspace="lab")
ENVIRONMENTS = ("development", "moon")
DAY_MS = 24 * 3_600_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def attributes(store: Store, mpid: int | None, workspace: str = "shop") -> dict[str, Any]:
    """Return the user attributes of a profile in a workspace."""
    assert mpid is not None
    user = await store.user(mpid, workspace)
    assert user is not None
    return {} if user.workspace is None else values_of(user.workspace.attributes)


def sets(**values: Any) -> dict[str, Any]:
    return {"user_attributes": values}


# -- whose a batch is -----------------------------------------------------------------------------------------------


async def test_a_batch_finds_its_user_by_its_identities_makes_one_and_links_what_is_new(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        made = await engine.submit(taken({"mp_deviceid": "d1", **sets(a="x")}))
        known = await engine.submit(
            taken({"user_identities": {"customerid": "c1"}, "mp_deviceid": "d1", **sets(b="y")})
        )
        more = await engine.submit(taken({"user_identities": {"customerid": "c1", "email": "A@x"}}))
        other = await engine.submit(taken({"user_identities": {"email": "a@x"}, **sets(a="z")}))
        assert [outcome.decision.trace.why for outcome in (made, known, more, other)] == [
            "new", "new_known_converted", "matched", "new",
        ]  # fmt: skip
        mpid = made.decision.mpid
        assert (known.decision.mpid, more.decision.mpid) == (mpid, mpid)
        assert more.decision.changes == [Link(mpid_of(1), "email", "a@x")]
        assert other.decision.mpid != mpid
        assert await attributes(store, mpid) == {"a": "x", "b": "y"}
        assert await attributes(store, other.decision.mpid) == {"a": "z"}
        await assert_consistent(store)


async def test_a_batch_is_decided_as_an_identify_request_with_its_identities(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(request.config.getoption("--hypothesis-seed"))
    names = {row.identity: row.events or row.identity for row in TABLE}
    async with working(tmp_path / "a") as (engine, store), working(tmp_path / "b") as (other, _):
        for number in range(150):
            asked = {type_: value for type_, value in identities(dice).items() if value is not None}
            stamp = asked.pop("device_application_stamp", None)
            user = {type_: value for type_, value in asked.items() if type_ in USER_TYPES}
            device = {type_: value for type_, value in asked.items() if type_ not in USER_TYPES}
            document = {
                "user_identities": {names[type_]: value for type_, value in user.items()},
                "device_info": {names[type_]: value for type_, value in device.items()},
                "mp_deviceid": stamp,
            }
            outcome = await engine.submit(taken(document, dice.choice((SERVER, WEB))))
            known = user | device | ({"device_application_stamp": stamp} if stamp else {})
            same = await other.submit(Call(SPACE, "shop/web", Request("identify", {**known}), f"r{number}"))
            left, right = outcome.decision, same.decision
            assert (left.mpid, left.known, left.matched, left.changes, left.trace) == (
                right.mpid, right.known, right.matched, right.changes, right.trace,
            ), document  # fmt: skip
            assert (left.error is None) == (right.error is None)
        await assert_consistent(store)


async def test_an_mpid_wins_over_identities_which_change_nothing(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        first, second = await all_of(engine, taken(of("c1")), taken(of("c2")))
        before = await store.profile(mpid_of(1)), await store.profile(mpid_of(2))
        for mpid in (mpid_of(1), str(mpid_of(1))):
            document = of("c2", mpid=mpid, mp_deviceid="new", **sets(a=str(mpid)))
            outcome = await engine.submit(taken(document))
            assert (outcome.decision.mpid, outcome.decision.trace.why) == (first.decision.mpid, "mpid_given")
            assert (outcome.decision.known, outcome.decision.changes) == (True, [])
        assert (await store.profile(mpid_of(1)), await store.profile(mpid_of(2))) == before
        assert await attributes(store, first.decision.mpid) == {"a": str(mpid_of(1))}
        assert await attributes(store, second.decision.mpid) == {}
        anonymous = await engine.submit(taken({"mp_deviceid": "d9"}))
        named = await engine.submit(taken({"mpid": anonymous.decision.mpid}))
        assert not named.decision.known
        await assert_consistent(store)


@pytest.mark.parametrize("bound", [5, -(1 << 63), (1 << 63) - 1])
async def test_a_batch_with_an_mpid_of_nobody_is_set_aside_whole(tmp_path: Path, bound: int) -> None:
    async with working(tmp_path) as (engine, store):
        document = of("c1", event("Lost", "m1"), mpid=str(bound), **sets(a="x"))
        outcome = await engine.submit(taken(document))
        assert outcome.decision.error is not None
        assert (outcome.decision.error.code, outcome.decision.mpid) == ("UNKNOWN_MPID", None)
        assert await store.batches([1]) == {1: BatchRecord(document=document, reason=outcome.decision.error.message)}
        [row] = await store.quarantined("shop")
        assert (row.position, row.input, row.events, row.reason) == (
            1,
            "shop/server",
            0,
            f"mpid: no user has the MPID {bound}.",
        )
        assert await store.event_names("shop") == set()
        assert (await fold_of(store)).space_of == {}
        await assert_consistent(store)


async def test_a_batch_that_is_to_be_refused_leaves_its_decision_and_nothing_else(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        for document in (of("c1", event("Lost", "m1"), mpid=5), {"events": [event()]}):
            outcome = await engine.submit(taken(document, refuse=True))
            assert outcome.decision.error is not None
            assert outcome.decision.error.status == 400
        assert await store.batches([1, 2]) == {}
        assert await store.quarantined("shop") == []
        entry = await store.entry(1)
        assert entry is not None
        assert (entry.request.mpid, entry.decision.error is not None) == (5, True)
        await assert_consistent(store)


async def test_a_batch_without_a_usable_identity_is_set_aside_whole(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        documents = [{"events": [event()]}, of("null", event()), {"user_identities": {"email": "x" * 300}}]
        for outcome in await all_of(engine, *(taken(document) for document in documents)):
            assert outcome.decision.error is not None
            assert outcome.decision.error.code == "LOOKUP_ERROR"
        assert [made.document for made in (await store.batches([1, 2, 3])).values()] == documents
        assert [row.position for row in await store.quarantined("shop")] == [3, 2, 1]
        await assert_consistent(store)


async def test_what_is_no_batch_is_set_aside_as_it_was_sent(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        documents: list[Any] = [
            None, 7, "text", [of()], {"environment": "moon"}, {"mpid": "x", "big": 1 << 70}, {"events": "none"},
        ]  # fmt: skip
        outcomes = await all_of(engine, *(taken(document, WEB) for document in documents))
        for outcome in outcomes:
            assert outcome.decision.error is not None
            assert outcome.decision.error.code == "INVALID_BATCH"
        made = await store.batches([outcome.position for outcome in outcomes])
        assert [record.document for record in made.values()] == documents
        rows = await store.quarantined("shop")
        assert [row.reason for row in rows[::-1]] == [record.reason for record in made.values()]
        assert rows[2].reason == "environment: must be production or development"
        assert {row.input for row in rows} == {"shop/web"}
        await assert_consistent(store)


async def test_bad_events_are_set_aside_and_the_rest_of_their_batch_goes_on(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        sent = [bad("m1"), event("Good", "m2"), None, {"event_type": "x"}, event("Well", at_ms=5), event("Fine")]
        outcome = await engine.submit(taken(of("c1", *sent, **sets(a="x"))))
        assert outcome.decision.error is None
        record = (await store.batches([1]))[1]
        assert record.batch is not None
        assert [one.name for one in record.batch.events] == ["Good", "Fine"]
        assert [(aside.index, aside.event) for aside in record.quarantined] == [
            (0, sent[0]), (2, None), (3, sent[3]), (4, sent[4]),
        ]  # fmt: skip
        [row] = await store.quarantined("shop")
        assert (row.events, row.reason) == (4, record.quarantined[0].reason)
        assert await attributes(store, outcome.decision.mpid) == {"a": "x"}
        await assert_consistent(store)


# -- what is kept apart, and what is shared -------------------------------------------------------------------------


async def test_environments_share_nothing(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        live = await engine.submit(taken(of("c1", **sets(a="live"))))
        test = await engine.submit(taken(of("c1", environment="development", **sets(a="test"))))
        assert live.decision.mpid != test.decision.mpid
        assert await attributes(store, live.decision.mpid) == {"a": "live"}
        assert await attributes(store, test.decision.mpid) == {"a": "test"}
        stray = await engine.submit(taken({"mpid": live.decision.mpid, "environment": "development"}))
        assert stray.decision.error is not None
        assert stray.decision.error.code == "UNKNOWN_MPID"
        await assert_consistent(store)


async def test_workspaces_of_one_scope_share_the_user_and_those_of_two_share_nothing(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        shop = await engine.submit(taken(of("c1", ip="192.0.2.1", **sets(a="shop"))))
        lab = await engine.submit(taken(of("c1", **sets(a="lab")), LAB))
        solo = await engine.submit(taken(of("c1", **sets(a="solo")), source("server", workspace="far"), scope="solo"))
        mpid = shop.decision.mpid
        assert mpid is not None
        assert lab.decision.mpid == mpid
        assert solo.decision.mpid != mpid
        assert await attributes(store, mpid, "shop") == {"a": "shop"}
        assert await attributes(store, mpid, "lab") == {"a": "lab"}
        one, two = await store.user(mpid, "shop"), await store.user(mpid, "lab")
        assert one is not None
        assert two is not None
        assert one.person == two.person
        assert one.person is not None
        assert one.person.ip is not None
        assert await attributes(store, solo.decision.mpid, "far") == {"a": "solo"}
        await assert_consistent(store)


# -- what is kept ---------------------------------------------------------------------------------------------------


async def test_the_journal_has_the_batch_and_listeners_are_told_of_it(tmp_path: Path) -> None:
    heard: list[tuple[int, Entry, BatchRecord | None]] = []
    async with working(tmp_path) as (engine, store):
        engine.listeners.append(lambda position, entry, record: heard.append((position, entry, record)))
        await all_of(engine, taken(of("c1")))
        document = {**server_batch(), "mpid": mpid_of(1)}
        await all_of(
            engine,
            taken(document),
            taken(document),
            taken({**web_batch(), "environment": "production", "mpid": 99}, WEB, refuse=True),
            taken({"environment": "moon"}),
        )
        assert [position for position, _, _ in heard] == [1, 2, 3, 4]
        for position, entry, record in heard:
            assert await store.entry(position) == entry
            assert (await store.batches([position])).get(position) == record
        entry, record = heard[1][1:]
        assert (entry.request.kind, entry.request_id, entry.input) == ("batch", "r-2", "shop/server")
        assert record is not None
        delivery = taken(document).delivery
        assert delivery is not None
        assert record.batch == delivery.batch
        assert heard[2][2] is None
        await assert_consistent(store)


class Grumpy:
    """Somebody who waits for an answer and cannot take it."""

    def done(self) -> bool:
        return False

    def set_result(self, outcome: Outcome, /) -> None:
        raise RuntimeError("no")

    def set_exception(self, error: Exception, /) -> None:
        raise RuntimeError("no")


async def test_neither_a_listener_nor_an_answer_that_fails_stops_the_others(tmp_path: Path) -> None:
    heard: list[int] = []

    def fail(position: int, entry: Entry, record: BatchRecord | None) -> None:
        raise RuntimeError("no")

    async with working(tmp_path) as (engine, store):
        engine.listeners += [fail, lambda position, entry, record: heard.append(position)]
        for fault in (None, StoreUnavailable("The disk is full.", 0), None):
            store.fault = fault
            first = engine.submit(taken(of("c1")))
            engine.submit(taken(of("c2")), Grumpy())
            last = engine.submit(taken(of("c3")))
            outcomes = await asyncio.gather(first, last, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {StoreUnavailable if fault else Outcome}
        assert heard == [1, 2, 3, 4, 5, 6]
        assert engine.ready
        await assert_consistent(store)


async def test_historical_batches_are_as_old_as_they_are(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        now = await engine.submit(taken(of("c1", event("Now"), **sets(a="now"))))
        old = of(
            "c1",
            event("Old", "m1", NOW_MS - 4 * DAY_MS),
            event("Old", "m2", NOW_MS - 5 * DAY_MS),
            **sets(a="old", b="old"),
        )
        await engine.submit(taken(old, historical=True))
        young = await engine.submit(taken(of("c1", event("Now")), historical=True))
        undated = await engine.submit(taken(of("c1", event("Now", at_ms=None)), historical=True))
        for outcome in (young, undated):
            assert outcome.decision.error is not None
            assert outcome.decision.error.code == "INVALID_BATCH"
        mpid = now.decision.mpid
        assert mpid is not None
        assert await attributes(store, mpid) == {"a": "now", "b": "old"}
        rows = await store.activity(mpid, "shop")
        assert [(row.position, row.first_ms, row.at_ms) for row in rows] == [
            (1, NOW_MS, NOW_MS), (2, NOW_MS - 5 * DAY_MS, NOW_MS - 4 * DAY_MS),
        ]  # fmt: skip
        await assert_consistent(store)


async def test_platforms_write_by_events_and_have_the_address_of_their_request(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        page = of("c1", change("a", "event"), ip="198.51.100.1", **sets(a="map", b="map"))
        outcome = await engine.submit(taken(page, WEB, ip="192.0.2.9"))
        assert outcome.decision.mpid is not None
        assert await attributes(store, outcome.decision.mpid) == {"a": "event"}
        user = await store.user(outcome.decision.mpid, "shop")
        assert user is not None
        assert user.person is not None
        assert user.person.ip is not None
        assert user.person.ip.value == "192.0.2.9"


# -- every state of a store -----------------------------------------------------------------------------------------


async def play(
    engine: Engine, dice: random.Random, count: int, begin: int = 0, environments: tuple[str, ...] = ENVIRONMENTS
) -> list[Outcome]:
    """Submit random batches of few users in one burst; a few are of other environments than production."""
    kinds = [source(kind, workspace=place) for kind in ("web", "server", "csv") for place in ("shop", "lab")]
    calls = []
    for number in range(begin, begin + count):
        at_ms = NOW_MS - dice.randrange(30)
        events = [event(dice.choice("ABCD"), f"m{dice.randrange(200)}", at_ms) for _ in range(dice.randrange(4))]
        document = of(
            f"c{dice.randrange(4)}", *events, *([bad()] if dice.random() < 0.1 else []),
            **sets(**{dice.choice("ab"): number}), timestamp_unixtime_ms=at_ms,
            source_request_id=f"r{dice.randrange(400)}", mp_deviceid=f"d{dice.randrange(9)}",
        )  # fmt: skip
        if dice.random() < 0.05:
            document["environment"] = dice.choice(environments)
        if dice.random() < 0.05:
            document["mpid"] = dice.choice((mpid_of(1), 404))
        calls.append(taken(document, dice.choice(kinds), NOW_MS + number, max_event_names=3))
    return await all_of(engine, *calls)


@pytest.mark.parametrize("kind", BACKENDS, ids=lambda kind: kind.__name__)
async def test_in_every_state_a_store_tells_what_its_journal_says_and_can_be_rebuilt_from_it(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} {kind.__name__}")
    backend = kind(tmp_path)
    await backend.start()
    mpids = counted()
    for turn in range(12):
        async with running(backend.store, mpids=mpids) as engine:
            await play(engine, dice, dice.randrange(1, 30), 100 * turn)
        await backend.settle()
        await assert_consistent(backend.store)
    await backend.stop()
    await assert_backend_rebuilds(backend, tmp_path / "rebuilt")


async def test_a_journal_of_batches_is_decided_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """All of it follows from its requests, but for what was no batch and so never a question of whose it is."""
    dice = random.Random(request.config.getoption("--hypothesis-seed"))
    async with working(tmp_path, mpids=None) as (engine, store):
        for turn in range(10):
            await play(engine, dice, dice.randrange(1, 40), 100 * turn, ENVIRONMENTS[:1])
            await in_bursts(engine, dice, [identify(email=f"{dice.randrange(9)}@x", customerid="c1"), logout()])
        assert await replay(store) == store.position


async def test_data_that_is_looked_into_tells_the_same_whoever_serves_it(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(request.config.getoption("--hypothesis-seed"))
    backend = backend_at(tmp_path)
    await backend.start()
    async with running(backend.store) as engine:
        await play(engine, dice, 40)
        if isinstance(backend, InMemory):
            await backend.store.flush()
        await play(engine, dice, 40, 100)
        known = await known_of(backend.store)
        await _looked_into(tmp_path / "data", known)
        await play(engine, dice, 10, 200)
        later = await known_of(backend.store)
        assert later.batches.keys() > known.batches.keys()
        await _looked_into(tmp_path / "data", later)
    await backend.crash()
    await assert_knows(backend.store, later)
    await backend.stop()
    await _looked_into(tmp_path / "data", later)


async def _looked_into(folder: Path, known: Any) -> None:
    looking = store_at(folder, read_only=True)
    await looking.open()
    await assert_knows(looking, known)
    await looking.close()
