"""A process that is there to be killed: batches come in while old data goes, all the time.

    python crash_upkeep_worker.py FOLDER NAME

Two days go by with each group. Of each batch that was answered it writes ``POSITION WORKSPACE RECEIVED_MS
EVENTS`` to standard output, in one go.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from itertools import count
from pathlib import Path

import structlog

from batches import event, taken
from oneself.engine import Call, Engine, adopt_policies
from oneself.identity import AliasRequest, Request
from oneself.jobs import Jobs, expiry, retention, runner
from oneself.store import EmbeddedStore
from oneself.store.embedded import store as embedded
from profile_world import NOW_MS, source
from store_factories import SPACE
from upkeep_world import CONFIG

HOUR_MS = 3_600_000
PEOPLE = 10


class Clock:
    """A clock that a test sets; it goes on where the journal ends."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def batch(dice: random.Random, name: str, number: int, now_ms: int) -> Call:
    """Return a batch of one of the people of these weeks; of some the next weeks hear nothing."""
    weeks = now_ms // (20 * 24 * HOUR_MS)
    person = f"{weeks if dice.random() < 0.9 else 0}.{dice.randrange(PEOPLE)}"
    workspace = dice.choice(("shop", "shop", "lab", "forever" if person.endswith("0") else "shop"))
    by = source(dice.choice(("server", "web")), workspace=workspace)
    events = [event(dice.choice("ABC"), f"{name}-{number}-{at}", now_ms - at) for at in range(dice.randrange(1, 4))]
    document = {
        "user_identities": {"customer_id": person}, "source_request_id": f"{name}-{number}",
        "events": events, "user_attributes": {dice.choice("ab"): f"{number}"}, "mp_deviceid": dice.choice(("", "d1")),
    }  # fmt: skip
    return taken(document, by, now_ms)


async def main(folder: Path, name: str) -> None:
    """Take batches in until killed."""
    embedded.FLUSH_ROWS, embedded.FLUSH_SECONDS = 60, 0.002
    retention.STEP = expiry.STEP = 20
    runner.RETRY_SECONDS = 0.01
    store = EmbeddedStore(folder)
    await store.open()
    last = await store.entry(store.position)
    clock = Clock(last.at_ms if last is not None else NOW_MS)
    engine = Engine(store, await adopt_policies(store, CONFIG.scopes, clock), clock=clock)
    await engine.start()
    jobs = Jobs(engine, CONFIG, clock)
    for job in jobs.jobs:
        job.pause_seconds, job.rest_seconds = 0.0, 0.002
    await jobs.start()
    dice, mpids = random.Random(name), []
    for number in count():
        clock.now_ms += 48 * HOUR_MS
        calls = [batch(dice, name, number * 10 + at, clock.now_ms) for at in range(dice.randrange(1, 5))]
        if len(mpids) > 1 and dice.random() < 0.3:
            asked = AliasRequest(*dice.sample(mpids, 2))
            await engine.submit(Call(SPACE, "shop/web", Request("alias", alias=asked)))
        outcomes = await asyncio.gather(*map(engine.submit, calls))
        mpids = [*mpids, *(outcome.decision.mpid for outcome in outcomes if outcome.decision.mpid)][-PEOPLE:]
        lines = []
        for call, outcome in zip(calls, outcomes, strict=True):
            assert call.delivery is not None
            assert call.delivery.batch is not None
            made = call.delivery.batch
            lines.append(f"{outcome.position} {made.source.workspace} {made.received_ms} {len(made.events)}\n")
        os.write(sys.stdout.fileno(), "".join(lines).encode())
        assert not jobs.counts.failures, jobs.counts.failures


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
