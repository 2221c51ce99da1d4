"""Undo: a plan that makes the state what it would be without some decisions (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from oneself.errors import OneselfError
from oneself.history.recorded import policies_of
from oneself.history.undo.again import DECIDED_AGAIN, Again, Pin
from oneself.history.undo.difference import changes_of, moves_of, revised_of
from oneself.history.undo.keeping import Keeping
from oneself.history.undo.past import Past, past_of
from oneself.history.undo.report import UndoPlan, Way, report_of, way_of
from oneself.history.undo.tail import Counted, Counting, Tail
from oneself.history.whatif.trials import Progress
from oneself.identity import (
    AliasOutcome,
    Change,
    Decision,
    Guard,
    Identity,
    Mentioned,
    Move,
    Policy,
    Remove,
    Request,
    Revised,
    Trace,
    Undo,
    mentioned,
    prepare,
    touched_by,
)
from oneself.journal import Entry, decode
from oneself.store import Plan, Rewritten, Store
from oneself.store.moving import Moving

__all__ = ["NotThere", "NotUndone", "decisions_of", "plan_undo", "plan_value", "rewritten"]

_LEFT_OUT: Final = Counted(None, [], "undone")
_UNDONE_ALONE: Final = frozenset({"undo", "split"})
UNDOABLE: Final = DECIDED_AGAIN | {"alias"}
"""The kinds of decision that can be undone, several at once."""

_CANNOT: Final = {
    "alias_process": "it is what became of an alias: undo the alias, the decision that accepted it",
    "alias_undo": "it took an alias back: ask for the alias again",
    "retention": "what it deleted is gone",
    "expiry": "what it deleted is gone",
    "forget": "what it deleted is gone",
    "discard": "what it deleted is gone",
}


class NotUndone(OneselfError):
    """What was asked for cannot be undone, whatever is told of later decisions."""


class NotThere(NotUndone):
    """There is no such decision, user or scope."""


async def plan_undo(
    store: Store,
    asked: Undo,
    *,
    mpids: Callable[[int], int],
    progress: Progress = lambda _: None,
    known: Mapping[int, Entry] | None = None,
) -> UndoPlan:
    """Plan to undo the decisions at some positions, all of one space.

    ``mpids`` draws the MPID of a user whom the decision at a position comes to make when it is made again;
    ``progress`` is told of entries that were read. ``known`` are the entries of the decisions, where they were read
    before. Raises ``NotUndone``.
    """
    entries = await store.entries_at(asked.positions) if known is None else known
    policies = await policies_of(store)
    missing = [position for position in asked.positions if position not in entries]
    if missing or not entries:
        raise NotThere(f"The journal has no decision {missing[0]}." if missing else "There is nothing to undo.")
    spaces = {entry.space for entry in entries.values()}
    if len(spaces) > 1:
        raise NotUndone(f"These decisions are of several spaces: {', '.join(sorted(spaces))}. Undo those of one.")
    _check(entries, asked)
    first = min([*entries, *(row.position for entry in entries.values() for row in entry.decision.revised)])
    return await _undoing(store, spaces.pop(), policies, asked, first - 1, mpids, progress).plan(entries)


async def plan_value(
    store: Store, space: str, asked: Undo, *, mpids: Callable[[int], int], progress: Progress = lambda _: None
) -> UndoPlan:
    """Plan to undo all that an identity value caused in a space: every decision is as if it had been guarded.

    Like ``plan_undo``; the value is normalised already.
    """
    if asked.later == "keep":
        raise NotUndone("What a value caused is undone as a whole: later decisions are made again, or in the way.")
    work = _undoing(store, space, await policies_of(store), asked, 0, mpids, progress)
    if asked.type not in work.newest.rank:
        raise NotUndone(f"{asked.type} finds nobody under the policy of {space}, so it caused nothing.")
    return await work.plan({})


async def decisions_of(
    store: Store, input_: str, first: int, last: int, progress: Progress = lambda _: None
) -> dict[str, tuple[int, ...]]:
    """Return the positions of an input's decisions in a span (both ends in it) that can be undone, by their spaces.

    ``input_`` is ``WORKSPACE/INPUT``.
    """
    found: dict[str, list[int]] = {}
    async for chunk in store.bodies(first - 1):
        for position, body in chunk:
            if position > last:
                break
            entry = decode(body)
            if entry.input == input_ and entry.request.kind in UNDOABLE:
                found.setdefault(entry.space, []).append(position)
        progress(len(chunk))
        if chunk[-1][0] >= last:
            break
    return {space: tuple(positions) for space, positions in found.items()}


def _check(entries: Mapping[int, Entry], asked: Undo) -> None:
    for position, entry in entries.items():
        kind = entry.request.kind
        if kind in _CANNOT:
            raise NotUndone(f"Decision {position} ({kind}) cannot be undone: {_CANNOT[kind]}.")
        if kind in _UNDONE_ALONE:
            if len(entries) > 1:
                raise NotUndone(f"Decision {position} is an undo or a split itself: undo it by itself.")
            if asked.later == "keep":
                raise NotUndone(f"Decision {position} is undone as a whole: tell --later redecide, or nothing.")


def _undoing(
    store: Store,
    space: str,
    policies: Mapping[tuple[str, int], Policy],
    asked: Undo,
    after: int,
    mpids: Callable[[int], int],
    progress: Progress,
) -> _Undoing:
    if not any(scope == space.rpartition("/")[0] for scope, _ in policies):
        raise NotThere(f"Nothing was ever decided in {space}.")
    tail = Tail(store, space, policies, after, store.position, progress)
    return _Undoing(store, asked, tail, policies, mpids)


class _Undoing:
    """An undo in the making."""

    def __init__(
        self,
        store: Store,
        asked: Undo,
        tail: Tail,
        policies: Mapping[tuple[str, int], Policy],
        mpids: Callable[[int], int],
    ) -> None:
        self.store = store
        self.asked = asked
        self.tail = tail
        self.space = tail.space
        scope = self.space.rpartition("/")[0]
        self.newest = policies[max(key for key in policies if key[0] == scope)]
        self.value: Identity | None = (asked.type, asked.value) if asked.type else None
        self._mpids = mpids
        self._fresh: dict[int, int] = {}

    async def plan(self, chosen: Mapping[int, Entry]) -> UndoPlan:
        """Return the plan to undo some decisions, or what the value caused."""
        chosen = dict(chosen)
        about = await self._about(chosen)
        undone = [position for position in chosen if self._present().is_undone(position)]
        if undone and len(undone) == len(chosen):
            raise NotUndone(f"Decision {undone[0]} is undone already.")
        for position in undone:
            del chosen[position]
        keeping = Keeping(chosen, self._present())
        while True:
            past, again = await self._passes(chosen, about, keeping)
            if self.asked.later != "keep" or not keeping.keep_for(again.in_the_way, self.tail):
                break
        return await self._finish(chosen, keeping, past, again, about)

    def _present(self) -> Counting:
        return Counting(self.tail.undos)

    async def _about(self, chosen: Mapping[int, Entry]) -> Mentioned:
        """Return what the decisions that are undone touched."""
        about = Mentioned({self.value} if self.value else set(), set())
        for entry in chosen.values():
            about.add(touched_by(entry.decision.changes))
            for row in entry.decision.revised:
                about.add(touched_by(row.changes))
                about.mpids.update(() if row.mpid is None else (row.mpid,))
            if entry.decision.mpid is not None:
                about.mpids.add(entry.decision.mpid)
        await self.tail.look(about)  # learns of the undos
        present = self._present()
        for position, entry in chosen.items():
            counted = present.of(position, entry)
            about.add(touched_by(counted.changes))
            about.mpids.update(() if counted.mpid is None else (counted.mpid,))
        return about

    async def _passes(self, chosen: Mapping[int, Entry], about: Mentioned, keeping: Keeping) -> tuple[Past, Again]:
        """Go over what came after until no more is found that depends on it; ``about`` grows with what does."""
        while True:
            concerned = await self.tail.look(about)
            interest = Mentioned(set(about.identities), set(about.mpids))
            for entry in concerned.values():
                interest.add(mentioned(prepare(self.tail.policy(entry), entry.request), entry.decision))
            present = self._present()
            past = await past_of(self.store, self.tail, present, interest)
            past.entries.update(chosen)
            undoing = {at for at, entry in chosen.items() if entry.request.kind in _UNDONE_ALONE}
            for at in undoing:
                revised = [row.position for row in chosen[at].decision.revised]
                past.entries.update(await self.store.entries_at(revised))
            again = Again(
                self.tail,
                past,
                present,
                Counting(self.tail.undos, undoing),
                left_out=keeping.left_out(),
                about=about,
                again=concerned.keys(),
                pins=self._pins(present, undoing),
                meant=self._is_meant,
                fresh=self._drawn,
                settled=max(undoing, default=0),
            )
            again.run()
            if again.grown.identities <= about.identities and again.grown.mpids <= about.mpids:
                return past, again
            about.add(again.grown)

    def _pins(self, present: Counting, undoing: Collection[int]) -> list[Pin]:
        """Return the values that count as guarded: this one, and those of earlier undos that are in force."""
        pins = [
            Pin((entry.request.undo.type, entry.request.undo.value), position)
            for position, entry in self.tail.undos.items()
            if entry.request.undo is not None and entry.request.undo.type
            if position not in undoing and not present.is_undone(position)
        ]
        return [*pins, Pin(self.value, self.tail.last + 1)] if self.value else pins

    def _is_meant(self, entry: Entry) -> bool:
        """Tell whether the value takes part in a decision itself."""
        if self.value is None or entry.request.kind not in DECIDED_AGAIN:
            return False
        return self.value in prepare(self.tail.policy(entry), entry.request).identities

    def _drawn(self, position: int) -> int:
        if position not in self._fresh:
            self._fresh[position] = self._mpids(position)
        return self._fresh[position]

    # -- the plan ----------------------------------------------------------------------------------------------

    async def _finish(
        self, chosen: Mapping[int, Entry], keeping: Keeping, past: Past, again: Again, about: Mentioned
    ) -> UndoPlan:
        present, left_out = self._present(), keeping.left_out()
        ways = [way_of(one) for one in again.in_the_way]
        ways += self._later_undos(chosen)
        changes = changes_of(past, again)
        removed = {change.mpid for change in changes if isinstance(change, Remove)}
        aliases, alias_ways = await self._aliases(chosen, removed)
        ways = sorted([*ways, *alias_ways], key=lambda way: way.position)
        kept = await self._batches(past, again)
        moves: list[Change] = [*moves_of(past.entries, present, again, kept)]
        revised = revised_of(past, again, Counting(self.tail.undos, chosen), left_out)
        changes += [*aliases, *moves]
        guarded = ""
        if self.value is not None and self.asked.guard:
            changes.append(Guard(*self.value, "undone"))
            guarded = " ".join(self.value)
        doable = not ways or (self.asked.later == "redecide" and all(way.how in _DOABLE for way in ways))
        possible = bool(revised) and doable
        report = report_of(
            self.space, "undo", self.asked.later, changes, revised, ways,
            possible=possible, events=sum(kept.values()), guarded=guarded,
        )  # fmt: skip
        request = Request("undo", undo=self.asked)
        if not possible:
            return UndoPlan(self.space, request, report)
        plan = await self._planned(past, about, changes, revised)
        return UndoPlan(self.space, request, report, plan)

    async def _planned(
        self,
        past: Past,
        about: Mentioned,
        changes: list[Change],
        revised: list[Revised],
    ) -> Plan:
        touched = touched_by(changes)
        about.add(touched)
        drawn = (touched.mpids - past.present.keys()) & set(self._fresh.values())
        if drawn and await self.store.existing([*drawn]):
            raise NotUndone("An MPID was drawn that is somebody's: try again.")
        return Plan(
            self.tail.last,
            Decision(Trace("undone"), changes=changes, revised=revised),
            about,
            {mpid: past.present[mpid][0] if mpid in past.present else None for mpid in touched.mpids},
            await rewritten(self.store, [one for one in changes if isinstance(one, Move)]),
        )

    def _later_undos(self, chosen: Mapping[int, Entry]) -> list[Way]:
        """Return later undos that made decisions count for something else which are to count as before."""
        ways = []
        for at, entry in chosen.items():
            if entry.request.kind not in _UNDONE_ALONE:
                continue
            mine = {row.position for row in entry.decision.revised}
            for position, undo in self.tail.undos.items():
                theirs = {row.position for row in undo.decision.revised if row.standing != "restored"}
                if position > at and (at in theirs or mine & theirs) and not self._present().is_undone(position):
                    ways.append(Way(position, undo.request.kind, undo.input, undo.request_id, "", "", "undo"))
        return ways

    async def _aliases(self, chosen: Mapping[int, Entry], removed: Collection[int]) -> tuple[list[Change], list[Way]]:
        """Return what becomes of aliases that are undone, or whose users are gone, and those that are in the way."""
        changes: dict[int, Change] = {}
        ways = []
        for position, entry in chosen.items():
            if entry.request.kind == "alias":
                found = await self.store.alias(position)
                if found is not None and found[1].outcome != "undone":
                    row = found[1]
                    changes[position] = AliasOutcome(position, row.source, row.destination, "undone")
            for change in entry.decision.changes if entry.request.kind == "undo" else ():
                if isinstance(change, AliasOutcome):
                    changes[change.position] = await self._alias_before(change, position)
        for mpid in removed:
            for row in await self.store.aliases(mpid):
                if row.outcome != "undone" and row.position not in changes:
                    undone = await self.store.entry(row.position)
                    assert undone is not None
                    changes[row.position] = AliasOutcome(row.position, row.source, row.destination, "undone")
                    ways.append(Way(row.position, "alias", undone.input, undone.request_id, "", "", "alias"))
        return list(changes.values()), ways

    async def _alias_before(self, change: AliasOutcome, position: int) -> AliasOutcome:
        """Return what an alias was before an undo."""
        profile = await self.store.profile(change.source)
        earlier = [at for at in profile.decisions if at < position] if profile is not None else []
        before = replace(change, outcome="waiting", why="", other=0)
        for _, entry in sorted((await self.store.entries_at(earlier)).items()):
            for one in entry.decision.changes:
                if isinstance(one, AliasOutcome) and one.position == change.position:
                    before = one
        return before

    async def _batches(self, past: Past, again: Again) -> dict[int, int]:
        """Return how many events each batch has that is kept, of those whose decisions count for something else."""
        asked = [at for at in again.counted if past.entries[at].request.kind == "batch"]
        records = await self.store.batches(asked) if asked else {}
        return {at: len(one.batch.events) for at, one in records.items() if one.batch is not None}


_DOABLE: Final = frozenset({"again", "alias"})


async def rewritten(store: Store, moves: Sequence[Move]) -> Rewritten:
    """Return the rows that are different once batches have moved."""
    if not moves:
        return Rewritten()
    moving = Moving()
    for mpid in {mpid for move in moves for mpid in (move.source, move.target) if mpid}:
        moving.own(mpid, await store.made_of(mpid), *await store.expiries(mpid))
    for move in moves:
        moving.move(move.source, move.target, move.positions)
    return moving.rewritten(await store.batches(sorted(moving.needed)))
