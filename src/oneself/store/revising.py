"""What an undo or a split does to the rows of profiles and their batches (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from oneself.identity import (
    Move,
    NoPast,
    Past,
    Reguard,
    Remove,
    Restore,
    Revision,
    Revive,
    View,
    Withdraw,
    apply,
)
from oneself.journal import BatchRecord
from oneself.profiles import Batch, Device, Parts, Person, WorkspaceProfile, update
from oneself.store.keys import holder_key

if TYPE_CHECKING:
    from oneself.store.reading import Activity, Reading, Touched

__all__ = [
    "REVISIONS", "UNDOING", "UNDONE", "Rebuilt", "Rewritten", "is_removed", "owner_of", "rebuilt", "revise",
    "rewrite", "space_removed",
]  # fmt: skip

REVISIONS: Final = (Restore, Withdraw, Remove, Revive, Past, NoPast, Reguard, Move)
"""The changes that only undos and splits make."""

UNDOING: Final = frozenset({"undo", "split"})
"""The kinds of request that speak of the past."""

UNDONE: Final = "undone"
"""What is swept through the position of the last undo or split: steps of retention made ready before it are void."""


def space_removed(space: str) -> str:
    """Return the space in which the row of a removed profile stands: one that nothing is decided in."""
    return f"/{space}"


def is_removed(space: str) -> bool:
    """Tell whether a profile's row is that of a removed one."""
    return space.startswith("/")


class Rebuilt(msgspec.Struct, frozen=True):
    """The rows of a profile, made again of its batches."""

    person: Person | None
    workspaces: dict[str, WorkspaceProfile]
    devices: dict[tuple[str, str], Device]  # workspace, device


class Rewritten(msgspec.Struct, frozen=True):
    """What becomes of batches and of what profiles are made of, made ready beside the path of answers.

    ``rewrites`` are the records of batches that moved, encoded. ``left`` are those batches' rows on the timelines
    that they leave, ``came`` those on the ones they come to; ``remainders`` and ``remainders_left`` (MPID, position)
    are the same of batches without events. ``profiles`` are the new rows of all profiles concerned, and ``places``
    their ``(mpid, workspace)`` of before and after.
    """

    rewrites: dict[int, bytes] = {}
    left: tuple[Activity, ...] = ()
    came: tuple[Activity, ...] = ()
    remainders: tuple[tuple[int, int], ...] = ()
    remainders_left: tuple[tuple[int, int], ...] = ()
    profiles: dict[int, Rebuilt] = {}
    places: tuple[tuple[int, str], ...] = ()


def rebuilt(batches: Iterable[tuple[int, Batch]], expired: Mapping[str, int] | None = None, gone: int = 0) -> Rebuilt:
    """Return the rows of a profile that batches, by their positions, make.

    ``expired`` has the positions at which workspaces forgot the profile, ``gone`` the one at which all did: what
    came before does not count.
    """
    person: Person | None = None
    workspaces: dict[str, WorkspaceProfile] = {}
    devices: dict[tuple[str, str], Device] = {}
    expired = expired or {}
    for position, batch in batches:
        workspace = batch.source.workspace
        place = workspace, batch.device
        parts = update(Parts(person, workspaces.get(workspace), devices.get(place)), batch, position).parts
        if position > gone:
            person = parts.person
        if position > expired.get(workspace, 0) and parts.workspace is not None:
            workspaces[workspace] = parts.workspace
            if parts.device is not None:
                devices[place] = parts.device
    return Rebuilt(person, workspaces, devices)


def revise(reading: Reading, view: View, space: str, change: Revision, position: int) -> set[int]:
    """Make a change of an undo in a view and collect its rows; return the profiles that it concerns."""
    effects = reading.effects
    if isinstance(change, Restore):
        identity = (change.type, change.value)
        apply(view, change, position)
        row = holder_key(space, *identity), change.linked, change.mpid
        if row in effects.unlinked:  # it went and came back within the group
            del effects.unlinked[row]
        else:
            effects.linked[row] = None
        if (change.mpid, identity) in view.further:
            effects.further[change.mpid, change.type, change.value] = change.linked
    elif isinstance(change, Withdraw):
        reading.take_link(view, space, change.mpid, (change.type, change.value))
        apply(view, change, position)
    elif isinstance(change, Remove):
        removed = view.profiles[change.mpid]
        apply(view, change, position)
        effects.profiles[change.mpid] = space_removed(space), removed
    elif isinstance(change, Past):
        reading.keep_past(
            change.mpid, change.ended, (change.type, change.value), change.linked, change.why, change.moved_to
        )
    elif isinstance(change, NoPast):
        gone = (change.mpid, change.ended, change.type, change.value)
        effects.history_gone.append(gone)
        if any(row.ended == change.ended for row in effects.history):  # of the same group, as a recovery has it
            kept = [row for row in effects.history if (row.mpid, row.ended, row.type, row.value) != gone]
            effects.history = kept
    elif isinstance(change, Reguard):
        apply(view, change, position)
        key = holder_key(space, change.type, change.value)
        effects.guarded[key] = (space, change.type, change.value, change.why, change.since)
        effects.guarding.append((key, position))
        return set()
    elif isinstance(change, Move):
        return {change.source, change.target} - {0}
    else:
        apply(view, change, position)
    return {change.mpid}


def rewrite(reading: Reading, rows: Rewritten, touched: type[Touched]) -> None:
    """Collect what an undo does to batches and to the rows of profiles; its entry was kept before."""
    effects = reading.effects
    effects.rewrites.update(rows.rewrites)
    effects.left += rows.left
    effects.activity += rows.came
    effects.remainders_left += rows.remainders_left
    effects.remainders += rows.remainders
    effects.discarded += [row.position for row in rows.came] + [at for _, at in rows.remainders]
    for place in rows.places:
        effects.cleared.add(place)
        effects.workspaces.pop(place, None)
        reading.workspaces[place] = None
        for row in [row for row in effects.devices if row[:2] == place]:
            del effects.devices[row]
        for row in [row for row in reading.devices if row[:2] == place]:
            reading.devices[row] = None
    for mpid, made in rows.profiles.items():
        reading.people[mpid] = made.person
        effects.people.pop(mpid, None)
        effects.nobody.discard(mpid)
        if made.person is not None:
            effects.people[mpid] = made.person
        else:
            effects.nobody.add(mpid)
        for workspace, known in made.workspaces.items():
            reading.workspaces[mpid, workspace] = effects.workspaces[mpid, workspace] = known
        for (workspace, name), device in made.devices.items():
            row = touched(mpid, workspace, name)
            reading.devices[row] = effects.devices[row] = device


def owner_of(record: BatchRecord, mpid: int | None) -> int | None:
    """Return whose a batch is that was decided to be a profile's: it may have moved since."""
    return mpid if record.moved_to is None else record.moved_to or None
