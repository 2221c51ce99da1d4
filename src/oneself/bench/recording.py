"""Recording a history of the identity mix, as a server would have, in a fraction of the time (docs/benchmarks.md).

Each request is decided by the core over the whole state in memory, and its entry is put into the journal. The tables
that follow the journal stay empty: histories are read from the journal alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from oneself.bench.fill import INPUT, SPACE, begin
from oneself.bench.mix import Cursor, Mix, core_request
from oneself.bench.population import Population, mpid, stored, uuid
from oneself.history.whatif.trials import without_collecting
from oneself.history.world import World
from oneself.identity import PolicySettings, Request, build, decide, prepare
from oneself.journal import Entry
from oneself.store.embedded.journal import JournalFile, group_of
from oneself.store.embedded.state import StateFile

__all__ = ["PEOPLE", "record"]

PEOPLE: Final = 10
"""One in so many requests makes one of the users that the mix returns to."""

_FIRST_MS: Final = 1_750_000_000_000
_GROUP: Final = 5_000
_FRESH: Final = 1 << 52


def record(folder: Path, requests: int, seed: int, step: Callable[[int], None] = lambda _: None) -> None:
    """Make a data folder with so many recorded requests, under the default policy; ``step`` counts them.

    The folder must be new.
    """
    asyncio.run(begin(folder))
    journal = JournalFile(folder / "journal.db")
    policy, world = build(PolicySettings()), World()
    group: list[tuple[int, Entry]] = []
    users = _users(requests)
    with without_collecting():
        for position, request in zip(range(1, requests + 1), _requests(requests, seed), strict=False):
            prepared = prepare(policy, request)
            fresh = mpid(position - 1 if position <= users else _FRESH + position)
            decision = decide(prepared, world.seen(prepared), 0, fresh)
            world.keep(decision.changes, position)
            at_ms = _FIRST_MS + 40 * position
            group.append((position, Entry(at_ms, SPACE, INPUT, 1, request, decision, uuid(_FRESH + position))))
            if len(group) == _GROUP or position == requests:
                journal.append(group_of(group))
                journal.sync()
                journal.restart_log()
                step(len(group))
                group.clear()
    journal.close()
    state = StateFile(folder / "state.db")
    state.write(requests, ())
    state.close()


def _users(requests: int) -> int:
    """Return how many users come for the first time: an even number, for which profiles are half the identities."""
    return max(10, requests // PEOPLE) // 2 * 2


def _requests(count: int, seed: int) -> Iterator[Request]:
    """Return users who come for the first time, and then the mix; users are those of a population."""
    population = Population(2 * _users(count))
    first = (Request("login" if len(held) > 1 else "identify", dict(held)) for _, held in stored(population))
    mix = Mix(population, Cursor(), seed)
    return chain(first, (core_request(wanted) for wanted in iter(mix.next, None)))
