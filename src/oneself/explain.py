"""Putting decisions into words: what was asked, what was answered and why, line by line (docs/identity.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from oneself.identity import (
    Alias,
    Change,
    Create,
    Decision,
    Guard,
    IdentityChange,
    Link,
    Release,
    Request,
    Seen,
    Step,
    Trace,
    Unlink,
)

__all__ = ["explain"]

_LONGEST_SHOWN: Final = 64

WHY: Final = {
    "matched": "this profile was found by its identities",
    "new": "nobody was found: a new profile",
    "new_known_converted": "a new known user: the anonymous profile that was found becomes theirs",
    "new_known_created": "a new known user: a new profile",
    "logout_created": "a logout without login identities: a new anonymous profile",
    "guarded_created": "every look-up of the request is guarded: a fresh profile",
    "not_found": "nobody was found, and a search makes nobody",
    "modified": "the profile's identities are changed as asked, as far as the rules allow",
    "alias_accepted": "the profiles may be linked",
    "released": "the guarded values find profiles again",
    "refused": "a rule refuses the request: nothing is changed",
}

OUTCOMES: Final = {
    "none": "finds nobody",
    "found": "finds",
    "narrowed": "narrows the candidates to",
    "unchanged": "keeps the candidates",
}

PASSED: Final = {
    "login": "known, but by none of the login identities in the request",
    "immutable": "has an immutable identity, but none that is in the request",
    "outside": "not among the candidates that the steps before have left",
    "contradicted": "another account: it holds another {type} than the request",
}

TIES: Final = {
    "previous_mpid": "the request names it as previous_mpid",
    "latest": "it was linked most recently to the identity that decided",
    "lowest": "they were linked at the same time, and it has the lowest MPID",
}

DROPPED: Final = {
    "junk": "it is a placeholder that stands for nobody (junk)",
    "too_long": "it is longer than an identity may be",
    "empty": "it is empty",
    "guarded": "it is guarded, and finds nobody until it is released",
}

REFUSED: Final = {
    "unique": "MPID {other} holds it, and it is unique",
    "immutable": "MPID {other} keeps the {type} that it has, which is immutable",
    "max_known_profiles_per_value": "too many known users share it (max_known_profiles_per_value)",
    "max_values_per_profile": "MPID {other} has as many values of {type} as it may (max_values_per_profile)",
}

NOTES: Final = {
    "added": "the old value was not held, so the new one is an addition",
    "unchanged": "the new value was held already",
    "absent": "the value to remove was not held",
    "moved": "the value was taken from MPID {other}",
}

UNLINKED: Final = {
    "replaced": "a newer value takes its place, as {type} is unique",
    "modified": "the request puts another value in its place",
    "removed": "the request removes it",
    "moved": "MPID {moved_to} has it now, as {type} is unique",
}

GUARDED: Final = {
    "max_known_profiles_per_value": "too many known users came to share it (max_known_profiles_per_value)",
    "max_values_per_profile": "it found a profile that gathers too many values (max_values_per_profile)",
}


def explain(request: Request, decision: Decision) -> list[str]:
    """Return a decision in words, one line a fact; lines that belong to the one before are indented.

    Identity values are shown, long ones cut.
    """
    trace = decision.trace
    return [
        f"{request.kind}: {_asked(request)}",
        f"answer: {_answer(decision)}",
        f"why: {WHY[trace.why]}",
        *_section("does not count:", [f"{_identity(d.type, d.value)}: {DROPPED[d.why]}" for d in trace.dropped]),
        *_section("walk, by priority:", [line for step in trace.steps for line in _step(request, step)]),
        *_tie(trace, decision.mpid),
        *_section("changes:", [_change(change) for change in decision.changes]),
        *_section(
            "not linked:",
            [
                f"{_identity(r.type, r.value)}: {REFUSED[r.why].format(type=r.type, other=r.other)}"
                for r in trace.refused
            ],
        ),
        *_section("notes:", [f"{note.type}: {NOTES[note.why].format(other=note.other)}" for note in trace.notes]),
    ]


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        if index == 0:
            yield title
        yield f"  {line}"


def _asked(request: Request) -> str:
    if request.alias is not None:
        alias = request.alias
        return f"MPID {alias.source} to MPID {alias.destination}{_window(alias.start_ms, alias.end_ms)}"
    if request.kind == "modify":
        return f"MPID {request.mpid}: {', '.join(map(_asked_change, request.changes)) or 'nothing'}"
    given = [_identity(type_, value) for type_, value in request.identities.items() if value is not None]
    before = "" if request.previous_mpid is None else f"; before it was MPID {request.previous_mpid}"
    return (", ".join(given) or "no identity") + before


def _asked_change(change: IdentityChange) -> str:
    type_, old, new = change.identity_type, change.old_value, change.new_value
    if old is None or new is None:
        return f"remove {_identity(type_, old or '')}" if new is None else f"add {_identity(type_, new)}"
    return f"change {_identity(type_, old)} to {_value(new)}"


def _answer(decision: Decision) -> str:
    if decision.error is not None:
        return f"{decision.error.status} {decision.error.code}: {decision.error.message}"
    if decision.trace.why in ("alias_accepted", "released"):
        return "accepted"
    kind = "a known user" if decision.known else "an anonymous user"
    answer = (
        "a profile that is not made, since nothing is written" if decision.mpid is None else f"MPID {decision.mpid}"
    )
    held = f"; of the request it already held {', '.join(decision.matched)}" if decision.matched else ""
    return f"{answer}, {kind}{held}"


def _step(request: Request, step: Step) -> Iterator[str]:
    value = request.identities.get(step.type)
    found = OUTCOMES[step.outcome] if step.seen else "nobody holds it"
    taken = [seen.mpid for seen in step.seen if not seen.passed]
    yield f"{_identity(step.type, value or '')}: {found}{' ' + _mpids(taken) if taken else ''}"
    passed: dict[str, list[int]] = {}
    for seen in step.seen:
        if seen.passed:
            passed.setdefault(_passed(seen), []).append(seen.mpid)
    for reason, mpids in passed.items():
        yield f"  passed over: {_mpids(mpids)}: {reason}"


def _passed(seen: Seen) -> str:
    reason, _, type_ = seen.passed.partition(":")
    return PASSED[reason].format(type=type_)


def _tie(trace: Trace, mpid: int | None) -> Iterator[str]:
    if trace.tie:
        yield f"tie: of {_mpids(trace.among)} it is {mpid}: {TIES[trace.tie]}"


def _change(change: Change) -> str:
    if isinstance(change, Create):
        return f"MPID {change.mpid} is made"
    if isinstance(change, Link):
        return f"{_identity(change.type, change.value)} is linked to MPID {change.mpid}"
    if isinstance(change, Unlink):
        why = UNLINKED[change.why].format(type=change.type, moved_to=change.moved_to)
        return f"{_identity(change.type, change.value)} leaves MPID {change.mpid}: {why}"
    if isinstance(change, Guard):
        return f"{_identity(change.type, change.value)} is guarded from now on: {GUARDED[change.why]}"
    if isinstance(change, Release):
        return f"{_identity(change.type, change.value)} is released"
    assert isinstance(change, Alias)
    window = _window(change.start_ms, change.end_ms)
    return f"MPID {change.destination} shows the events of MPID {change.source}{window}, as of {_time(change.due_ms)}"


def _identity(type_: str, value: str) -> str:
    return f"{type_} {_value(value)}"


def _value(value: str) -> str:
    return repr(value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…")


def _mpids(mpids: list[int]) -> str:
    return f"MPID {mpids[0]}" if len(mpids) == 1 else f"MPIDs {', '.join(map(str, mpids))}"


def _window(start_ms: int | None, end_ms: int | None) -> str:
    start = "" if start_ms is None else f" from {_time(start_ms)}"
    return start + ("" if end_ms is None else f" until {_time(end_ms)}")


def _time(unix_ms: int) -> str:
    """Return a time in UTC, or as unix ms where no calendar has it."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{unix_ms} ms"
