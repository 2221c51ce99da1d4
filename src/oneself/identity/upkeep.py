"""Upkeep: what the server asks of itself as data grows old, decided like any other request (docs/retention.md)."""

from __future__ import annotations

from oneself.identity.model import Change, Decision, Discard, Expire, Forget, Request, Trace, Trim, Upkeep, View

__all__ = ["UPKEEP", "decide_upkeep"]

UPKEEP = frozenset({"retention", "expiry", "forget", "discard"})
"""The kinds of request that are upkeep."""


def decide_upkeep(request: Request, view: View) -> Decision:
    """Decide a step of upkeep.

    What a workspace knows of a profile expires where data came to it, and none since the time that is asked for.
    """
    asked = request.upkeep or Upkeep()
    if request.kind == "retention":
        trim = Trim(asked.workspaces, asked.after, asked.through, asked.batches, asked.events, asked.names)
        return Decision(Trace("trimmed"), changes=[trim])
    if request.kind == "forget":
        return Decision(Trace("forgotten"), changes=[Forget(asked.through)])
    if request.kind == "discard":
        return Decision(Trace("discarded"), changes=[Discard(asked.positions)])
    changes: list[Change] = []
    for mpid in dict.fromkeys(asked.mpids):
        stored = dict(view.stored.get(mpid, {}))
        for workspace in asked.workspaces:
            if workspace in stored and stored[workspace] < asked.before_ms:
                del stored[workspace]
                changes.append(Expire(mpid, workspace, not stored))
    return Decision(Trace("expired" if changes else "none_expired"), changes=changes)
