"""What recorded decisions count for in a history under another policy, since some were undone (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from oneself.history.recorded import Recorded, Span
from oneself.history.world import World
from oneself.identity import Change, Guard, Revised, Unlink
from oneself.journal import decode
from oneself.store import UNDONE, Store
from oneself.store.revising import REVISIONS

__all__ = ["Counts", "counted", "revisions"]

_UNDO = b'{"kind":"undo"'
_SPLIT = b'{"kind":"split"'


class Counts(NamedTuple):
    """An entry with what it counts for; ``stays`` tells that it is not to be decided again."""

    entry: Recorded
    stays: bool


async def revisions(store: Store, span: Span) -> dict[int, Revised] | None:
    """Return what decisions through a span's end count for since they were undone; None where nothing ever was."""
    if not await store.swept(UNDONE):
        return None
    found: dict[int, Revised] = {}
    async for chunk in store.bodies():
        for position, body in chunk:
            if position > span.last:
                return found
            if _UNDO in body or _SPLIT in body:
                found |= {row.position: row for row in decode(body).decision.revised}
    return found


def counted(position: int, entry: Recorded, revised: Mapping[int, Revised], world: World) -> Counts | None:
    """Return what an entry counts for, None where it is undone; ``world`` is the state before it."""
    row = revised.get(position)
    if row is not None and row.standing == "undone":
        return None
    was = entry.decision
    if row is not None:
        was = replace(was, mpid=row.mpid, changes=row.changes, error=was.error if row.mpid is None else None)
        entry = _named(entry, row)
    kind = entry.request.kind
    if kind == "undo":
        was = replace(was, changes=[change for change in was.changes if isinstance(change, Guard)])
    elif kind == "split":
        was = replace(was, changes=[change for change in was.changes if not isinstance(change, REVISIONS)])
        if not all(_is_held(change, world) for change in was.changes):
            return None  # under the other policy there is nothing to be split
    elif row is None or row.standing != "kept":
        return Counts(replace(entry, decision=was) if row is not None else entry, False)
    return Counts(replace(entry, decision=was), True)


def _named(entry: Recorded, row: Revised) -> Recorded:
    """Return an entry whose request names the profile that it was answered with when it was made again."""
    request = entry.request
    if row.mpid is None or request.mpid is None:
        return entry
    return replace(entry, request=replace(request, mpid=row.mpid))


def _is_held(change: Change, world: World) -> bool:
    """Tell whether an identity that is to leave a profile is there."""
    if not isinstance(change, Unlink):
        return True
    profile = world.profile(change.mpid)
    if profile is None:
        return False
    held = change.value in profile.held.get(change.type, ())
    return held or (change.mpid, (change.type, change.value)) in world.further
