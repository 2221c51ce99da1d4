"""Recorded decisions as they are told: what each did to a profile, and all of it in words (docs/why.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from oneself.explain import explain
from oneself.history.undo.standing import standings
from oneself.identity import (
    Alias,
    AliasOutcome,
    Change,
    Create,
    Decision,
    Expire,
    Guard,
    Link,
    Move,
    NoPast,
    Past,
    Reguard,
    Release,
    Remove,
    Restore,
    Revive,
    Unlink,
    Withdraw,
)
from oneself.journal import Entry
from oneself.store import Store

__all__ = ["Told", "decisions_told", "did", "entries_of", "request_told", "tell"]


class Told(msgspec.Struct, frozen=True):
    """A decision of the journal: its place, when (unix ms), by which input and policy version, and in words.

    ``mpid`` is the answer and ``error`` the code of a refusal; ``did`` says what it did, of one profile where that is
    what was asked for: ``created``, ``known``, ``anonymous``, ``orphaned``, ``linked``, ``received`` (an identity of
    another profile), ``moved`` (an identity to another), ``unlinked``, ``refused`` (a link), ``dropped`` (a value),
    ``guarded``, ``released``, ``aliased``, ``alias_applied``, ``alias_dropped``, ``alias_undone``, ``expired``,
    ``undone`` (by an undo), ``denied`` (the request). ``entry`` is the journal's own.
    """

    position: int
    at_ms: int
    space: str
    input: str
    policy: int
    kind: str
    request_id: str
    mpid: str | None
    error: str
    did: list[str]
    words: list[str]
    entry: Any


def tell(position: int, entry: Entry, mpid: int | None = None, also: Iterable[str] = ()) -> Told:
    """Return a decision as it is told, of one profile where there is an ``mpid``; ``also`` is what else it did."""
    decision = entry.decision
    return Told(
        position=position,
        at_ms=entry.at_ms,
        space=entry.space,
        input=entry.input,
        policy=entry.policy,
        kind=entry.request.kind,
        request_id=entry.request_id,
        mpid=None if decision.mpid is None else str(decision.mpid),
        error="" if decision.error is None else decision.error.code,
        did=list(dict.fromkeys([*did(decision, mpid), *also])),
        words=explain(entry.request, decision),
        entry=msgspec.to_builtins(entry),
    )


_OF_A_PROFILE: Final = (Create, Link, Unlink, Expire, Remove, Revive, Restore, Withdraw, Past, NoPast)


def did(decision: Decision, mpid: int | None = None) -> Iterator[str]:
    """Yield what a decision did, of one profile where there is an ``mpid``."""
    moving = {(c.type, c.value) for c in decision.changes if isinstance(c, Unlink) and c.moved_to}
    for change in decision.changes:
        if mpid is not None and not _concerns(change, mpid):
            continue
        word = _word(change, moving)
        if word:
            yield word
    if decision.error is not None:
        yield "denied"
    if mpid in (None, decision.mpid):
        if decision.trace.refused:
            yield "refused"
        if decision.trace.dropped:
            yield "dropped"


_WORDS: Final[dict[type[Change], str]] = {
    Create: "created",
    Guard: "guarded",
    Reguard: "guarded",
    Release: "released",
    Alias: "aliased",
    Expire: "expired",
    **dict.fromkeys((Remove, Revive, Restore, Withdraw, Past, NoPast, Move), "undone"),
}
"""What the other changes do, where they do it to a profile or a value."""


def _concerns(change: Change, mpid: int) -> bool:
    if isinstance(change, _OF_A_PROFILE):
        return change.mpid == mpid
    if isinstance(change, Alias | AliasOutcome):
        return mpid in (change.source, change.destination)
    return not isinstance(change, Move) or mpid in (change.source, change.target)


def _word(change: Change, moving: set[tuple[str, str]]) -> str:
    """Return what a change does, empty for one that is of no profile."""
    if isinstance(change, Link):
        return "received" if (change.type, change.value) in moving else "linked"
    if isinstance(change, Unlink):
        return "moved" if change.moved_to else "unlinked"
    if isinstance(change, AliasOutcome):
        return f"alias_{change.outcome}"
    return _WORDS.get(type(change), "")


async def entries_of(store: Store, positions: Iterable[int]) -> dict[int, Entry]:
    """Return the entries at some positions, in their order."""
    wanted = sorted(set(positions))
    found = await store.entries_at(wanted)
    return {position: found[position] for position in wanted if position in found}


async def decisions_told(store: Store, positions: Iterable[int]) -> list[Told]:
    """Return the decisions at some positions, in their order."""
    entries = await entries_of(store, positions)
    told = [tell(position, entry) for position, entry in entries.items()]
    for position, words in (await standings(store, entries)).items():
        for one in told:
            if one.position == position:
                one.words.append(words)
    return told


async def request_told(store: Store, request_id: str) -> list[Told]:
    """Return the decisions on a request id, one for each input that used it; none where none is remembered."""
    return await decisions_told(store, await store.find_request(request_id))
