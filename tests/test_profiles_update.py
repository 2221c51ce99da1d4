"""What batches make of a profile, rule by rule (docs/profiles.md)."""

from __future__ import annotations

from typing import Any

import pytest

from oneself.profiles import (
    DEFAULT_ORDER,
    Attribution,
    Changed,
    Flag,
    Parts,
    Range,
    Refused,
    Text,
    Update,
    info_identities,
    info_of,
    is_platform,
    rank_of,
    read_batch,
    update,
    values_of,
)
from profile_world import NOW_MS, STAMP, Rows, change, custom, read, server_batch, source, web_batch


class Profile(Rows):
    """One profile that takes documents in, each at the next journal position."""

    def __init__(self) -> None:
        super().__init__()
        self.position = 0

    def send(self, kind: str, document: dict[str, Any], received_ms: int = NOW_MS, ip: str = "") -> Update:
        batch, _ = read_batch(document, source(kind), received_ms, ip=ip)
        self.position += 1
        return self.take(batch, self.position)

    def set(self, kind: str, name: str, value: Any, at: int) -> Update:
        """Set an attribute in the way of its source, at ``at`` ms after the start."""
        if is_platform(kind):
            return self.send(kind, {"events": [change(name, value, NOW_MS - 1000 + at)]})
        return self.send(kind, {"user_attributes": {name: value}, "timestamp_unixtime_ms": NOW_MS - 1000 + at})

    def delete(self, kind: str, name: str, at: int) -> Update:
        """Delete an attribute in the way of its source."""
        if is_platform(kind):
            return self.send(kind, {"events": [change(name, None, NOW_MS - 1000 + at, deleted=True)]})
        return self.send(kind, {"deleted_user_attributes": [name], "timestamp_unixtime_ms": NOW_MS - 1000 + at})

    @property
    def attributes(self) -> dict[str, Any]:
        return values_of(self.workspace.attributes) if self.workspace else {}


@pytest.fixture
def profile() -> Profile:
    return Profile()


SET = (Changed("attribute", "drink"),)
DELETED = (Changed("attribute", "drink", "deleted"),)
HELD = (Refused("attribute", "drink", "priority"),)
OLDER = (Refused("attribute", "drink", "older"),)


# -- the order of sources -----------------------------------------------------------------------------------------


def test_the_order_of_sources():
    kinds = ["web", "ios", "other", "server", "partner_feed", "custom_feed", "csv"]
    assert [rank_of(kind) for kind in kinds] == [0, 0, 0, 1, 2, 3, 4]
    assert [is_platform(kind) for kind in kinds] == [True] * 3 + [False] * 4


def test_the_order_is_a_setting():
    order = ("csv", "web", "platform")
    assert [rank_of(kind, order) for kind in ("csv", "web", "ios", "server", "partner_feed")] == [0, 1, 2, 3, 3]
    assert rank_of("ios", ("server",)) == 1


@pytest.mark.parametrize("weaker", range(1, 5))
def test_a_weaker_source_cannot_set_what_a_stronger_one_has_set(profile: Profile, weaker: int):
    kinds = ("web", *DEFAULT_ORDER[1:])
    for stronger in range(weaker):
        name = f"drink of {stronger}"
        assert profile.set(kinds[stronger], name, "tea", 1).changed
        made = profile.set(kinds[weaker], name, "beer", 2)
        assert (made.changed, made.refused) == ((), (Refused("attribute", name, "priority"),))
        assert profile.attributes[name] == "tea"


def test_a_stronger_source_sets_what_a_weaker_one_has_set(profile: Profile):
    profile.set("csv", "drink", "beer", 5)
    assert profile.set("web", "drink", "tea", 1).changed == SET, "however late it was in time"
    assert profile.attributes == {"drink": "tea"}
    assert profile.set("csv", "drink", "milk", 9).refused == HELD


def test_in_one_rank_the_latest_time_wins(profile: Profile):
    profile.set("web", "drink", "beer", 5)
    assert profile.set("ios", "drink", "coke", 9).changed == SET
    assert profile.set("web", "drink", "milk", 7).refused == OLDER
    assert profile.attributes == {"drink": "coke"}


