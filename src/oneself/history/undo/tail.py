"""The decisions since a position, found by what they speak of, and what each of them counts for (docs/undo.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Final, NamedTuple

import msgspec

from oneself.history.whatif.trials import Progress
from oneself.identity import (
    Change,
    Create,
    Guard,
    Link,
    Mentioned,
    Policy,
    Release,
    Revised,
    Unlink,
    mentioned,
    prepare,
    touched_by,
)
from oneself.journal import Entry, decode
from oneself.store import Store

__all__ = ["OF_IDENTITIES", "Counted", "Counting", "Tail"]

OF_IDENTITIES: Final = (Create, Link, Unlink, Guard, Release)
"""The changes that later decisions can see."""

CACHED: Final = 50_000
"""So many decisions are kept in memory; of more, those that matter are looked up again."""

FEW: Final = 32
"""Of so few names the plain text is searched before an entry is decoded."""

_UNDO: Final = b'"kind":"undo"'
_SPLIT: Final = b'"kind":"split"'
_json: Final = msgspec.json.Encoder().encode


class Counted(NamedTuple):
    """What a decision counts for: its answer, and its changes of identities. ``standing`` is empty as recorded."""

    mpid: int | None
    changes: list[Change]
    standing: str = ""


class Counting:
    """What each decision counts for, by the undos and splits that are in force: not undone, and not left out here.

    That a decision counts as before is what comes of its undo being undone, and says nothing by itself: it may count
    as an earlier undo has it.
    """

    def __init__(self, undos: Mapping[int, Entry], without: Collection[int] = ()) -> None:
        self._revised: dict[int, Revised] = {}
        void = set(without)
        for position in sorted(undos, reverse=True):
            if position not in void:
                rows = undos[position].decision.revised
                void.update(row.position for row in rows if row.standing == "undone" and row.position in undos)
        for position in sorted(undos.keys() - void):
            rows = undos[position].decision.revised
            self._revised |= {row.position: row for row in rows if row.standing != "restored"}

    def of(self, position: int, entry: Entry) -> Counted:
        """Return what a decision counts for."""
        row = self._revised.get(position)
        decision = entry.decision
        # What else an undo says is about other decisions, which count for it already.
        kinds = Guard if entry.request.kind == "undo" else OF_IDENTITIES
        if row is None:
            return Counted(decision.mpid, [one for one in decision.changes if isinstance(one, kinds)])
        return Counted(row.mpid, [one for one in row.changes if isinstance(one, kinds)], row.standing)

    def is_undone(self, position: int) -> bool:
        """Tell whether a decision is undone as a whole."""
        row = self._revised.get(position)
        return row is not None and row.standing == "undone"

    def revised(self, position: int) -> Revised | None:
        """Return what an undo has made of a decision; None where it counts as recorded."""
        return self._revised.get(position)


class Tail:
    """The decisions of one space after a position and through another.

    ``undos`` are those of them that undo or split.
    """

    def __init__(
        self,
        store: Store,
        space: str,
        policies: Mapping[tuple[str, int], Policy],
        after: int,
        last: int,
        progress: Progress,
    ) -> None:
        self.space = space
        self.after = after
        self.last = last
        self.undos: dict[int, Entry] = {}
        self._store = store
        self._policies = policies
        self._progress = progress
        self._scope = space.rpartition("/")[0]
        self._cache: list[tuple[int, Entry, Mentioned]] | None = None
        self._known: dict[int, Entry] = {}

    def policy(self, entry: Entry) -> Policy:
        """Return the policy that decided an entry."""
        return self._policies[self._scope, entry.policy]

    async def look(self, about: Mentioned) -> dict[int, Entry]:
        """Return the decisions that speak of any of some identities and profiles, by their positions."""
        revised = self._revised_about(about)
        found = {
            position: entry
            async for position, entry, speaks in self._all(about, revised)
            if position in revised or speaks.meets(about)
        }
        if not self._revised_about(about) <= revised:  # an undo turned up on the way
            return await self.look(about)
        return found

    async def matching(self, wanted: Callable[[Entry], bool]) -> dict[int, Entry]:
        """Return the decisions that meet a condition, by their positions."""
        return {position: entry async for position, entry, _ in self._all(None) if wanted(entry)}

    def _revised_about(self, about: Mentioned) -> set[int]:
        """Return the positions of decisions that count for something else since an undo, and then concern these."""
        return {
            row.position
            for undo in self.undos.values()
            for row in undo.decision.revised
            if (row.mpid in about.mpids and row.mpid is not None) or touched_by(row.changes).meets(about)
        }

    async def _all(
        self, about: Mentioned | None, anyway: Collection[int] = ()
    ) -> AsyncIterator[tuple[int, Entry, Mentioned]]:
        """Yield all decisions, or at least those that speak of some identities and profiles, and some ``anyway``."""
        if self._cache is not None:
            for row in self._cache:
                yield row
            return
        cache: list[tuple[int, Entry, Mentioned]] | None = [] if self.last - self.after <= CACHED else None
        needles = None if cache is not None or about is None else _needles(about)
        async for chunk in self._store.bodies(self.after):
            for position, body in chunk:
                if position > self.last:
                    break
                if needles is not None and not any(needle in body for needle in needles) and position not in anyway:
                    continue
                entry = decode(body)
                if entry.space != self.space:
                    continue
                if entry.request.kind in ("undo", "split"):
                    self.undos[position] = entry
                row = position, entry, mentioned(prepare(self.policy(entry), entry.request), entry.decision)
                if cache is not None:
                    cache.append(row)
                yield row
            self._progress(len(chunk))
            if chunk[-1][0] >= self.last:
                break
        if cache is not None:
            self._cache = cache


def _needles(about: Mentioned) -> list[bytes] | None:
    """Return texts of which one is in every entry that speaks of these; None where they are too many."""
    if len(about.identities) + len(about.mpids) > FEW:
        return None
    values = {_json(value)[1:-1] for _, value in about.identities}
    return [*values, *(str(mpid).encode() for mpid in about.mpids), _UNDO, _SPLIT]
