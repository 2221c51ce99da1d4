"""The state is the fold of the journal's changes: ``apply`` is the only code that says what a change does."""

from __future__ import annotations

from typing import Final

import msgspec

from oneself.identity.model import (
    INLINE_VALUES,
    Alias,
    AliasOutcome,
    AliasRow,
    Change,
    Create,
    Expire,
    Guard,
    Identity,
    Link,
    Profile,
    Release,
    Unlink,
    View,
)
from oneself.identity.revision import Reguard, Remove, Restore, Revive, Withdraw

__all__ = ["apply"]

_NONE_HELD: Final[dict[str, dict[str, int]]] = {}
_NONE_MORE: Final[dict[str, int]] = {}


def apply(view: View, change: Change, position: int) -> None:
    """Make one change, decided at a journal position, in a view that has all that the change touches."""
    if type(change) is Link:  # isinstance takes some times as long to say no, and these three are the usual ones
        _link(view, change.mpid, (change.type, change.value), position)
    elif type(change) is Create:
        view.profiles[change.mpid] = Profile(change.mpid, position, _NONE_HELD, _NONE_MORE)
    elif type(change) is Unlink:
        _unlink(view, change.mpid, (change.type, change.value))
    elif isinstance(change, Guard | Reguard):
        view.guarded.add((change.type, change.value))
    elif isinstance(change, Release):
        view.guarded.discard((change.type, change.value))
    elif isinstance(change, Alias):
        view.aliases[position] = AliasRow(position, *msgspec.structs.astuple(change))
    elif isinstance(change, AliasOutcome):
        row = view.aliases[change.position]
        processed = 0 if change.outcome == "waiting" else position
        view.aliases[change.position] = msgspec.structs.replace(
            row, outcome=change.outcome, why=change.why, processed=processed
        )
    elif isinstance(change, Expire) and change.mpid in view.stored:
        stored = view.stored[change.mpid]
        view.stored[change.mpid] = {name: at for name, at in stored.items() if name != change.workspace}
    elif isinstance(change, Restore):
        _restore(view, change)
    elif isinstance(change, Withdraw):
        _unlink(view, change.mpid, (change.type, change.value))
    elif isinstance(change, Revive):
        view.profiles[change.mpid] = Profile(change.mpid, change.created, _NONE_HELD, _NONE_MORE)
    elif isinstance(change, Remove):
        del view.profiles[change.mpid]
    # the other changes concern what batches brought, which no decision looks at


def _link(view: View, mpid: int, identity: Identity, position: int) -> None:
    profile = view.profiles[mpid]
    type_, value = identity
    values = profile.held.get(type_)
    if values is None or len(values) < INLINE_VALUES:
        held = profile.held.copy()  # quicker than a union, of which this is half
        if values is None:
            held[type_] = {value: position}
        else:
            held[type_] = values | {value: position}
        view.profiles[mpid] = Profile(mpid, profile.created, held, profile.more)
    else:
        more = profile.more | {type_: profile.more.get(type_, 0) + 1}
        view.profiles[mpid] = Profile(mpid, profile.created, profile.held, more)
        view.further[(mpid, identity)] = position
    rows = view.holders.get(identity)
    if rows is None:
        view.holders[identity] = [(position, mpid)]
    else:
        view.holders[identity] = [(position, mpid), *rows]


def _restore(view: View, change: Restore) -> None:
    """Link an identity as of a position: it stands among those that were linked before and after."""
    identity = (change.type, change.value)
    _link(view, change.mpid, identity, change.linked)
    view.holders[identity].sort(reverse=True)
    profile = view.profiles[change.mpid]
    values = profile.held[change.type]
    if change.value in values and list(values.values()) != sorted(values.values()):
        held = profile.held | {change.type: dict(sorted(values.items(), key=_linked_at))}
        view.profiles[change.mpid] = msgspec.structs.replace(profile, held=held)


def _linked_at(held: tuple[str, int]) -> int:
    return held[1]


def _unlink(view: View, mpid: int, identity: Identity) -> None:
    profile = view.profiles[mpid]
    type_, value = identity
    values = profile.held[type_]
    if value in values:
        left = {other: at for other, at in values.items() if other != value}
        if left or type_ in profile.more:
            held = profile.held | {type_: left}
        else:
            held = {held_type: kept for held_type, kept in profile.held.items() if held_type != type_}
        view.profiles[mpid] = msgspec.structs.replace(profile, held=held)
    else:
        count = profile.more[type_] - 1
        more = {more_type: n for more_type, n in profile.more.items() if more_type != type_}
        held = profile.held
        if count:
            more[type_] = count
        elif not held[type_]:
            held = {held_type: kept for held_type, kept in held.items() if held_type != type_}
        view.profiles[mpid] = msgspec.structs.replace(profile, held=held, more=more)
        del view.further[(mpid, identity)]
    rows = view.holders.get(identity)
    if rows is not None:
        view.holders[identity] = [row for row in rows if row[1] != mpid]
