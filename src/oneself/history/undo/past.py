"""The state of some profiles and identities as it was at a position: the present one, rolled back (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from oneself.history.undo.tail import Counting, Tail
from oneself.identity import (
    Create,
    Guard,
    Identity,
    Link,
    Mentioned,
    Profile,
    Release,
    Restore,
    Unlink,
    View,
    Withdraw,
    apply,
)
from oneself.journal import Entry
from oneself.store import History, Store, Wanted

__all__ = ["Guards", "Held", "Past", "PastKey", "held_by", "past_of"]

PastKey = tuple[int, int, str, str]
"""The MPID, the position at which an identity left it, and the identity."""

Guards = dict[Identity, tuple[str, int]]
"""Why a value is guarded, and since which position."""

Held = dict[Identity, int]
"""What a profile holds, and the positions at which it was linked."""

_MARGIN = 200


class Past(NamedTuple):
    """Some profiles and identities of a space, then and now.

    ``view`` is the state after the position; ``present``, ``guards`` and ``lost`` are those of now: what profiles
    hold, the guarded values, and the identities that left a profile since. ``entries`` are the decisions since that
    touched any of it.
    """

    view: View
    present: dict[int, tuple[Profile, Held]]
    guards: Guards
    guards_then: Guards
    lost: dict[PastKey, History]
    entries: dict[int, Entry]


def held_by(view: View, profile: Profile) -> Held:
    """Return all that a profile of a view holds."""
    held = {(type_, value): at for type_, values in profile.held.items() for value, at in values.items()}
    if profile.more:
        held |= {identity: at for (mpid, identity), at in view.further.items() if mpid == profile.mpid}
    return held


async def past_of(store: Store, tail: Tail, counting: Counting, about: Mentioned) -> Past:
    """Return the state before a tail of decisions, for some identities and all who hold them, and some profiles."""
    mpids = set(about.mpids)
    while True:
        wanted = {tail.space: Wanted(about.identities, mpids)}
        view = (await store.read(wanted, margin=_MARGIN)).views[tail.space]
        entries = await tail.look(Mentioned(about.identities, mpids | view.profiles.keys()))
        seen = mpids | view.profiles.keys()
        lost = _holders(entries, counting, about.identities) - seen
        if not lost:
            break
        mpids |= lost
    further = await _further(store, view)
    view.further.update(further)
    present = {mpid: (profile, held_by(view, profile)) for mpid, profile in view.profiles.items()}
    guarded = await store.guarded(tail.space) if view.guarded else []
    guards = {(t, v): (why, at) for t, v, why, at in guarded if (t, v) in about.identities}
    left = await _left(store, tail, counting, entries, view)
    past = Past(view, present, guards, dict(guards), left, entries)
    await _roll_back(store, tail, counting, past)
    return past


def _holders(entries: dict[int, Entry], counting: Counting, identities: set[Identity]) -> set[int]:
    """Return the profiles that decisions linked identities to, or took them from."""
    return {
        change.mpid
        for position, entry in entries.items()
        for change in counting.of(position, entry).changes
        if isinstance(change, Link | Unlink) and (change.type, change.value) in identities
    }


async def _further(store: Store, view: View) -> dict[tuple[int, Identity], int]:
    """Return what profiles hold that their records have no room for."""
    found = {}
    for mpid, profile in view.profiles.items():
        stored = await store.profile(mpid) if profile.more else None
        for type_, value, at in stored.identities if stored is not None else ():
            if value not in profile.held[type_]:
                found[mpid, (type_, value)] = at
    return found


async def _left(
    store: Store, tail: Tail, counting: Counting, entries: dict[int, Entry], view: View
) -> dict[PastKey, History]:
    """Return the identities that left profiles in a tail."""
    losers = {
        change.mpid
        for position, entry in entries.items()
        for change in counting.of(position, entry).changes
        if isinstance(change, Unlink) and change.mpid in view.profiles
    }
    lost: dict[PastKey, History] = {}
    for mpid in losers:
        stored = await store.profile(mpid)
        for row in stored.history if stored is not None else ():
            if row.ended > tail.after:
                lost[mpid, row.ended, row.type, row.value] = row
    return lost


async def _roll_back(store: Store, tail: Tail, counting: Counting, past: Past) -> None:
    view = past.view
    for position in sorted(past.entries, reverse=True):
        for change in reversed(counting.of(position, past.entries[position]).changes):
            if isinstance(change, Link | Unlink):
                if change.mpid not in view.profiles:
                    continue
                if isinstance(change, Link):
                    apply(view, Withdraw(change.mpid, change.type, change.value), position)
                else:
                    row = past.lost.get((change.mpid, position, change.type, change.value))
                    linked = position if row is None else row.linked
                    apply(view, Restore(change.mpid, change.type, change.value, linked), position)
            elif isinstance(change, Create):
                view.profiles.pop(change.mpid, None)
            elif isinstance(change, Guard):
                view.guarded.discard((change.type, change.value))
                past.guards_then.pop((change.type, change.value), None)
            elif isinstance(change, Release):
                identity = (change.type, change.value)
                view.guarded.add(identity)
                past.guards_then[identity] = await _guard_before(store, tail.space, identity, position, counting)


async def _guard_before(
    store: Store, space: str, identity: Identity, position: int, counting: Counting
) -> tuple[str, int]:
    """Return why a value that was released was guarded, and since when."""
    earlier = [at for at in (await store.identity_past(space, identity)).guards if at < position]
    for at, change in await _guards(store, earlier, identity, counting):
        return change.why, at
    return "undone", position


async def _guards(
    store: Store, positions: Iterable[int], identity: Identity, counting: Counting
) -> list[tuple[int, Guard]]:
    """Return the guards of a value that count, the latest first."""
    found = []
    for at in sorted(positions, reverse=True):
        entry = await store.entry(at)
        changes = counting.of(at, entry).changes if entry is not None else []
        found += [(at, one) for one in changes if isinstance(one, Guard) and (one.type, one.value) == identity]
    return found
