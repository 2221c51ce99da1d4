"""From how the state is to how it would be: the changes of an undo (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, cast

from oneself.history.undo.again import Again
from oneself.history.undo.past import Past, held_by
from oneself.history.undo.tail import Counted, Counting
from oneself.identity import (
    Change,
    Move,
    NoPast,
    Reguard,
    Release,
    Remove,
    Restore,
    Revised,
    Revive,
    Withdraw,
)
from oneself.identity import Past as PastRow
from oneself.journal import Entry

__all__ = ["changes_of", "moves_of", "revised_of"]


def changes_of(past: Past, again: Again) -> list[Change]:
    """Return what makes the present state that which a pass over the decisions came to, but for the batches."""
    after = {mpid: (profile, held_by(again.view, profile)) for mpid, profile in again.view.profiles.items()}
    withdrawn: list[Change] = []
    restored: list[tuple[int, int, Change]] = []
    for mpid in past.present.keys() | after.keys():
        was = past.present[mpid][1] if mpid in past.present else {}
        now = after[mpid][1] if mpid in after else {}
        withdrawn += [Withdraw(mpid, *one) for one, at in was.items() if now.get(one) != at]
        new = ((at, one) for one, at in now.items() if was.get(one) != at)
        restored += [(at, number, Restore(mpid, *one, at)) for number, (at, one) in enumerate(new)]
    restored.sort(key=lambda row: row[:2])
    removed = [Remove(mpid) for mpid in sorted(past.present.keys() - after.keys())]
    revived = [Revive(mpid, after[mpid][0].created) for mpid in sorted(after.keys() - past.present.keys())]
    return [
        *withdrawn,
        *removed,
        *revived,
        *(change for _, _, change in restored),
        *_history(past, again),
        *_guards(past, again),
    ]


def _history(past: Past, again: Again) -> Iterator[Change]:
    now = {key: row for key, row in again.lost.items() if key[0] in past.present or key[0] in again.view.profiles}
    for key in past.lost:
        if now.get(key) != past.lost[key]:
            yield NoPast(*key)
    for key, row in now.items():
        if past.lost.get(key) != row:
            yield PastRow(row.mpid, row.ended, row.type, row.value, row.linked, row.why, row.moved_to)


def _guards(past: Past, again: Again) -> Iterator[Change]:
    for identity in past.guards.keys() - again.guards.keys():
        yield Release(*identity)
    for identity, (why, since) in again.guards.items():
        if past.guards.get(identity) != (why, since):
            yield Reguard(*identity, why, since)


def revised_of(past: Past, again: Again, counting: Counting, left_out: Mapping[int, Counted]) -> list[Revised]:
    """Return the decisions that count for something else now; ``counting`` is without the undos that are undone."""
    rows = []
    for position in sorted({*again.counted, *left_out}):
        entry = past.entries[position]
        if position in left_out:
            rows.append(_row(position, left_out[position]))
            continue
        counted, before = again.counted[position], counting.of(position, entry)
        if (counted.mpid, counted.changes) != (before.mpid, before.changes):
            rows.append(_row(position, counted))
        elif before.standing:
            rows.append(Revised(position, "restored", counted.mpid, counted.changes))
        else:
            rows.append(Revised(position, "restored", counted.mpid, entry.decision.changes))
    return rows


def _row(position: int, counted: Counted) -> Revised:
    standing = cast(Literal["undone", "kept", "redecided"], counted.standing)
    return Revised(position, standing, counted.mpid, counted.changes)


def moves_of(entries: Mapping[int, Entry], present: Counting, again: Again, kept: Iterable[int]) -> list[Move]:
    """Return whose batches are somebody else's, of those that are kept."""
    moved: dict[tuple[int, int], list[int]] = {}
    for position in sorted(kept):
        was, now = present.of(position, entries[position]).mpid or 0, again.counted[position].mpid or 0
        if was != now:
            moved.setdefault((was, now), []).append(position)
    return [Move(source, target, tuple(positions)) for (source, target), positions in moved.items()]
