"""What an undo would change, and what stands in its way (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from oneself.history.undo.again import InTheWay
from oneself.identity import (
    Change,
    Create,
    Later,
    Link,
    Move,
    Remove,
    Request,
    Restore,
    Revised,
    Revive,
    Unlink,
    Withdraw,
)
from oneself.store import Plan

__all__ = ["LISTED", "UndoPlan", "UndoReport", "Way", "report_of"]

LISTED = 100
"""So many decisions that stand in the way are listed; all are counted."""


class Way(msgspec.Struct, frozen=True):
    """A later decision that depends on what is undone.

    ``was`` is its answer and ``would_be`` the one that it would have had, empty for nobody; ``answer`` tells whether
    they differ, or only its changes do. ``how`` is ``again`` where it can be made again.
    """

    position: int
    kind: str
    input: str
    request_id: str
    was: str
    would_be: str
    how: Literal["again", "split", "undo", "alias"]


class UndoReport(msgspec.Struct, frozen=True):
    """What would change, or has changed; ``possible`` tells whether it can be done as asked.

    ``position`` is that of the undo in the journal once it is done, 0 before. ``profiles_made`` have the MPIDs of
    users that come to be, ``profiles_removed`` of those that are nobody any more, ``profiles_changed`` of others.
    """

    space: str
    what: Literal["undo", "split"]
    later: Later
    possible: bool
    undone: int
    undone_in_part: int
    decided_again: int
    in_the_way: int
    listed: list[Way]
    profiles_made: list[str]
    profiles_removed: list[str]
    profiles_changed: list[str]
    identities_linked: int
    identities_withdrawn: int
    batches_moved: int
    batches_of_nobody: int
    events_moved: int
    guarded: str = ""
    position: int = 0


class UndoPlan(msgspec.Struct, frozen=True):
    """An undo or a split made ready; ``plan`` is None where it cannot be done as asked."""

    space: str
    request: Request
    report: UndoReport
    plan: Plan | None = None


def report_of(
    space: str,
    what: Literal["undo", "split"],
    later: Later,
    changes: Sequence[Change],
    revised: Sequence[Revised],
    ways: Sequence[Way],
    *,
    possible: bool,
    events: int,
    guarded: str = "",
) -> UndoReport:
    """Return the report on some changes."""
    standings = [row.standing for row in revised]
    moves = [change for change in changes if isinstance(change, Move)]
    made = [change.mpid for change in changes if isinstance(change, Revive | Create)]
    removed = [change.mpid for change in changes if isinstance(change, Remove)]
    touched: dict[int, None] = {}
    for change in changes:
        if isinstance(change, Restore | Withdraw | Link | Unlink):
            touched[change.mpid] = None
        elif isinstance(change, Move):
            touched |= {change.source: None, change.target: None}
    changed = [mpid for mpid in touched if mpid and mpid not in {*made, *removed}]
    return UndoReport(
        space=space,
        what=what,
        later=later,
        possible=possible,
        undone=standings.count("undone"),
        undone_in_part=standings.count("kept"),
        decided_again=standings.count("redecided") + standings.count("restored"),
        in_the_way=len(ways),
        listed=list(ways[:LISTED]),
        profiles_made=list(map(str, made)),
        profiles_removed=list(map(str, removed)),
        profiles_changed=list(map(str, changed)),
        identities_linked=sum(isinstance(change, Restore | Link) for change in changes),
        identities_withdrawn=sum(isinstance(change, Withdraw | Unlink) for change in changes),
        batches_moved=sum(len(move.positions) for move in moves if move.target),
        batches_of_nobody=sum(len(move.positions) for move in moves if not move.target),
        events_moved=events,
        guarded=guarded,
    )


def way_of(one: InTheWay) -> Way:
    """Return a decision that stands in the way as it is reported."""
    entry = one.entry
    was, would = ("" if mpid is None else str(mpid) for mpid in (one.was.mpid, one.would.mpid))
    return Way(one.position, entry.request.kind, entry.input, entry.request_id, was, would, one.how)
