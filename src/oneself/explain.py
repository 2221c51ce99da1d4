"""Putting decisions into words: what was asked, what was answered and why, line by line (docs/identity.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from oneself.identity import (
    Alias,
    AliasOutcome,
    Change,
    Create,
    Decision,
    Discard,
    Expire,
    Forget,
    Guard,
    IdentityChange,
    Link,
    Move,
    NoPast,
    Past,
    Reguard,
    Release,
    Remove,
    Request,
    Restore,
    Revised,
    Revision,
    Revive,
    Seen,
    Step,
    Trace,
    Trim,
    Undo,
    Unlink,
    Upkeep,
    Withdraw,
)

__all__ = ["explain"]

_LONGEST_SHOWN: Final = 64
_MOST_LINES: Final = 200

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
    "mpid_given": "the batch names this profile",
    "only_read": "the input may only read: the batch is kept, and is nobody's",
    "user_unknown": "the input may only update, and nobody was found: the batch is dropped",
    "alias_applied": "the alias is due, and nothing stands against it",
    "alias_dropped": "the alias is due, and a rule stands against it",
    "alias_undone": "the alias is taken back, as if it had never been made",
    "trimmed": "the batches are older than their workspaces keep events",
    "expired": "nothing was heard of these profiles for longer than they are kept",
    "none_expired": "something was heard of each of these profiles since",
    "forgotten": "requests as old as these are not sent again",
    "discarded": "the profiles that these batches made are gone",
    "undone": "the state is as if these decisions had not been made, as far as is told here",
    "split": "these identities, and the batches that came by them, are another user's",
}

ANSWERS: Final = {
    "alias_accepted": "accepted",
    "released": "accepted",
    "only_read": "nobody",
    "user_unknown": "nobody",
    "alias_applied": "in effect",
    "alias_dropped": "dropped",
    "alias_undone": "undone",
    "trimmed": "done",
    "expired": "done",
    "none_expired": "nothing to do",
    "forgotten": "done",
    "discarded": "done",
    "undone": "done",
}
"""The answers that are no profile."""

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
    "split": "it goes to MPID {moved_to}",
}

GUARDED: Final = {
    "max_known_profiles_per_value": "too many known users came to share it (max_known_profiles_per_value)",
    "max_values_per_profile": "it found a profile that gathers too many values (max_values_per_profile)",
    "undone": "all that it caused is undone",
}

ALIAS_DROPPED: Final = {
    "source_overlaps": "MPID {source} is shown elsewhere in an overlapping window (alias {other})",
    "source_was_destination": "MPID {source} shows the events of another profile itself (alias {other})",
    "destination_was_source": "MPID {destination} is shown in another profile itself (alias {other})",
    "source_unknown": "there is no MPID {source}",
    "destination_unknown": "there is no MPID {destination}",
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
        *_section("decisions that count anew:", _shortened([_revised(row) for row in decision.revised])),
        *_section("changes:", _shortened([_change(change) for change in decision.changes])),
        *_section(
            "not linked:",
            [
                f"{_identity(r.type, r.value)}: {REFUSED[r.why].format(type=r.type, other=r.other)}"
                for r in trace.refused
            ],
        ),
        *_section("notes:", [f"{note.type}: {NOTES[note.why].format(other=note.other)}" for note in trace.notes]),
    ]


def _shortened(lines: list[str]) -> list[str]:
    """Return lines, or the first of very many and how many more there are."""
    return lines if len(lines) <= _MOST_LINES else [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more"]


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        if index == 0:
            yield title
        yield f"  {line}"


def _asked(request: Request) -> str:
    if request.alias is not None:
        alias = request.alias
        return f"MPID {alias.source} to MPID {alias.destination}{_window(alias.start_ms, alias.end_ms)}"
    if request.kind in ("modify", "split"):
        return f"MPID {request.mpid}: {', '.join(map(_asked_change, request.changes)) or 'nothing'}"
    if request.position:
        return f"the alias of decision {request.position}"
    if request.upkeep is not None:
        return _asked_upkeep(request.upkeep)
    if request.undo is not None:
        return _asked_undo(request.undo)
    if request.kind == "batch" and request.mpid is not None:
        return f"MPID {request.mpid}"
    given = [_identity(type_, value) for type_, value in request.identities.items() if value is not None]
    before = "" if request.previous_mpid is None else f"; before it was MPID {request.previous_mpid}"
    return (", ".join(given) or "no identity") + before


def _asked_upkeep(asked: Upkeep) -> str:
    names = ", ".join(asked.workspaces)
    if asked.positions:
        return f"{len(asked.positions)} batches"
    if asked.before_ms:
        return f"{len(asked.mpids)} profiles of {names}, unless something came since {_time(asked.before_ms)}"
    return f"{names}, decisions {asked.after + 1} to {asked.through}" if names else f"decisions 1 to {asked.through}"


def _asked_change(change: IdentityChange) -> str:
    type_, old, new = change.identity_type, change.old_value, change.new_value
    if old is None or new is None:
        return f"remove {_identity(type_, old or '')}" if new is None else f"add {_identity(type_, new)}"
    return f"change {_identity(type_, old)} to {_value(new)}"


def _answer(decision: Decision) -> str:
    if decision.error is not None:
        return f"{decision.error.status} {decision.error.code}: {decision.error.message}"
    if decision.trace.why in ANSWERS:
        return ANSWERS[decision.trace.why]
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
    if isinstance(change, Alias):
        window, due = _window(change.start_ms, change.end_ms), _time(change.due_ms)
        return f"MPID {change.destination} shows the events of MPID {change.source}{window}, as of {due}"
    if isinstance(change, AliasOutcome):
        return _alias_outcome(change)
    if isinstance(change, Trim | Expire | Forget | Discard):
        return _grown_old(change)
    return _revision(change)


def _revision(change: Revision) -> str:
    """Put what an undo or a split does to what was into words."""
    if isinstance(change, Remove):
        return f"MPID {change.mpid} was never made, and is nobody's from now on"
    if isinstance(change, Revive):
        return f"MPID {change.mpid} was made by decision {change.created}"
    if isinstance(change, Move):
        from_, to = (f"MPID {mpid}" if mpid else "nobody" for mpid in (change.source, change.target))
        return f"{len(change.positions)} batches of {from_} are now those of {to}"
    what = _identity(change.type, change.value)
    if isinstance(change, Restore):
        return f"{what} was linked to MPID {change.mpid} by decision {change.linked}"
    if isinstance(change, Withdraw):
        return f"{what} was not linked to MPID {change.mpid}"
    if isinstance(change, Past):
        return f"{what} left MPID {change.mpid} by decision {change.ended}"
    if isinstance(change, NoPast):
        return f"{what} did not leave MPID {change.mpid} by decision {change.ended}"
    assert isinstance(change, Reguard)
    return f"{what} is guarded since decision {change.since}"


STANDINGS: Final = {
    "undone": "is undone",
    "kept": "is undone in part, as later decisions depend on the rest",
    "redecided": "is made again: {answer}",
    "restored": "counts again: {answer}",
    "moved": "has its batch at {answer}",
}


def _revised(row: Revised) -> str:
    answer = "nobody" if row.mpid is None else f"MPID {row.mpid}"
    return f"decision {row.position} {STANDINGS[row.standing].format(answer=answer)}"


def _asked_undo(asked: Undo) -> str:
    later = {"": "", "redecide": "; later decisions are made again", "keep": "; what later decisions need is kept"}
    if asked.type:
        return f"all that {_identity(asked.type, asked.value)} caused{later[asked.later]}"
    if asked.input:
        return f"{asked.input} from decision {asked.first} to {asked.last}{later[asked.later]}"
    return f"decision {', '.join(map(str, asked.positions[:_MOST_LINES]))}{later[asked.later]}"


def _alias_outcome(change: AliasOutcome) -> str:
    if change.outcome == "dropped":
        values = {"source": change.source, "destination": change.destination, "other": change.other}
        return f"alias {change.position} is dropped: {ALIAS_DROPPED[change.why].format(**values)}"
    if change.outcome == "waiting":
        return f"alias {change.position} of MPID {change.source} to MPID {change.destination} waits again"
    shows = "shows" if change.outcome == "applied" else "no longer shows"
    return f"MPID {change.destination} {shows} the events of MPID {change.source} (alias {change.position})"


def _grown_old(change: Trim | Expire | Forget | Discard) -> str:
    if isinstance(change, Trim):
        names = ", ".join(change.workspaces)
        return f"{change.batches} batches of {names} through decision {change.through} lose {change.events} events"
    if isinstance(change, Expire):
        rest = ", and what is known over all workspaces" if change.last else ""
        return f"what {change.workspace} knows of MPID {change.mpid} is forgotten{rest}"
    if isinstance(change, Forget):
        return f"the ids of requests through decision {change.through} are forgotten"
    return f"what is left of {len(change.positions)} batches is deleted"


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
