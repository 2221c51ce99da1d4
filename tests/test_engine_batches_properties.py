"""What holds of all batches, whatever they are and however they come (docs/profiles.md)."""

from __future__ import annotations

import asyncio
import copy
import tempfile
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from batch_reference import Came, Shop
from batches import all_activity, all_devices, assert_consistent, bad, taken
from engine_at_work import SPACE, all_of, running
from engines import store_at
from histories import in_bursts
from journal_fold import fold_of
from oneself.engine import Call, Engine, Outcome
from oneself.identity import Request
from oneself.profiles import Source, deciding, info_of, values_of
from oneself.store import Store
from profile_world import NOW_MS, source, unplaced
from test_profiles_convergence import DOCUMENTS, KINDS, STAMPS, spread

ADDRESS = "192.0.2.3"
CUSTOMERS = ("ann", "bob")
WAYS = ("alone", "in one group", "together", "in bursts")
LEVELS = ("create_and_update", "only_update", "only_read")
ADVERTISING_ID = "613ac3a2-5b6b-4b0f-8b5e-5a0c2a9f7c11"
"""The only identity that a device without a stamp has here."""


class Sent(NamedTuple):
    """A batch and the input that it comes by."""

    document: dict[str, Any]
    by: Source


@st.composite
def sent_batches(
    draw: st.DrawFn,
    *,
    levels: tuple[str, ...] = LEVELS[:1],
    customers: tuple[str, ...] = ("ann",),
    shared: bool = True,
) -> list[Sent]:
    """Batches from inputs of all ranks, some with ids, some of these shared with others where that is asked for."""
    batches = []
    fresh = count()

    def id_(prefix: str) -> str | None:
        which = draw(st.sampled_from(["none", "own", "shared"] if shared else ["none", "own"]))
        if which == "none":
            return None
        return f"{prefix}{draw(st.integers(0, 2))}" if which == "shared" else f"{prefix} own {next(fresh)}"

    for _ in range(draw(st.integers(1, 6))):
        document: dict[str, Any] = copy.deepcopy(draw(DOCUMENTS))
        if draw(st.integers(0, 4)) == 4:
            document["events"].append(bad())
        for event in document["events"]:
            event["data"]["source_message_id"] = id_("m")
        document["source_request_id"] = id_("r")
        document["user_identities"] = {"customer_id": draw(st.sampled_from(customers))}
        batches.append(Sent(document, source(draw(st.sampled_from(KINDS)), draw(st.sampled_from(levels)))))
    return batches


def of_customer(sent: list[Sent], name: str) -> list[Call]:
    """Return calls with batches for a customer of a name, whose ids meet nobody else's."""
    calls = []
    for number, (document, by) in enumerate(sent):
        renamed = copy.deepcopy(document)
        renamed["user_identities"] = {"customer_id": f"{name} {document['user_identities']['customer_id']}"}
        if renamed["source_request_id"] is not None:
            renamed["source_request_id"] += name
        for event in renamed["events"]:
            if event["data"]["source_message_id"] is not None:
                event["data"]["source_message_id"] += name
        calls.append(taken(renamed, by, NOW_MS + number, ip=ADDRESS))
    return calls


