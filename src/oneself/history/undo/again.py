"""Decisions made again over the state that there would be without those that are undone (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from oneself.history.undo.past import Guards, Past, PastKey
from oneself.history.undo.tail import OF_IDENTITIES, Counted, Counting, Tail
from oneself.identity import (
    Change,
    Create,
    Decision,
    Guard,
    Identity,
    Link,
    Mentioned,
    Release,
    Request,
    Unlink,
    apply,
    decide,
    prepare,
    touched_by,
)
from oneself.journal import Entry
from oneself.store import History

__all__ = ["DECIDED_AGAIN", "Again", "InTheWay", "Pin"]

DECIDED_AGAIN: Final = frozenset({"identify", "login", "logout", "modify", "batch", "release"})
"""The kinds of decision that can be made again."""

_STAMP: Final = "device_application_stamp"
_PINNED: Final = frozenset({"undone", "kept"})


class Pin(NamedTuple):
    """A value that counts as guarded in every decision before a position."""

    identity: Identity
    before: int


class InTheWay(NamedTuple):
    """A later decision that would come out otherwise: what it counts for, and what it would.

    ``how`` is ``again`` where it can be made again, else why it cannot.
    """

    position: int
    entry: Entry
    was: Counted
    would: Counted
    how: Literal["again", "split", "undo"] = "again"


class Again:
    """One pass over what came after: what is undone is left out, and what may depend on it is made again.

    ``left_out`` has, for each decision that is undone, those of its changes that stay. Through the position
    ``settled`` decisions count for what ``counting`` says, and are not made again. ``counted`` is what those
    decisions count for that count for something else now; ``in_the_way`` are those of them that were not meant.
    """

    def __init__(
        self,
        tail: Tail,
        past: Past,
        present: Counting,
        counting: Counting,
        *,
        left_out: Mapping[int, Counted],
        about: Mentioned,
        again: Collection[int],
        pins: Collection[Pin],
        meant: Callable[[Entry], bool],
        fresh: Callable[[int], int],
        settled: int = 0,
    ) -> None:
        self.view = past.view
        self.counted: dict[int, Counted] = {}
        self.in_the_way: list[InTheWay] = []
        self.lost: dict[PastKey, History] = {}
        self.guards: Guards = past.guards_then
        self.grown = Mentioned(set(), set())
        self._tail = tail
        self._past = past
        self._present = present
        self._counting = counting
        self._left_out = left_out
        self._again = again
        self._about = about
        self._pins = pins
        self._meant = meant
        self._fresh = fresh
        self._settled = settled
        self._went: dict[tuple[int, str], int] = {}
        self._latest: dict[int, int] = {}
        self._unfit: set[int] = set()

    def run(self) -> None:
        """Go over all decisions, in their order."""
        for position in sorted(self._past.entries):
            self._take(position, self._past.entries[position])
        for position in sorted(self._unfit):  # it is to count again, and something undone since keeps it from that
            entry = self._past.entries[position]
            self.in_the_way.append(
                InTheWay(
                    position, entry, self._present.of(position, entry), self._counting.of(position, entry), "undo"
                )
            )

    def _take(self, position: int, entry: Entry) -> None:
        was = self._present.of(position, entry)
        now = self._counting.of(position, entry)
        if position in self._left_out:
            now = self._left_out[position]
        elif self._is_made_again(position, entry, now):
            now = self._made_again(position, entry, was, now)
        if (now.changes, now.mpid) != (was.changes, was.mpid):
            self.counted[position] = now
            self._grow(was)
            self._grow(now)
            self._do(now.changes, position)
        else:
            for change in now.changes:
                if self._concerns(change):
                    self._do([change], position)

    def _concerns(self, change: Change) -> bool:
        """Tell whether a change is about somebody, or a value, that all this concerns.

        Somebody whom a decision before did not make now, or did not give what this one takes, is concerned, and is
        looked at in the next pass.
        """
        mpid = getattr(change, "mpid", None)
        if mpid is None:
            return True
        if isinstance(change, Create):
            return mpid in self._past.present
        if not isinstance(change, Link | Unlink) or self._fits(change):
            return True
        if mpid in self.view.profiles:
            self.grown.identities.add((change.type, change.value))
        if mpid in self._past.present:
            self.grown.mpids.add(mpid)
        return False

    def _is_made_again(self, position: int, entry: Entry, now: Counted) -> bool:
        settled = position <= self._settled or now.standing in _PINNED or entry.request.kind == "undo"
        return position in self._again and not settled

    def _grow(self, counted: Counted) -> None:
        self.grown.add(touched_by(counted.changes))
        if counted.mpid is not None:
            self.grown.mpids.add(counted.mpid)

    def _made_again(self, position: int, entry: Entry, was: Counted, now: Counted) -> Counted:
        """Return what a decision comes to; where that is something else, it is in the way."""
        kind = entry.request.kind
        error = entry.decision.error
        if kind == "split":
            if not all(self._fits(change) for change in now.changes if isinstance(change, Unlink)):
                self.in_the_way.append(InTheWay(position, entry, was, Counted(None, []), "split"))
                return Counted(None, [], "undone")
            return now
        if kind not in DECIDED_AGAIN or (error is not None and error.code == "INVALID_BATCH"):
            return now
        decision = self._decide(position, entry, now)
        changes: list[Change] = [one for one in decision.changes if isinstance(one, OF_IDENTITIES)]
        stays = now if now.standing != "moved" else Counted(entry.decision.mpid, now.changes)
        answer = decision.mpid if decision.error is None else None
        self._note(entry, answer)
        if (changes, answer) == (stays.changes, stays.mpid):
            return now
        made = Counted(answer, changes, "redecided")
        if not self._meant(entry):
            self.in_the_way.append(InTheWay(position, entry, was, made))
        return made

    def _decide(self, position: int, entry: Entry, now: Counted) -> Decision:
        view, policy = self.view, self._tail.policy(entry)
        request = self._mapped(entry.request)
        prepared = prepare(policy, request)
        for identity in prepared.identities:
            view.holders.setdefault(identity, [])
        made = next((change.mpid for change in now.changes if isinstance(change, Create)), None)
        fresh = made if made is not None and made not in view.profiles else self._fresh(position)
        pinned = [pin.identity for pin in self._pins if position < pin.before and pin.identity not in view.guarded]
        view.guarded.update(pinned)
        decision = decide(prepared, view, entry.at_ms, fresh)
        view.guarded.difference_update(pinned)
        if pinned:
            decision.changes = [one for one in decision.changes if not _is_guard(one, pinned)]
        return decision

    def _do(self, changes: list[Change], position: int) -> None:
        view = self.view
        for change in changes:
            if isinstance(change, Link | Unlink) and not self._fits(change):
                self._unfit.add(position)
                continue
            if isinstance(change, Unlink):
                profile = view.profiles[change.mpid]
                identity = (change.type, change.value)
                linked = profile.held[change.type].get(change.value)
                linked = view.further[change.mpid, identity] if linked is None else linked
                if linked != position:
                    key = (change.mpid, position, *identity)
                    row = History(change.mpid, position, *identity, linked, change.why, change.moved_to)
                    self.lost[key] = row
            elif isinstance(change, Guard):
                self.guards[change.type, change.value] = change.why, position
            elif isinstance(change, Release):
                self.guards.pop((change.type, change.value), None)
            apply(view, change, position)

    def _fits(self, change: Link | Unlink) -> bool:
        """Tell whether a link can be made, or ended."""
        profile = self.view.profiles.get(change.mpid)
        if profile is None:
            return False
        return self.view.holds(profile, change.type, change.value) == isinstance(change, Unlink)

    # -- the MPIDs that clients would have been given ----------------------------------------------------------------

    def _note(self, entry: Entry, answer: int | None) -> None:
        """Remember with whom a device, and anybody, is answered now who was answered with a profile."""
        told, device = entry.decision.mpid, entry.request.identities.get(_STAMP)
        if told is None or answer is None or entry.request.mpid is not None:
            return
        self._latest[told] = answer
        if device:
            self._went[told, device] = answer

    def _mapped(self, request: Request) -> Request:
        """Return a request with the MPIDs that its client would have been given."""
        if request.mpid is None and request.previous_mpid is None:
            return request
        device = request.identities.get(_STAMP) or ""
        mpid, previous = self._whom(request.mpid, device), self._whom(request.previous_mpid, device)
        if (mpid, previous) == (request.mpid, request.previous_mpid):
            return request
        return msgspec.structs.replace(request, mpid=mpid, previous_mpid=previous)

    def _whom(self, mpid: int | None, device: str) -> int | None:
        if mpid is None:
            return None
        if (mpid, device) in self._went:
            return self._went[mpid, device]
        return mpid if mpid in self.view.profiles else self._latest.get(mpid, mpid)


def _is_guard(change: Change, pinned: Collection[Identity]) -> bool:
    return isinstance(change, Guard | Release) and (change.type, change.value) in pinned
