"""Putting the busy and the crowded user into a filled data folder, batch by batch (docs/benchmarks.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from oneself.bench.batches import EVENTS, Sender, stored_batch
from oneself.bench.fill import SCOPE
from oneself.bench.fill_users import NUMBERS, SPAN_MS, source
from oneself.bench.users import BUSY, CROWDED, Users
from oneself.engine import Call, Engine, adopt_policies, delivery
from oneself.identity import PolicySettings
from oneself.store import EmbeddedStore

__all__ = ["add_crowds", "planned_batches"]

_GROUP = 1_000  # batches that become durable as one


def planned_batches(users: Users) -> int:
    """Return how many batches ``add_crowds`` takes in."""
    return -(-users.crowd // EVENTS) + users.crowd


def add_crowds(folder: Path, users: Users, step: Callable[[int], None] = lambda _: None) -> None:
    """Take in the batches of the user with many events and of the one with many devices, by an engine of its own.

    The crowded user's devices send batches without events that name the user by MPID: by identities no more than a
    hundred devices would be linked, since the guards take a value that so many share for nobody's.
    """
    asyncio.run(_add(folder, users, step))


async def _add(folder: Path, users: Users, step: Callable[[int], None]) -> None:
    mpid = 0
    store = EmbeddedStore(folder)
    await store.open()
    try:
        policies = await adopt_policies(store, {SCOPE: PolicySettings()}, lambda: 0)
        engine = Engine(store, policies, mpids=lambda: mpid)
        await engine.start()
        try:
            first = NUMBERS + store.position + 1
            for number, batches in ((BUSY, -(-users.crowd // EVENTS)), (CROWDED, users.crowd)):
                mpid = users.mpid(number)
                for calls in _calls(users, number, first, batches):
                    for answer in engine.submit_all(calls):
                        assert (await answer).decision.mpid == mpid
                    step(len(calls))
                first += batches
        finally:
            await engine.stop()
    finally:
        await store.close()


def _calls(users: Users, number: int, first: int, batches: int) -> Iterator[list[Call]]:
    """Yield the batches of one of the two, numbered from ``first``, in groups; the first batch makes the profile."""
    busy = number == BUSY
    shape = Users(users.profiles, 1, users.attributes, EVENTS if busy else 0)
    end_ms = time.time_ns() // 1_000_000
    calls: list[Call] = []
    for place in range(batches):
        sender = Sender(number, 0 if busy else place, users.mpid(number) if place else 0, known=True)
        at_ms = end_ms - SPAN_MS + place * SPAN_MS // batches
        calls.append(delivery(stored_batch(shape, sender, first + place, at_ms), source(), at_ms, scope=SCOPE))
        if len(calls) == _GROUP or not place:
            yield calls
            calls = []
    if calls:
        yield calls
