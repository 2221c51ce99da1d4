"""Profiles for tests: sample batches as clients send them, rows kept as an engine keeps them, and a slow model.

The model knows nothing of rows: it sorts everything that was ever sent by (time, arrival), applies it one by one,
and says what a profile then shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from oneself.profiles import (
    Batch,
    Device,
    Parts,
    Person,
    Source,
    Update,
    WorkspaceProfile,
    info_of,
    is_platform,
    rank_of,
    read_batch,
    update,
    values_of,
)

NOW_MS = 1_700_000_000_000
STAMP = "0b5bbf8b-91dc-4f3c-9d6a-5d9c5a9d3f11"


def source(kind: str = "server", protection: Any = "create_and_update", workspace: str = "shop") -> Source:
    """Return the input of a kind."""
    return Source(f"{workspace}/{kind}", workspace, kind, rank_of(kind), is_platform(kind), protection)


def read(document: Any, kind: str = "server", received_ms: int = NOW_MS, **more: Any) -> Batch:
    """Return a batch of which no event is set aside."""
    batch, quarantined = read_batch(document, source(kind), received_ms, **more)
    assert not quarantined, quarantined
    return batch


def change(name: str, new: Any, at_ms: int = NOW_MS, *, deleted: bool = False) -> dict[str, Any]:
    """Return the event by which a platform sets or deletes a user attribute."""
    data = {"user_attribute_name": name, "new": new, "old": None, "deleted": deleted, "timestamp_unixtime_ms": at_ms}
    return {"event_type": "user_attribute_change", "data": data}


def custom(name: str = "Clicked", at_ms: int | None = NOW_MS, **data: Any) -> dict[str, Any]:
    """Return a custom event."""
    common = {"event_name": name, "custom_event_type": "navigation", "timestamp_unixtime_ms": at_ms}
    return {"event_type": "custom_event", "data": common | data}


def web_batch() -> dict[str, Any]:
    """Return a batch as the web SDK sends it."""
    common = {
        "custom_flags": {},
        "session_uuid": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "session_start_unixtime_ms": NOW_MS - 5000,
        "location": None,
        "active_time_on_site_ms": 44,
        "page_url": "https://shop.example/",
    }
    clicked = custom(at_ms=NOW_MS - 900, custom_attributes={"a": 1, "c": True}, source_message_id="m-1", **common)
    named = change("$FirstName", "Ana", NOW_MS - 800)
    named["data"] |= common | {"custom_attributes": None, "source_message_id": "m-2"}
    return {
        "source_request_id": "r-1",
        "mpid": "7000000000001234567",
        "timestamp_unixtime_ms": NOW_MS - 1000,
        "environment": "development",
        "events": [
            {"event_type": "session_start", "data": {"timestamp_unixtime_ms": NOW_MS - 1000, **common}},
            clicked,
            named,
        ],
        "mp_deviceid": STAMP,
        "sdk_version": "2.68.0",
        "application_info": {"application_version": "1.0", "application_name": "shop", "package": None},
        "device_info": {"platform": "web", "screen_width": 1280, "screen_height": 720},
        "user_attributes": {"$FirstName": "Ana", "tags": ["x", "y"], "vip": None},
        "user_identities": {"customer_id": "c-1", "email": "ana@example.com", "other_id_2": None},
        "consent_state": {
            "gdpr": {
                "analytics": {
                    "consented": True,
                    "hardware_id": None,
                    "document": "v3",
                    "timestamp_unixtime_ms": NOW_MS - 9999,
                    "location": None,
                }
            },
            "ccpa": None,
        },
        "integration_attributes": {},
        "context": {"data_plan": {"plan_id": "shop", "plan_version": 2}},
    }


def server_batch() -> dict[str, Any]:
    """Return a batch as the Python and Node SDKs for servers send it."""
    return {
        "source_request_id": "r-2",
        "mpid": -7000000000001234567,
        "environment": "production",
        "ip": "192.0.2.7",
        "schema_version": 2,
        "user_identities": {"customerid": "c-1", "other_id_2": "two", "facebook_custom_audience_id": "fb"},
        "user_attributes": {"$City": "Oslo", "age": 42, "ltv": 342.1, "vip": True, "tag": None, "recs": ["1", 2]},
        "deleted_user_attributes": ["old"],
        "device_info": {"ios_advertising_id": "613AC3A2-5B6B-4B0F-8B5E-5A0C2A9F7C11", "brand": "Apple"},
        "consent_state": {"gdpr": None, "ccpa": {}},
        "events": [
            {"event_type": "session_start", "data": {"session_id": 12345678, "timestamp_unixtime_ms": NOW_MS - 60}},
            {"event_type": "custom_event", "data": {"event_name": "Bought", "custom_event_type": "transaction"}},
            {
                "event_type": "commerce_event",
                "data": {
                    "product_action": {"action": "purchase", "total_amount": 9.5, "products": [{"name": "Hat"}]},
                    "timestamp_unixtime_ms": NOW_MS - 50,
                },
            },
        ],
    }


class Rows:
    """One profile's rows, kept apart as an engine keeps them, and encoded in between as a store does."""

    def __init__(self) -> None:
        self.person: Person | None = None
        self.workspace: WorkspaceProfile | None = None
        self.devices: dict[str, Device] = {}

    def take(self, batch: Batch, position: int) -> Update:
        """Take a batch in at a journal position."""
        made = update(Parts(self.person, self.workspace, self.devices.get(batch.device)), batch, position)
        self.person, self.workspace = stored(made.parts.person), stored(made.parts.workspace)
        if made.parts.device is not None:
            self.devices[batch.device] = stored(made.parts.device)
        return made

    def shown(self) -> dict[str, Any]:
        """Return what the profile shows, in the model's form."""
        if self.person is None or self.workspace is None:
            return {}
        person, workspace = self.person, self.workspace
        return {
            "person": (
                person.first_seen_ms,
                person.last_seen_ms,
                person.stored_ms,
                person.ip and person.ip.value,
                person.opted_out and person.opted_out.value,
                person.limit_ad_tracking and person.limit_ad_tracking.value,
            ),
            "attributes": values_of(workspace.attributes),
            "consent": {
                f"{regulation}.{purpose}": said.consented
                for regulation, purposes in workspace.consent.items()
                for purpose, said in purposes.items()
            },
            "inputs": {input_: (seen.first_ms, seen.last_ms) for input_, seen in workspace.inputs.items()},
            "device": workspace.device and workspace.device.value,
            "attribution": workspace.attribution and workspace.attribution.campaign,
            "devices": {
                name: {
                    "seen": (device.first_seen_ms, device.last_seen_ms),
                    "info": info_of(device.info),
                    "att": device.att and device.att.value,
                    "installed": device.installed and device.installed.at_ms,
                    "push": {token: flag.value for token, flag in device.push.items()},
                }
                for name, device in self.devices.items()
            },
        }


