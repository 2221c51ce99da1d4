"""What a batch makes of a profile (docs/profiles.md).

The new rows depend on the batches and their positions alone, not on the order in which they are taken in, and a
batch taken in twice changes nothing more (up to the limits, where those that came first stay).
"""

from __future__ import annotations

from collections.abc import Iterator

from oneself.profiles.limits import MAX_PURPOSES, MAX_PUSH_TOKENS
from oneself.profiles.model import (
    Attribution,
    Batch,
    Changed,
    Consent,
    Device,
    Flag,
    Parts,
    Person,
    PushChange,
    Range,
    Refused,
    Scalar,
    Snapshot,
    Text,
    Update,
    WorkspaceProfile,
    Write,
)
from oneself.profiles.priority import write_all


def update(parts: Parts, batch: Batch, position: int) -> Update:
    """Return the rows of a profile after a batch that stands at a journal position.

    ``parts`` has the batch's profile in its workspace and its device, as far as they exist. An input that may only
    read changes nothing.
    """
    if batch.source.protection == "only_read":
        return Update(parts, (), (Refused("profile", "", "only_read"),))
    changed: list[Changed] = []
    refused: list[Refused] = []
    after = Parts(
        _person(parts.person, batch, position, changed),
        _workspace(parts.workspace, batch, position, changed, refused),
        _device(parts.device, batch, position, changed) if batch.device else parts.device,
    )
    return Update(after, tuple(changed), tuple(refused))


def _person(old: Person | None, batch: Batch, position: int, changed: list[Changed]) -> Person:
    first, last, stored = batch.first_ms, batch.at_ms, batch.received_ms
    ip = opted_out = limited = None
    if old is not None:
        first, last = min(first, old.first_seen_ms), max(last, old.last_seen_ms)
        stored = max(stored, old.stored_ms)
        ip, opted_out, limited = old.ip, old.opted_out, old.limit_ad_tracking
    if batch.ip:
        ip = _later_text(ip, Text(batch.at_ms, batch.ip, position), "ip", changed)
    if batch.opted_out is not None:
        said = Flag(batch.opted_out.at_ms, batch.opted_out.value, position)
        opted_out = _later_flag(opted_out, said, "opted_out", changed)
    if batch.limit_ad_tracking is not None:
        said = Flag(batch.at_ms, batch.limit_ad_tracking, position)
        limited = _later_flag(limited, said, "limit_ad_tracking", changed)
    return Person(first, last, stored, ip, opted_out, limited)


def _workspace(
    old: WorkspaceProfile | None, batch: Batch, position: int, changed: list[Changed], refused: list[Refused]
) -> WorkspaceProfile:
    if old is None:
        old = WorkspaceProfile(batch.first_ms, batch.at_ms, batch.received_ms)
    attributes = old.attributes
    if batch.changes if batch.source.platform else (batch.attributes or batch.deleted_attributes):
        attributes = write_all(attributes, _writes(batch, position), changed, refused)
    consent = old.consent
    if batch.consent:
        consent = _consented(consent, batch, position, changed, refused)
    device = old.device
    if batch.device and _is_later(device, batch.at_ms, position):
        device = Text(batch.at_ms, batch.device, position)
    attribution = old.attribution
    if batch.attribution is not None:
        attribution = _attributed(attribution, batch.attribution, position)
        if attribution is not old.attribution:
            changed.append(Changed("attribution"))
    return WorkspaceProfile(
        min(batch.first_ms, old.first_seen_ms),
        max(batch.at_ms, old.last_seen_ms),
        max(batch.received_ms, old.stored_ms),
        attributes,
        consent,
        _seen_from(old.inputs, batch),
        device,
        attribution,
    )


def _device(old: Device | None, batch: Batch, position: int, changed: list[Changed]) -> Device:
    if old is None:
        old = Device(batch.first_ms, batch.at_ms)
    info, att, installed, attribution, push = old.info, old.att, old.installed, old.attribution, old.push
    if batch.device_info:
        info = _informed(info, Snapshot(batch.at_ms, position, batch.device_info), changed)
    if batch.att is not None:
        att = _later_text(att, Text(batch.att.at_ms, batch.att.value, position), "att", changed)
    if batch.installed is not None:
        new = Text(batch.installed.at_ms, batch.installed.value, position)
        installed = _later_text(installed, new, "installed", changed)
    if batch.attribution is not None:
        attribution = _attributed(attribution, batch.attribution, position)
    if batch.push:
        push = _registered(push, batch.push, position, changed)
    return Device(
        min(batch.first_ms, old.first_seen_ms),
        max(batch.at_ms, old.last_seen_ms),
        info,
        att,
        installed,
        attribution,
        push,
    )


# -- the later of two -------------------------------------------------------------------------------------------


def _is_later(old: Text | Flag | Consent | Attribution | None, at_ms: int, position: int) -> bool:
    """Tell whether something said now counts; of the same batch, what was said last does."""
    return old is None or (at_ms, position) >= (old.at_ms, old.position)


