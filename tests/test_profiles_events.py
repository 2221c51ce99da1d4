"""Events are read one by one; a bad one is set aside (docs/profiles.md, "Events")."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from oneself.profiles import (
    EVENT_TYPES,
    AttributeChange,
    Attribution,
    BatchError,
    Flag,
    Ignored,
    PushChange,
    Text,
    read_batch,
)
from profile_world import NOW_MS, change, custom, read, source

HOUR_MS = 3_600_000


def event(type_: str, **data: Any) -> dict[str, Any]:
    return {"event_type": type_, "data": data}


# -- events -------------------------------------------------------------------------------------------------------

LEAST = {
    "custom_event": {"event_name": "e", "custom_event_type": "other"},
    "screen_view": {"screen_name": "s"},
    "commerce_event": {"product_action": {"action": "refund"}},
    "push_registration": {"register": True, "registration_token": "t"},
    "push_message": {"push_message_type": "received"},
    "application_state_transition": {"application_transition_type": "application_exit"},
    "breadcrumb": {"label": "l"},
    "user_attribute_change": {"user_attribute_name": "a"},
}


def test_there_are_nineteen_event_types():
    assert len(EVENT_TYPES) == 19
    assert set(LEAST) < EVENT_TYPES


@pytest.mark.parametrize("type_", sorted(EVENT_TYPES))
def test_every_event_type_is_read_with_the_least_that_it_needs(type_: str):
    data = LEAST.get(type_, {})
    (read_event,) = read({"events": [event(type_, **data)]}).events
    assert (read_event.type, read_event.data, read_event.at_ms) == (type_, data, NOW_MS)


@pytest.mark.parametrize("type_", sorted(set(EVENT_TYPES) - set(LEAST)))
def test_an_event_that_needs_nothing_may_have_no_data(type_: str):
    assert read({"events": [{"event_type": type_}]}).events == read({"events": [event(type_)]}).events
    assert read({"events": [{"event_type": type_, "data": None}]}).events[0].data == {}


@pytest.mark.parametrize("type_", sorted(LEAST))
def test_an_event_without_what_it_needs_is_set_aside(type_: str):
    for field in LEAST[type_]:
        for missing in (None, ""):
            sent = event(type_, **(LEAST[type_] | {field: missing}))
            batch, (aside,) = read_batch({"events": [sent]}, source(), NOW_MS)
            assert batch.events == ()
            assert field in aside.reason
            assert aside.event is sent


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("x", "an event must be an object"),
        (None, "an event must be an object"),
        ({}, "event_type is missing"),
        ({"event_type": "dance", "data": {}}, "event_type is not one that is known"),
        ({"event_type": 3, "data": {}}, "event_type is not one that is known"),
        ({"event_type": ["x"], "data": {}}, "event_type is not one that is known"),
        ({"event_type": "session_start", "data": "x"}, "data must be an object"),
        (custom(at_ms=1_700_000_000), "data.timestamp_unixtime_ms is not a time in milliseconds"),
        (custom(at_ms=1_700_000_000_000_000), "data.timestamp_unixtime_ms is not a time in milliseconds"),
        (custom(timestamp_unixtime_ms="now"), "data.timestamp_unixtime_ms is not a time in milliseconds"),
        (custom(timestamp_unixtime_ms=0), "data.timestamp_unixtime_ms is not a time in milliseconds"),
        (custom(event_name={"a": 1}), "data.event_name must be text"),
        (custom(custom_attributes=["a"]), "data.custom_attributes must be an object"),
        (custom(custom_attributes="a"), "data.custom_attributes must be an object"),
        (event("opt_out", is_opted_out="yes"), "data.is_opted_out must be true or false"),
        (
            event("push_registration", register="yes", registration_token="t"),
            "data.register must be true or false",
        ),
        (
            event("push_registration", register=True, registration_token={"a": 1}),
            "data.registration_token is not a token",
        ),
        (
            event("application_state_transition", application_transition_type="x", is_first_run=1),
            "data.is_first_run must be true or false",
        ),
        (event("commerce_event"), "data needs product_action, promotion_action or product_impressions"),
    ],
)
def test_a_bad_event_is_set_aside_with_its_reason_and_the_rest_goes_on(sent: Any, reason: str):
    batch, quarantined = read_batch({"events": [custom("before"), sent, custom("after")]}, source("web"), NOW_MS)
    assert [e.name for e in batch.events] == ["before", "after"]
    assert [(q.index, q.reason, q.event) for q in quarantined] == [(1, reason, sent)]


def test_a_bad_event_has_no_effect():
    later = NOW_MS + HOUR_MS
    sent = [change("a", "x", later) | {"event_type": "dance"}, event("opt_out", is_opted_out=1)]
    batch, quarantined = read_batch({"events": sent}, source("web"), later)
    assert len(quarantined) == 2
    assert (batch.changes, batch.opted_out, batch.at_ms) == ((), None, later)


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (custom("Clicked"), "Clicked"),
        (custom(event_name=7), "7"),
        (event("screen_view", screen_name="Home"), "Home"),
        (event("commerce_event", product_action={"action": "purchase"}), "purchase"),
        (event("commerce_event", promotion_action={"action": "click"}), "promotion_click"),
        (event("commerce_event", promotion_action={"action": 1}), "promotion_view"),
        (event("commerce_event", promotion_action={"action": 2}), "promotion_click"),
        (event("commerce_event", product_impressions=[]), "impression"),
        (
            event("commerce_event", product_action=None, promotion_action={}, product_impressions=None),
            "promotion_view",
        ),
        (event("application_state_transition", application_transition_type="application_exit"), "application_exit"),
        (event("breadcrumb", label="l"), "l"),
        (event("profile", profile_event_type="login"), "login"),
        (event("session_end", session_duration_ms=1), ""),
    ],
)
def test_what_events_are_called(sent: Any, name: str):
    assert read({"events": [sent]}).events[0].name == name


def test_numbers_beyond_64_bits_stay_exact():
    document = msgspec.json.decode(msgspec.json.encode({"events": [custom(custom_attributes={"n": 2**70})]}))
    assert read(document).events[0].data["custom_attributes"] == {"n": 2**70}


@pytest.mark.parametrize("sent", [5, "5"])
def test_a_source_message_id_is_text(sent: Any):
    assert read({"events": [custom(source_message_id=sent)]}).events[0].id == "5"


# -- times --------------------------------------------------------------------------------------------------------


def test_an_event_without_a_time_happened_when_it_came():
    assert read({"events": [custom(at_ms=None)]}).events[0].at_ms == NOW_MS


def test_times_may_be_strings():
    assert read({"events": [custom(timestamp_unixtime_ms=str(NOW_MS - 5))]}).events[0].at_ms == NOW_MS - 5


def test_a_clock_that_is_far_ahead_is_set_back_to_the_arrival():
    near, far = NOW_MS + HOUR_MS, NOW_MS + HOUR_MS + 1
    batch = read({"events": [custom(at_ms=near), custom(at_ms=far)]})
    assert [e.at_ms for e in batch.events] == [near, NOW_MS]
    assert batch.events[1].data["timestamp_unixtime_ms"] == far


def test_a_batch_spans_its_events_in_whatever_order_they_stand():
    batch = read({"events": [custom(at_ms=NOW_MS - at) for at in (5, 1, 9, 3)], "timestamp_unixtime_ms": NOW_MS - 50})
    assert (batch.first_ms, batch.at_ms) == (NOW_MS - 9, NOW_MS - 1)


@pytest.mark.parametrize(("sent", "at_ms"), [(NOW_MS - 7, NOW_MS - 7), (None, NOW_MS), ("x", NOW_MS), (17, NOW_MS)])
def test_a_batch_without_events_has_its_own_time_or_that_of_its_arrival(sent: Any, at_ms: int):
    batch = read({"timestamp_unixtime_ms": sent})
    assert (batch.first_ms, batch.at_ms) == (at_ms, at_ms)


OLD_MS = NOW_MS - 72 * HOUR_MS


def test_a_historical_batch_is_marked():
    assert read({"events": [custom(at_ms=OLD_MS)]}, historical=True).historical
    assert not read({"events": [custom(at_ms=OLD_MS)]}).historical


@pytest.mark.parametrize(
    "events", [None, [], [custom(at_ms=None)], [custom(at_ms=OLD_MS), custom(at_ms=OLD_MS + 1)], ["x"]]
)
def test_a_historical_batch_must_be_dated_and_old(events: Any):
    with pytest.raises(BatchError) as refused:
        read({"events": events}, historical=True)
    assert refused.value.field.startswith("events")


# -- what events say of a profile ---------------------------------------------------------------------------------


def test_change_events_write_for_platforms_only():
    sent = {
        "events": [change("a", 1), change("$City", ["x", 2]), change("tag", None), change("b", None, deleted=True)]
    }
    assert read(sent, "ios").changes == (
        AttributeChange("a", NOW_MS, "1"),
        AttributeChange("$city", NOW_MS, ("x", "2")),
        AttributeChange("tag", NOW_MS, None),
        AttributeChange("b", NOW_MS, None, True),
    )
    assert read(sent, "server").changes == ()


def test_a_key_that_is_set_and_deleted_is_set():
    batch = read({"user_attributes": {"a": 1, "$City": "x"}, "deleted_user_attributes": ["a", "$CITY", "b", "b"]})
    assert batch.attributes == {"a": "1", "$city": "x"}
    assert batch.deleted_attributes == ("b",)
    assert batch.ignored == (
        Ignored("deleted_user_attributes.a", "also_set"), Ignored("deleted_user_attributes.$city", "also_set"),
    )  # fmt: skip


def test_the_last_opt_out_of_a_batch_counts():
    sent = [
        event("opt_out", is_opted_out=True, timestamp_unixtime_ms=NOW_MS - 5),
        event("opt_out", timestamp_unixtime_ms=NOW_MS - 9),
    ]
    assert read({"events": sent}).opted_out == Flag(NOW_MS - 5, True)


def test_an_opt_out_event_says_false_by_default():
    assert read({"events": [event("opt_out")]}).opted_out == Flag(NOW_MS, False)


def test_push_registrations():
    sent = [
        event("push_registration", register=True, registration_token="t", timestamp_unixtime_ms=NOW_MS - 1),
        event("push_registration", register=False, registration_token="u"),
    ]
    assert read({"events": sent}).push == (PushChange("t", NOW_MS - 1, True), PushChange("u", NOW_MS, False))


def attributed(name: str, **attributes: Any) -> dict[str, Any]:
    return custom(name, custom_event_type="attribution", custom_attributes=attributes)


def test_attribution_comes_from_its_event_or_from_the_batch():
    info = {"service_provider": "s", "publisher": "p", "campaign": "c"}
    install = attributed("attribution", publisher="q", campaign="d")
    assert read({"attribution_info": info}).attribution == Attribution(NOW_MS, "p", "c", "s")
    assert read({"attribution_info": info, "events": [install]}).attribution == Attribution(NOW_MS, "q", "d")
    for other in (
        attributed("re-engagement", publisher="q", campaign="d"),
        attributed("attribution", publisher="q"),
        custom("attribution", custom_attributes={"publisher": "q", "campaign": "d"}),
    ):
        assert read({"events": [other]}).attribution is None


def test_of_several_in_a_batch_the_latest_counts():
    sent = [attributed("attribution", publisher="p", campaign=name) for name in "bcd"]
    runs = [event("first_run") for _ in sent]
    for one, run, at in zip(sent, runs, (5, 2, 9), strict=True):
        one["data"]["timestamp_unixtime_ms"] = run["data"]["timestamp_unixtime_ms"] = NOW_MS - at
    batch = read({"events": sent + runs})
    assert (batch.attribution, batch.installed) == (Attribution(NOW_MS - 2, "p", "c"), Text(NOW_MS - 2, ""))


def test_an_installation_comes_from_a_first_run():
    started = event(
        "application_state_transition", application_transition_type="application_initialized", is_first_run=True
    )
    assert read({"events": [started]}).installed == Text(NOW_MS, "")
    assert read({"events": [event("first_run")]}).installed == Text(NOW_MS, "")
    sent = {"events": [started], "application_info": {"install_referrer": "utm"}}
    assert read(sent).installed == Text(NOW_MS, "utm")
    started["data"]["is_first_run"] = False
    assert read({"events": [started]}).installed is None


def test_identity_changes_do_nothing():
    sent = event(
        "user_identity_change", new={"identity_type": "email", "identity": "b@x"}, old={"identity_type": "email"}
    )
    batch = read({"events": [sent]}, "web")
    assert (batch.identities, batch.changes, batch.events[0].data) == ({}, (), sent["data"])
