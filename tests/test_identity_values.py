"""Which values count: normalisers, junk and carried types."""

from __future__ import annotations

import pytest

from identity_world import World
from oneself.identity import PolicySettings, Request, build, prepare
from oneself.identity.model import Dropped
from oneself.identity.values import DEFAULT_JUNK, normalise

UPPER = "F8BD2B1A-0B4C-4C1A-9D5E-0A1B2C3D4E5F"


@pytest.mark.parametrize(
    ("type_", "sent", "compared"),
    [
        ("email", "  Ed.Hyde@Example.COM ", "ed.hyde@example.com"),
        ("ios_idfv", UPPER, UPPER.lower()),
        ("ios_idfa", UPPER.replace("-", ""), UPPER.replace("-", "").lower()),
        ("device_application_stamp", UPPER, UPPER.lower()),
        ("android_uuid", "9774D56D682E549C", "9774D56D682E549C"),
        ("roku_aid", "Serial-X1", "Serial-X1"),
        ("customerid", " Ab-12 ", " Ab-12 "),
        ("customerid", UPPER, UPPER),
        ("other", "ABC", "ABC"),
        ("push_token", UPPER, UPPER),
        ("mobile_number", "+1 (650) 253-0000", "+16502530000"),
        ("phone_number_2", "+49 30 123456", "+4930123456"),
        ("phone_number_3", "extension nine", "extension nine"),
        ("mobile_number", "650 253 0000", "650 253 0000"),
        ("mobile_number", "+1 650", "+1 650"),
    ],
)
def test_values_are_compared_after_the_normaliser_of_their_type(type_: str, sent: str, compared: str) -> None:
    assert normalise(type_, sent) == compared
    assert normalise(type_, compared) == compared


def test_national_phone_numbers_are_understood_in_the_region_of_the_policy() -> None:
    assert normalise("mobile_number", "(650) 253-0000", "US") == "+16502530000"
    assert normalise("mobile_number", "+49 30 123456", "US") == "+4930123456"


def test_the_same_user_is_found_however_the_value_was_written() -> None:
    world = World(PolicySettings(phone_region="US"))
    first = world.identify(email="A@X.org", ios_idfv=UPPER, mobile_number="(650) 253-0000")
    assert world.held(first.mpid) == {
        "email": {"a@x.org"},
        "ios_idfv": {UPPER.lower()},
        "mobile_number": {"+16502530000"},
    }
    for again in ({"email": " a@x.ORG"}, {"ios_idfv": UPPER.lower()}, {"mobile_number": "+1 650 253 0000"}):
        assert world.identify(**again).mpid == first.mpid


def test_values_that_differ_in_case_are_different_where_no_normaliser_says_otherwise() -> None:
    world = World()
    assert world.identify(customerid="abc").mpid != world.identify(customerid="ABC").mpid


@pytest.mark.parametrize("junk", sorted(DEFAULT_JUNK | {"x" * 257, "  ", " NULL ", "[object Object]", "N/A"}))
def test_junk_never_becomes_a_look_up_and_the_rest_of_the_request_succeeds(junk: str) -> None:
    world = World()
    first = world.login(customerid=junk, device_application_stamp="d1")
    second = world.login(customerid=junk, device_application_stamp="d2")
    assert first.error is second.error is None
    assert first.mpid != second.mpid
    assert world.held(first.mpid) == {"device_application_stamp": {"d1"}}
    assert [dropped.type for dropped in first.trace.dropped] == ["customerid"]


@pytest.mark.parametrize("kind", ["identify", "login", "logout", "search"])
def test_nothing_usable_left_is_a_lookup_error(kind: str) -> None:
    world = World()
    for identities in ({}, {"email": None}, {"customerid": "null", "email": " "}):
        decision = world.resolve(kind, **identities)  # type: ignore[arg-type]
        assert decision.error is not None
        assert (decision.error.status, decision.error.code) == (400, "LOOKUP_ERROR")
        assert not decision.changes


def test_an_error_about_unusable_values_names_types_and_reasons_but_no_value() -> None:
    world = World()
    decision = world.identify(customerid="undefined", other="y" * 300)
    assert decision.error is not None
    assert "customerid (junk)" in decision.error.message
    assert "other (too long)" in decision.error.message
    assert "undefined" not in decision.error.message


def test_the_trace_says_why_a_value_did_not_count_and_keeps_little_of_a_long_one() -> None:
    decision = World().identify(customerid="Guest", email="", other="y" * 300, facebook="f1")
    assert decision.trace.dropped == [
        Dropped("customerid", "Guest", "junk"),
        Dropped("email", "", "empty"),
        Dropped("other", "y" * 256, "too_long"),
    ]


def test_a_value_of_256_characters_counts() -> None:
    assert World().identify(other="y" * 256).error is None


def test_an_empty_value_is_none_whatever_the_junk_list() -> None:
    world = World(PolicySettings(junk=()))
    assert world.identify(customerid="null").error is None
    assert world.identify(customerid=" ").error is not None


def test_listed_junk_is_junk_in_the_form_it_was_sent_in_and_in_the_form_it_is_compared_in() -> None:
    world = World(PolicySettings(phone_region="US", junk_also=("0000000000", "+15550000000")))
    assert world.identify(mobile_number="0000000000").error is not None
    assert world.identify(mobile_number="(555) 000-0000").error is not None
    assert world.identify(mobile_number="(555) 000-0001").error is None


def test_types_outside_the_priority_are_carried_but_find_nobody() -> None:
    world = World()
    first = world.identify(push_token="p1", device_application_stamp="d1")
    assert world.held(first.mpid)["push_token"] == {"p1"}
    second = world.identify(push_token="p1")
    assert second.mpid != first.mpid
    assert world.search(push_token="p1").error is not None
    third = world.identify(push_token="p1", device_application_stamp="d1")
    assert third.mpid == first.mpid
    assert set(third.matched) == {"push_token", "device_application_stamp"}


def test_a_prepared_request_names_all_it_must_see_in_the_order_of_the_priority() -> None:
    request = Request("identify", {"push_token": "p", "email": "A@x", "customerid": "c", "other": "null"})
    prepared = prepare(build(), request)
    assert prepared.identities == [("customerid", "c"), ("email", "a@x"), ("push_token", "p")]
