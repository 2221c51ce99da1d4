"""Groups of waiting calls: what they have to see, how they are parted, and what became of them (docs/engine.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from oneself.engine.calls import Answer, Call, Outcome
from oneself.identity import Prepared
from oneself.journal import BatchRecord, Entry
from oneself.store import Reading, Wanted

__all__ = ["Decided", "Waiting", "halves_of", "moved", "parts_of", "tell", "wanted_by"]

_log = structlog.get_logger("oneself.engine")


class Waiting(NamedTuple):
    """``keys`` are those of a batch's events; ``more`` tells that the next one was submitted with it."""

    call: Call
    prepared: Prepared
    version: int
    key: bytes | None
    keys: list[bytes]
    answer: Answer
    more: bool = False


class Decided(NamedTuple):
    """A group's reading, the outcomes of its calls, and the batches in it."""

    reading: Reading
    outcomes: list[Outcome]
    batches: list[tuple[int, Entry, BatchRecord | None]]


def tell(waiting: Waiting, outcome: Outcome | Exception) -> None:
    """Answer a call, unless its client has gone; where that fails, the group is what it is and the others wait."""
    if waiting.answer.done():
        return
    try:
        if isinstance(outcome, Exception):
            waiting.answer.set_exception(outcome)
        else:
            waiting.answer.set_result(outcome)
    except Exception as error:
        _log.error("an answer could not be given", exc_info=error)


def parts_of(group: list[Waiting]) -> Iterator[list[Waiting]]:
    """Yield the parts of a group that were submitted each by itself."""
    part = []
    for waiting in group:
        part.append(waiting)
        if not waiting.more:
            yield part
            part = []


def halves_of(group: list[Waiting]) -> list[list[Waiting]]:
    """Return a group in two halves, or as it is where all of it was submitted together."""
    parts = list(parts_of(group))
    middle = len(parts) // 2
    halves = (parts[:middle], parts[middle:])
    return [[waiting for part in half for waiting in part] for half in halves if half]


def moved(decided: Decided) -> Decided:
    """Return a group with the positions that it came to stand at."""
    by = decided.reading.moved
    first = decided.reading.effects.entries[0][0]
    outcomes = [
        replace(outcome, position=outcome.position + by) if outcome.position >= first else outcome
        for outcome in decided.outcomes
    ]
    batches = [(position + by, entry, record) for position, entry, record in decided.batches]
    return Decided(decided.reading, outcomes, batches)


def wanted_by(group: list[Waiting]) -> tuple[dict[str, Wanted], list[bytes]]:
    """Return what a group must see of each space, and the request keys it must know the answers of."""
    spaces: dict[str, Wanted] = {}
    keys = []
    for waiting in group:
        wanted = spaces.get(waiting.call.space)
        if wanted is None:
            wanted = spaces[waiting.call.space] = Wanted()
        if waiting.call.plan is not None:
            wanted.identities.update(waiting.call.plan.about.identities)
            wanted.mpids.update(waiting.call.plan.profiles)
            wanted.aliases.update(waiting.call.plan.aliases)
        wanted.identities.update(waiting.prepared.identities)
        wanted.mpids.update(waiting.prepared.mpids)
        wanted.aliases.update(waiting.prepared.aliases)
        wanted.stored.update(waiting.prepared.stored)
        if waiting.key is not None:
            keys.append(waiting.key)
        keys += waiting.keys
    return spaces, keys
