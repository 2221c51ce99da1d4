"""Decisions that were made ready beside the path of answers: whether they still hold (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from oneself.engine.calls import Call
from oneself.identity import Decision, Policy, Refusal, Trace, mentioned, prepare
from oneself.journal import Entry
from oneself.store import UNDONE, Plan, Reading, Store

__all__ = ["CHANGED", "Since", "entries_since", "holds", "void"]

MOST_SINCE: Final = 20_000
"""A plan that so many decisions came after is made again."""

CHANGED: Final = "STATE_CHANGED"

Since = Mapping[int, Entry] | None
"""What was decided since a plan was made, by position; None where that is too much."""


async def entries_since(store: Store, reading: Reading, calls: Iterable[Call]) -> Since:
    """Return what came after the oldest plan of some calls and before a reading's own decisions."""
    oldest = min((call.plan.position for call in calls if call.plan is not None), default=None)
    if oldest is None:
        return {}
    since = range(oldest + 1, reading.position)
    return None if len(since) > MOST_SINCE else await store.entries_at(since)


def holds(plan: Plan, space: str, policy: Policy, reading: Reading, since: Since) -> bool:
    """Tell whether nothing that a plan is about was touched, asked for or answered since it was made."""
    if since is None:
        return False
    view = reading.views[space]
    if any(view.profiles.get(mpid) != profile for mpid, profile in plan.profiles.items()):
        return False
    later = [*since.items(), *reading.effects.entries]
    return not any(
        entry.space == space
        and position > plan.position
        and mentioned(prepare(policy, entry.request), entry.decision).meets(plan.about)
        for position, entry in later
    )


def void() -> Decision:
    """Return the decision on a plan that does not hold any more; it is no entry of the journal."""
    message = "What this is about has changed since it was planned: plan it again."
    return Decision(Trace("refused"), error=Refusal(409, CHANGED, message))


async def undone_through(store: Store, calls: Iterable[Call]) -> int:
    """Return the position of the last undo, where some calls must know it: batches may be somebody else's since."""
    return await store.swept(UNDONE) if any(call.trimming is not None for call in calls) else 0
