"""Aliases: whether a window of one profile's events is to be seen in another (docs/alias.md)."""

from __future__ import annotations

from typing import Literal

from oneself.identity.model import (
    Alias,
    AliasOutcome,
    AliasRequest,
    AliasRow,
    AliasWhy,
    Decision,
    Refusal,
    Trace,
    View,
)
from oneself.identity.policy import Policy
from oneself.identity.values import normalise

__all__ = ["accept_alias", "only_device", "process_alias", "undo_alias"]


def only_device(alias: AliasRow) -> str:
    """Return the only device whose events an alias shows, by its application stamp; empty where it shows all."""
    return normalise("device_application_stamp", alias.device) if alias.scope == "device" else ""


def accept_alias(policy: Policy, asked: AliasRequest, view: View, now_ms: int) -> Decision:
    """Accept or refuse an alias request; it takes effect ``alias_delay`` after ``now_ms``.

    The window defaults to the longest allowed, up to now; what of it lies outside that is cut off.
    """

    if not policy.alias_allowed:
        return _refuse(403, "ALIAS_NOT_ALLOWED", f"The strategy {policy.strategy} takes no alias requests.")
    if asked.source == asked.destination:
        return _refuse(400, "INVALID_DATA", "data.source_mpid and data.destination_mpid are the same.")
    end = now_ms if asked.end_ms is None else asked.end_ms
    earliest = now_ms - policy.alias_window_ms
    start = earliest if asked.start_ms is None else asked.start_ms
    if start > end:
        return _refuse(400, "INVALID_DATA", "data.start_unixtime_ms is after data.end_unixtime_ms.")
    if start > now_ms:
        return _refuse(400, "INVALID_DATA", "data.start_unixtime_ms is in the future.")
    if end < earliest:
        days = policy.alias_window_ms // 86_400_000
        return _refuse(400, "INVALID_DATA", f"data.end_unixtime_ms is more than {days} days ago.")
    if asked.scope == "device" and not asked.device:
        return _refuse(400, "INVALID_DATA", "data.device_application_stamp is missing; the scope device needs it.")
    for field, mpid in (("source_mpid", asked.source), ("destination_mpid", asked.destination)):
        if mpid not in view.profiles:
            return _refuse(400, "INVALID_DATA", f"data.{field}: no user has the MPID {mpid}.")
    alias = Alias(
        asked.source, asked.destination, max(start, earliest), min(end, now_ms), now_ms + policy.alias_delay_ms,
        asked.scope, asked.device,
    )  # fmt: skip
    known = not policy.login.isdisjoint(view.profiles[asked.destination].held)
    return Decision(Trace("alias_accepted"), asked.destination, known, changes=[alias])


def process_alias(position: int, view: View, now_ms: int) -> Decision:
    """Decide what becomes of an accepted alias that is due; ``position`` is that of its request.

    It is dropped where one of its profiles is gone, where the source is shown elsewhere in an overlapping window,
    where the source shows another profile's events, or where the destination's are shown elsewhere: so a link
    never leads on to another. Only aliases that are in effect stand against it.
    """
    row = view.aliases.get(position)
    if row is None:
        return _unknown(position)
    if row.outcome != "waiting":
        return _refuse(409, "ALREADY_PROCESSED", f"The alias of position {position} is {row.outcome} already.")
    if row.due_ms > now_ms:
        return _refuse(409, "NOT_DUE", f"The alias of position {position} is due at {row.due_ms} (unix ms).")
    why, other = _obstacle(row, view)
    return _end(row, view, "dropped" if why else "applied", why, other)


def undo_alias(position: int, view: View) -> Decision:
    """Decide to take an applied alias out of effect, as if it had never been made."""
    row = view.aliases.get(position)
    if row is None:
        return _unknown(position)
    if row.outcome != "applied":
        message = f"The alias of position {position} is not in effect: it is {row.outcome}."
        return _refuse(409, "NOT_APPLIED", message)
    return _end(row, view, "undone")


def _obstacle(row: AliasRow, view: View) -> tuple[AliasWhy, int]:
    """Return why an alias cannot take effect, and the position of the latest alias that stands against it."""
    if row.source not in view.profiles:
        return "source_unknown", 0
    if row.destination not in view.profiles:
        return "destination_unknown", 0
    applied = [other for other in view.aliases.values() if other.outcome == "applied"]
    same = [other for other in applied if other.source == row.source]
    overlapping = [other for other in same if other.start_ms <= row.end_ms and other.end_ms >= row.start_ms]
    into_source = [other for other in applied if other.destination == row.source]
    onward = [other for other in applied if other.source == row.destination]
    # Of several the latest is told: a view may lack the others.
    if overlapping:
        return "source_overlaps", max(overlapping, key=_by_start).position
    if into_source:
        return "source_was_destination", max(into_source, key=_by_end).position
    if onward:
        return "destination_was_source", max(onward, key=_by_start).position
    return "", 0


def _by_start(alias: AliasRow) -> tuple[int, int]:
    return alias.start_ms, alias.position


def _by_end(alias: AliasRow) -> tuple[int, int]:
    return alias.end_ms, alias.position


_TRACES: dict[str, Literal["alias_applied", "alias_dropped", "alias_undone"]] = {
    "applied": "alias_applied",
    "dropped": "alias_dropped",
    "undone": "alias_undone",
}


def _end(
    row: AliasRow, view: View, outcome: Literal["applied", "dropped", "undone"], why: AliasWhy = "", other: int = 0
) -> Decision:
    change = AliasOutcome(row.position, row.source, row.destination, outcome, why, other)
    mpid = row.destination if row.destination in view.profiles else None
    return Decision(Trace(_TRACES[outcome]), mpid, changes=[change])


def _unknown(position: int) -> Decision:
    return _refuse(404, "NOT_FOUND_ERROR", f"No alias was accepted at position {position}.")


def _refuse(status: int, code: str, message: str) -> Decision:
    return Decision(Trace("refused"), error=Refusal(status, code, message))
