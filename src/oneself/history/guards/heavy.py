"""Counting what comes most often, in bounded memory (docs/guards.md)."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import nlargest
from typing import Generic, TypeVar

import msgspec

__all__ = ["Counting", "Heavy"]

Key = TypeVar("Key", bound=Hashable)


class Counting(msgspec.Struct):
    """How often something was, from when to when (places in the journal, unix ms), and how often by each input."""

    count: int
    first: int
    first_ms: int
    last: int
    last_ms: int
    inputs: dict[str, int]

    @classmethod
    def begin(cls, position: int, at_ms: int, input_: str) -> Counting:
        """Return the count of a first time."""
        return cls(1, position, at_ms, position, at_ms, {input_: 1})

    def add(self, position: int, at_ms: int, input_: str) -> None:
        """Count one time more."""
        self.count += 1
        self.last, self.last_ms = position, at_ms
        self.inputs[input_] = self.inputs.get(input_, 0) + 1


class Heavy(Generic[Key]):
    """Counts of different things, of which no more than twice ``capacity`` are kept: those that come most often.

    Whatever came more often than ``missed`` times is among them, and a count is too small by that at the most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.counts: dict[Key, Counting] = {}
        self.missed = 0

    def add(self, key: Key, position: int, at_ms: int, input_: str) -> None:
        """Count one time of something."""
        known = self.counts.get(key)
        if known is not None:
            known.add(position, at_ms, input_)
            return
        if len(self.counts) >= 2 * self._capacity:
            self._let_go()
        self.counts[key] = Counting.begin(position, at_ms, input_)

    def _let_go(self) -> None:
        """Forget the smallest counts, so that room is for as many new ones as are kept."""
        least = nlargest(self._capacity, (known.count for known in self.counts.values()))[-1]
        self.counts = {key: known for key, known in self.counts.items() if known.count > least}
        self.missed += least

    def most(self, number: int, least: int = 1) -> list[tuple[Key, Counting]]:
        """Return what came most often, so many at the most and each so often at least."""
        enough = ((key, known) for key, known in self.counts.items() if known.count >= least)
        return nlargest(number, enough, key=lambda row: (row[1].count, -row[1].first))