def stored(row: Any) -> Any:
    """Return a row as it comes back from a store."""
    if row is None:
        return None
    back = msgspec.json.decode(msgspec.json.encode(row), type=type(row))
    assert back == row
    return back


def unplaced(value: Any) -> Any:
    """Return rows without their journal positions."""
    if isinstance(value, msgspec.Struct):
        fields = {name: unplaced(getattr(value, name)) for name in value.__struct_fields__ if name != "position"}
        return type(value)(**fields, **({"position": 0} if "position" in value.__struct_fields__ else {}))
    if isinstance(value, dict):
        return {key: unplaced(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(unplaced(item) for item in value)
    return value


# -- the slow model ---------------------------------------------------------------------------------------------


def model(arrived: Iterable[tuple[int, Batch]]) -> dict[str, Any]:
    """Return what a profile shows after ``(position, batch)``, in the form of ``Rows.shown``."""
    batches = sorted(arrived, key=lambda placed: placed[0])
    if not batches:
        return {}
    by_time = sorted(batches, key=lambda placed: (placed[1].at_ms, placed[0]))
    firsts, lasts = [batch.first_ms for _, batch in batches], [batch.at_ms for _, batch in batches]
    inputs: dict[str, tuple[int, int]] = {}
    for _, batch in batches:
        first, last = inputs.get(batch.source.input, (batch.first_ms, batch.at_ms))
        inputs[batch.source.input] = (min(first, batch.first_ms), max(last, batch.at_ms))
    return {
        "person": (
            min(firsts),
            max(lasts),
            max(batch.received_ms for _, batch in batches),
            last_said((batch.at_ms, position, batch.ip or None) for position, batch in batches),
            last_said((b.opted_out.at_ms, p, b.opted_out.value) for p, b in batches if b.opted_out is not None),
            last_said((batch.at_ms, position, batch.limit_ad_tracking) for position, batch in batches),
        ),
        "attributes": model_attributes(batches),
        "consent": {
            f"{regulation}.{purpose}": last_said(
                (b.consent[regulation][purpose].at_ms, p, b.consent[regulation][purpose].consented)
                for p, b in batches
                if purpose in b.consent.get(regulation, {})
            )
            for _, batch in batches
            for regulation, purposes in batch.consent.items()
            for purpose in purposes
        },
        "inputs": inputs,
        "device": last_said((batch.at_ms, position, batch.device or None) for position, batch in batches),
        "attribution": last_said(
            (b.attribution.at_ms, p, b.attribution.campaign) for p, b in batches if b.attribution is not None
        ),
        "devices": {
            name: model_device([(p, b) for p, b in by_time if b.device == name])
            for name in {batch.device for _, batch in batches} - {""}
        },
    }


def last_said(said: Iterable[tuple[int, int, Any]]) -> Any:
    """Return what was said last of ``(time, position, value)``, None where nothing was."""
    known = [(at_ms, position, value) for at_ms, position, value in said if value is not None]
    return sorted(known, key=lambda item: item[:2])[-1][2] if known else None


def model_attributes(batches: Iterable[tuple[int, Batch]]) -> dict[str, Any]:
    """Apply every operation in the order of its time: a key belongs to the rank that set it until it is freed."""
    operations: list[tuple[int, int, int, int, str, Any, bool]] = []
    for position, batch in batches:
        rank = batch.source.rank
        if batch.source.platform:
            for index, made in enumerate(batch.changes):
                operations.append((made.at_ms, position, index, rank, made.name, made.value, made.deleted))
        else:
            operations += [(batch.at_ms, position, 0, rank, name, None, True) for name in batch.deleted_attributes]
            operations += [(batch.at_ms, position, 0, rank, *item, False) for item in batch.attributes.items()]
    held: dict[str, tuple[int, Any]] = {}
    for _, _, _, rank, name, value, deleted in sorted(operations, key=lambda operation: operation[:3]):
        if name in held and held[name][0] < rank:
            continue
        if deleted:
            held.pop(name, None)
        else:
            held[name] = (rank, value)
    return {name: value for name, (_, value) in held.items()}


def model_device(by_time: list[tuple[int, Batch]]) -> dict[str, Any]:
    """Return what one device shows after its batches, in the order of their times."""
    info: dict[str, Any] = {}
    push: dict[str, bool] = {}
    for _, batch in by_time:
        info.update(batch.device_info)
    changes = [(made.at_ms, position, made) for position, batch in by_time for made in batch.push]
    for _, _, made in sorted(changes, key=lambda item: item[:2]):
        push[made.token] = made.registered
    return {
        "seen": (min(b.first_ms for _, b in by_time), max(b.at_ms for _, b in by_time)),
        "info": info,
        "att": last_said((b.att.at_ms, p, b.att.value) for p, b in by_time if b.att is not None),
        "installed": last_said((b.installed.at_ms, p, b.installed.at_ms) for p, b in by_time if b.installed),
        "push": push,
    }
