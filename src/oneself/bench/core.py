"""The pure core alone: microseconds a request of preparing, deciding and applying (docs/benchmarks.md)."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Iterator
from itertools import islice
from time import thread_time

import msgspec

from oneself.bench.mix import Cursor, Mix, Wanted, core_request
from oneself.bench.population import Population, mpid, stored
from oneself.identity import (
    HOLDERS_READ,
    Identity,
    PolicySettings,
    Profile,
    Request,
    View,
    apply,
    build,
    decide,
    prepare,
)

__all__ = ["CoreCost", "measure_core"]

_GROUP = 64


class CoreCost(msgspec.Struct, frozen=True):
    """Microseconds of CPU a request, medians of the rounds: of ``prepare``, and of ``decide`` with ``apply``."""

    requests: int
    prepare: float
    decide: float

    @property
    def total(self) -> float:
        """Return both together."""
        return self.prepare + self.decide


class _Memory:
    """The state of one space in dictionaries: what a store reads views from, without its cost."""

    def __init__(self, population: Population) -> None:
        self.holders: dict[Identity, list[tuple[int, int]]] = {}
        self.profiles: dict[int, Profile] = {}
        self.position = 0
        for mpid_, identities in stored(population):
            self.position += 1
            held = {type_: {value: self.position} for type_, value in identities}
            self.profiles[mpid_] = Profile(mpid_, self.position, held)
            for identity in identities:
                self.holders[identity] = [(self.position, mpid_)]

    def read(self, identities: Iterator[Identity]) -> View:
        view = View()
        for identity in identities:
            rows = view.holders[identity] = self.holders.get(identity, [])[:HOLDERS_READ]
            for _, mpid_ in rows:
                view.profiles[mpid_] = self.profiles[mpid_]
        return view

    def keep(self, view: View) -> None:
        self.holders.update((identity, rows) for identity, rows in view.holders.items() if rows)
        self.profiles.update(view.profiles)


def measure_core(population: Population, requests: int, rounds: int, seed: int = 1) -> CoreCost:
    """Decide ``requests`` of the mix in each round, in groups of 64 as the engine does, and time the core.

    Reading a group's view and keeping what changed stand outside the timed part: they are the store's work.
    """
    policy = build(PolicySettings())
    memory = _Memory(population)
    gc.collect()
    gc.freeze()  # the garbage collector's rounds over this memory are no cost of the core
    mix = Mix(population, Cursor(), seed)
    wanted: Iterator[Wanted] = iter(mix.next, None)
    prepared_us: list[float] = []
    decided_us: list[float] = []
    for _ in range(rounds):
        preparing = deciding = 0.0
        for start in range(0, requests, _GROUP):
            group: list[Request] = [core_request(one) for one in islice(wanted, min(_GROUP, requests - start))]
            begin = thread_time()
            prepared = [prepare(policy, request) for request in group]
            preparing += thread_time() - begin
            view = memory.read(identity for one in prepared for identity in one.identities)
            fresh = [mpid((1 << 50) + memory.position + number) for number in range(len(group))]
            begin = thread_time()
            for one, fresh_mpid in zip(prepared, fresh, strict=True):
                memory.position += 1
                decision = decide(one, view, 1_700_000_000_000, fresh_mpid)
                for change in decision.changes:
                    apply(view, change, memory.position)
            deciding += thread_time() - begin
            memory.keep(view)
        prepared_us.append(preparing / requests * 1e6)
        decided_us.append(deciding / requests * 1e6)
    gc.unfreeze()
    return CoreCost(requests, statistics.median(prepared_us), statistics.median(decided_us))
