"""What a decision may have to do with: every identity and MPID that its entry speaks of (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from oneself.identity.decide import Prepared
from oneself.identity.model import Change, Decision, Identity, Request, Trace

__all__ = ["Mentioned", "mentioned", "touched_by"]


class Mentioned(NamedTuple):
    """Identities, normalised, and MPIDs."""

    identities: set[Identity]
    mpids: set[int]

    def meets(self, other: Mentioned) -> bool:
        """Tell whether there is anything that both have."""
        return not (self.identities.isdisjoint(other.identities) and self.mpids.isdisjoint(other.mpids))

    def add(self, other: Mentioned) -> None:
        """Add what another has."""
        self.identities.update(other.identities)
        self.mpids.update(other.mpids)


def touched_by(changes: Iterable[Change]) -> Mentioned:
    """Return the identities and profiles that changes are about."""
    found = Mentioned(set(), set())
    for change in changes:
        type_ = getattr(change, "type", None)
        if type_ is not None:
            found.identities.add((type_, getattr(change, "value", "")))
        for field in ("mpid", "moved_to", "source", "target", "destination"):
            mpid = getattr(change, field, 0)
            if mpid:
                found.mpids.add(mpid)
    return found


def mentioned(prepared: Prepared, decision: Decision) -> Mentioned:
    """Return all that a request and the decision on it speak of.

    Whatever a decision looked at was named by its request, or stands in its trace.
    """
    found = touched_by(decision.changes)
    found.identities.update(prepared.identities)
    found.mpids.update(prepared.mpids)
    _request(prepared.request, found)
    _trace(decision.trace, found)
    if decision.mpid is not None:
        found.mpids.add(decision.mpid)
    return found


def _request(request: Request, found: Mentioned) -> None:
    for mpid in (request.previous_mpid, request.mpid):
        if mpid is not None:
            found.mpids.add(mpid)
    if request.upkeep is not None:
        found.mpids.update(request.upkeep.mpids)


def _trace(trace: Trace, found: Mentioned) -> None:
    for step in trace.steps:
        found.mpids.update(seen.mpid for seen in step.seen)
    for dropped in trace.dropped:
        found.identities.add((dropped.type, dropped.value))
    for refused in trace.refused:
        found.identities.add((refused.type, refused.value))
        if refused.other:
            found.mpids.add(refused.other)
    found.mpids.update(note.other for note in trace.notes if note.other)
