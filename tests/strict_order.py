"""A judge of real-time order that knows nothing of what it judges but times and positions (strict serialisability).

A request that was answered before another one was sent stands before it. A request that only reads sees all entries
up to some position: not before what was answered before it was sent, nor after what was sent when it was answered,
nor before what a read saw that was answered before it was sent.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

__all__ = ["Read", "Write", "misplaced_reads", "misplaced_writes", "windows"]


class Write(NamedTuple):
    """An entry's position, when it was asked for first, and when somebody was first told of it (never: infinity)."""

    name: str
    position: int
    sent: float
    answered: float = math.inf


class Read(NamedTuple):
    """When a request that only reads was sent and answered."""

    name: str
    sent: float
    answered: float


def misplaced_writes(writes: Iterable[Write]) -> list[tuple[Write, Write]]:
    """Return pairs of which the first was answered before the second was sent, and yet stands after it."""
    listed = list(writes)
    told = sorted((write for write in listed if write.answered < math.inf), key=lambda write: write.answered)
    highest: Write | None = None
    wrong, seen = [], 0
    for write in sorted(listed, key=lambda write: write.sent):
        while seen < len(told) and told[seen].answered < write.sent:
            if highest is None or told[seen].position > highest.position:
                highest = told[seen]
            seen += 1
        if highest is not None and highest.position > write.position:
            wrong.append((highest, write))
    return wrong


def windows(reads: Sequence[Read], writes: Iterable[Write], last: int) -> list[tuple[int, int]]:
    """Return, for each read, the first and the last position up to which it may have seen the entries."""
    listed = list(writes)
    return [
        (
            max((write.position for write in listed if write.answered < read.sent), default=0),
            min((write.position - 1 for write in listed if write.sent > read.answered), default=last),
        )
        for read in reads
    ]


def misplaced_reads(reads: Sequence[Read], possible: Sequence[Collection[int]]) -> list[Read]:
    """Return those reads for which there is no position among the possible ones that goes with the reads before.

    Each takes the first that is not before those of reads that were answered when it was sent: so it leaves the most
    room to the others.
    """
    order = sorted(range(len(reads)), key=lambda at: reads[at].sent)
    told: list[tuple[float, int]] = []
    wrong = []
    for at in order:
        read = reads[at]
        least = max((position for answered, position in told if answered < read.sent), default=0)
        fitting = [position for position in possible[at] if position >= least]
        if fitting:
            told.append((read.answered, min(fitting)))
        else:
            wrong.append(read)
    return wrong