def _later_text(old: Text | None, new: Text, what: str, changed: list[Changed]) -> Text:
    if old is not None and not _is_later(old, new.at_ms, new.position):
        return old
    if old is None or old.value != new.value:
        changed.append(Changed(what))
    return new


def _later_flag(old: Flag | None, new: Flag, what: str, changed: list[Changed]) -> Flag:
    if old is not None and not _is_later(old, new.at_ms, new.position):
        return old
    if old is None or old.value != new.value:
        changed.append(Changed(what))
    return new


def _attributed(old: Attribution | None, new: Attribution, position: int) -> Attribution:
    if old is not None and not _is_later(old, new.at_ms, position):
        return old
    return Attribution(new.at_ms, new.publisher, new.campaign, new.service_provider, position)


# -- each part --------------------------------------------------------------------------------------------------


def _writes(batch: Batch, position: int) -> Iterator[tuple[str, Write]]:
    """Return what a batch writes of attributes: a platform by its change events, any other input by its map."""
    rank = batch.source.rank
    if batch.source.platform:
        for change in batch.changes:
            yield change.name, Write(rank, change.at_ms, position, change.value, change.deleted)
        return
    for name in batch.deleted_attributes:
        yield name, Write(rank, batch.at_ms, position, None, True)
    for name, value in batch.attributes.items():
        yield name, Write(rank, batch.at_ms, position, value)


def _consented(
    old: dict[str, dict[str, Consent]], batch: Batch, position: int, changed: list[Changed], refused: list[Refused]
) -> dict[str, dict[str, Consent]]:
    consent = dict(old)
    for regulation, purposes in batch.consent.items():
        standing = dict(consent.get(regulation, {}))
        for purpose, said in purposes.items():
            before, name = standing.get(purpose), f"{regulation}.{purpose}"
            if before is None and len(standing) >= MAX_PURPOSES:
                refused.append(Refused("consent", name, "too_many"))
            elif not _is_later(before, said.at_ms, position):
                refused.append(Refused("consent", name, "older"))
            else:
                standing[purpose] = Consent(
                    said.at_ms, said.consented, said.document, said.location, said.hardware_id, position
                )
                if before is None or before.consented != said.consented:
                    changed.append(Changed("consent", name))
        consent[regulation] = standing
    return consent


def _seen_from(inputs: dict[str, Range], batch: Batch) -> dict[str, Range]:
    seen = inputs.get(batch.source.input)
    if seen is None:
        return inputs | {batch.source.input: Range(batch.first_ms, batch.at_ms)}
    if seen.first_ms <= batch.first_ms and seen.last_ms >= batch.at_ms:
        return inputs
    widened = Range(min(seen.first_ms, batch.first_ms), max(seen.last_ms, batch.at_ms))
    return inputs | {batch.source.input: widened}


def _registered(
    old: dict[str, Flag], changes: tuple[PushChange, ...], position: int, changed: list[Changed]
) -> dict[str, Flag]:
    push = dict(old)
    for change in changes:
        before = push.get(change.token)
        if _is_later(before, change.at_ms, position):
            push[change.token] = Flag(change.at_ms, change.registered, position)
            if before is None or before.value != change.registered:
                changed.append(Changed("push_token", change.token, "set" if change.registered else "deleted"))
    if len(push) > MAX_PUSH_TOKENS:
        latest = sorted(push.items(), key=lambda item: (item[1].at_ms, item[1].position, item[0]), reverse=True)
        push = dict(latest[:MAX_PUSH_TOKENS])
    return push


def info_of(info: tuple[Snapshot, ...]) -> dict[str, Scalar | None]:
    """Return the latest value of every field of a device; None where it was taken back."""
    if len(info) == 1:
        return info[0].fields
    fields: dict[str, Scalar | None] = {}
    for snapshot in reversed(info):
        fields.update(snapshot.fields)
    return fields


def _informed(info: tuple[Snapshot, ...], new: Snapshot, changed: list[Changed]) -> tuple[Snapshot, ...]:
    """Return a device's information, newest first, with a snapshot more; each field stays in its latest only."""
    at = (new.at_ms, new.position)
    if len(info) == 1 and info[0].fields == new.fields:  # as it nearly always is
        return info if (info[0].at_ms, info[0].position) > at else (new,)
    before, newer, older = info_of(info), [], []
    left = new.fields
    for snapshot in info:
        if (snapshot.at_ms, snapshot.position) > at:
            newer.append(snapshot)
            left = {field: value for field, value in left.items() if field not in snapshot.fields}
        elif not snapshot.fields.keys() <= new.fields.keys():
            kept = {field: value for field, value in snapshot.fields.items() if field not in new.fields}
            older.append(Snapshot(snapshot.at_ms, snapshot.position, kept))
    if not left:
        return info
    for field, value in left.items():
        if field not in before or before[field] != value:
            changed.append(Changed("device_info", field))
    return (*newer, Snapshot(new.at_ms, new.position, left) if left is not new.fields else new, *older)
