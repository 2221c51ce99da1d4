"""The users who tell most of what another policy does, with the decisions that do it (docs/whatif.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from heapq import nlargest
from typing import Final, NamedTuple

from oneself.history.whatif.census import Census
from oneself.history.whatif.report import Example, Share
from oneself.history.whatif.trial import Trial
from oneself.history.words import Words
from oneself.identity import Policy
from oneself.store import Store

__all__ = ["Chosen", "choose", "examples"]

_TOP: Final = 10
_SHOWN: Final = 5
_LOW: Final = 0xFFFF_FFFF


class Chosen(NamedTuple):
    """A telling profile, by number; ``recorded`` tells that it is one of the record, whose others are not.

    ``requests`` are those that make it telling.
    """

    number: int
    recorded: bool
    requests: int


class Ways(NamedTuple):
    """The most telling profiles each way, and the requests that known users gain and lose, by their numbers."""

    split: list[Chosen]
    fused: list[Chosen]
    gained: list[Chosen]
    lost: list[Chosen]
    gains: Counter[int]
    losses: Counter[int]


def choose(census: Census) -> Ways:
    """Choose the most telling profiles each way.

    Of those that are split the known ones come first, then those of which most requests move; of those that are made
    of several, the ones with most known users, then with most profiles. Gains and losses go by requests.
    """
    gains: Counter[int] = Counter()
    losses: Counter[int] = Counter()
    away: Counter[int] = Counter()
    known_in: Counter[int] = Counter()
    known = census.known
    for before, after, requests in census.tally.changed_pairs(known):
        if known[after]:
            gains[after] += requests
        else:
            losses[before] += requests
    for before, after, requests in census.odd_pairs():
        if census.is_split(before) and census.main_before[before] != after:
            away[before] += requests
        if census.parts_after[after] > 1:
            known_in[after] += census.was_known(before)
    split = nlargest(_TOP, away, lambda n: (census.was_known(n), away[n], -n))
    fused = nlargest(_TOP, known_in, lambda n: (known_in[n], census.parts_after[n], census.total_after[n], -n))
    return Ways(
        [Chosen(number, True, away[number]) for number in split],
        [Chosen(number, False, census.total_after[number]) for number in fused],
        [Chosen(number, False, gains[number]) for number in nlargest(_TOP, gains, lambda n: (gains[n], -n))],
        [Chosen(number, True, losses[number]) for number in nlargest(_TOP, losses, lambda n: (losses[n], -n))],
        gains,
        losses,
    )


async def examples(
    ways: Ways, census: Census, store: Store, policies: Mapping[tuple[str, int], Policy], words: Words
) -> list[list[Example]]:
    """Return what a report tells of the profiles chosen each way, but for those of which no decision was kept."""
    lists = (ways.split, ways.fused, ways.gained, ways.lost)
    teller = _Teller([one for chosen in lists for one in chosen], census)
    return [
        [await teller.example(one, store, policies, words) for one in chosen if teller.knows(one)] for chosen in lists
    ]


class _Teller:
    """Looks up what is told of some profiles, in one pass over the pairs."""

    def __init__(self, chosen: Iterable[Chosen], census: Census) -> None:
        self.census = census
        self.trial: Trial = census.trial
        wanted = {(one.recorded, one.number) for one in chosen}
        self.shares: dict[tuple[bool, int], list[tuple[int, int]]] = {one: [] for one in wanted}
        befores = {number for recorded, number in wanted if recorded}
        afters = {number for recorded, number in wanted if not recorded}
        for before, after, requests in census.tally.pairs_of(befores, afters) if wanted else ():
            if before in befores:
                self.shares[True, before].append((requests, after))
            if after in afters:
                self.shares[False, after].append((requests, before))
        self.places = self._places(wanted)

    def knows(self, one: Chosen) -> bool:
        """Tell whether a decision was kept that tells of a profile."""
        return (one.recorded, one.number) in self.places

    def _places(self, wanted: set[tuple[bool, int]]) -> dict[tuple[bool, int], int]:
        """Return where the first decision is kept that parted or joined each profile, or else made one known."""
        found: dict[tuple[bool, int], int] = {}
        for pair, place in self.trial.evidence.items():
            for one in ((True, pair >> 32), (False, pair & _LOW)):
                if one in wanted:
                    found[one] = min(place, found.get(one, place))
        for one in wanted - found.keys():
            recorded, number = one
            befores = [number] if recorded else [other for _, other in self.shares[one]]
            places = [self.trial.turned[before] for before in befores if before in self.trial.turned]
            if places:
                found[one] = min(places)
        return found

    async def example(
        self, one: Chosen, store: Store, policies: Mapping[tuple[str, int], Policy], words: Words
    ) -> Example:
        """Return what is told of a profile."""
        census, trial = self.census, self.trial
        position, request, decision = trial.evidence_at(self.places[one.recorded, one.number])
        entry = await store.entry(position)
        assert entry is not None, f"the journal has no entry {position}"
        was = policies[trial.space.rpartition("/")[0], entry.policy]
        shares = sorted(self.shares[one.recorded, one.number], key=lambda share: (-share[0], share[1]))
        return Example(
            mpid=census.mpid(one.number),
            known=self._known(one.number, one.recorded),
            identities=self._held(one.number, one.recorded),
            requests=one.requests,
            others=[
                Share(census.mpid(n), self._known(n, not one.recorded), self._held(n, not one.recorded), requests)
                for requests, n in shares[:_SHOWN]
            ],
            others_in_all=len(shares),
            position=position,
            at_ms=entry.at_ms,
            request_id=entry.request_id if words.show_values else "",
            recorded=words.tell(was, entry.request, entry.decision),
            instead=words.tell(trial.policy, request, decision),
        )

    def _known(self, number: int, recorded: bool) -> bool:
        return self.census.was_known(number) if recorded else bool(self.census.known[number])

    def _held(self, number: int, recorded: bool) -> int:
        return self.census.tally.held[number] if recorded else self.census.held[number]
