"""Modify requests: changing the identities of a profile that is named by its MPID (docs/identity.md, "Modify")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from oneself.identity.fold import apply
from oneself.identity.model import (
    HOLDERS_READ,
    Change,
    Decision,
    Dropped,
    Guard,
    Identity,
    IdentityChange,
    Link,
    Note,
    Refusal,
    Refused,
    Trace,
    Unlink,
    View,
)
from oneself.identity.policy import Policy
from oneself.identity.resolve import is_over_shared
from oneself.identity.values import MAX_VALUE_LENGTH, normalise, why_dropped

__all__ = ["modify", "touched"]


def touched(policy: Policy, asked: Sequence[IdentityChange]) -> list[Identity]:
    """Return the identities, normalised, that a modify request must be able to see."""
    return [
        (change.identity_type, normalise(change.identity_type, value, policy.phone_region))
        for change in asked
        for value in (change.old_value, change.new_value)
        if value is not None
    ]


def modify(policy: Policy, mpid: int, asked: Sequence[IdentityChange], view: View) -> Decision:
    """Decide a modify request: all of it or nothing, never a new profile, never another MPID.

    Values that do not count are dropped as they are from any request; with nothing left it is refused.
    """
    if mpid not in view.profiles:
        return _refuse([], Refusal(404, "NOT_FOUND_ERROR", f"No user has the MPID {mpid}."))
    was_known = not policy.login.isdisjoint(view.profiles[mpid].held)
    work = _Modify(policy, mpid, view.part(touched(policy, asked), mpid))
    for change in asked:
        refusal = work.change(change)
        if refusal:
            return _refuse(work.trace.dropped, refusal)
    if len(work.trace.dropped) == len(asked):
        listed = ", ".join(f"{d.type} ({d.why.replace('_', ' ')})" for d in work.trace.dropped)
        return _refuse(work.trace.dropped, Refusal(400, "LOOKUP_ERROR", f"No new_value can be used: {listed}."))
    known = not policy.login.isdisjoint(work.view.profiles[mpid].held)
    if known and not was_known:
        work.guard_shared(asked)
    return Decision(work.trace, mpid, known, changes=work.changes)


def _refuse(dropped: list[Dropped], error: Refusal) -> Decision:
    """Refuse all of a request; its trace tells nothing of changes that were not made."""
    return Decision(Trace("refused", dropped=dropped), error=error)


class _Modify:
    """A modify request in the making: each change sees what the ones before it did."""

    def __init__(self, policy: Policy, mpid: int, view: View) -> None:
        self.policy = policy
        self.mpid = mpid
        self.view = view
        self.trace = Trace("modified")
        self.changes: list[Change] = []

    def change(self, asked: IdentityChange) -> Refusal | None:
        policy, view, type_ = self.policy, self.view, asked.identity_type
        old = self._normal(type_, asked.old_value)
        new = self._normal(type_, asked.new_value)
        if new is not None and self._drop(type_, new, asked.new_value or ""):
            return None
        profile = view.profiles[self.mpid]
        held = type_ in profile.held
        holds_old = old is not None and view.holds(profile, type_, old)
        holds_new = new is not None and view.holds(profile, type_, new)
        if type_ in policy.immutable and held and not holds_new and (holds_old or new is not None):
            return self._immutable(f"{type_} of this user cannot be changed or removed.")
        if new is None:
            if holds_old and old is not None:
                self._do(Unlink(self.mpid, type_, old, "removed"))
            else:
                self.trace.notes.append(Note(type_, "absent"))
            return None
        if holds_new:
            if holds_old and old is not None and old != new:
                self._do(Unlink(self.mpid, type_, old, "removed"))
            self.trace.notes.append(Note(type_, "unchanged"))
            return None
        return self._add(type_, old if holds_old else None, new, replaced_stale=old is not None)

    def guard_shared(self, asked: Sequence[IdentityChange]) -> None:
        """Guard what the profile, which has become known, shares with too many known ones; it keeps its links."""
        for change in asked:
            type_, new = change.identity_type, self._normal(change.identity_type, change.new_value)
            if new is None or (type_, new) in self.view.guarded:
                continue
            held = self.view.holds(self.view.profiles[self.mpid], type_, new)
            if held and is_over_shared(self.policy, (type_, new), self.mpid, self.view):
                self._do(Guard(type_, new, "max_known_profiles_per_value"))

    def _add(self, type_: str, old: str | None, new: str, *, replaced_stale: bool) -> Refusal | None:
        """Link a value that the profile does not hold, in the place of ``old`` where that is given."""
        policy, view = self.policy, self.view
        identity = (type_, new)
        losers: list[int] = []
        if type_ in policy.unique:
            # That a view has further holders depends on the group it was read for, and a decision must not.
            losers = [other for _, other in view.holders[identity][:HOLDERS_READ]]
            if losers and type_ in policy.immutable:
                return self._immutable(f"{type_} belongs to another user, who cannot lose it.")
        elif self._over_limit(identity, replacing=old is not None):
            return None
        if old is not None:
            self._do(Unlink(self.mpid, type_, old, "modified"))
        elif replaced_stale:
            self.trace.notes.append(Note(type_, "added"))
        if type_ in policy.unique:
            for value in list(view.profiles[self.mpid].held.get(type_, ())):
                self._do(Unlink(self.mpid, type_, value, "replaced"))
            for loser in losers:
                self._do(Unlink(loser, type_, new, "moved", self.mpid))
                self.trace.notes.append(Note(type_, "moved", loser))
        self._do(Link(self.mpid, type_, new))
        return None

    def _over_limit(self, identity: Identity, *, replacing: bool) -> bool:
        """Refuse a value that a guard keeps off the profile, and say so in the trace."""
        policy, profile = self.policy, self.view.profiles[self.mpid]
        limit = policy.max_values_per_profile
        if 0 < limit <= profile.count(identity[0]) - replacing:
            self.trace.refused.append(Refused(*identity, "max_values_per_profile", self.mpid))
            return True
        known = identity[0] in policy.login or not policy.login.isdisjoint(profile.held)
        if known and is_over_shared(policy, identity, self.mpid, self.view):
            self.trace.refused.append(Refused(*identity, "max_known_profiles_per_value"))
            self._do(Guard(*identity, "max_known_profiles_per_value"))
            return True
        return False

    def _drop(self, type_: str, new: str, sent: str) -> bool:
        """Drop a change whose new value does not count, and say so in the trace."""
        guarded: Literal["guarded", ""] = "guarded" if (type_, new) in self.view.guarded else ""
        why = why_dropped(new, sent, self.policy.junk) or guarded
        if why:
            self.trace.dropped.append(Dropped(type_, new[:MAX_VALUE_LENGTH], why))
        return bool(why)

    def _normal(self, type_: str, value: str | None) -> str | None:
        return None if value is None else normalise(type_, value, self.policy.phone_region)

    @staticmethod
    def _immutable(message: str) -> Refusal:
        return Refusal(400, "IMMUTABLE_IDENTITY", message)

    def _do(self, change: Change) -> None:
        apply(self.view, change, 1 << 62)
        self.changes.append(change)
