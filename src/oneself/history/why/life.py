"""The whole life of a profile: what it held and lost, when it was known, and every decision on it (docs/why.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from oneself.history.recorded import policies_of
from oneself.history.why.told import Told, entries_of, tell
from oneself.identity import Policy
from oneself.store import Store, StoredProfile, Wanted, is_removed

__all__ = ["DECISIONS", "Former", "Holds", "Life", "Milestone", "life"]

DECISIONS: Final = 100
"""Of a profile so many decisions are told at a time, the newest."""

_LISTED: Final = 200
"""So many identities and former identities are listed, the latest; all are counted."""

_MILESTONES: Final = 50

_NEVER: Final = 1 << 62

State = Literal["known", "anonymous", "orphan"]


class Holds(msgspec.Struct, frozen=True):
    """An identity that a profile holds: since which decision, and whether it is guarded and so finds nobody."""

    type: str
    value: str
    since: int
    guarded: bool


class Former(msgspec.Struct, frozen=True):
    """An identity that a profile held: from and until which decision, why it left, and who got it."""

    type: str
    value: str
    since: int
    until: int
    why: str
    moved_to: str | None


class Milestone(msgspec.Struct, frozen=True):
    """A decision from which on a profile was something else, and when (unix ms)."""

    position: int
    at_ms: int
    became: State


class Life(msgspec.Struct, frozen=True):
    """A profile and what became of it.

    ``made`` is the decision that made it; one that an undo ``removed`` is nobody's. Listed are the latest of its
    identities and of its former ones, and the latest times that it became something else; ``…_total`` count all.
    ``decisions`` are the newest of the ``decisions_total`` that concern it, or the newest before a given one, oldest
    first; ``next`` is to be given as ``before`` for those before them, None where there are none.
    """

    mpid: str
    space: str
    state: State | Literal["removed"]
    made: int
    milestones: list[Milestone]
    milestones_total: int
    identities: list[Holds]
    identities_total: int
    former: list[Former]
    former_total: int
    decisions: list[Told]
    decisions_total: int
    next: int | None


class _Turn(NamedTuple):
    position: int
    became: State


async def life(store: Store, mpid: int, *, before: int = 0, limit: int = DECISIONS) -> Life | None:
    """Return the life of a profile; None where there is no such profile.

    Only the entries of decisions that are told are read, whatever the profile has been through.
    """
    stored = await store.profile(mpid)
    if stored is None:
        return None
    turns = list(_turns(stored, await _logins(store, stored.space)))
    positions = [at for at in stored.decisions if not before or at < before]
    page = positions[-limit:]
    shown = turns[-_MILESTONES:]
    entries = await entries_of(store, [*page, *(turn.position for turn in shown)])
    became = {turn.position: turn.became for turn in turns}
    return Life(
        mpid=str(mpid),
        space=stored.space.removeprefix("/"),
        state="removed" if is_removed(stored.space) else turns[-1].became,
        made=stored.created,
        milestones=[
            Milestone(turn.position, entries[turn.position].at_ms, turn.became)
            for turn in shown
            if turn.position in entries
        ],
        milestones_total=len(turns),
        identities=await _holds(store, stored),
        identities_total=len(stored.identities),
        former=[
            Former(row.type, row.value, row.linked, row.ended, row.why, str(row.moved_to) if row.moved_to else None)
            for row in stored.history[-_LISTED:]
        ],
        former_total=len(stored.history),
        decisions=[tell(at, entries[at], mpid, _also(became.get(at))) for at in page if at in entries],
        decisions_total=len(stored.decisions),
        next=page[0] if len(page) < len(positions) else None,
    )


def _also(became: State | None) -> list[str]:
    return [] if became is None else ["orphaned" if became == "orphan" else became]


async def _holds(store: Store, stored: StoredProfile) -> list[Holds]:
    """Return the latest identities of a profile."""
    latest = stored.identities[-_LISTED:]
    identities = [(type_, value) for type_, value, _ in latest]
    reading = await store.read({stored.space: Wanted(identities)})
    guarded = reading.views[stored.space].guarded
    return [Holds(type_, value, at, (type_, value) in guarded) for type_, value, at in latest]


async def _logins(store: Store, space: str) -> list[tuple[int, frozenset[str]]]:
    """Return the login types of a scope, each with the position that they held from, oldest first."""
    scope = space.removeprefix("/").rpartition("/")[0]  # an undo may have removed the profile
    policies: Mapping[tuple[str, int], Policy] = await policies_of(store)
    versions = [row for row in await store.policies() if row.scope == scope]
    return [(row.position, policies[scope, row.version].login) for row in versions]


def _turns(stored: StoredProfile, logins: Sequence[tuple[int, frozenset[str]]]) -> Iterator[_Turn]:
    """Yield when a profile became known, anonymous or an orphan, by what it held and the login types then.

    From ``steady`` on it was known without a break, by an identity that it still holds.
    """
    always = frozenset.intersection(*(types for _, types in logins))
    steady = min((at for type_, _, at in stored.identities if type_ in always), default=_NEVER)
    steps = [(at, 1, type_) for type_, _, at in stored.identities if at <= steady]
    for row in stored.history:
        if row.linked <= steady:
            steps.append((row.linked, 1, row.type))
            if row.ended <= steady:
                steps.append((row.ended, -1, row.type))
    steps += [(position, 0, "") for position, _ in logins if stored.created < position <= steady]
    steps.append((stored.created, 0, ""))
    steps.sort(key=_place)
    held: Counter[str] = Counter()
    later = list(logins)
    login: frozenset[str] = frozenset()
    total = 0
    last: State | None = None
    for index, (position, by, type_) in enumerate(steps):
        held[type_] += by
        total += by
        if index + 1 < len(steps) and steps[index + 1][0] == position:
            continue
        while later and later[0][0] <= position:
            login = later.pop(0)[1]
        now: State = "orphan" if not total else "known" if any(held[one] for one in login) else "anonymous"
        if now != last:
            last = now
            yield _Turn(position, now)


def _place(step: tuple[int, int, str]) -> int:
    return step[0]
