"""Filling a data folder with a population, as if it had been resolved request by request (docs/benchmarks.md).

The journal gets its entries in order. The tables that follow it get their rows sorted as they are, a stretch of
keys at a time: millions of rows a minute, where inserting in order of arrival would jump about on the disk.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from oneself.bench.population import NEW, Population, identities_of, stored, uuid
from oneself.engine.policies import adopt_policies
from oneself.identity import (
    Create,
    Decision,
    Identity,
    Link,
    Policy,
    PolicySettings,
    Profile,
    Request,
    Trace,
    View,
    build,
    decide,
    prepare,
)
from oneself.journal import Entry
from oneself.store import EmbeddedStore
from oneself.store.embedded.journal import JournalFile, group_of
from oneself.store.embedded.pending import Generation
from oneself.store.embedded.state import StateFile
from oneself.store.embedded.writing import pieces_of
from oneself.store.keys import holder_key, request_key

__all__ = ["INPUT", "SCOPE", "SPACE", "begin", "fill"]

SCOPE: Final = "default"
SPACE: Final = "default/production"
INPUT: Final = "default/bench"

_GROUP = 5_000  # entries a transaction of the journal
_BEFORE_LOG_RESTART = 20  # groups
_STRETCHES = 128  # a power of two: the parts of the key space that are written one after another
_REQUEST_IDS = NEW << 9  # request ids are numbered from here, apart from those of a measurement

_holder_row = struct.Struct("<16sqq")  # key, position, mpid
_request_row = struct.Struct("<16sq")  # key, position
_profile_row = struct.Struct("<qq")  # mpid, number


def fill(folder: Path, population: Population, step: Callable[[int], None] = lambda _: None) -> None:
    """Make a data folder that holds a population; ``step`` is told how many of ``2 * profiles`` steps were made.

    Profile ``n`` was made at position ``n + 1``. The folder must be new; it must not be used if this raises.
    """
    asyncio.run(begin(folder))
    rows = _Rows()
    _write_journal(folder / "journal.db", population, rows, step)
    _write_state(folder / "state.db", population, rows, step)


async def begin(folder: Path) -> None:
    """Make an empty data folder whose one scope has the ``default`` policy."""
    store = EmbeddedStore(folder)
    await store.open()
    await adopt_policies(store, {SCOPE: PolicySettings()}, lambda: time.time_ns() // 1_000_000)
    await store.close()


class _Rows:
    """The rows of the tables, packed, each in the stretch of the key space that it belongs to."""

    def __init__(self) -> None:
        self.holders = [bytearray() for _ in range(_STRETCHES)]
        self.requests = [bytearray() for _ in range(_STRETCHES)]
        self.profiles = [bytearray() for _ in range(_STRETCHES)]

    def add(self, number: int, mpid: int, identities: list[Identity], request_id: str) -> None:
        position = number + 1
        for identity in identities:
            key = holder_key(SPACE, *identity)
            self.holders[key[0] * _STRETCHES >> 8] += _holder_row.pack(key, position, mpid)
        key = request_key(INPUT, request_id)
        self.requests[key[0] * _STRETCHES >> 8] += _request_row.pack(key, position)
        self.profiles[(mpid + (1 << 63)) * _STRETCHES >> 64] += _profile_row.pack(mpid, number)


def _traces(policy: Policy) -> dict[int, Trace]:
    """Return the trace of a first decision by the number of identities; it has no value in it, so all share it."""
    traces = {}
    for _, identities in stored(Population(4)):
        view = View()
        view.holders = {identity: [] for identity in identities}
        traces[len(identities)] = decide(prepare(policy, Request("login", dict(identities))), view, 0, 1).trace
    return traces


def _entries(population: Population, rows: _Rows) -> Iterator[tuple[int, Entry]]:
    policy = build(PolicySettings())
    traces = _traces(policy)
    now_ms = time.time_ns() // 1_000_000
    for number, (mpid, identities) in enumerate(stored(population)):
        known = len(identities) > 1
        request_id = uuid(_REQUEST_IDS + number)
        links = [Link(mpid, *identity) for identity in identities]  # they come in the order of the priority
        decision = Decision(traces[len(identities)], mpid, known, changes=[Create(mpid), *links])
        request = Request("login" if known else "identify", dict(identities))
        rows.add(number, mpid, identities, request_id)
        yield number + 1, Entry(now_ms, SPACE, INPUT, 1, request, decision, request_id)


def _write_journal(path: Path, population: Population, rows: _Rows, step: Callable[[int], None]) -> None:
    journal = JournalFile(path)
    group: list[tuple[int, Entry]] = []
    for position, entry in _entries(population, rows):
        group.append((position, entry))
        if len(group) == _GROUP or position == population.profiles:
            journal.append(group_of(group))
            journal.sync()
            step(len(group))
            group.clear()
            if position // _GROUP % _BEFORE_LOG_RESTART == 0:
                journal.restart_log()
    journal.close()


def _write_state(path: Path, population: Population, rows: _Rows, step: Callable[[int], None]) -> None:
    state = StateFile(path)
    for stretch in range(_STRETCHES):
        last = stretch == _STRETCHES - 1
        generation = Generation(population.profiles if last else 0)
        generation.inputs.add(INPUT)
        for key, position, mpid in _holder_row.iter_unpack(rows.holders[stretch]):
            generation.linked[key] = [(position, mpid)]
        generation.requests.update(_request_row.iter_unpack(rows.requests[stretch]))
        for mpid, number in _profile_row.iter_unpack(rows.profiles[stretch]):
            held = {type_: {value: number + 1} for type_, value in identities_of(population, number)}
            generation.profiles[mpid] = (SPACE, Profile(mpid, number + 1, held))
        state.write(generation.position, pieces_of(generation))
        step(len(generation.profiles))
        for table in (rows.holders, rows.requests, rows.profiles):
            table[stretch].clear()
    state.close()
