"""Batches are read as clients send them; what cannot be used is set aside or told (docs/profiles.md)."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneself.identity.names import TABLE, USER_TYPES
from oneself.profiles import (
    AttributeChange,
    Batch,
    BatchError,
    Consent,
    Ignored,
    read_batch,
)
from profile_world import NOW_MS, STAMP, read, server_batch, source, web_batch


def test_a_batch_of_the_web_sdk():
    document = web_batch()
    batch = read(document, "web", ip="192.0.2.9")
    assert batch.mpid == 7000000000001234567
    assert batch.request_id == "r-1"
    assert batch.environment == "development"
    assert batch.identities == {
        "customerid": "c-1", "email": "ana@example.com", "device_application_stamp": STAMP,
    }  # fmt: skip
    assert (batch.device, batch.ip) == (STAMP, "192.0.2.9")
    assert [(e.type, e.name, e.at_ms - NOW_MS, e.id) for e in batch.events] == [
        ("session_start", "", -1000, ""),
        ("custom_event", "Clicked", -900, "m-1"),
        ("user_attribute_change", "$FirstName", -800, "m-2"),
    ]
    assert [e.data for e in batch.events] == [sent["data"] for sent in document["events"]]
    assert (batch.first_ms, batch.at_ms) == (NOW_MS - 1000, NOW_MS - 800)
    assert batch.attributes == {"$firstname": "Ana", "tags": ("x", "y"), "vip": None}
    assert batch.changes == (AttributeChange("$firstname", NOW_MS - 800, "Ana"),)
    assert batch.consent == {"gdpr": {"analytics": Consent(NOW_MS - 9999, True, "v3")}}
    assert batch.device_info == {"platform": "web", "screen_width": 1280, "screen_height": 720}
    assert batch.context == {"data_plan": {"plan_id": "shop", "plan_version": 2}}
    assert batch.application_info == document["application_info"]
    assert batch.ignored == ()


def test_a_batch_of_a_server_sdk():
    batch = read(server_batch())
    assert batch.mpid == -7000000000001234567
    assert batch.identities == {
        "customerid": "c-1",
        "other2": "two",
        "facebookcustomaudienceid": "fb",
        "ios_idfa": "613AC3A2-5B6B-4B0F-8B5E-5A0C2A9F7C11",
    }
    assert batch.ip == "192.0.2.7"
    assert batch.attributes == {
        "$city": "Oslo", "age": "42", "ltv": "342.1", "vip": "true", "tag": None, "recs": ("1", "2"),
    }  # fmt: skip
    assert batch.deleted_attributes == ("old",)
    assert batch.changes == ()
    assert batch.consent == {}
    assert [(e.type, e.name, e.at_ms - NOW_MS) for e in batch.events] == [
        ("session_start", "", -60), ("custom_event", "Bought", 0), ("commerce_event", "purchase", -50),
    ]  # fmt: skip
    assert batch.events[0].data["session_id"] == 12345678
    assert batch.ignored == ()


def test_an_empty_batch_is_a_batch():
    batch = read({})
    assert (batch.environment, batch.mpid, batch.events, batch.device) == ("production", None, (), "")
    assert batch.at_ms == batch.first_ms == batch.received_ms == NOW_MS


NULLABLE = [
    "source_request_id", "mpid", "environment", "events", "user_identities", "user_attributes",
    "deleted_user_attributes", "device_info", "application_info", "context", "consent_state", "ip", "mp_deviceid",
    "integration_attributes", "partner_identities", "attribution_info", "timestamp_unixtime_ms", "sdk_version",
]  # fmt: skip


@pytest.mark.parametrize("field", NULLABLE)
def test_null_says_nothing(field: str):
    assert read({field: None}) == read({})


@pytest.mark.parametrize("field", ["user_identities", "user_attributes", "device_info", "consent_state"])
def test_an_empty_array_is_an_empty_object(field: str):
    assert read({field: []}) == read({})


# -- who --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "mpid"),
    [
        (123, 123),
        ("123", 123),
        (-9223372036854775808, -(2**63)),
        ("9223372036854775807", 2**63 - 1),
        (123.0, 123),
        ("", None),
    ],
)
def test_an_mpid_is_a_number_or_a_string(sent: Any, mpid: int | None):
    assert read({"mpid": sent}).mpid == mpid


@pytest.mark.parametrize(
    "sent", [0, "0", True, 1.5, 7e18, 2**63, "9223372036854775808", "12a", "abc", [1], {}, " 1", "١"]
)
def test_an_mpid_that_is_none_refuses_the_batch(sent: Any):
    with pytest.raises(BatchError) as refused:
        read({"mpid": sent})
    assert refused.value.field == "mpid"


USER_NAMES = [(row.events, row.identity) for row in TABLE if row.identity in USER_TYPES]
DEVICE_NAMES = [
    (row.events, row.identity)
    for row in TABLE
    if row.identity not in USER_TYPES and row.identity != "device_application_stamp"
]


@pytest.mark.parametrize(("events_name", "type_"), USER_NAMES)
def test_user_identities_have_two_vocabularies(events_name: str, type_: str):
    assert read({"user_identities": {events_name: "x"}}).identities == {type_: "x"}
    assert read({"user_identities": {type_: "x"}}).identities == {type_: "x"}
    for both in ({events_name: "x", type_: "x" if type_ == events_name else "y"}, {type_: "y", events_name: "x"}):
        assert read({"user_identities": both}).identities == {type_: "x"}, "the Events API's name goes first"


@pytest.mark.parametrize(("events_name", "type_"), DEVICE_NAMES)
def test_device_identities_have_two_vocabularies(events_name: str, type_: str):
    for name in (events_name, type_):
        batch = read({"device_info": {name: "some-device"}})
        assert batch.identities == {type_: "some-device"}
        assert batch.device_info == {events_name: "some-device"}
    for both in ({events_name: "x", type_: "x" if type_ == events_name else "y"}, {type_: "y", events_name: "x"}):
        batch = read({"device_info": both})
        assert (batch.identities, batch.device_info) == ({type_: "x"}, {events_name: "x"})


def test_identities_of_exported_batches_are_a_list():
    sent = [{"identity_type": "customer_id", "identity": "c", "timestamp_unixtime_ms": 1}, {"identity_type": None}, 3]
    assert read({"user_identities": sent}).identities == {"customerid": "c"}


def test_identity_values_are_text():
    batch = read({"user_identities": {"customer_id": 12345, "email": None, "other": ["x"], "shoe": "44"}})
    assert batch.identities == {"customerid": "12345"}
    assert batch.ignored == (
        Ignored("user_identities.other", "not_a_value"),
        Ignored("user_identities.shoe", "unknown"),
    )


def test_the_address_of_a_platform_is_that_of_its_request():
    sent = {"ip": "192.0.2.1"}
    assert read(sent, "web", ip="192.0.2.2").ip == "192.0.2.2"
    assert read(sent, "web").ip == ""
    assert read(sent, "server", ip="192.0.2.2").ip == "192.0.2.1"
    assert read({"ip": "2001:db8::1"}).ip == "2001:db8::1"
    assert read({"ip": "me"}).ignored == (Ignored("ip", "not_an_address"),)


# -- what cannot be a batch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], ""),
        (None, ""),
        ("batch", ""),
        ({"environment": "test"}, "environment"),
        ({"environment": "unknown"}, "environment"),
        ({"environment": 1}, "environment"),
        ({"events": {"a": 1}}, "events"),
        ({"events": "x"}, "events"),
        ({"user_attributes": "x"}, "user_attributes"),
        ({"user_attributes": [1]}, "user_attributes"),
        ({"deleted_user_attributes": "x"}, "deleted_user_attributes"),
        ({"user_identities": "x"}, "user_identities"),
        ({"device_info": 1}, "device_info"),
        ({"consent_state": True}, "consent_state"),
        ({"application_info": 1}, "application_info"),
        ({"context": 1}, "context"),
    ],
)
def test_what_is_no_batch_is_refused_by_the_name_of_its_field(document: Any, field: str):
    with pytest.raises(BatchError) as refused:
        read(document)
    assert refused.value.field == field
    assert str(refused.value)


def test_unknown_fields_are_told_and_those_of_servers_are_not():
    batch = read({"colour": 1, "batch_id": 7, "schema_version": 2, "api_key": "k", "unique_id": "u"})
    assert batch.ignored == (Ignored("colour", "unknown"),)


# -- anything -----------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.sampled_from(["", "0", "true", "custom_event", "production", str(NOW_MS), "0" * 40]), st.just(NOW_MS),
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS, lambda some: st.one_of(st.lists(some, max_size=4), st.dictionaries(st.text(), some, max_size=4))
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a document."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


PLACES = {maker: places(maker())[1:] for maker in (web_batch, server_batch)}


@given(st.data(), st.sampled_from([web_batch, server_batch]), st.sampled_from(["web", "server", "csv"]), ANYTHING)
def test_a_batch_with_anything_in_any_place_is_read_or_refused_by_name(data: Any, maker: Any, kind: str, value: Any):
    document = maker()
    path = data.draw(st.sampled_from(PLACES[maker]))
    within = document
    for key in path[:-1]:
        within = within[key]
    within[path[-1]] = value
    before = copy.deepcopy(document)
    batch, field = read_or_field(document, kind)
    if batch is None:
        assert field.split("[")[0] == path[0]
    else:
        assert msgspec.json.decode(msgspec.json.encode(batch), type=Batch) == batch
    assert document == before


@given(ANYTHING)
def test_anything_is_read_or_refused(document: Any):
    batch, _ = read_or_field(document, "server")
    assert batch is None or isinstance(document, dict)
    if batch is not None:
        assert msgspec.json.decode(msgspec.json.encode(batch), type=Batch) == batch


def read_or_field(document: Any, kind: str) -> tuple[Batch | None, str]:
    """Return the batch, or the field for which it was refused."""
    try:
        return read_batch(document, source(kind), NOW_MS)[0], ""
    except BatchError as refused:
        return None, refused.field
