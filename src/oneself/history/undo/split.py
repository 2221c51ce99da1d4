"""Split: chosen identities, and the batches that came by them, become another user's (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from oneself.history.recorded import policies_of
from oneself.history.undo.planning import NotThere, NotUndone, rewritten
from oneself.history.undo.report import UndoPlan, report_of
from oneself.history.undo.tail import Counting
from oneself.history.whatif.trials import Progress
from oneself.identity import (
    Change,
    Create,
    Decision,
    Identity,
    IdentityChange,
    Link,
    Mentioned,
    Move,
    Policy,
    Request,
    Revised,
    Trace,
    Unlink,
    prepare,
)
from oneself.journal import Entry
from oneself.store import Plan, Store, StoredProfile, Wanted, is_removed

__all__ = ["plan_split"]

_CHUNK: Final = 500


async def plan_split(
    store: Store,
    mpid: int,
    identities: Sequence[Identity],
    *,
    fresh_mpid: int,
    progress: Progress = lambda _: None,
) -> UndoPlan:
    """Plan to move identities off a profile, normalised, into a new one that is named by ``fresh_mpid``.

    The batches go along whose requests carried one of them. ``progress`` is told of batches that were looked at.
    Raises ``NotUndone``.
    """
    at = store.position
    profile = await store.profile(mpid)
    if profile is None or is_removed(profile.space):
        raise NotThere(f"No user has the MPID {mpid}.")
    chosen = list(dict.fromkeys(identities))
    held = {(type_, value): linked for type_, value, linked in profile.identities}
    for identity in chosen:
        if identity not in held:
            raise NotUndone(f"MPID {mpid} does not hold {identity[0]} {identity[1]!r}.")
    if not chosen or len(chosen) == len(held):
        raise NotUndone("Choose some identities, and leave some: a user whom all are taken from is an orphan.")
    if await store.existing([fresh_mpid]):
        raise NotUndone("An MPID was drawn that is somebody's: try again.")
    chosen.sort(key=held.__getitem__)
    policies = await policies_of(store)
    counting = await _counting(store, profile)
    revised = await _came_by(store, profile, set(chosen), policies, counting, fresh_mpid, progress)
    changes: list[Change] = [Create(fresh_mpid)]
    for identity in chosen:
        changes += [Unlink(mpid, *identity, "split", fresh_mpid), Link(fresh_mpid, *identity)]
    moves = [Move(mpid, fresh_mpid, tuple(row.position for row in revised))] if revised else []
    changes += moves
    view = (await store.read({profile.space: Wanted(chosen, [mpid])})).views[profile.space]
    policy = policies[max(key for key in policies if key[0] == profile.space.rpartition("/")[0])]
    known = not policy.login.isdisjoint(type_ for type_, _ in chosen)
    decision = Decision(Trace("split"), fresh_mpid, known, changes=changes, revised=revised)
    asked = Request("split", mpid=mpid, changes=tuple(IdentityChange(type_, value) for type_, value in chosen))
    records = await store.batches([row.position for row in revised])
    events = sum(len(record.batch.events) for record in records.values() if record.batch is not None)
    report = report_of(profile.space, "split", "", changes, revised, (), possible=True, events=events)
    plan = Plan(
        at,
        decision,
        Mentioned(set(chosen), {mpid, fresh_mpid}),
        {mpid: view.profiles.get(mpid), fresh_mpid: None},
        await rewritten(store, moves),
    )
    return UndoPlan(profile.space, asked, report, plan)


async def _counting(store: Store, profile: StoredProfile) -> Counting:
    """Return what the decisions on a profile count for."""
    found: dict[int, Entry] = {}
    for start in range(0, len(profile.decisions), _CHUNK):
        entries = await store.entries_at(profile.decisions[start : start + _CHUNK])
        found |= {at: entry for at, entry in entries.items() if entry.request.kind in ("undo", "split")}
    return Counting(found)


async def _came_by(
    store: Store,
    profile: StoredProfile,
    chosen: set[Identity],
    policies: dict[tuple[str, int], Policy],
    counting: Counting,
    target: int,
    progress: Progress,
) -> list[Revised]:
    """Return the batches of a profile whose requests carried one of some identities, as those of another."""
    scope = profile.space.rpartition("/")[0]
    positions = await store.made_of(profile.mpid)
    moved = []
    for start in range(0, len(positions), _CHUNK):
        entries = await store.entries_at(positions[start : start + _CHUNK])
        for at, entry in sorted(entries.items()):
            asked = Request("identify", entry.request.identities)
            if not chosen.isdisjoint(prepare(policies[scope, entry.policy], asked).identities):
                moved.append(Revised(at, "moved", target, counting.of(at, entry).changes))
        progress(len(entries))
    return moved