def at_work(act: Callable[[Engine, Store], Awaitable[None]]) -> None:
    """Let something happen on a new store; what it tells is what its journal says."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder, capture_logs():
            store = store_at(Path(folder) / "data")
            await store.open()
            async with running(store) as engine:
                await act(engine, store)
            await assert_consistent(store)
            await store.close()

    asyncio.run(run())


async def submit(engine: Engine, calls: list[Call], way: str, random: Random) -> list[Outcome]:
    """Submit calls in their order: each when the one before it is durable, or in some group."""
    if way == "in one group":
        return await all_of(engine, *calls)
    if way == "together":
        return list(await asyncio.gather(*engine.submit_all(calls)))
    if way == "in bursts":
        outcomes = await in_bursts(engine, random, calls)
        assert all(isinstance(outcome, Outcome) for outcome in outcomes)
        return [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
    return [await engine.submit(call) for call in calls]


async def mpid_of_customer(engine: Engine, name: str) -> int | None:
    """Return the MPID of a customer, None where there is no such."""
    found = await engine.submit(Call(SPACE, "shop/look", Request("search", {"customerid": name})))
    return found.decision.mpid


async def rows_of(engine: Engine, store: Store, name: str) -> Any:
    """Return all rows of a customer's profile, without their positions."""
    mpid = await mpid_of_customer(engine, name)
    if mpid is None:
        return None
    user = await store.user(mpid, "shop")
    assert user is not None
    devices = await all_devices(store, mpid, "shop")
    return unplaced((user.person, user.workspace, tuple(devices)))


async def shown(engine: Engine, store: Store, name: str) -> dict[str, Any]:
    """Return what a customer's profile shows, in the reference's form."""
    mpid = await mpid_of_customer(engine, name)
    user = await store.user(mpid, "shop") if mpid is not None else None
    if mpid is None or user is None or user.person is None or user.workspace is None:
        return {}
    person, workspace = user.person, user.workspace
    values = values_of(workspace.attributes)
    rows = await all_activity(store, mpid, "shop")
    records = await store.batches([row.position for row in rows])
    return {
        "attributes": {key: [*value] if type(value) is tuple else value for key, value in values.items()},
        "consent": {
            (regulation, purpose): said.consented
            for regulation, purposes in workspace.consent.items()
            for purpose, said in purposes.items()
        },
        "opted_out": person.opted_out and person.opted_out.value,
        "limit_ad_tracking": person.limit_ad_tracking and person.limit_ad_tracking.value,
        "ip": person.ip and person.ip.value,
        "seen": (person.first_seen_ms, person.last_seen_ms),
        "stored": person.stored_ms,
        "inputs": {name.partition("/")[2]: (at.first_ms, at.last_ms) for name, at in workspace.inputs.items()},
        "devices": {
            (name if name in STAMPS else f"made of {ADVERTISING_ID}"): {
                "seen": (device.first_seen_ms, device.last_seen_ms),
                "info": {key: value for key, value in info_of(device.info).items() if value is not None},
                "push": {token: flag.value for token, flag in device.push.items()},
            }
            for name, device in await all_devices(store, mpid, "shop")
        },
        "timeline": [
            (row.at_ms, row.position, [one.type for one in record.batch.events])
            for row in rows
            if (record := records[row.position]).batch is not None
        ],
    }


# -- properties -----------------------------------------------------------------------------------------------------


@given(sent_batches(shared=False), st.randoms(use_true_random=False))
def test_any_arrival_and_any_repetition_of_the_same_batches_makes_the_same_profile(
    sent: list[Sent], random: Random
) -> None:
    places = count()
    sent = [Sent(spread(document, places), by) for document, by in sent]

    async def act(engine: Engine, store: Store) -> None:
        variants = {}
        for way in WAYS:
            calls = of_customer(sent, way)
            if way != "alone":
                calls += [call for call in calls if random.random() < 0.4]
                random.shuffle(calls)
            await submit(engine, calls, way, random)
            variants[way] = await rows_of(engine, store, f"{way} ann")
            await _assert_once(store, calls, await mpid_of_customer(engine, f"{way} ann"))
        for way in WAYS:
            assert variants[way] == variants["alone"], way

    at_work(act)


async def _assert_once(store: Store, calls: list[Call], mpid: int | None) -> None:
    """Assert that each batch that has an id is on the timeline once, and each event that has one in one batch."""
    assert mpid is not None
    rows = await all_activity(store, mpid, "shop")
    records = await store.batches([row.position for row in rows])
    kept = [record.batch for record in records.values() if record.batch is not None]
    requests = [batch.request_id for batch in kept if batch.request_id]
    assert sorted(requests) == sorted({call.request_id for call in calls if call.request_id})
    events = [one.id for batch in kept for one in batch.events if one.id]
    sent = [call.delivery.batch for call in calls if call.delivery is not None]
    assert sorted(events) == sorted({one.id for batch in sent if batch is not None for one in batch.events if one.id})


