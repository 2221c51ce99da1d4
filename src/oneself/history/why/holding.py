"""An identity from its own side: who held it when, in every space, and whether it counts (docs/why.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from oneself.history.why.told import entries_of
from oneself.identity import HOLDERS_READ, Guard, Identity, Policy, Reguard, Release
from oneself.identity.values import normalise, why_dropped
from oneself.journal import Entry
from oneself.store import IdentityPast, Store, Wanted

__all__ = ["Guarding", "Holding", "IdentityLife", "Stamp", "identity_life"]

LOST: Final = 100
"""So many that held it are told, those that lost it last."""


class Stamp(msgspec.Struct, frozen=True):
    """A decision: its place, when (unix ms), of which kind, by which input and request."""

    position: int
    at_ms: int
    kind: str
    input: str
    request_id: str


class Holding(msgspec.Struct, frozen=True):
    """A time that a profile held the identity: from one decision to another, None where it still does.

    ``why`` says why it left, and ``moved_to`` who got it.
    """

    mpid: str
    since: Stamp
    until: Stamp | None
    why: str
    moved_to: str | None


class Guarding(msgspec.Struct, frozen=True):
    """A time that the value was guarded, and so found nobody: why, and until which decision released it."""

    why: str
    since: Stamp
    until: Stamp | None


class IdentityLife(msgspec.Struct, frozen=True):
    """An identity in one space.

    ``value`` is compared as it stands here. Where it does not count, ``dropped`` says why: ``junk``, ``too_long``,
    ``empty``. ``holders`` are those who hold it, the latest link first, 100 at the most; ``more_holders`` tells that
    others do. ``former`` are those who held it, of whom it left the latest first, 100 at the most.
    """

    space: str
    type: str
    value: str
    dropped: str
    guarded: bool
    holders: list[Holding]
    more_holders: bool
    former: list[Holding]
    guards: list[Guarding]

    @property
    def heard(self) -> bool:
        """Whether anything ever became of it here."""
        return bool(self.holders or self.former or self.guards)


async def identity_life(
    store: Store, spaces: Iterable[str], policies: Mapping[str, Policy], type_: str, value: str
) -> list[IdentityLife]:
    """Return what became of an identity in some spaces, given the policy of each scope."""
    found = []
    for space in spaces:
        policy = policies[space.rpartition("/")[0]]
        normalised = normalise(type_, value, policy.phone_region)
        identity = (type_, normalised)
        view = (await store.read({space: Wanted([identity])}, margin=1)).views[space]
        past = await store.identity_past(space, identity, limit=LOST)
        linked = [row for row in view.holders[identity] if row[0] <= store.position]
        stamps = await _stamps(store, linked[:HOLDERS_READ], past)
        found.append(
            IdentityLife(
                space=space,
                type=type_,
                value=normalised,
                dropped=why_dropped(normalised, value, policy.junk) or "",
                guarded=identity in view.guarded,
                holders=[
                    Holding(str(mpid), _stamp(at, stamps[at]), None, "", None) for at, mpid in linked[:HOLDERS_READ]
                ],
                more_holders=len(linked) > HOLDERS_READ,
                former=[
                    Holding(
                        str(row.mpid),
                        _stamp(row.linked, stamps[row.linked]),
                        _stamp(row.ended, stamps[row.ended]),
                        row.why,
                        str(row.moved_to) if row.moved_to else None,
                    )
                    for row in past.lost
                ],
                guards=_guards(identity, {at: stamps[at] for at in past.guards}),
            )
        )
    return found


async def _stamps(store: Store, linked: list[tuple[int, int]], past: IdentityPast) -> dict[int, Entry]:
    """Return the entries of every decision that is told."""
    positions = [at for at, _ in linked] + past.guards
    for row in past.lost:
        positions += [row.linked, row.ended]
    return await entries_of(store, positions)


def _stamp(position: int, entry: Entry) -> Stamp:
    return Stamp(position, entry.at_ms, entry.request.kind, entry.input, entry.request_id)


def _guards(identity: Identity, entries: Mapping[int, Entry]) -> list[Guarding]:
    """Return the times that a value was guarded, oldest first."""
    found: list[Guarding] = []
    for position, entry in entries.items():
        for change in entry.decision.changes:
            if not isinstance(change, Guard | Reguard | Release) or (change.type, change.value) != identity:
                continue
            if isinstance(change, Reguard):  # an undo of its release
                found = [*found[:-1], *(msgspec.structs.replace(one, until=None) for one in found[-1:])]
            elif isinstance(change, Guard):
                if not found or found[-1].until is not None:
                    found.append(Guarding(change.why, _stamp(position, entry), None))
            elif found and found[-1].until is None:
                found[-1] = msgspec.structs.replace(found[-1], until=_stamp(position, entry))
    return found
