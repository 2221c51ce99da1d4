"""Batches as the admin API shows them (docs/admin-api.md, "Batches")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from oneself.identity.names import DEVICE_TYPES
from oneself.identity.values import normalise
from oneself.journal import BatchRecord, Entry
from oneself.profiles import Batch, Consent, Event, Quarantined, Scalar

__all__ = [
    "BatchView",
    "ConsentView",
    "EventView",
    "Outcome",
    "QuarantinedView",
    "batch_view",
    "consent_views",
    "is_of_device",
    "outcome_of",
    "quarantined_views",
]

Outcome = Literal["taken", "kept", "dropped", "set_aside", "refused"]
"""What became of a batch: a profile's, bound to none, thrown away, set aside whole, or answered with an error."""


class EventView(msgspec.Struct, frozen=True):
    """An event: ``index`` is its place in its batch as that is kept, ``event`` is its raw JSON."""

    index: int
    type: str
    name: str
    id: str
    at_ms: int
    event: dict[str, Any]


class QuarantinedView(msgspec.Struct, frozen=True):
    """An event that was set aside: its place in its batch, why, and all of it as it was sent."""

    index: int
    reason: str
    event: Any


class ConsentView(msgspec.Struct, frozen=True):
    """What a user said about one purpose."""

    regulation: str
    purpose: str
    consented: bool
    at_ms: int
    document: str | None
    location: str | None
    hardware_id: str | None


class IgnoredView(msgspec.Struct, frozen=True):
    """A part of a batch that did not count: where it stood and why."""

    field: str
    why: str


class BatchView(msgspec.Struct, frozen=True):
    """What a batch brought. ``mpid`` is whose it is; ``at_ms`` is its time and ``received_ms`` when it arrived.

    ``alias`` is the position of the alias through which it is seen in another user, null in its own.

    ``events`` are the latest first, those only that were asked for, of ``event_count`` in all.
    """

    position: int
    input: str
    kind: str
    environment: str
    mpid: str | None
    alias: int | None
    device: str
    at_ms: int
    first_ms: int
    received_ms: int
    request_id: str
    historical: bool
    ip: str
    sdk_version: str
    identities: dict[str, str]
    user_attributes: dict[str, str | list[str] | None]
    deleted_user_attributes: list[str]
    consent: list[ConsentView]
    device_info: dict[str, Scalar | None]
    application_info: dict[str, Any]
    context: dict[str, Any]
    integration_attributes: dict[str, Any]
    partner_identities: dict[str, Any]
    ignored: list[IgnoredView]
    event_count: int
    events: list[EventView]
    quarantined: list[QuarantinedView]


def outcome_of(entry: Entry, record: BatchRecord | None) -> Outcome:
    """Return what became of a batch, given what is kept of it."""
    if record is None:
        return "refused" if entry.decision.error is not None else "dropped"
    if record.batch is None:
        return "set_aside"
    return "kept" if entry.decision.mpid is None else "taken"


def batch_view(
    position: int,
    mpid: int | None,
    record: BatchRecord,
    batch: Batch,
    wanted: Callable[[Event], bool],
    alias: int | None = None,
) -> BatchView:
    """Return a batch with those of its events that are wanted."""
    source = batch.source
    return BatchView(
        position=position,
        input=source.input,
        kind=source.kind,
        environment=batch.environment,
        mpid=None if mpid is None else str(mpid),
        alias=alias,
        device=batch.device,
        at_ms=batch.at_ms,
        first_ms=batch.first_ms,
        received_ms=batch.received_ms,
        request_id=batch.request_id,
        historical=batch.historical,
        ip=batch.ip,
        sdk_version=batch.sdk_version,
        identities=batch.identities,
        user_attributes={
            name: list(value) if isinstance(value, tuple) else value for name, value in batch.attributes.items()
        },
        deleted_user_attributes=list(batch.deleted_attributes),
        consent=consent_views(batch.consent),
        device_info=batch.device_info,
        application_info=batch.application_info,
        context=batch.context,
        integration_attributes=batch.integration_attributes,
        partner_identities=batch.partner_identities,
        ignored=[IgnoredView(one.field, one.why) for one in batch.ignored],
        event_count=len(batch.events),
        events=_events(batch.events, wanted),
        quarantined=quarantined_views(record.quarantined),
    )


def _events(events: Sequence[Event], wanted: Callable[[Event], bool]) -> list[EventView]:
    shown = [
        EventView(
            index, event.type, event.name, event.id, event.at_ms, {"event_type": event.type, "data": event.data}
        )
        for index, event in enumerate(events)
        if wanted(event)
    ]
    shown.sort(key=lambda event: (event.at_ms, event.index), reverse=True)
    return shown


def quarantined_views(quarantined: Sequence[Quarantined]) -> list[QuarantinedView]:
    """Return events that were set aside, in the order in which they were sent."""
    return [QuarantinedView(one.index, one.reason, one.event) for one in quarantined]


def consent_views(consent: dict[str, dict[str, Consent]]) -> list[ConsentView]:
    """Return consents, by regulation and purpose."""
    return [
        ConsentView(regulation, purpose, said.consented, said.at_ms, said.document, said.location, said.hardware_id)
        for regulation, purposes in sorted(consent.items())
        for purpose, said in sorted(purposes.items())
    ]


def is_of_device(device: str, batch: Batch | None, entry: Entry) -> bool:
    """Tell whether a batch is one of a device, named by its stamp or by any of its identities."""
    if batch is not None and batch.device == device:
        return True
    identities = entry.request.identities if batch is None else batch.identities
    return any(
        value is not None and type_ in DEVICE_TYPES and normalise(type_, value) == normalise(type_, device)
        for type_, value in identities.items()
    )
