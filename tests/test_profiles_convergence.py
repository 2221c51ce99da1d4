"""A profile depends on what was sent, not on the order in which it came, nor on how often (docs/profiles.md)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from oneself.profiles import Batch, Source, deciding, read_batch, values_of
from profile_world import NOW_MS, Rows, change, custom, model, source, unplaced

KINDS = ("web", "ios", "server", "partner_feed", "custom_feed", "csv")
STAMPS = ("", "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
NAMES = st.sampled_from(["a", "A", "$city", "$City"])
VALUES = st.sampled_from([None, True, 1, 2.5, "x", "y", [], ["x", 1]])
TIMES = st.integers(NOW_MS - 8, NOW_MS)
SOURCES = st.sampled_from([source(kind) for kind in KINDS])


def typed(type_: str, at_ms: int, **data: Any) -> dict[str, Any]:
    return {"event_type": type_, "data": {"timestamp_unixtime_ms": at_ms, **data}}


EVENTS = st.one_of(
    st.builds(change, NAMES, VALUES, TIMES, deleted=st.booleans()),
    st.builds(custom, st.just("Clicked"), TIMES),
    st.builds(typed, st.just("opt_out"), TIMES, is_opted_out=st.booleans()),
    st.builds(
        typed, st.just("push_registration"), TIMES, register=st.booleans(), registration_token=st.sampled_from("tu")
    ),
    st.builds(
        typed,
        st.just("application_state_transition"),
        TIMES,
        is_first_run=st.just(True),
        application_transition_type=st.just("application_initialized"),
    ),
    st.builds(
        custom,
        st.just("attribution"),
        TIMES,
        custom_event_type=st.just("attribution"),
        custom_attributes=st.sampled_from([{"publisher": "p", "campaign": "c"}, {"publisher": "p", "campaign": "d"}]),
    ),
)
DEVICES = st.fixed_dictionaries(
    {},
    optional={
        "brand": st.sampled_from("bc"),
        "is_tablet": st.booleans(),
        "ios_advertising_id": st.sampled_from(["613ac3a2-5b6b-4b0f-8b5e-5a0c2a9f7c11", "0" * 32]),
        "limit_ad_tracking": st.booleans(),
        "att_authorization_status": st.sampled_from(["authorized", "denied"]),
        "att_timestamp_unixtime_ms": TIMES,
    },
)
PURPOSES = st.dictionaries(
    st.sampled_from("pq"),
    st.builds(lambda at, yes: {"consented": yes, "timestamp_unixtime_ms": at}, TIMES, st.booleans()),
)
DOCUMENTS = st.fixed_dictionaries({
    "timestamp_unixtime_ms": TIMES,
    "events": st.lists(EVENTS, max_size=3),
    "user_attributes": st.dictionaries(NAMES, VALUES, max_size=2),
    "deleted_user_attributes": st.lists(NAMES, max_size=2),
    "consent_state": st.fixed_dictionaries({"gdpr": PURPOSES}),
    "device_info": DEVICES,
    "mp_deviceid": st.sampled_from(STAMPS),
    "ip": st.sampled_from(["", "192.0.2.1", "192.0.2.2"]),
})  # fmt: skip
"""Batches that touch every part of a profile, at times of which many are equal."""
SENT = st.lists(st.tuples(DOCUMENTS, SOURCES), max_size=5)


def spread(value: Any, places: Iterator[int]) -> Any:
    """Return a document in which no two times are equal, in this one or another with the same ``places``."""
    if isinstance(value, dict):
        return {key: spread(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [spread(item, places) for item in value]
    return NOW_MS - (NOW_MS - value) * 1000 - next(places) if type(value) is int and value > 2**40 else value


def received(sent: list[tuple[Any, Source]]) -> list[Batch]:
    """Return batches as they are read, one after the other."""
    return [read_batch(document, by, NOW_MS + n, ip="192.0.2.3")[0] for n, (document, by) in enumerate(sent)]


def rows_after(placed: list[tuple[int, Batch]]) -> Rows:
    rows = Rows()
    for position, batch in placed:
        rows.take(batch, position)
    return rows


def shuffle(items: list[Any], random: Random) -> list[Any]:
    """Return all of some items in another order, some of them twice."""
    again = [item for item in items if random.random() < 0.3]
    return random.sample(items + again, len(items) + len(again))


@given(SENT, st.randoms(use_true_random=False))
def test_the_order_of_work_and_repetition_change_nothing(sent: list[tuple[Any, Source]], random: Random):
    placed = list(enumerate(received(sent), 1))
    rows = rows_after(placed)
    shuffled = rows_after(shuffle(placed, random))
    assert shuffled.person == rows.person
    assert shuffled.workspace == rows.workspace
    assert shuffled.devices == rows.devices


@given(SENT, st.randoms(use_true_random=False))
def test_any_arrival_of_things_at_different_times_makes_the_same_profile(
    sent: list[tuple[Any, Source]], random: Random
):
    places = count()
    batches = received([(spread(document, places), by) for document, by in sent])
    rows = rows_after(list(enumerate(batches, 1)))
    other = rows_after(list(enumerate(shuffle(batches, random), 1)))
    assert unplaced(other.person) == unplaced(rows.person)
    assert unplaced(other.workspace) == unplaced(rows.workspace)
    assert unplaced(other.devices) == unplaced(rows.devices)


@given(SENT, st.randoms(use_true_random=False))
def test_a_profile_shows_what_sorting_everything_by_time_and_arrival_shows(
    sent: list[tuple[Any, Source]], random: Random
):
    placed = list(enumerate(received(sent), 1))
    rows = rows_after(shuffle(placed, random))
    assert rows.shown() == model(placed)


@given(SENT)
def test_a_weaker_source_never_overwrites(sent: list[tuple[Any, Source]]):
    rows = Rows()
    for position, batch in enumerate(received(sent), 1):
        held = dict(rows.workspace.attributes) if rows.workspace else {}
        rows.take(batch, position)
        assert rows.workspace is not None
        after = values_of(rows.workspace.attributes)
        for name, writes in held.items():
            before = deciding(writes)
            if before is not None and before.rank < batch.source.rank:
                assert after[name] == before.value


@given(SENT, DOCUMENTS, st.sampled_from(KINDS))
def test_an_input_that_may_only_read_changes_nothing(sent: list[tuple[Any, Source]], document: Any, kind: str):
    rows = rows_after(list(enumerate(received(sent), 1)))
    before = copy.deepcopy(rows)
    batch, _ = read_batch(document, source(kind, "only_read"), NOW_MS)
    made = rows.take(batch, 99)
    assert (rows.person, rows.workspace, rows.devices) == (before.person, before.workspace, before.devices)
    assert not made.changed
    assert [refused.why for refused in made.refused] == ["only_read"]


@given(SENT, DOCUMENTS, SOURCES)
def test_nothing_that_is_given_is_changed(sent: list[tuple[Any, Source]], document: Any, by: Source):
    as_sent = copy.deepcopy(document)
    batch, _ = read_batch(document, by, NOW_MS)
    assert document == as_sent
    rows = rows_after(list(enumerate(received(sent), 1)))
    before = (rows.person, rows.workspace, rows.devices.get(batch.device))
    written = msgspec.json.encode([*before, batch])
    rows.take(batch, 99)
    assert msgspec.json.encode([*before, batch]) == written


@given(DOCUMENTS, SOURCES)
def test_a_batch_comes_back_from_its_encoding(document: Any, by: Source):
    batch, _ = read_batch(document, by, NOW_MS)
    assert msgspec.json.decode(msgspec.json.encode(batch), type=Batch) == batch