def test_at_one_time_the_last_to_come_wins(profile: Profile):
    profile.set("web", "drink", "beer", 5)
    profile.set("ios", "drink", "coke", 5)
    assert profile.attributes == {"drink": "coke"}
    profile.send("web", {"events": [change("drink", "milk", NOW_MS), change("drink", "rum", NOW_MS)]})
    assert profile.attributes == {"drink": "rum"}, "in one batch, too"


def test_the_same_value_again_is_no_change(profile: Profile):
    profile.set("web", "drink", "tea", 1)
    made = profile.set("web", "drink", "tea", 2)
    assert (made.changed, made.refused) == ((), ())


# -- deletion -----------------------------------------------------------------------------------------------------


def test_a_deletion_frees_the_key_for_weaker_sources(profile: Profile):
    profile.set("web", "drink", "tea", 1)
    assert profile.delete("web", "drink", 5).changed == DELETED
    assert profile.attributes == {}
    assert profile.set("csv", "drink", "beer", 6).changed == SET
    assert profile.attributes == {"drink": "beer"}


def test_a_deletion_does_not_bring_back_what_was_set_before_it(profile: Profile):
    profile.set("csv", "drink", "beer", 1)
    profile.set("web", "drink", "tea", 2)
    profile.set("csv", "drink", "milk", 3)
    profile.delete("web", "drink", 4)
    assert profile.attributes == {}


def test_what_was_set_after_a_deletion_counts_even_where_that_comes_late(profile: Profile):
    profile.set("web", "drink", "tea", 1)
    assert profile.set("csv", "drink", "beer", 3).refused == HELD
    assert profile.delete("web", "drink", 2).changed == SET
    assert profile.attributes == {"drink": "beer"}


def test_a_deletion_by_a_stronger_source_removes_what_weaker_ones_set_before(profile: Profile):
    profile.set("csv", "drink", "beer", 1)
    assert profile.delete("web", "drink", 2).changed == DELETED
    assert profile.set("csv", "drink", "milk", 1).refused == HELD
    assert profile.attributes == {}


def test_a_weaker_source_cannot_delete_what_a_stronger_one_has_set(profile: Profile):
    profile.set("web", "drink", "tea", 1)
    assert profile.delete("server", "drink", 2).refused == HELD
    assert profile.attributes == {"drink": "tea"}


def test_a_deletion_of_nothing_changes_nothing(profile: Profile):
    assert profile.delete("web", "drink", 5).changed == ()
    assert profile.set("web", "drink", "tea", 3).refused == OLDER, "yet it is remembered"


def test_a_key_that_is_set_and_deleted_in_one_batch_is_set(profile: Profile):
    profile.set("server", "drink", "tea", 1)
    profile.send("server", {"user_attributes": {"drink": "rum"}, "deleted_user_attributes": ["drink"]})
    assert profile.attributes == {"drink": "rum"}


# -- names, values and channels -----------------------------------------------------------------------------------


def test_reserved_names_have_one_spelling_and_custom_names_their_own(profile: Profile):
    profile.set("web", "$FirstName", "Ana", 1)
    profile.set("web", "$firstname", "Bea", 2)
    profile.set("web", "levelReached", "1", 3)
    profile.set("web", "LevelReached", "2", 4)
    assert profile.attributes == {"$firstname": "Bea", "levelReached": "1", "LevelReached": "2"}
    profile.delete("web", "$FIRSTNAME", 5)
    profile.delete("web", "LEVELREACHED", 6)
    profile.set("server", "$OurOwn", "3", 7)
    assert profile.attributes == {"levelReached": "1", "LevelReached": "2", "$ourown": "3"}


def test_a_key_may_turn_from_scalar_to_list_to_tag(profile: Profile):
    for at, (value, kept) in enumerate([(7, "7"), (["a", 1, False], ("a", "1", "false")), (None, None), ([], ())]):
        profile.set("server", "drink", value, at)
        assert profile.attributes == {"drink": kept}


def test_a_platform_writes_by_change_events_and_not_by_the_map(profile: Profile):
    profile.send("web", {"user_attributes": {"a": 1}, "deleted_user_attributes": ["a"], "events": [change("b", 2)]})
    assert profile.attributes == {"b": "2"}


def test_other_inputs_write_by_the_map_and_not_by_change_events(profile: Profile):
    profile.send("server", {"user_attributes": {"a": 1}, "events": [change("b", 2)]})
    assert profile.attributes == {"a": "1"}


