"""Reads a batch as clients send it, with all that they may leave out or spell otherwise (docs/profiles.md).

What cannot be used is left out and told, an event is set aside with its reason, and the rest goes on. Only a
document that is no batch at all is refused.
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final, Literal

from oneself.identity.names import FROM_EVENTS, USER_TYPES
from oneself.profiles.consent import read_consent
from oneself.profiles.device import STAMP, device_name, read_device
from oneself.profiles.events import NO_EVENTS, EventReader, check_historical
from oneself.profiles.limits import MAX_ATTRIBUTES, MAX_IGNORED, MAX_NAME, MAX_VALUE
from oneself.profiles.model import (
    AttributeValue,
    Attribution,
    Batch,
    BatchError,
    Ignored,
    Quarantined,
    Source,
)
from oneself.profiles.values import (
    INT64_MAX,
    INT64_MIN,
    Unfit,
    attribute_name,
    attribute_value,
    integer,
    short,
    text,
    time_of,
)

_KNOWN: Final = frozenset({
    "events", "environment", "user_identities", "user_attributes", "deleted_user_attributes", "device_info",
    "application_info", "context", "batch_context", "consent_state", "integration_attributes",
    "partner_identities", "source_request_id", "mpid", "ip", "mp_deviceid", "attribution_info",
    "timestamp_unixtime_ms", "sdk_version",
    # made by servers; they come back when exported batches are sent again
    "source_info", "batch_id", "schema_version", "api_key", "api_keys", "job_id", "origin_mpid",
    "system_notifications", "unique_id", "partner_identity", "message_id", "message_type",
})  # fmt: skip


def read_batch(
    document: Any,
    source: Source,
    received_ms: int,
    *,
    ip: str = "",
    historical: bool = False,
    without: Container[int] = (),
) -> tuple[Batch, tuple[Quarantined, ...]]:
    """Return a batch and the events of it that cannot be used; raise ``BatchError`` where there is no batch.

    ``document`` is decoded JSON with exact integers, and stays as it is; the batch shares parts of it. ``ip`` is
    the address that the request came from, which counts for platforms. A ``historical`` batch has further rules.
    Events at the places ``without`` are left out; the batch is as old as it is with them.
    """
    if type(document) is not dict:
        raise BatchError("", "a batch must be an object")
    environment = _environment(document.get("environment"))
    mpid = _mpid(document.get("mpid"))
    sent_events = _array(document, "events")
    if historical:
        check_historical(sent_events, received_ms)
    ignored: list[Ignored] = []
    if not document.keys() <= _KNOWN:
        ignored += [Ignored(field, "unknown") for field in sorted(document.keys() - _KNOWN)]
    application_info = _object(document, "application_info")
    reader = NO_EVENTS
    if sent_events:
        referrer = short(application_info.get("install_referrer"))
        reader = EventReader(source.platform, received_ms, referrer, ignored)
        reader.read(sent_events, without)
    if reader.times:
        at_ms, first_ms = max(reader.times), min(reader.times)
    else:
        at_ms = first_ms = time_of(document.get("timestamp_unixtime_ms"), received_ms) or received_ms
    device = read_device(_object(document, "device_info"), at_ms, received_ms, ignored)
    identities = _identities(document, ignored)
    identities.update(device.identities)
    stamp = text(document.get("mp_deviceid")) or ""
    if stamp:
        identities[STAMP] = stamp
    attributes = _attributes(_object(document, "user_attributes"), ignored)
    consent_state = _object(document, "consent_state")
    if consent_state and source.kind == "partner_feed":
        ignored.append(Ignored("consent_state", "partner_feed"))
        consent_state = {}
    batch = Batch(  # by place, which takes Python a fifth of the time where there are so many
        source,
        environment,
        received_ms,
        at_ms,
        first_ms,
        text(document.get("source_request_id")) or "",
        mpid,
        historical,
        identities,
        device_name(stamp, device.identities, source.workspace),
        _ip(ip if source.platform else document.get("ip"), ignored),
        tuple(reader.events),
        attributes,
        _deleted(_array(document, "deleted_user_attributes"), attributes, ignored),
        tuple(reader.changes),
        read_consent(consent_state, at_ms, received_ms, ignored) if consent_state else {},
        reader.opted_out,
        device.limit_ad_tracking,
        device.att,
        tuple(reader.push),
        reader.attribution or _attribution(_object(document, "attribution_info"), at_ms),
        reader.installed,
        device.fields,
        application_info,
        _object(document, "context") or _object(document, "batch_context"),
        _object(document, "integration_attributes"),
        _object(document, "partner_identities"),
        text(document.get("sdk_version")) or "",
        tuple(ignored[:MAX_IGNORED]),
    )
    return batch, tuple(reader.quarantined)


def _object(document: dict[str, Any], field: str) -> dict[str, Any]:
    value = document.get(field)
    if type(value) is dict:
        return value
    if value is None or value == []:  # some languages write an empty map as []
        return {}
    raise BatchError(field, "must be an object")


def _array(document: dict[str, Any], field: str) -> list[Any]:
    value = document.get(field)
    if type(value) is list:
        return value
    if value is None or value == {}:
        return []
    raise BatchError(field, "must be an array")


def _environment(value: Any) -> Literal["production", "development"]:
    if value is None or value == "production":
        return "production"
    if value == "development":
        return "development"
    raise BatchError("environment", "must be production or development")


def _mpid(value: Any) -> int | None:
    if value is None or value == "":
        return None
    mpid = integer(value)
    if not mpid or not INT64_MIN <= mpid <= INT64_MAX:
        raise BatchError("mpid", "must be a 64-bit integer other than 0, as a number or a string")
    return mpid


@lru_cache(maxsize=65_536)
def _is_ip(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def _ip(value: Any, ignored: list[Ignored]) -> str:
    if not value:
        return ""
    if type(value) is str and _is_ip(value):
        return value
    ignored.append(Ignored("ip", "not_an_address"))
    return ""


def _identities(document: dict[str, Any], ignored: list[Ignored]) -> dict[str, str]:
    sent = document.get("user_identities")
    identities: dict[str, str] = {}
    if not sent:
        return identities
    if type(sent) is list:  # the form of exported batches
        sent = {str(item.get("identity_type")): item.get("identity") for item in sent if type(item) is dict}
    elif type(sent) is not dict:
        raise BatchError("user_identities", "must be an object")
    for name, value in sent.items():
        if value is None:
            continue
        type_ = FROM_EVENTS.get(name)
        if type_ not in USER_TYPES:
            ignored.append(Ignored(f"user_identities.{name}", "unknown"))
            continue
        written = text(value)
        if written is None:
            ignored.append(Ignored(f"user_identities.{name}", "not_a_value"))
        elif name != type_ or type_ not in identities:  # the Events API's name goes before the Identity API's
            identities[type_] = written
    return identities


def _attributes(sent: dict[str, Any], ignored: list[Ignored]) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    for key, value in sent.items():
        plain = type(value) is str and len(value) <= MAX_VALUE and 0 < len(key) <= MAX_NAME and key[0] != "$"
        if plain and len(attributes) < MAX_ATTRIBUTES:  # as nearly all are
            attributes[key] = value
            continue
        name = attribute_name(key)
        try:
            if not name:
                raise Unfit("not_a_name")
            if len(attributes) >= MAX_ATTRIBUTES and name not in attributes:
                raise Unfit("too_many")
            attributes[name] = attribute_value(value)
        except Unfit as unfit:
            ignored.append(Ignored(f"user_attributes.{name}", str(unfit)))
        else:
            if len(key) > MAX_NAME:
                ignored.append(Ignored(f"user_attributes.{name}", "truncated"))
    return attributes


def _deleted(sent: list[Any], attributes: dict[str, AttributeValue], ignored: list[Ignored]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for key in sent:
        name = attribute_name(key) if type(key) is str else ""
        if not name:
            ignored.append(Ignored("deleted_user_attributes", "not_a_name"))
        elif name in attributes:
            ignored.append(Ignored(f"deleted_user_attributes.{name}", "also_set"))
        else:
            names[name] = None
    return tuple(names)


def _attribution(sent: dict[str, Any], at_ms: int) -> Attribution | None:
    if not sent:
        return None
    publisher, campaign = short(sent.get("publisher")), short(sent.get("campaign"))
    if not publisher and not campaign:
        return None
    return Attribution(at_ms, publisher, campaign, short(sent.get("service_provider")))
