"""Moving a decided group to where it comes to stand, when other groups came first (docs/storage.md).

A decision depends on the order of positions and never on their numbers: all that it compares with one another keeps
its order when the positions of its own group become later together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from oneself.identity import AliasRow, Profile
from oneself.profiles import Attribution, Device, Flag, Person, Text, WorkspaceProfile
from oneself.store.reading import UNDONE, Effects

__all__ = [
    "names_alias_within",
    "renumbered",
    "settled_device",
    "settled_person",
    "settled_profile",
    "settled_workspace",
]

T = TypeVar("T")
Dated = TypeVar("Dated", Text, Flag, Attribution)

Shift = Callable[[int], int]


def names_alias_within(effects: Effects) -> bool:
    """Tell whether a request of a group names, by guess, an alias of the same group: its position may not change."""
    start = effects.entries[0][0]
    return max(effects.aliases, default=0) >= start and any(
        entry.request.position >= start for _, entry in effects.entries
    )


def renumbered(effects: Effects, by: int) -> Effects:
    """Return what a group collected with every position from its first entry's on made later by a number.

    What lies before stays. By minus the last position and one more, the group's positions come to count back from
    its end: -1 is that of its last entry.
    """
    start = effects.entries[0][0]

    def shift(position: int) -> int:
        return position + by if position >= start else position

    made = Effects()
    for name in Effects.__slots__:
        setattr(made, name, getattr(effects, name))
    _renumber_decisions(made, shift)
    _renumber_batches(made, shift)
    made.remainders = [(mpid, shift(at)) for mpid, at in effects.remainders]
    made.trimmed = [row._replace(position=shift(row.position)) for row in effects.trimmed]
    made.expired = _shifted(effects.expired, shift)
    made.gone = _shifted(effects.gone, shift)
    made.swept = {what: shift(at) if what == UNDONE else at for what, at in effects.swept.items()}
    return made  # rewrites, discarded, what else is swept and what an undo takes away were durable before


def _from_end(last: int) -> Shift:
    return lambda position: position + last + 1 if position < 0 else position


def settled_profile(profile: Profile, last: int) -> Profile:
    """Return a profile whose positions below 0 count back from the one that stood last when it was written."""
    return _profile(profile, _from_end(last))


def settled_person(person: Person, last: int) -> Person:
    """Return a person likewise."""
    return _person(person, _from_end(last))


def settled_workspace(known: WorkspaceProfile, last: int) -> WorkspaceProfile:
    """Return what a workspace knows of a profile likewise."""
    return _workspace(known, _from_end(last))


def settled_device(device: Device, last: int) -> Device:
    """Return a device likewise."""
    return _device(device, _from_end(last))


def _renumber_decisions(effects: Effects, shift: Shift) -> None:
    effects.entries = [(shift(at), entry) for at, entry in effects.entries]
    effects.requests = {key: shift(at) for key, at in effects.requests.items()}
    effects.profiles = {mpid: (of, _profile(profile, shift)) for mpid, (of, profile) in effects.profiles.items()}
    effects.linked = {(key, shift(at), mpid): None for key, at, mpid in effects.linked}
    effects.further = {row: None if at is None else shift(at) for row, at in effects.further.items()}
    effects.history = [replace(row, ended=shift(row.ended), linked=shift(row.linked)) for row in effects.history]
    effects.guarded = {
        key: None if guard is None else (*guard[:4], shift(guard[4])) for key, guard in effects.guarded.items()
    }
    effects.guarding = [(key, shift(at)) for key, at in effects.guarding]
    effects.aliases = {shift(at): (of, _alias(row, shift)) for at, (of, row) in effects.aliases.items()}
    effects.concerned = [(mpid, shift(at)) for mpid, at in effects.concerned]


def _renumber_batches(effects: Effects, shift: Shift) -> None:
    effects.batches = {shift(at): record for at, record in effects.batches.items()}
    effects.people = {mpid: _person(person, shift) for mpid, person in effects.people.items()}
    effects.workspaces = {at: _workspace(known, shift) for at, known in effects.workspaces.items()}
    effects.devices = {at: _device(device, shift) for at, device in effects.devices.items()}
    effects.activity = [replace(row, position=shift(row.position)) for row in effects.activity]
    effects.quarantined = [replace(row, position=shift(row.position)) for row in effects.quarantined]


def _shifted(rows: Mapping[T, int], shift: Shift) -> dict[T, int]:
    return {row: shift(at) for row, at in rows.items()}


def _profile(profile: Profile, shift: Shift) -> Profile:
    held = {type_: _shifted(values, shift) for type_, values in profile.held.items()}
    return Profile(profile.mpid, shift(profile.created), held, profile.more)


def _alias(row: AliasRow, shift: Shift) -> AliasRow:
    return replace(row, position=shift(row.position), processed=shift(row.processed))


def _person(person: Person, shift: Shift) -> Person:
    return replace(
        person,
        ip=_dated(person.ip, shift),
        opted_out=_dated(person.opted_out, shift),
        limit_ad_tracking=_dated(person.limit_ad_tracking, shift),
    )


def _workspace(known: WorkspaceProfile, shift: Shift) -> WorkspaceProfile:
    return replace(
        known,
        attributes={
            name: tuple(replace(write, position=shift(write.position)) for write in writes)
            for name, writes in known.attributes.items()
        },
        consent={
            regulation: {name: replace(said, position=shift(said.position)) for name, said in purposes.items()}
            for regulation, purposes in known.consent.items()
        },
        device=_dated(known.device, shift),
        attribution=_dated(known.attribution, shift),
    )


def _device(device: Device, shift: Shift) -> Device:
    return replace(
        device,
        info=tuple(replace(snapshot, position=shift(snapshot.position)) for snapshot in device.info),
        att=_dated(device.att, shift),
        installed=_dated(device.installed, shift),
        attribution=_dated(device.attribution, shift),
        push={token: replace(flag, position=shift(flag.position)) for token, flag in device.push.items()},
    )


def _dated(value: Dated | None, shift: Shift) -> Dated | None:
    return None if value is None else replace(value, position=shift(value.position))
