"""The lives of profiles and identities in plain text, for a terminal (docs/why.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from oneself.explain import DROPPED, GUARDED
from oneself.history.whatif.text import moment
from oneself.history.why.holding import Guarding, Holding, IdentityLife, Stamp
from oneself.history.why.life import Life
from oneself.history.why.told import Told

__all__ = ["decision_text", "identity_text", "life_text"]

_STATES = {"known": "a known user", "anonymous": "an anonymous user", "orphan": "an orphan, whom nobody finds",
           "removed": "nobody any more, since an undo"}  # fmt: skip


def decision_text(told: Told) -> str:
    """Return a decision as text, a line a fact."""
    asked = f", request {_plain(told.request_id)}" if told.request_id else ""
    by = f"{told.kind} by {told.input}, {moment(told.at_ms)}{asked}"
    head = f"Decision {told.position}: {by} (policy {told.policy})"
    return "\n".join([head, *(f"  {line}" for line in told.words)])


def life_text(life: Life) -> str:
    """Return the life of a profile as text: what it is and was, then its decisions, oldest first."""
    return "\n\n".join(["\n".join(_life(life)), *map(decision_text, life.decisions)])


def _life(life: Life) -> Iterator[str]:
    yield f"MPID {life.mpid} in {life.space}: {_STATES[life.state]}"
    if len(life.milestones) < life.milestones_total:
        yield f"  it turned {life.milestones_total:,} times; these are the latest {len(life.milestones)}"
    for milestone in life.milestones:
        made = "made as " if milestone.position == life.made else ""
        yield f"  {made}{_STATES[milestone.became]} by decision {milestone.position}, {moment(milestone.at_ms)}"
    yield from _cut("identities it holds", len(life.identities), life.identities_total)
    for held in life.identities:
        guarded = "; it is guarded, and finds nobody" if held.guarded else ""
        yield f"  holds {held.type} {held.value!r} since decision {held.since}{guarded}"
    yield from _cut("identities it held", len(life.former), life.former_total)
    for row in life.former:
        to = f", now to MPID {row.moved_to}" if row.moved_to else ""
        yield f"  held {row.type} {row.value!r} from decision {row.since} to {row.until} ({row.why}{to})"
    shown = len(life.decisions)
    if shown < life.decisions_total:
        rest = f"; those before them: --before {life.next}" if life.next else ""
        yield f"{shown} of {life.decisions_total:,} decisions concerning it{rest}"


def _cut(what: str, listed: int, total: int) -> Iterator[str]:
    if listed < total:
        yield f"  of {total:,} {what} these are the latest {listed}"


def identity_text(lives: Iterable[IdentityLife]) -> str:
    """Return what became of an identity as text, space by space; spaces that never heard of it are one line."""
    return "\n".join(line for life in lives for line in _identity(life))


def _identity(life: IdentityLife) -> Iterator[str]:
    name = f"{life.type} {life.value!r} in {life.space}"
    if life.dropped:
        yield f"{name}: does not count, since {DROPPED[life.dropped]}"
    elif not life.heard:
        yield f"{name}: nobody holds it or ever did"
    elif life.guarded:
        yield f"{name}: {DROPPED['guarded']}"
    else:
        yield f"{name}:" if life.holders else f"{name}: nobody holds it any more"
    for row in life.guards:
        yield f"  {_guard(row)}"
    if life.more_holders:
        yield f"  held by more profiles than are listed; these are the latest {len(life.holders)}"
    for held in life.holders:
        yield f"  held by MPID {held.mpid} since {_stamp(held.since)}"
    for held in life.former:
        yield f"  {_former(held)}"


def _guard(row: Guarding) -> str:
    until = f"; released by {_stamp(row.until)}" if row.until else ""
    return f"guarded since {_stamp(row.since)}: {GUARDED[row.why]}{until}"


def _former(held: Holding) -> str:
    to = f", now to MPID {held.moved_to}" if held.moved_to else ""
    assert held.until is not None
    return f"held by MPID {held.mpid} since {_stamp(held.since)}, until {_stamp(held.until)}: {held.why}{to}"


def _stamp(stamp: Stamp) -> str:
    asked = f", request {_plain(stamp.request_id)}" if stamp.request_id else ""
    return f"decision {stamp.position} ({stamp.kind} by {stamp.input}, {moment(stamp.at_ms)}{asked})"


def _plain(text: str) -> str:
    """Return a client's text without what would move a terminal's cursor."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
