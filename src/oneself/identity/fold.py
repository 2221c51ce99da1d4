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
    Link,
    Profile,
    Release,
    Unlink,
    View,
)

__all__ = ["apply"]

_NONE_HELD: Final[dict[str, dict[str, int]]] = {}
_NONE_MORE: Final[dict[str, int]] = {}


def apply(view: View, change: Change, position: int) -> None:
    """Make one change, decided at a journal position, in a view that has all that the change touches."""
    if type(change) is Link:  # isinstance takes some times as long to say no, and these three are the usual ones
        _link(view, change, position)
    elif type(change) is Create:
        view.profiles[change.mpid] = Profile(change.mpid, position, _NONE_HELD, _NONE_MORE)
    elif type(change) is Unlink:
        _unlink(view, change)
    elif isinstance(change, Guard):
        view.guarded.add((change.type, change.value))
    elif isinstance(change, Release):
        view.guarded.discard((change.type, change.value))
    elif isinstance(change, Alias):
        view.aliases[position] = AliasRow(position, *msgspec.structs.astuple(change))
    elif isinstance(change, AliasOutcome):
        row = view.aliases[change.position]
        view.aliases[change.position] = msgspec.structs.replace(
            row, outcome=change.outcome, why=change.why, processed=position
        )
    elif isinstance(change, Expire) and change.mpid in view.stored:
        stored = view.stored[change.mpid]
        view.stored[change.mpid] = {name: at for name, at in stored.items() if name != change.workspace}
    # the other changes concern what batches brought, which no decision looks at


def _link(view: View, change: Link, position: int) -> None:
    profile = view.profiles[change.mpid]
    identity = (change.type, change.value)
    values = profile.held.get(change.type)
    if values is None:
        held = profile.held | {change.type: {change.value: position}}
        view.profiles[change.mpid] = Profile(profile.mpid, profile.created, held, profile.more)
    elif len(values) < INLINE_VALUES:
        held = profile.held | {change.type: values | {change.value: position}}
        view.profiles[change.mpid] = Profile(profile.mpid, profile.created, held, profile.more)
    else:
        more = profile.more | {change.type: profile.more.get(change.type, 0) + 1}
        view.profiles[change.mpid] = Profile(profile.mpid, profile.created, profile.held, more)
        view.further[(change.mpid, identity)] = position
    rows = view.holders.get(identity)
    if rows is None:
        view.holders[identity] = [(position, change.mpid)]
    else:
        view.holders[identity] = [(position, change.mpid), *rows]


def _unlink(view: View, change: Unlink) -> None:
    profile = view.profiles[change.mpid]
    identity = (change.type, change.value)
    values = profile.held[change.type]
    if change.value in values:
        left = {value: at for value, at in values.items() if value != change.value}
        if left or change.type in profile.more:
            held = profile.held | {change.type: left}
        else:
            held = {type_: kept for type_, kept in profile.held.items() if type_ != change.type}
        view.profiles[change.mpid] = msgspec.structs.replace(profile, held=held)
    else:
        count = profile.more[change.type] - 1
        more = {type_: n for type_, n in profile.more.items() if type_ != change.type}
        held = profile.held
        if count:
            more[change.type] = count
        elif not held[change.type]:
            held = {type_: kept for type_, kept in held.items() if type_ != change.type}
        view.profiles[change.mpid] = msgspec.structs.replace(profile, held=held, more=more)
        del view.further[(change.mpid, identity)]
    rows = view.holders.get(identity)
    if rows is not None:
        view.holders[identity] = [row for row in rows if row[1] != change.mpid]
