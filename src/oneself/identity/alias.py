"""Alias requests: whether a window of one profile's events may be linked to another (docs/alias.md)."""

from __future__ import annotations

from oneself.identity.model import Alias, AliasRequest, Decision, Refusal, Trace, View
from oneself.identity.policy import Policy

__all__ = ["accept_alias"]


def accept_alias(policy: Policy, asked: AliasRequest, view: View, now_ms: int) -> Decision:
    """Accept or refuse an alias request; it takes effect ``alias_delay`` after ``now_ms``.

    The window defaults to the longest allowed, up to now; what of it lies outside that is cut off.
    """

    def refuse(status: int, code: str, message: str) -> Decision:
        return Decision(Trace("refused"), error=Refusal(status, code, message))

    if not policy.alias_allowed:
        return refuse(403, "ALIAS_NOT_ALLOWED", f"The strategy {policy.strategy} takes no alias requests.")
    if asked.source == asked.destination:
        return refuse(400, "INVALID_DATA", "data.source_mpid and data.destination_mpid are the same.")
    end = now_ms if asked.end_ms is None else asked.end_ms
    earliest = now_ms - policy.alias_window_ms
    start = earliest if asked.start_ms is None else asked.start_ms
    if start > end:
        return refuse(400, "INVALID_DATA", "data.start_unixtime_ms is after data.end_unixtime_ms.")
    if start > now_ms:
        return refuse(400, "INVALID_DATA", "data.start_unixtime_ms is in the future.")
    if end < earliest:
        days = policy.alias_window_ms // 86_400_000
        return refuse(400, "INVALID_DATA", f"data.end_unixtime_ms is more than {days} days ago.")
    for field, mpid in (("source_mpid", asked.source), ("destination_mpid", asked.destination)):
        if mpid not in view.profiles:
            return refuse(400, "INVALID_DATA", f"data.{field}: no user has the MPID {mpid}.")
    alias = Alias(
        asked.source, asked.destination, max(start, earliest), min(end, now_ms), now_ms + policy.alias_delay_ms,
        asked.scope, asked.device,
    )  # fmt: skip
    known = not policy.login.isdisjoint(view.profiles[asked.destination].held)
    return Decision(Trace("alias_accepted"), asked.destination, known, changes=[alias])
