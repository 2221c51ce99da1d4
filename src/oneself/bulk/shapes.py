"""What is stored, as documents: batches as they can be sent again, and profiles (docs/import-export.md, "Export")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from oneself.identity.names import FROM_EVENTS, TABLE, USER_TYPES
from oneself.profiles import (
    FIELDS,
    Batch,
    Consent,
    Device,
    Event,
    Person,
    Scalar,
    WorkspaceProfile,
    info_of,
    render,
    shown_of,
)

__all__ = ["batch_document", "profile_document"]

_EVENTS_NAMES: Final = {row.identity: row.events or row.identity for row in TABLE}
_STAMP: Final = "device_application_stamp"
_TAKEN_BACK: Final = "00000000-0000-0000-0000-000000000000"
"""How clients send an id that is no longer given to them."""


def batch_document(position: int, owner: int | None, batch: Batch) -> dict[str, Any]:
    """Return a batch of the journal in the form of the Events API; what it does not have is left out.

    Sent again, to an input of the same kind, it changes a profile as it did before: all that had no time of its own
    has one now. ``origin_mpid`` is its ``owner`` here, which means nothing elsewhere.
    """
    source_info = {"input": batch.source.input, "kind": batch.source.kind, "is_historical": batch.historical}
    identities = batch.identities.items()
    document: dict[str, Any] = {
        "origin_mpid": owner,
        "mpid": batch.mpid,
        "environment": batch.environment,
        "batch_id": position,
        "source_request_id": batch.request_id,
        "timestamp_unixtime_ms": batch.at_ms,
        "ip": batch.ip,
        "mp_deviceid": batch.identities.get(_STAMP),
        "user_identities": {_EVENTS_NAMES[type_]: value for type_, value in identities if type_ in USER_TYPES},
        "user_attributes": batch.attributes,
        "deleted_user_attributes": batch.deleted_attributes,
        "device_info": _device_info(batch),
        "application_info": batch.application_info,
        "context": batch.context,
        "consent_state": _consent_state(batch.consent),
        "integration_attributes": batch.integration_attributes,
        "partner_identities": batch.partner_identities,
        "attribution_info": _attribution_info(batch),
        "sdk_version": batch.sdk_version,
        "events": [_event(event) for event in batch.events],
        "source_info": source_info,
    }
    return {name: value for name, value in document.items() if value not in (None, "", {}, [], ())}


def _event(event: Event) -> dict[str, Any]:
    return {"event_type": event.type, "data": {**event.data, "timestamp_unixtime_ms": event.at_ms}}


def _device_info(batch: Batch) -> dict[str, Any]:
    info: dict[str, Any] = {
        field: _TAKEN_BACK if value is None and field in FROM_EVENTS else value
        for field, value in batch.device_info.items()
    }
    for type_, value in batch.identities.items():
        if type_ not in USER_TYPES and type_ != _STAMP:
            info[_EVENTS_NAMES[type_]] = value
    if batch.att is not None:
        info["att_authorization_status"] = batch.att.value
        info["att_timestamp_unixtime_ms"] = batch.att.at_ms
    return info


def _consent_state(consent: Mapping[str, Mapping[str, Consent]]) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        regulation: {purpose: _said(said) for purpose, said in purposes.items()}
        for regulation, purposes in consent.items()
    }


def _said(said: Consent) -> dict[str, Any]:
    told = {name: getattr(said, name) for name in ("document", "location", "hardware_id")}
    return {
        "consented": said.consented,
        "timestamp_unixtime_ms": said.at_ms,
        **{name: value for name, value in told.items() if value is not None},
    }


def _attribution_info(batch: Batch) -> dict[str, Any]:
    told = batch.attribution
    if told is None:
        return {}
    info = {"publisher": told.publisher, "campaign": told.campaign, "service_provider": told.service_provider}
    return {name: value for name, value in info.items() if value}


def profile_document(
    mpid: int,
    environment: str,
    person: Person,
    workspace: WorkspaceProfile | None,
    identities: Iterable[tuple[str, str]],
    devices: Iterable[tuple[str, Device]],
) -> dict[str, Any]:
    """Return a profile as the Profile API gives it, and beyond that what a workspace knows of it.

    ``workspace`` is None where it saw no data of the profile.
    """
    return {
        **render(mpid, person, None if workspace is None else shown_of(workspace), identities, (), FIELDS),
        "environment": environment,
        "last_seen_ms": person.last_seen_ms,
        "ip": None if person.ip is None else person.ip.value,
        "workspace": None if workspace is None else _workspace(workspace),
        "devices": [_device(name, device) for name, device in devices],
    }


def _workspace(known: WorkspaceProfile) -> dict[str, Any]:
    return {
        "first_seen_ms": known.first_seen_ms,
        "last_seen_ms": known.last_seen_ms,
        "stored_ms": known.stored_ms,
        "device": None if known.device is None else known.device.value,
        "inputs": {
            name: {"first_ms": seen.first_ms, "last_ms": seen.last_ms} for name, seen in sorted(known.inputs.items())
        },
    }


def _device(name: str, device: Device) -> dict[str, Any]:
    info: Mapping[str, Scalar | None] = info_of(device.info)
    return {
        "device": name,
        "first_seen_ms": device.first_seen_ms,
        "last_seen_ms": device.last_seen_ms,
        "info": {field: value for field, value in info.items() if value is not None},
        "att": None if device.att is None else {"status": device.att.value, "at_ms": device.att.at_ms},
        "installed": None
        if device.installed is None
        else {"referrer": device.installed.value, "at_ms": device.installed.at_ms},
        "attribution": None if device.attribution is None else msgspec.to_builtins(device.attribution),
        "push_tokens": {token: flag.value for token, flag in device.push.items()},
    }
