"""Reads a batch's device: its information, its identities and its stamp (docs/profiles.md, "Devices")."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from oneself.identity.names import DEVICE_TYPES, FROM_EVENTS
from oneself.identity.names import TABLE as IDENTITY_NAMES
from oneself.identity.values import DEFAULT_JUNK, normalise, why_dropped
from oneself.profiles.limits import MAX_VALUE
from oneself.profiles.model import Ignored, Scalar, Text
from oneself.profiles.values import text, time_of

STAMP: Final = "device_application_stamp"

_ADVERTISING: Final = frozenset({"ios_idfa", "android_aaid", "fire_aid", "roku_aid", "microsoft_aid"})
_LASTING: Final = (
    "ios_idfv", "android_uuid", "roku_publisher_id", "microsoft_publisher_id", "ios_idfa", "android_aaid",
    "fire_aid", "roku_aid", "microsoft_aid", "amp_id",
)  # fmt: skip
"""Identities that can name a device without a stamp, those first that stay with it longest."""

_STATUSES: Final = frozenset({"authorized", "denied", "not_determined", "restricted"})

_IDENTITY_FIELDS: Final = {
    sent: (row.events or row.identity, row.identity)
    for row in IDENTITY_NAMES
    if row.identity in DEVICE_TYPES - {STAMP}
    for sent in (row.identity, row.events or row.identity)
}
"""Field as sent, in either vocabulary, to its Events API name and its identity type."""

_PLAIN_FIELDS: Final = frozenset({
    "brand", "product", "device", "device_manufacturer", "platform", "os_version", "device_model", "screen_height",
    "screen_width", "screen_dpi", "device_country", "locale_language", "locale_country", "network_country",
    "network_carrier", "network_code", "network_mobile_country_code", "timezone_offset", "build_identifier",
    "http_header_user_agent", "cpu_architecture", "is_tablet", "push_notification_sound_enabled",
    "push_notification_vibrate_enabled", "radio_access_technology", "supports_telephony", "has_nfc",
    "bluetooth_enabled", "bluetooth_version", "build_version_release", "is_dst",
})  # fmt: skip

_YES: Final = {True: True, False: False, "true": True, "false": False, "True": True, "False": False}


class DeviceReading:
    """What a batch says of its device; ``fields`` have their Events API names."""

    __slots__ = ("att", "fields", "identities", "limit_ad_tracking")

    def __init__(self) -> None:
        self.fields: dict[str, Scalar | None] = {}
        self.identities: dict[str, str] = {}
        self.limit_ad_tracking: bool | None = None
        self.att: Text | None = None


def read_device(sent: dict[str, Any], at_ms: int, received_ms: int, ignored: list[Ignored]) -> DeviceReading:
    """Return what device information says; ``at_ms`` is the batch's time."""
    reading = DeviceReading()
    if not sent:
        return reading
    fields = reading.fields
    for key, value in sent.items():
        if value is None:
            continue
        if key in _PLAIN_FIELDS:
            if type(value) is dict or type(value) is list:
                ignored.append(Ignored(f"device_info.{key}", "not_a_value"))
            elif type(value) is str and len(value) > MAX_VALUE:
                ignored.append(Ignored(f"device_info.{key}", "value_too_long"))
            else:
                fields[key] = value
        elif key in _IDENTITY_FIELDS:
            _identity(reading, key, value, ignored)
        elif key not in ("att_authorization_status", "att_timestamp_unixtime_ms", "limit_ad_tracking"):
            ignored.append(Ignored(f"device_info.{key}", "unknown"))
    _tracking(reading, sent, at_ms, received_ms, ignored)
    return reading


def _identity(reading: DeviceReading, key: str, value: Any, ignored: list[Ignored]) -> None:
    field, type_ = _IDENTITY_FIELDS[key]
    written = text(value)
    if written is None or len(written) > MAX_VALUE:
        ignored.append(Ignored(f"device_info.{key}", "not_a_value" if written is None else "value_too_long"))
    elif not written.strip("0-") and len(written) >= 32:  # what a system gives to an app that may not track
        reading.fields[field] = None
        if type_ in _ADVERTISING:
            reading.limit_ad_tracking = True
    elif key == field or field not in reading.fields:  # the Events API's name goes before the Identity API's
        reading.identities[type_] = written
        if _counts(written):
            reading.fields[field] = written


def _tracking(
    reading: DeviceReading, sent: dict[str, Any], at_ms: int, received_ms: int, ignored: list[Ignored]
) -> None:
    limited = sent.get("limit_ad_tracking")
    if limited is not None:
        said = _YES.get(limited) if isinstance(limited, (bool, str)) else None
        if said is None:
            ignored.append(Ignored("device_info.limit_ad_tracking", "not_a_value"))
        else:
            reading.limit_ad_tracking = said or bool(reading.limit_ad_tracking)
    if reading.limit_ad_tracking is not None:
        reading.fields["limit_ad_tracking"] = reading.limit_ad_tracking
    status = sent.get("att_authorization_status")
    if status is not None:
        told = sent.get("att_timestamp_unixtime_ms")
        since = at_ms if told is None else time_of(told, received_ms)
        if not isinstance(status, str) or status not in _STATUSES:
            ignored.append(Ignored("device_info.att_authorization_status", "not_a_value"))
        elif not since:
            ignored.append(Ignored("device_info.att_timestamp_unixtime_ms", "not_a_time"))
        else:
            reading.att = Text(since, status)


def device_name(stamp: str, identities: Mapping[str, str], workspace: str) -> str:
    """Return the name of a batch's device: its stamp, else one made of the identity that lasts longest, else empty.

    The made one has the shape of a UUID and is the same for the same identity in the same workspace.
    """
    if _counts(stamp):
        return normalise(STAMP, stamp)
    if not identities:
        return ""
    for type_ in _LASTING:
        value = identities.get(type_, "")
        if _counts(value):
            made = sha256(f"{workspace}\0{type_}\0{normalise(type_, value)}".encode()).hexdigest()
            return f"{made[:8]}-{made[8:12]}-8{made[13:16]}-8{made[17:20]}-{made[20:32]}"
    return ""


def _counts(value: str) -> bool:
    return value != "" and not why_dropped(value, value, DEFAULT_JUNK)


def info_identities(fields: Mapping[str, Scalar | None]) -> dict[str, str]:
    """Return the identities among a device's fields, by identity type."""
    return {
        FROM_EVENTS[field]: str(value)
        for field, value in fields.items()
        if value is not None and field in _IDENTITY_FIELDS
    }
