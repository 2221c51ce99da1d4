"""Who is whom: which profiles the requests of each recorded profile come to under another policy (docs/whatif.md).

A recorded profile and one of the other policy are *partners* where requests stand on both. Nearly every profile has
one partner, so that is kept in arrays by the number of the profile; all further pairs are in dictionaries.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Sequence
from itertools import compress, count
from operator import ne

from oneself.history.numbers import Numbers

__all__ = ["Tally"]

_LOW = (1 << 32) - 1
_BLOCK = 4_096


class Tally:
    """The profiles of one space by their numbers, and their pairs.

    ``made`` says of each number whether a recorded profile has it, ``held`` and ``login`` how many identities, and
    how many of a login type, that holds. ``partner`` is the first profile that its requests came to, ``requests`` how
    many stand there; ``parted`` has the latest one of those whose requests have come to several. ``unanswered`` and
    ``newly_answered`` count by number the requests that are answered with a profile only before, and only after.
    """

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self.made = array("B")
        self.held = array("I")
        self.login = array("I")
        self.unanswered: dict[int, int] = {}
        self.newly_answered: dict[int, int] = {}
        self.partner = array("I")
        self.requests = array("I")
        self.parted: dict[int, int] = {}
        self._first_of = array("I")
        self._further: dict[int, int] = {}
        self._on_device: dict[tuple[int, str], int] = {}
        self.fit()

    def number(self, mpid: int) -> int:
        """Return the number of a profile, a new one where it has none."""
        number = self.numbers.numbers.get(mpid) or self.numbers.of(mpid)
        if number >= len(self.made):
            self.fit()
        return number

    def fit(self) -> None:
        """Have room for every number."""
        for by_number in (self.made, self.held, self.login, self.partner, self.requests, self._first_of):
            while len(by_number) <= len(self.numbers):
                by_number.frombytes(bytes(_BLOCK * by_number.itemsize))

    def meets(self, before: int, after: int) -> bool:
        """Count a request that stands on a pair where neither has another; tell whether that is so."""
        partner = self.partner[before]
        if partner == after:
            if before in self.parted:
                return False
            self.requests[before] += 1
            return True
        if partner or self._first_of[after]:
            return False
        self.partner[before] = after
        self.requests[before] = 1
        self._first_of[after] = before
        return True

    def count(self, before: int, after: int) -> bool:
        """Count a request that stands on a pair, by numbers; tell whether it is the first to part or join by it."""
        partner = self.partner[before]
        if not partner:
            self.partner[before] = after
            self.requests[before] = 1
            if self._first_of[after]:
                return True
            self._first_of[after] = before
            return False
        if partner == after:
            self.requests[before] += 1
            return False
        self.parted.setdefault(before, partner)
        pair = before << 32 | after
        known = self._further.get(pair)
        if known is not None:
            self._further[pair] = known + 1
            return False
        self._further[pair] = 1
        if not self._first_of[after]:
            self._first_of[after] = before
        return True

    def part(self, before: int, after: int, device: str | None) -> None:
        """Remember what a client of a parted profile was answered with."""
        self.parted[before] = after
        if device:
            self._on_device[before, device] = after

    def answered(self, mpid: int, device: str | None) -> int:
        """Return the MPID that a client has in the place of a recorded one (docs/whatif.md, "MPIDs in requests")."""
        number = self.numbers.numbers.get(mpid, 0)
        after = self.partner[number]
        if number in self.parted:
            after = self._on_device.get((number, device), after) if device else self.parted[number]
        return self.numbers.mpids[after] if after else mpid

    def pairs(self) -> Iterator[tuple[int, int, int]]:
        """Yield every pair: the numbers of a recorded profile and of its partner, and requests that stand on both."""
        for number, (partner, requests) in enumerate(zip(self.partner, self.requests, strict=True)):
            if partner:
                yield number, partner, requests
        yield from self.further_pairs()

    def pairs_of(self, befores: Collection[int], afters: Collection[int]) -> Iterator[tuple[int, int, int]]:
        """Yield the pairs that have one of some recorded profiles, or one of some of the other policy."""
        wanted = set(compress(count(), map(afters.__contains__, self.partner))).union(befores)
        for number in sorted(wanted):
            if self.partner[number]:
                yield number, self.partner[number], self.requests[number]
        for before, after, requests in self.further_pairs():
            if before in befores or after in afters:
                yield before, after, requests

    def further_pairs(self) -> Iterator[tuple[int, int, int]]:
        """Yield the pairs of profiles with further partners than their first."""
        for pair, requests in self._further.items():
            yield pair >> 32, pair & _LOW, requests

    def changed_pairs(self, known: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Yield the pairs of a known profile and another; ``known`` has it of the profiles under the other policy."""
        login = self.login
        for number in compress(count(), map(ne, map(known.__getitem__, self.partner), map(bool, login))):
            if self.partner[number]:
                yield number, self.partner[number], self.requests[number]
        for before, after, requests in self.further_pairs():
            if known[after] != (login[before] > 0):
                yield before, after, requests
