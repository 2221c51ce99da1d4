"""The state that the journal says: its changes folded in memory, space by space (docs/replay.md)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from oneself.history.world import World
from oneself.identity import (
    Alias,
    AliasOutcome,
    Change,
    Create,
    Decision,
    Guard,
    Identity,
    Move,
    NoPast,
    Past,
    Reguard,
    Release,
    Unlink,
    Withdraw,
)
from oneself.journal import Entry
from oneself.store import History

__all__ = ["Fold", "FoldedSpace"]


class FoldedSpace:
    """The state of one space after some entries.

    ``history`` has the identities that left each profile, ``decisions`` the positions that concern it after the one
    that made it, ``guards`` why and since when a value is guarded, ``once_held`` the identities that somebody lost.
    """

    def __init__(self) -> None:
        self.world = World()
        self.history: defaultdict[int, list[History]] = defaultdict(list)
        self.decisions: defaultdict[int, list[int]] = defaultdict(list)
        self.guards: dict[Identity, tuple[str, int]] = {}
        self.once_held: set[Identity] = set()

    def take(self, decision: Decision, position: int) -> None:
        """Fold a decision in. Raises ``KeyError`` where a change touches what is not there."""
        concerned: set[int] = set()
        created = 0
        for change in decision.changes:
            if isinstance(change, Create):
                created = change.mpid
            elif isinstance(change, Unlink):
                self._unlink(change, position)
            elif isinstance(change, Guard):
                self.guards[change.type, change.value] = change.why, position
            elif isinstance(change, Release):
                self.guards.pop((change.type, change.value), None)
            else:
                self._revise(change)
            concerned.update(_concerns(change))
            self.world.keep((change,), position)
        if decision.trace.refused and decision.mpid is not None:
            concerned.add(decision.mpid)
        concerned.discard(created)
        for mpid in concerned:
            self.decisions[mpid].append(position)

    def _revise(self, change: Change) -> None:
        """Fold in what an undo says of the past."""
        if isinstance(change, Reguard):
            self.guards[change.type, change.value] = change.why, change.since
        elif isinstance(change, Withdraw):
            self.once_held.add((change.type, change.value))
        elif isinstance(change, Past):
            row = History(
                change.mpid, change.ended, change.type, change.value, change.linked, change.why, change.moved_to
            )
            self.history[change.mpid].append(row)
            self.once_held.add((change.type, change.value))
        elif isinstance(change, NoPast):
            gone = (change.ended, change.type, change.value)
            rows = self.history[change.mpid]
            self.history[change.mpid] = [row for row in rows if (row.ended, row.type, row.value) != gone]

    def _unlink(self, change: Unlink, position: int) -> None:
        identity = (change.type, change.value)
        linked = self.world.linked_at(change.mpid, identity)
        self.once_held.add(identity)
        if linked != position:  # what comes and goes within one decision was never held
            row = History(change.mpid, position, *identity, linked, change.why, change.moved_to)
            self.history[change.mpid].append(row)


def _concerns(change: Change) -> Iterable[int]:
    """Return the profiles that a change concerns."""
    if isinstance(change, Alias | AliasOutcome):
        return change.source, change.destination
    if isinstance(change, Move):
        return [mpid for mpid in (change.source, change.target) if mpid]
    mpid: int | None = getattr(change, "mpid", None)
    return () if mpid is None else (mpid,)


class Fold:
    """The state of every space after ``position``."""

    def __init__(self) -> None:
        self.position = 0
        self.spaces: defaultdict[str, FoldedSpace] = defaultdict(FoldedSpace)

    def take(self, position: int, entry: Entry) -> None:
        """Fold an entry in."""
        self.position = position
        self.spaces[entry.space].take(entry.decision, position)
