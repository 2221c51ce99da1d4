"""Every limit on batches and profiles, and what happens at it (docs/profiles.md, "Limits")."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from oneself.profiles import BatchError, Changed, Ignored, Refused, limits, read_batch, values_of
from oneself.profiles.limits import (
    MAX_ATTRIBUTES,
    MAX_ENTRY,
    MAX_EVENT_ATTRIBUTES,
    MAX_FREED,
    MAX_IGNORED,
    MAX_LIST,
    MAX_NAME,
    MAX_PURPOSES,
    MAX_PUSH_TOKENS,
    MAX_VALUE,
)
from profile_world import NOW_MS, STAMP, Rows, change, custom, read, source

LONGEST = "n" * MAX_NAME
TOO_LONG = LONGEST + "x"


def test_the_documented_limits():
    assert (MAX_NAME, MAX_VALUE, MAX_EVENT_ATTRIBUTES, MAX_ATTRIBUTES) == (256, 4096, 100, 100)
    assert (MAX_LIST, MAX_ENTRY) == (1000, 512)


def test_every_limit_is_documented():
    page = (Path(__file__).parent.parent / "docs" / "profiles.md").read_text().split("## Limits")[1].split("\n## ")[0]
    numbers = set(re.findall(r"\d+", page))
    told = {name: value for name, value in vars(limits).items() if name.startswith("MAX_")}
    assert {name for name, value in told.items() if str(value) not in numbers} == set()


# -- events -------------------------------------------------------------------------------------------------------


def test_the_name_of_an_event_is_cut():
    document = {"events": [custom(TOO_LONG), {"event_type": "screen_view", "data": {"screen_name": TOO_LONG}}]}
    batch = read(document)
    assert [event.name for event in batch.events] == [LONGEST, LONGEST]
    assert batch.events[0].data["event_name"] == LONGEST
    assert batch.events[1].data["screen_name"] == LONGEST
    assert batch.ignored == (
        Ignored("events[0].data.event_name", "truncated"), Ignored("events[1].data.screen_name", "truncated"),
    )  # fmt: skip
    assert document["events"][0]["data"]["event_name"] == TOO_LONG, "what was given stays as it is"
    assert read({"events": [custom(LONGEST)]}).ignored == ()


def test_an_event_with_too_many_attributes_goes_on_without_any():
    most = {f"a{n}": n for n in range(MAX_EVENT_ATTRIBUTES)}
    batch = read({"events": [custom(custom_attributes=most), custom(custom_attributes=most | {"more": 1})]})
    assert batch.events[0].data["custom_attributes"] == most
    assert batch.events[1].data["custom_attributes"] is None
    assert batch.ignored == (Ignored("events[1].data.custom_attributes", "too_many"),)


def test_names_of_event_attributes_are_cut_and_values_left_out():
    sent = {TOO_LONG: "1", "long": "v" * (MAX_VALUE + 1), "longest": "v" * MAX_VALUE, "number": 5}
    batch = read({"events": [custom(custom_attributes=sent)]})
    assert batch.events[0].data["custom_attributes"] == {LONGEST: "1", "longest": "v" * MAX_VALUE, "number": 5}
    assert {ignored.why for ignored in batch.ignored} == {"truncated", "value_too_long"}


# -- user attributes ----------------------------------------------------------------------------------------------

UNFIT = [
    ("v" * (MAX_VALUE + 1), "value_too_long"),
    (10 ** (MAX_VALUE + 1), "value_too_long"),
    (["x"] * (MAX_LIST + 1), "list_too_long"),
    (["x" * (MAX_ENTRY + 1)], "entry_too_long"),
    (["x", None], "not_a_value"),
    (["x", ["y"]], "not_a_value"),
    ({"x": 1}, "not_a_value"),
]
FIT = ["v" * MAX_VALUE, ["x"] * MAX_LIST, ["x" * MAX_ENTRY]]


@pytest.mark.parametrize(("value", "why"), UNFIT)
def test_a_value_that_does_not_fit_is_left_out(value: Any, why: str):
    batch = read({"user_attributes": {"a": value, "b": "x"}})
    assert (batch.attributes, batch.ignored) == ({"b": "x"}, (Ignored("user_attributes.a", why),))
    batch = read({"events": [change("a", value), change("b", "x")]}, "web")
    assert [made.name for made in batch.changes] == ["b"]
    assert batch.ignored == (Ignored("events[0].data.new", why),)
    assert len(batch.events) == 2, "the event itself is fine"


@pytest.mark.parametrize("value", FIT)
def test_a_value_at_the_limit_fits(value: Any):
    assert read({"user_attributes": {"a": value}}).ignored == ()


def test_the_name_of_an_attribute_is_cut():
    batch = read({"user_attributes": {TOO_LONG: "x", "": "y"}})
    assert batch.attributes == {LONGEST: "x"}
    assert batch.ignored == (
        Ignored(f"user_attributes.{LONGEST}", "truncated"),
        Ignored("user_attributes.", "not_a_name"),
    )
    assert read({"events": [change(TOO_LONG, "x")]}, "web").changes[0].name == LONGEST
    assert read({"deleted_user_attributes": [TOO_LONG]}).deleted_attributes == (LONGEST,)


def test_of_too_many_attributes_in_a_batch_the_first_count():
    names = [f"a{n}" for n in range(MAX_ATTRIBUTES + 1)]
    batch = read({"user_attributes": dict.fromkeys(names, "x")})
    assert list(batch.attributes) == names[:-1]
    assert batch.ignored == (Ignored(f"user_attributes.{names[-1]}", "too_many"),)
    changes = [change(name, "x") for name in names] + [change(names[0], "y")]
    batch = read({"events": changes}, "web")
    assert [made.name for made in batch.changes] == [*names[:-1], names[0]]
    assert batch.ignored == (Ignored(f"events[{MAX_ATTRIBUTES}].data.user_attribute_name", "too_many"),)


# -- a profile ----------------------------------------------------------------------------------------------------


def attributes_of(rows: Rows) -> dict[str, Any]:
    assert rows.workspace is not None
    return values_of(rows.workspace.attributes)


def test_a_profile_that_is_full_takes_no_further_attribute():
    rows = Rows()
    rows.take(read({"user_attributes": {f"a{n}": "x" for n in range(MAX_ATTRIBUTES)}}), 1)
    made = rows.take(read({"user_attributes": {"more": "x", "a1": "y"}}), 2)
    assert made.refused == (Refused("attribute", "more", "too_many"),)
    assert made.changed == (Changed("attribute", "a1"),)
    rows.take(read({"deleted_user_attributes": ["a0"]}), 3)
    assert rows.take(read({"user_attributes": {"more": "x"}}), 4).changed
    assert rows.take(read({"user_attributes": {"a0": "x"}}), 5).refused
    assert len(attributes_of(rows)) == MAX_ATTRIBUTES


def test_a_profile_does_not_grow_by_deletions():
    rows = Rows()
    rows.take(read({"user_attributes": {f"a{n}": "x" for n in range(MAX_ATTRIBUTES)}}), 1)
    gone = [f"b{n}" for n in range(MAX_FREED + 50)]
    for n in sorted(range(len(gone)), key=lambda n: n * 7 % len(gone)):
        sent = {"deleted_user_attributes": [gone[n]], "timestamp_unixtime_ms": NOW_MS - 1000 + n}
        rows.take(read(sent), n + 2)
    assert rows.workspace is not None
    assert len(rows.workspace.attributes) == MAX_ATTRIBUTES + MAX_FREED
    assert set(gone[-MAX_FREED:]) < rows.workspace.attributes.keys(), "the latest deletions are remembered"
    assert len(attributes_of(rows)) == MAX_ATTRIBUTES


def test_purposes_of_consent():
    def sent(names: range) -> Any:
        return read({"consent_state": {"gdpr": {f"p{n}": {"consented": True} for n in names}}})

    batch = sent(range(MAX_PURPOSES + 1))
    assert len(batch.consent["gdpr"]) == MAX_PURPOSES
    assert batch.ignored == (Ignored(f"consent_state.gdpr.p{MAX_PURPOSES}", "too_many"),)
    rows = Rows()
    rows.take(batch, 1)
    made = rows.take(sent(range(MAX_PURPOSES - 1, MAX_PURPOSES + 1)), 2)
    assert made.refused == (Refused("consent", f"gdpr.p{MAX_PURPOSES}", "too_many"),)


def test_of_many_push_tokens_those_written_last_stay():
    rows = Rows()
    for n in range(MAX_PUSH_TOKENS + 5):
        data = {"register": True, "registration_token": f"t{n}", "timestamp_unixtime_ms": NOW_MS - 100 + n}
        rows.take(read({"mp_deviceid": STAMP, "events": [{"event_type": "push_registration", "data": data}]}), n)
    assert set(rows.devices[STAMP].push) == {f"t{n}" for n in range(5, MAX_PUSH_TOKENS + 5)}


def test_a_device_field_that_is_too_long_is_left_out():
    batch = read({"device_info": {"brand": "b" * (MAX_VALUE + 1), "ios_idfv": "v" * (MAX_VALUE + 1), "product": "p"}})
    assert batch.device_info == {"product": "p"}
    assert [ignored.why for ignored in batch.ignored] == ["value_too_long", "value_too_long"]


def test_what_is_told_has_an_end():
    assert len(read({f"x{n}": 1 for n in range(MAX_IGNORED + 50)}).ignored) == MAX_IGNORED


def test_a_token_that_is_too_long_is_set_aside():
    data = {"register": True, "registration_token": "t" * (MAX_VALUE + 1)}
    _, (aside,) = read_batch({"events": [{"event_type": "push_registration", "data": data}]}, source(), NOW_MS)
    assert aside.reason == "data.registration_token is not a token"


def test_an_error_is_a_value_error():
    with pytest.raises(ValueError, match="mpid"):
        read({"mpid": "x"})
    assert issubclass(BatchError, ValueError)
