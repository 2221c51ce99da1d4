"""Where a profile's data was at a time, and whom its MPID led to (docs/replay.md, "As of")."""

from __future__ import annotations

from typing import Literal

import msgspec

from oneself.errors import OneselfError
from oneself.history.recorded import policies_of
from oneself.identity import (
    Alias,
    AliasOutcome,
    AliasRow,
    Identity,
    Move,
    NoPast,
    Past,
    Policy,
    Profile,
    Restore,
    Unlink,
    View,
    Withdraw,
    apply,
)
from oneself.journal import Entry
from oneself.store import Store

__all__ = ["AsOf", "Held", "Left", "Shown", "as_of"]


class Held(msgspec.Struct, frozen=True):
    """An identity that the profile held, and the position at which it was linked."""

    type: str
    value: str
    since: int


class Left(msgspec.Struct, frozen=True):
    """An identity that the profile held before: from when, until when and why not longer.

    ``moved_to`` is who got it, and ``now_at`` who held it in the end by such moves; empty where nobody did.
    """

    type: str
    value: str
    since: int
    until: int
    why: str
    moved_to: str = ""
    now_at: str = ""


class Shown(msgspec.Struct, frozen=True):
    """An alias in effect: whose events of a window (unix ms) were shown in whom, since which position."""

    source: str
    destination: str
    start_ms: int
    end_ms: int
    since: int


class AsOf(msgspec.Struct, frozen=True):
    """A profile as it was after a position.

    ``leads_to`` are the MPIDs that have what the profile had: itself where it still held an identity, those to whom
    its identities moved, those to whom an undo or a split moved its batches, and those in whom its events are shown.
    One that an undo ``removed`` is nobody.
    """

    mpid: str
    space: str
    position: int
    created: int
    state: Literal["known", "anonymous", "orphan", "removed"]
    holds: list[Held]
    left: list[Left]
    shown_in: list[Shown]
    shows: list[Shown]
    leads_to: list[str]


class _Life(msgspec.Struct):
    """What the journal says of one profile through a position."""

    space: str
    created: int
    profile: Profile | None
    view: View
    rows: list[Left]
    aliases: dict[int, AliasRow]
    targets: list[int]


async def as_of(store: Store, mpid: int, position: int) -> AsOf:
    """Return a profile as it was after a position of the journal; only what concerned it is read.

    Raises ``OneselfError`` where there was no such profile.
    """
    life = await _life(store, mpid, position)
    if life is None:
        raise OneselfError(f"No user had the MPID {mpid} at decision {position}.")
    login = (await _policy(store, life.space, position)).login
    held = {} if life.profile is None else life.profile.held
    state: Literal["known", "anonymous", "orphan", "removed"] = "removed" if life.profile is None else "orphan"
    if held:
        state = "anonymous" if login.isdisjoint(held) else "known"
    left = [await _followed(store, row, position) for row in life.rows]
    in_effect = [row for row in life.aliases.values() if row.outcome == "applied"]
    shown_in = [_shown(row) for row in in_effect if row.source == mpid]
    leads_to = [str(mpid)] if held else []
    leads_to += [row.now_at for row in left if row.now_at]
    leads_to += map(str, life.targets)
    leads_to += [alias.destination for alias in shown_in]
    return AsOf(
        mpid=str(mpid),
        space=life.space,
        position=position,
        created=life.created,
        state=state,
        holds=sorted(_held(life), key=lambda row: row.since),
        left=left,
        shown_in=shown_in,
        shows=[_shown(row) for row in in_effect if row.destination == mpid],
        leads_to=list(dict.fromkeys(leads_to)),
    )


async def _life(store: Store, mpid: int, position: int) -> _Life | None:
    """Fold what concerned a profile through a position; None where it was not made by then."""
    stored = await store.profile(mpid)
    if stored is None or stored.created > position:
        return None
    view = View()
    rows: list[Left] = []
    targets: list[int] = []
    was_there = False
    for at in stored.decisions:
        if at > position:
            break
        entry = await store.entry(at)
        assert entry is not None, f"the journal has no entry {at}"
        rows = _fold(view, mpid, at, entry, rows)
        was_there = was_there or mpid in view.profiles
        targets += [one.target for one in entry.decision.changes if isinstance(one, Move) and one.source == mpid]
    if not was_there:  # an undo made it later, as of a position before
        return None
    space = stored.space.removeprefix("/")
    profile = view.profiles.get(mpid)
    return _Life(space, stored.created, profile, view, rows, view.aliases, [mpid for mpid in targets if mpid])


def _fold(view: View, mpid: int, at: int, entry: Entry, rows: list[Left]) -> list[Left]:
    """Make those changes of an entry that concern a profile; return the identities that left it until now."""
    rows = list(rows)
    restored = {(c.type, c.value): c.mpid for c in entry.decision.changes if isinstance(c, Restore)}
    for change in entry.decision.changes:
        if isinstance(change, Alias | AliasOutcome):
            if mpid in (change.source, change.destination):
                apply(view, change, at)
        elif getattr(change, "mpid", None) == mpid:
            if isinstance(change, Unlink):
                since = _since(view, mpid, (change.type, change.value))
                if since != at:
                    to = str(change.moved_to) if change.moved_to else ""
                    rows.append(Left(change.type, change.value, since, at, change.why, to))
            elif isinstance(change, Withdraw):
                identity = (change.type, change.value)
                to = str(restored[identity]) if identity in restored else ""
                rows.append(Left(*identity, _since(view, mpid, identity), at, "undone", to))
            elif isinstance(change, NoPast):
                gone = (change.type, change.value, change.ended)
                rows = [row for row in rows if (row.type, row.value, row.until) != gone]
            elif isinstance(change, Past):
                to = str(change.moved_to) if change.moved_to else ""
                rows.append(Left(change.type, change.value, change.linked, change.ended, change.why, to))
            apply(view, change, at)
    return rows


def _since(view: View, mpid: int, identity: Identity) -> int:
    at = view.profiles[mpid].held[identity[0]].get(identity[1])
    return view.further[mpid, identity] if at is None else at


def _held(life: _Life) -> list[Held]:
    if life.profile is None:
        return []
    rows = [Held(t, value, at) for t, values in life.profile.held.items() for value, at in values.items()]
    return rows + [Held(*identity, at) for (_, identity), at in life.view.further.items()]


async def _followed(store: Store, row: Left, position: int) -> Left:
    """Say who held an identity in the end that moved on from profile to profile."""
    holder, since = row.moved_to, row.until
    if row.why == "undone" and holder:
        life = await _life(store, int(holder), position)
        holds = life is not None and life.profile is not None and row.type in life.profile.held
        return msgspec.structs.replace(row, now_at=holder) if holds else row
    while holder:
        life = await _life(store, int(holder), position)
        if life is None:
            return row
        moved = [
            later for later in life.rows
            if (later.type, later.value) == (row.type, row.value) and later.since == since
        ]  # fmt: skip
        if not moved:
            return msgspec.structs.replace(row, now_at=holder)
        holder, since = moved[0].moved_to, moved[0].until
    return row


async def _policy(store: Store, space: str, position: int) -> Policy:
    """Return the policy that was in force after a position."""
    scope = space.rpartition("/")[0]
    versions = [row for row in await store.policies() if row.scope == scope and row.position <= position]
    return (await policies_of(store))[scope, versions[-1].version]


def _shown(row: AliasRow) -> Shown:
    return Shown(str(row.source), str(row.destination), row.start_ms, row.end_ms, row.processed)
