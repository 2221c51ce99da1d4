"""What a batch says of consent and of its device (docs/profiles.md, "Consent" and "Devices")."""

from __future__ import annotations

from typing import Any

import pytest

from oneself.profiles import (
    Consent,
    Ignored,
    Text,
    read_batch,
)
from profile_world import NOW_MS, STAMP, read, source

HOUR_MS = 3_600_000

# -- consent ------------------------------------------------------------------------------------------------------


UNDATED = {"consented": True}


def test_consent_is_read_purpose_by_purpose():
    gdpr = {
        "Ads ": {"consented": False, "timestamp_unixtime_ms": NOW_MS - 1, "document": "d", "location": "l",
                 "hardware_id": "h"},
        "undated": UNDATED,
        "ahead": {"consented": True, "timestamp_unixtime_ms": NOW_MS + 2 * HOUR_MS},
    }  # fmt: skip
    sent = {"consent_state": {"gdpr": gdpr, "ccpa": {"data_sale_opt_out": UNDATED}}}
    batch = read(sent | {"timestamp_unixtime_ms": NOW_MS - 5})
    assert batch.consent == {
        "gdpr": {
            "ads": Consent(NOW_MS - 1, False, "d", "l", "h"),
            "undated": Consent(NOW_MS - 5, True),
            "ahead": Consent(NOW_MS, True),
        },
        "ccpa": {"data_sale_opt_out": Consent(NOW_MS - 5, True)},
    }


def test_the_single_purpose_of_the_ccpa_may_stay_unnamed():
    sent = {"consent_state": {"ccpa": {"consented": True, "timestamp_unixtime_ms": NOW_MS - 1}}}
    assert read(sent).consent == {"ccpa": {"data_sale_opt_out": Consent(NOW_MS - 1, True)}}


@pytest.mark.parametrize(
    ("consent", "field", "why"),
    [
        ({"gdpr": "x"}, "gdpr", "not_an_object"),
        ({"hipaa": {"a": 1}}, "hipaa", "unknown"),
        ({"gdpr": {"consented": True}}, "gdpr", "purpose_missing"),
        ({"gdpr": {"a": True}}, "gdpr.a", "not_an_object"),
        ({"gdpr": {"": {"consented": True}}}, "gdpr.", "not_a_name"),
        ({"gdpr": {"a": {"consented": "true"}}}, "gdpr.a.consented", "not_a_boolean"),
        ({"gdpr": {"a": {}}}, "gdpr.a.consented", "not_a_boolean"),
        (
            {"gdpr": {"a": {"consented": True, "timestamp_unixtime_ms": 5}}},
            "gdpr.a.timestamp_unixtime_ms",
            "not_a_time",
        ),
        ({"ccpa": {"other": {"consented": True}}}, "ccpa.other", "unknown"),
    ],
)
def test_consent_that_cannot_be_read_is_told(consent: Any, field: str, why: str):
    batch = read({"consent_state": consent})
    assert (batch.consent, batch.ignored) == ({}, (Ignored(f"consent_state.{field}", why),))


def test_a_partner_feed_cannot_set_consent():
    sent = {"consent_state": {"gdpr": {"a": {"consented": True}}}}
    batch = read(sent, "partner_feed")
    assert (batch.consent, batch.ignored) == ({}, (Ignored("consent_state", "partner_feed"),))
    assert read(sent, "custom_feed").consent


# -- devices ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", ["00000000-0000-0000-0000-000000000000", "0" * 32])
def test_an_all_zero_advertising_id_limits_tracking_and_is_no_identity(zeros: str):
    batch = read({"device_info": {"ios_advertising_id": zeros, "limit_ad_tracking": False}})
    assert batch.identities == {}
    assert batch.limit_ad_tracking is True
    assert batch.device_info == {"ios_advertising_id": None, "limit_ad_tracking": True}
    vendor = read({"device_info": {"ios_idfv": zeros}})
    assert (vendor.identities, vendor.limit_ad_tracking, vendor.device_info) == ({}, None, {"ios_idfv": None})


@pytest.mark.parametrize(("sent", "limited"), [(True, True), (False, False), ("true", True), (None, None)])
def test_limit_ad_tracking(sent: Any, limited: bool | None):
    assert read({"device_info": {"limit_ad_tracking": sent}}).limit_ad_tracking is limited


def test_a_tracking_authorization_has_its_own_time():
    info = {"att_authorization_status": "denied", "att_timestamp_unixtime_ms": NOW_MS - 3}
    batch = read({"device_info": info})
    assert (batch.att, batch.device_info) == (Text(NOW_MS - 3, "denied"), {})
    undated = {"device_info": {"att_authorization_status": "restricted"}, "timestamp_unixtime_ms": NOW_MS - 5}
    assert read(undated).att == Text(NOW_MS - 5, "restricted")


@pytest.mark.parametrize(
    ("info", "field", "why"),
    [
        ({"brand": {"a": 1}}, "brand", "not_a_value"),
        ({"brand": ["a"]}, "brand", "not_a_value"),
        ({"shoe": 1}, "shoe", "unknown"),
        ({"limit_ad_tracking": "maybe"}, "limit_ad_tracking", "not_a_value"),
        ({"limit_ad_tracking": []}, "limit_ad_tracking", "not_a_value"),
        ({"ios_idfv": ["x"]}, "ios_idfv", "not_a_value"),
        ({"att_authorization_status": "maybe"}, "att_authorization_status", "not_a_value"),
        ({"att_authorization_status": []}, "att_authorization_status", "not_a_value"),
        (
            {"att_authorization_status": "denied", "att_timestamp_unixtime_ms": 5},
            "att_timestamp_unixtime_ms",
            "not_a_time",
        ),
    ],
)
def test_device_information_that_cannot_be_read_is_told(info: Any, field: str, why: str):
    batch = read({"device_info": info})
    assert (batch.device_info, batch.att, batch.ignored) == ({}, None, (Ignored(f"device_info.{field}", why),))


def test_a_junk_device_identity_is_left_to_the_identity_core_and_not_shown():
    batch = read({"device_info": {"android_uuid": "unknown"}, "mp_deviceid": "undefined"})
    assert batch.identities == {"android_uuid": "unknown", "device_application_stamp": "undefined"}
    assert (batch.device, batch.device_info) == ("", {})


def test_a_stamp_names_its_device_in_any_case():
    assert read({"mp_deviceid": STAMP.upper()}).device == STAMP


def test_a_device_without_a_stamp_is_named_by_the_identity_that_lasts():
    vendor = {"ios_idfv": "613AC3A2-5B6B-4B0F-8B5E-5A0C2A9F7C11"}
    named = read({"device_info": vendor}).device
    assert len(named) == len(STAMP)
    assert named == read({"device_info": {"ios_idfv": vendor["ios_idfv"].lower(), "ios_advertising_id": "x"}}).device
    assert named != read({"device_info": {"ios_advertising_id": vendor["ios_idfv"]}}).device
    elsewhere, _ = read_batch({"device_info": vendor}, source(workspace="other"), NOW_MS)
    assert named != elsewhere.device
    assert read({"device_info": vendor, "mp_deviceid": STAMP}).device == STAMP
    assert read({"device_info": {"platform": "iOS"}}).device == ""