def test_absent_keys_stay(profile: Profile):
    profile.send("server", {"user_attributes": {"a": 1}})
    profile.send("server", {"user_attributes": {"b": 2}, "deleted_user_attributes": []})
    assert profile.attributes == {"a": "1", "b": "2"}


def test_a_map_is_as_old_as_the_latest_event_of_its_batch(profile: Profile):
    profile.send(
        "server", {"user_attributes": {"a": 1}, "events": [custom(at_ms=NOW_MS - 9), custom(at_ms=NOW_MS - 5)]}
    )
    assert profile.send("server", {"user_attributes": {"a": 2}, "timestamp_unixtime_ms": NOW_MS - 6}).refused
    assert profile.send("server", {"user_attributes": {"a": 3}, "timestamp_unixtime_ms": NOW_MS - 4}).changed
    assert profile.attributes == {"a": "3"}


# -- the other parts ----------------------------------------------------------------------------------------------


def test_first_and_last_seen_span_the_events_on_every_level(profile: Profile):
    sent = {"events": [custom(at_ms=NOW_MS - 50), custom(at_ms=NOW_MS - 40)], "mp_deviceid": STAMP}
    profile.send("web", sent, NOW_MS - 5)
    profile.send("server", {"timestamp_unixtime_ms": NOW_MS - 90, "mp_deviceid": STAMP})
    assert profile.person is not None
    assert profile.workspace is not None
    for row in (profile.person, profile.workspace, profile.devices[STAMP]):
        assert (row.first_seen_ms, row.last_seen_ms) == (NOW_MS - 90, NOW_MS - 40)
    assert profile.person.stored_ms == profile.workspace.stored_ms == NOW_MS
    assert profile.workspace.inputs == {
        "shop/web": Range(NOW_MS - 50, NOW_MS - 40), "shop/server": Range(NOW_MS - 90, NOW_MS - 90),
    }  # fmt: skip


def test_the_latest_address_stays(profile: Profile):
    profile.send("web", {"timestamp_unixtime_ms": NOW_MS - 1}, ip="192.0.2.1")
    assert profile.send("web", {"timestamp_unixtime_ms": NOW_MS - 9}, ip="192.0.2.2").changed == ()
    assert profile.send("server", {}).changed == ()
    assert profile.person is not None
    assert profile.person.ip == Text(NOW_MS - 1, "192.0.2.1", 1)


def said(out: bool, at_ms: int) -> dict[str, Any]:
    data = {"is_opted_out": out, "timestamp_unixtime_ms": at_ms}
    return {"events": [{"event_type": "opt_out", "data": data}]}


def test_the_latest_opt_out_counts(profile: Profile):
    assert profile.send("web", said(True, NOW_MS - 3)).changed == (Changed("opted_out"),)
    assert profile.send("server", said(False, NOW_MS - 5)).changed == ()
    assert profile.person is not None
    assert profile.person.opted_out == Flag(NOW_MS - 3, True, 1)


def test_the_latest_limit_on_ad_tracking_counts(profile: Profile):
    zeros = {"android_advertising_id": "00000000-0000-0000-0000-000000000000"}
    profile.send("web", {"device_info": zeros, "mp_deviceid": STAMP})
    assert profile.person is not None
    assert profile.person.limit_ad_tracking == Flag(NOW_MS, True, 1)
    assert info_of(profile.devices[STAMP].info) == {"android_advertising_id": None, "limit_ad_tracking": True}
    profile.send("web", {})
    assert profile.person.limit_ad_tracking is not None


def agreed(yes: bool, at_ms: int, purpose: str = "ads") -> dict[str, Any]:
    return {"consent_state": {"gdpr": {purpose: {"consented": yes, "timestamp_unixtime_ms": at_ms}}}}


def test_consent_is_kept_per_purpose_by_its_own_time(profile: Profile):
    assert profile.send("web", agreed(True, NOW_MS - 3)).changed == (Changed("consent", "gdpr.ads"),)
    assert profile.send("csv", agreed(False, NOW_MS - 5)).refused == (Refused("consent", "gdpr.ads", "older"),)
    assert profile.send("csv", agreed(False, NOW_MS - 5, "mail")).changed
    assert profile.send("csv", agreed(False, NOW_MS - 1)).changed, "whatever the source"
    assert profile.send("web", agreed(False, NOW_MS)).changed == ()
    assert profile.send("web", {"consent_state": None}).changed == ()
    assert profile.workspace is not None
    assert {name: c.consented for name, c in profile.workspace.consent["gdpr"].items()} == {
        "ads": False,
        "mail": False,
    }


