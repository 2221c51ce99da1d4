"""Undoing and splitting as they are asked for: what is meant, a plan, and the plan carried out (docs/undo.md)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

import msgspec

from oneself.errors import OneselfError
from oneself.history.recorded import policies_of, span_of
from oneself.history.undo.planning import NotThere, NotUndone, decisions_of, plan_undo, plan_value
from oneself.history.undo.report import UndoPlan, UndoReport
from oneself.history.undo.split import plan_split
from oneself.history.whatif.trials import Progress
from oneself.identity import IDENTITY_TYPES, Identity, Later, Policy, Undo
from oneself.identity.values import normalise
from oneself.journal import Entry
from oneself.store import Store, is_removed

__all__ = ["Asked", "AskedSplit", "carried_out", "identity_of", "plan_asked", "plan_asked_split"]

TRIES: Final = 5
"""So often a plan is made again that something came in the way of, while it was made."""

_NUMBER: Final = re.compile(r"[1-9]\d{0,17}")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be undone.

    One ``decision``, by its request id or its position; all of an ``input`` (``WORKSPACE/INPUT``) from one moment to
    another (``first``, ``last``); or all that a ``value`` of a ``type`` caused. A ``scope`` and ``environment`` say
    in which space, where that is not clear; what is not in one of ``scopes``, where they are given, is not found.
    """

    decision: str = ""
    input: str = ""
    first: str = ""
    last: str = ""
    type: str = ""
    value: str = ""
    scope: str = ""
    environment: Literal["", "production", "development"] = ""
    later: Later = ""
    guard: bool = True
    scopes: frozenset[str] | None = None


class AskedSplit(msgspec.Struct, frozen=True, kw_only=True):
    """Which identities are to be split off whom; one who is not in ``scopes``, where they are given, is not found."""

    mpid: int
    identities: tuple[Identity, ...]
    scopes: frozenset[str] | None = None


async def plan_asked(
    store: Store, asked: Asked, mpids: Callable[[int], int], progress: Progress = lambda _: None
) -> UndoPlan:
    """Plan what is asked for; raise ``NotUndone`` where that cannot be."""
    if asked.type:
        return await _value(store, asked, mpids, progress)
    if asked.input:
        span = await span_of(store, asked.first, asked.last)
        by_space = await decisions_of(store, asked.input, span.first, span.last, progress)
        found = {space: positions for space, positions in by_space.items() if _allowed(space, asked)}
        if not found:
            raise NotThere(f"{asked.input} decided nothing that can be undone from {span.first} to {span.last}.")
        if len(found) > 1:
            raise NotUndone(f"{asked.input} decided in several spaces; name one: {', '.join(sorted(found))}.")
        [positions] = found.values()
        what = Undo(positions, later=asked.later, input=asked.input, first=span.first, last=span.last)
        return await plan_undo(store, what, mpids=mpids, progress=progress)
    position, entry = await _decision(store, asked)
    what = Undo((position,), later=asked.later)
    return await plan_undo(store, what, mpids=mpids, progress=progress, known={position: entry})


async def plan_asked_split(
    store: Store, asked: AskedSplit, mpids: Callable[[int], int], progress: Progress = lambda _: None
) -> UndoPlan:
    """Plan a split that is asked for; raise ``NotUndone`` where that cannot be."""
    profile = await store.profile(asked.mpid)
    scope = "" if profile is None else profile.space.rpartition("/")[0]
    if profile is None or is_removed(profile.space) or (asked.scopes is not None and scope not in asked.scopes):
        raise NotThere(f"No user has the MPID {asked.mpid}.")
    policy = await _policy(store, scope)
    identities = [_normal(policy, *identity) for identity in asked.identities]
    return await plan_split(store, asked.mpid, identities, fresh_mpid=mpids(0), progress=progress)


async def carried_out(
    plan: Callable[[], Awaitable[UndoPlan]], carry: Callable[[UndoPlan], Awaitable[int | None]]
) -> UndoReport:
    """Plan, and have the plan carried out where it can be; return what has changed, or would.

    ``carry`` returns the position of the decision, None where something came in between: then it is planned again.
    """
    for _ in range(TRIES):
        made = await plan()
        if made.plan is None:
            return made.report
        position = await carry(made)
        if position is not None:
            return msgspec.structs.replace(made.report, position=position)
    raise OneselfError("Other decisions came in between whenever this was planned: try again at a quieter time.")


def identity_of(text: str) -> Identity:
    """Return the identity that is written as ``TYPE=VALUE``; raise ``OneselfError`` where it is none."""
    type_, equals, value = text.partition("=")
    if not equals or not value:
        raise OneselfError(f"{text!r} is no identity: write TYPE=VALUE, such as email=ana@example.com.")
    if type_ not in IDENTITY_TYPES:
        raise OneselfError(f"{type_!r} is no identity type; there are: {', '.join(sorted(IDENTITY_TYPES))}.")
    return type_, value


async def _decision(store: Store, asked: Asked) -> tuple[int, Entry]:
    """Return the position of the decision that is meant, and its entry."""
    name = asked.decision
    positions: Sequence[int] = await store.find_request(name)
    if not positions and _NUMBER.fullmatch(name) and int(name) <= store.position:
        positions = [int(name)]
    found = await store.entries_at(positions) if positions else {}
    entries = {at: entry for at, entry in found.items() if _allowed(entry.space, asked)}
    if not entries:
        raise NotThere(f"There is no decision or request {name}.")
    if len(entries) > 1:
        listed = ", ".join(f"{at} ({entry.input})" for at, entry in sorted(entries.items()))
        raise NotUndone(f"Several inputs used the request id {name}; give the decision: {listed}.")
    return next(iter(entries.items()))


def _allowed(space: str, asked: Asked) -> bool:
    scope, _, environment = space.rpartition("/")
    if asked.scopes is not None and scope not in asked.scopes:
        return False
    return asked.scope in ("", scope) and asked.environment in ("", environment)


async def _value(store: Store, asked: Asked, mpids: Callable[[int], int], progress: Progress) -> UndoPlan:
    scopes = sorted({version.scope for version in await store.policies()})
    environment = asked.environment or "production"
    named = [scope for scope in scopes if _allowed(f"{scope}/{environment}", asked)]
    if len(named) != 1:
        raise NotThere(f"Name the scope; there are: {', '.join(scopes) or 'none'}.")
    type_, value = _normal(await _policy(store, named[0]), asked.type, asked.value)
    what = Undo(type=type_, value=value, later=asked.later, guard=asked.guard)
    return await plan_value(store, f"{named[0]}/{environment}", what, mpids=mpids, progress=progress)


async def _policy(store: Store, scope: str) -> Policy:
    policies = await policies_of(store)
    return policies[max(key for key in policies if key[0] == scope)]


def _normal(policy: Policy, type_: str, value: str) -> Identity:
    return type_, normalise(type_, value, policy.phone_region)
