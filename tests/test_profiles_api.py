"""The Profile API's answer (docs/profiles.md, "Profile API")."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneself.profiles import FIELDS, FieldsError, Membership, Person, read_fields, render, shown_of
from profile_world import NOW_MS, Rows, change, read, server_batch, web_batch

MPID = 1234567890123456789
IDENTITIES = [
    ("device_application_stamp", "stamp"),
    ("email", "b@example.com"),
    ("email", "a@example.com"),
    ("alias", "never shown"),
    ("facebook", "fb"),
    ("customerid", "C-1"),
    ("android_aaid", "gaid"),
    ("ios_idfv", "vendor"),
]


def shown(rows: Rows, *fields: str, memberships: Any = ()) -> Any:
    assert rows.person is not None
    known = None if rows.workspace is None else shown_of(rows.workspace)
    answer = render(MPID, rows.person, known, IDENTITIES, memberships, read_fields(",".join(fields)))
    return msgspec.json.decode(msgspec.json.encode(answer))


@pytest.fixture
def rows() -> Rows:
    rows = Rows()
    rows.take(read(web_batch(), "web"), 1)
    rows.take(read(server_batch(), received_ms=NOW_MS + 5), 2)
    return rows


HEAD = {
    "mpid": MPID,
    "created_timestamp_ms": NOW_MS - 1000,
    "last_stored_timestamp_ms": NOW_MS + 5,
    "is_opted_out": False,
    "limit_ad_tracking": None,
}


def test_only_what_is_asked_for_is_answered(rows: Rows):
    for field in FIELDS:
        extra = {"account_userattributes"} if field == "user_attributes" else set()
        assert set(shown(rows, field)) == {*HEAD, field, *extra}
        assert {name: shown(rows, field)[name] for name in HEAD} == HEAD


def test_an_mpid_is_a_whole_number(rows: Rows):
    assert rows.person is not None
    body = msgspec.json.encode(render(MPID, rows.person, None, [], [], {"user_identities"}))
    assert f'"mpid":{MPID},'.encode() in body


def test_user_attributes(rows: Rows):
    answer = shown(rows, "user_attributes")
    assert answer["account_userattributes"] is None
    assert answer["user_attributes"] == {
        "$firstname": "Ana", "$city": "Oslo", "age": "42", "ltv": "342.1", "vip": "true", "tag": None,
        "recs": ["1", "2"],
    }  # fmt: skip


def test_identities_have_the_profile_apis_names(rows: Rows):
    def one(type_: str, value: str) -> dict[str, str]:
        return {"type": type_, "encoding": "none", "value": value}

    answer = shown(rows, "user_identities", "device_identities")
    assert answer["user_identities"] == [
        one("customer_id", "C-1"), one("email", "a@example.com"), one("email", "b@example.com"),
        one("facebook_id", "fb"),
    ]  # fmt: skip
    assert answer["device_identities"] == [
        one("ios_vendor_id", "vendor"), one("google_advertising_id", "gaid"),
        one("device_application_stamp", "stamp"),
    ]  # fmt: skip


def test_audience_memberships(rows: Rows):
    assert shown(rows, "audience_memberships")["audience_memberships"] == []
    answer = shown(
        rows, "audience_memberships", memberships=[Membership(17, "Buyers"), Membership(18, "New", NOW_MS)]
    )
    assert answer["audience_memberships"] == [
        {"audience_id": 17, "audience_name": "Buyers", "expiration_timestamp_ms": None},
        {"audience_id": 18, "audience_name": "New", "expiration_timestamp_ms": NOW_MS},
    ]


def test_attribution(rows: Rows):
    assert shown(rows, "attribution")["attribution"] is None
    rows.take(read({"attribution_info": {"service_provider": "s", "publisher": "p", "campaign": "c"}}), 3)
    assert shown(rows, "attribution")["attribution"] == {
        "service_provider": "s", "publisher": "p", "campaign": "c", "timestamp_unixtime_ms": NOW_MS,
    }  # fmt: skip


def test_consent(rows: Rows):
    assert shown(rows, "consent_state")["consent_state"] == {
        "gdpr": {"analytics": {"consented": True, "timestamp_unixtime_ms": NOW_MS - 9999, "document": "v3"}}
    }


def test_opt_out_and_limited_tracking(rows: Rows):
    out = {"event_type": "opt_out", "data": {"is_opted_out": True}}
    rows.take(read({"events": [out], "device_info": {"limit_ad_tracking": True}}), 3)
    answer = shown(rows, "attribution")
    assert (answer["is_opted_out"], answer["limit_ad_tracking"]) == (True, True)


def test_a_profile_without_data_in_the_workspace_is_empty():
    answer = render(MPID, Person(1, 2, 3), None, [], [], FIELDS)
    assert (answer["user_attributes"], answer["attribution"], answer["consent_state"]) == ({}, None, {})


@pytest.mark.parametrize("text", ["", " ", ",", "user_attributes,shoe_size", "User_Attributes"])
def test_fields_are_required_and_known(text: str):
    with pytest.raises(FieldsError, match="user_attributes"):
        read_fields(text)


def test_fields_may_be_spaced_and_repeated():
    assert read_fields("attribution, user_attributes,,attribution") == {"attribution", "user_attributes"}


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: "$" not in name), st.text(max_size=50), max_size=5))
def test_what_a_platform_sets_is_read_back_as_it_was_sent(attributes: dict[str, str]):
    rows = Rows()
    rows.take(read({"events": [change(name, value) for name, value in attributes.items()]}, "web"), 1)
    assert shown(rows, "user_attributes")["user_attributes"] == attributes
