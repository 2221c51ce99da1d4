"""Undoing no more than nothing depends on: which changes of which decisions stay (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from oneself.history.undo.again import InTheWay
from oneself.history.undo.tail import Counted, Counting, Tail
from oneself.identity import Change, Create, Mentioned, mentioned, prepare, touched_by
from oneself.journal import Entry

__all__ = ["Keeping"]


class Keeping:
    """The decisions that are undone, each with those of its changes that stay; at first none does."""

    def __init__(self, chosen: Mapping[int, Entry], counting: Counting) -> None:
        self._counted = {position: counting.of(position, entry) for position, entry in chosen.items()}
        self._stays: dict[int, set[int]] = {position: set() for position in chosen}

    def left_out(self) -> dict[int, Counted]:
        """Return what each decision counts for that is undone, as a whole or in part."""
        left = {}
        for position, counted in self._counted.items():
            stays = self._stays[position]
            kept = [change for index, change in enumerate(counted.changes) if index in stays]
            if not kept:
                left[position] = Counted(None, [], "undone")
            elif len(kept) < len(counted.changes):
                left[position] = Counted(counted.mpid, kept, "kept")
        return left

    def keep_for(self, in_the_way: Sequence[InTheWay], tail: Tail) -> bool:
        """Let those changes stay that decisions depend on; tell whether these are more than before."""
        before = sum(map(len, self._stays.values()))
        for one in in_the_way:
            entry = one.entry
            speaks = mentioned(prepare(tail.policy(entry), entry.request), entry.decision)
            speaks.add(touched_by(one.would.changes))
            earlier = [position for position in self._counted if position < one.position]
            self._keep(earlier, speaks)
        if in_the_way and sum(map(len, self._stays.values())) == before:
            for position, counted in self._counted.items():
                self._stays[position] = set(range(len(counted.changes)))
        self._complete()
        return sum(map(len, self._stays.values())) > before

    def _keep(self, positions: Iterable[int], speaks: Mentioned) -> None:
        for position in positions:
            changes = self._counted[position].changes
            met = {_part(change) for change in changes if _is_met(change, speaks)}
            self._stays[position] |= {index for index, change in enumerate(changes) if _part(change) in met}

    def _complete(self) -> None:
        """Let a profile stay of which anything stays."""
        used = {
            getattr(counted.changes[index], "mpid", 0)
            for position, counted in self._counted.items()
            for index in self._stays[position]
        }
        for position, counted in self._counted.items():
            for index, change in enumerate(counted.changes):
                if isinstance(change, Create) and change.mpid in used:
                    self._stays[position].add(index)


def _part(change: Change) -> str:
    """Return what of a decision stays or goes together: a new profile, or the identities of one type."""
    return getattr(change, "type", "")


def _is_met(change: Change, speaks: Mentioned) -> bool:
    if isinstance(change, Create):
        return change.mpid in speaks.mpids
    return (getattr(change, "type", ""), getattr(change, "value", "")) in speaks.identities
