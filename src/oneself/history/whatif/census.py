"""Counting what a trial's pairs come to: who is kept, split and fused, and what moves (docs/whatif.md)."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import compress, count
from operator import or_
from typing import Final

from oneself.history.whatif.report import Largest, Moved, Profiles, Users
from oneself.history.whatif.trial import Trial

__all__ = ["BUCKETS", "Census"]

BUCKETS: Final = (0, 1, 2, 4, 8, 16)
"""Profiles are counted by how many identities they hold: as many at the most as each of these, and more."""

_BUCKET_OF: Final = [bisect_left(BUCKETS, held) for held in range(BUCKETS[-1] + 1)]

_TOP: Final = 10


class Census:
    """Everything about profiles that is counted once a trial is over; arrays go by the tally's numbers.

    ``held`` and ``known`` are of the profiles under the other policy, ``parts`` says how many profiles of the other
    side each has requests with, ``total`` how many requests, and ``main`` the one with most of them. Of two with as
    many it is the one with the same MPID, else the one that came first.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.tally = tally = trial.tally
        size = self._size = len(tally.numbers) + 1
        links = trial.world.links
        tally.fit()
        links.fit()
        login = links.bits(trial.policy.login)
        self.exists = bytes(map(bool, links.created[:size]))
        self.known = bytes(bits & login > 0 for bits in links.types[:size])
        self.held = links.count[:size]
        self.parts_before, self.parts_after = _zeros(size), _zeros(size)
        self.total_before, self.total_after = tally.requests[:size], _zeros(size)
        self.main_before, self.main_after = tally.partner[:size], _zeros(size)
        self._count_pairs(size)
        self._odd = self._find_odd_pairs()
        self.requests_before, self.requests_after = array("I", self.total_before), array("I", self.total_after)
        for counted, requests in (
            (tally.unanswered, self.requests_before),
            (tally.newly_answered, self.requests_after),
        ):
            for number, more in counted.items():
                requests[number] += more

    def _count_pairs(self, size: int) -> None:
        """Count all pairs; first those of profiles with their first partners, of which each profile has but one."""
        tally, parts_before, parts_after = self.tally, self.parts_before, self.parts_after
        total_before, total_after = self.total_before, self.total_after
        main_before, main_after = self.main_before, self.main_after
        most_after = _zeros(size)
        for before, after in enumerate(main_before):
            if not after:
                continue
            requests = total_before[before]
            parts_before[before] = 1
            parts_after[after] += 1
            total_after[after] += requests
            if requests > most_after[after] or (requests == most_after[after] and after == before):
                most_after[after], main_after[after] = requests, before
        most_before = total_before[:]
        for before, after, requests in tally.further_pairs():
            parts_before[before] += 1
            parts_after[after] += 1
            total_before[before] += requests
            total_after[after] += requests
            if _is_more(requests, most_before[before], after == before, main_before[before]):
                most_before[before], main_before[before] = requests, after
            if _is_more(requests, most_after[after], after == before, main_after[after]):
                most_after[after], main_after[after] = requests, before

    def odd_pairs(self) -> Iterator[tuple[int, int, int]]:
        """Yield the pairs of profiles that are split or fused; every other profile has one that has no other."""
        return zip(*self._odd, strict=True)

    def _find_odd_pairs(self) -> tuple[array[int], array[int], array[int]]:
        parts_before, parts_after = self.parts_before, self.parts_after
        befores, afters, counts = array("I"), array("I"), array("I")
        fused = map((1).__lt__, map(parts_after.__getitem__, self.tally.partner))
        odd = map(or_, map((1).__lt__, parts_before), fused)  # the number of parts of nobody's partner is 0
        befores.extend(compress(count(), odd))
        afters.extend(map(self.tally.partner.__getitem__, befores))
        counts.extend(map(self.tally.requests.__getitem__, befores))
        for before, after, requests in self.tally.further_pairs():
            if parts_before[before] > 1 or parts_after[after] > 1:
                befores.append(before)
                afters.append(after)
                counts.append(requests)
        return befores, afters, counts

    def stays(self, before: int, after: int) -> bool:
        """Tell whether requests of a pair stay with their user: each is the larger part of the other."""
        return self.main_before[before] == after and self.main_after[after] == before

    def was_known(self, number: int) -> bool:
        """Tell whether a recorded profile is known at the end."""
        return self.tally.login[number] > 0

    def is_split(self, before: int) -> bool:
        """Tell whether the requests of a recorded profile come to several."""
        return self.parts_before[before] > 1

    # -- counting ----------------------------------------------------------------------------------------------

    def profiles_before(self) -> Profiles:
        """Count the recorded profiles."""
        made, tally = self.tally.made, self.tally
        return _profiles(
            Counter(zip(compress(tally.held, made), map(bool, compress(tally.login, made)), strict=True))
        )

    def profiles_after(self) -> Profiles:
        """Count the profiles under the other policy."""
        exists = self.exists
        return _profiles(Counter(zip(compress(self.held, exists), compress(self.known, exists), strict=True)))

    def users(self) -> tuple[Users, Users]:
        """Count what becomes of recorded profiles that have requests: of all, and of those that are known."""
        parts_before, login = self.parts_before, self.tally.login
        odd: dict[int, bool] = {}  # by number: whether it is fused
        for before, after, _ in self.odd_pairs():
            odd[before] = odd.get(before, False) or self.parts_after[after] > 1
        alone = [number for number in self.tally.unanswered if not parts_before[number]]
        counts = []
        for known in (False, True):
            answered = self._size - parts_before.count(0)
            if known:
                answered = sum(map(bool, compress(login, parts_before)))
            none = sum(1 for number in alone if login[number] or not known)
            split = fused = both = kept_not = 0
            for number, is_fused in odd.items():
                if known and not login[number]:
                    continue
                is_split = parts_before[number] > 1
                kept_not += 1
                split += is_split
                fused += is_fused
                both += is_split and is_fused
            counts.append(Users(answered + none, answered - kept_not, split, fused, both, none))
        return counts[0], counts[1]

    def moved(self) -> tuple[Moved, list[int]]:
        """Count the requests and batches that move, not their events; return the positions of the batches, too."""
        requests = sum(requests for before, after, requests in self.odd_pairs() if not self.stays(before, after))
        trial, main_before, main_after = self.trial, self.main_before, self.main_after
        batches = [
            at for at, pair in zip(trial.batch_at, trial.batch_pairs, strict=True)
            if main_before[pair >> 32] != pair & 0xFFFF_FFFF or main_after[pair & 0xFFFF_FFFF] != pair >> 32
        ]  # fmt: skip
        return Moved(requests, len(batches), 0, 0), batches

    # -- the largest -------------------------------------------------------------------------------------------

    def largest_before(self, by: array[int]) -> list[Largest]:
        """Return the recorded profiles that have most of something, by number."""
        tally, requests = self.tally, self.requests_before
        found = _most(tally.made, by, self._size)
        return [Largest(self.mpid(n), self.was_known(n), tally.held[n], requests[n]) for n in found]

    def largest_after(self, by: array[int]) -> list[Largest]:
        """Return the profiles under the other policy that have most of something, by number."""
        found = _most(self.exists, by, self._size)
        return [Largest(self.mpid(n), bool(self.known[n]), self.held[n], self.requests_after[n]) for n in found]

    def mpid(self, number: int) -> str:
        """Return the MPID of a number, as JSON has it."""
        return str(self.tally.numbers.mpids[number])


def _most(exists: Sequence[int], by: array[int], size: int) -> list[int]:
    """Return the numbers of those that exist and have most of something, of two with as many the first one first."""
    least = max(1, min(nlargest(_TOP, compress(by, exists)), default=0))
    numbers = (number for number in compress(count(), map(least.__le__, by)) if number < size and exists[number])
    return nlargest(_TOP, numbers, lambda number: (by[number], -number))


def _zeros(size: int) -> array[int]:
    return array("I", bytes(4 * size))


def _is_more(requests: int, most: int, same: bool, main: int) -> bool:
    return requests > most or (requests == most and (same or not main))


def _profiles(counted: Mapping[tuple[int, bool | int], int]) -> Profiles:
    """Count profiles, given how many there are that hold so many identities and are known, or not."""
    all_ = known = orphans = identities = 0
    buckets = [0] * (len(BUCKETS) + 1)
    for (held, is_known), profiles in counted.items():
        all_ += profiles
        known += profiles * is_known
        orphans += 0 if held else profiles
        identities += profiles * held
        buckets[_BUCKET_OF[held] if held < len(_BUCKET_OF) else len(BUCKETS)] += profiles
    return Profiles(all_, known, all_ - known - orphans, orphans, identities, tuple(buckets))