def test_a_device_keeps_the_latest_of_every_field(profile: Profile):
    def info(at: int, **fields: Any) -> Update:
        return profile.send(
            "web", {"device_info": fields, "mp_deviceid": STAMP, "timestamp_unixtime_ms": NOW_MS - at}
        )

    assert info(9, brand="a", os_version="1").changed == (
        Changed("device_info", "brand"), Changed("device_info", "os_version"),
    )  # fmt: skip
    assert info(5, brand="b").changed == (Changed("device_info", "brand"),)
    assert info(7, brand="c", os_version="2", has_nfc=True).changed == (
        Changed("device_info", "os_version"), Changed("device_info", "has_nfc"),
    )  # fmt: skip
    assert info(1, brand="b").changed == ()
    assert info_of(profile.devices[STAMP].info) == {"brand": "b", "os_version": "2", "has_nfc": True}


def test_a_device_knows_its_identities(profile: Profile):
    profile.send("ios", {"device_info": {"ios_idfv": "v", "ios_idfa": "a", "brand": "b"}, "mp_deviceid": STAMP})
    assert info_identities(info_of(profile.devices[STAMP].info)) == {"ios_idfv": "v", "ios_idfa": "a"}


def test_devices_are_kept_apart_and_the_last_is_known(profile: Profile):
    profile.send("web", {"mp_deviceid": "a", "timestamp_unixtime_ms": NOW_MS - 1})
    profile.send("web", {"mp_deviceid": "b", "timestamp_unixtime_ms": NOW_MS - 2})
    profile.send("server", {"device_info": {"brand": "c"}})
    assert set(profile.devices) == {"a", "b"}
    assert profile.workspace is not None
    assert profile.workspace.device == Text(NOW_MS - 1, "a", 1)


def test_push_tokens_installation_attribution_and_tracking_authorization(profile: Profile):
    def event(type_: str, **data: Any) -> dict[str, Any]:
        return {"event_type": type_, "data": data}

    campaign = {"publisher": "p", "campaign": "c"}
    made = profile.send("ios", {
        "mp_deviceid": STAMP,
        "device_info": {"att_authorization_status": "denied", "att_timestamp_unixtime_ms": NOW_MS - 7},
        "events": [
            event("push_registration", register=True, registration_token="t"),
            event("push_registration", register=False, registration_token="u"),
            event("first_run"),
            custom("attribution", custom_event_type="attribution", custom_attributes=campaign),
        ],
    })  # fmt: skip
    assert set(made.changed) == {
        Changed("att"), Changed("installed"), Changed("attribution"),
        Changed("push_token", "t"), Changed("push_token", "u", "deleted"),
    }  # fmt: skip
    device = profile.devices[STAMP]
    assert device.att == Text(NOW_MS - 7, "denied", 1)
    assert device.installed == Text(NOW_MS, "", 1)
    assert device.attribution == Attribution(NOW_MS, "p", "c", "", 1)
    assert device.push == {"t": Flag(NOW_MS, True, 1), "u": Flag(NOW_MS, False, 1)}
    assert profile.workspace is not None
    assert profile.workspace.attribution == device.attribution


def test_a_batch_without_a_device_touches_none(profile: Profile):
    made = profile.send("server", {"device_info": {"brand": "b"}})
    assert made.parts.device is None


def test_rows_that_a_batch_does_not_change_stay_the_same_objects():
    first = update(Parts(), read(web_batch(), "web"), 1).parts
    again = update(first, read({"timestamp_unixtime_ms": NOW_MS - 900, "mp_deviceid": STAMP}, "web"), 2).parts
    assert first.workspace is not None
    assert again.workspace is not None
    assert again.workspace.attributes is first.workspace.attributes
    assert again.workspace.consent is first.workspace.consent


def test_real_batches_read_back(profile: Profile):
    profile.send("web", web_batch())
    profile.send("server", server_batch())
    assert profile.attributes == {
        "$firstname": "Ana", "$city": "Oslo", "age": "42", "ltv": "342.1", "vip": "true", "tag": None,
        "recs": ("1", "2"),
    }  # fmt: skip
    assert len(profile.devices) == 2