@given(sent_batches(levels=LEVELS, customers=CUSTOMERS), st.randoms(use_true_random=False))
def test_it_makes_no_difference_how_batches_are_grouped(sent: list[Sent], random: Random) -> None:
    async def act(engine: Engine, store: Store) -> None:
        variants = {}
        for way in WAYS:
            outcomes = await submit(engine, of_customer(sent, way), way, random)
            told = [(outcome.repeated, outcome.decision.trace.why) for outcome in outcomes]
            variants[way] = told, [await rows_of(engine, store, f"{way} {name}") for name in CUSTOMERS]
        for way in WAYS:
            assert variants[way] == variants["alone"], way

    at_work(act)


@given(sent_batches(levels=LEVELS, customers=CUSTOMERS), st.sampled_from(WAYS), st.randoms(use_true_random=False))
def test_a_profile_shows_what_the_rules_say(sent: list[Sent], way: str, random: Random) -> None:
    async def act(engine: Engine, store: Store) -> None:
        calls = [taken(document, by, NOW_MS + place, ip=ADDRESS) for place, (document, by) in enumerate(sent)]
        outcomes = await submit(engine, calls, way, random)
        shop = Shop()
        for place, ((document, by), outcome) in enumerate(zip(sent, outcomes, strict=True)):
            made = shop.take(Came(document, by.kind, by.protection, NOW_MS + place, ADDRESS))
            record = (await store.batches([outcome.position])).get(outcome.position)
            if not outcome.repeated:
                assert (made is None) == (record is None)
        for name in CUSTOMERS:
            assert await shown(engine, store, name) == shop.shows(name)

    at_work(act)


@given(sent_batches())
def test_a_weaker_source_never_overwrites_or_deletes(sent: list[Sent]) -> None:
    async def act(engine: Engine, store: Store) -> None:
        held: dict[str, Any] = {}
        for (_, by), call in zip(sent, of_customer(sent, ""), strict=True):
            outcome = await engine.submit(call)
            assert outcome.decision.mpid is not None
            user = await store.user(outcome.decision.mpid, "shop")
            assert user is not None
            assert user.workspace is not None
            after = {name: deciding(writes) for name, writes in user.workspace.attributes.items()}
            for name, before in held.items():
                if before is not None and before.rank < by.rank:
                    assert after[name] == before
            held = after

    at_work(act)


@given(sent_batches(levels=LEVELS, customers=CUSTOMERS))
def test_protection_levels_write_nothing_that_they_must_not(sent: list[Sent]) -> None:
    async def act(engine: Engine, store: Store) -> None:
        for (document, by), call in zip(sent, of_customer(sent, ""), strict=True):
            name = f" {document['user_identities']['customer_id']}"
            known = await mpid_of_customer(engine, name)
            before = await _everything(store)
            outcome = await engine.submit(call)
            after = await _everything(store)
            record = (await store.batches([outcome.position])).get(outcome.position)
            if outcome.repeated:
                assert after == before
            elif by.protection == "only_read":
                assert after == before
                assert outcome.decision.mpid is None
                assert record is not None
            elif by.protection == "only_update" and known is None:
                assert after == before
                assert record is None
            else:
                assert outcome.decision.mpid in after
                assert known is None or (outcome.decision.mpid, after.keys()) == (known, before.keys())

    at_work(act)


async def _everything(store: Store) -> dict[int, Any]:
    return {
        mpid: (
            await store.user(mpid, "shop"),
            await all_devices(store, mpid, "shop"),
            await all_activity(store, mpid, "shop"),
        )
        for mpid in (await fold_of(store)).space_of
    }
