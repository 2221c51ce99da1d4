"""A process that is there to be killed: it decides a random history, and writes its tables all the time.

By its name it does so on threads of its own, or has a process do it.

    python crash_worker.py FOLDER NAME

Of each group that was answered it writes ``REQUEST_ID MPID`` lines to standard output, in one go.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from zlib import crc32

import structlog

from histories import SCOPES, Caller, in_bursts
from oneself.engine import Call, Engine, Outcome, adopt_policies
from oneself.store import EmbeddedStore
from oneself.store.embedded import store as embedded


async def main(folder: Path, name: str) -> None:
    """Decide until killed."""
    embedded.FLUSH_ROWS = 40
    embedded.FLUSH_SECONDS = 0.002
    dice = random.Random(name)
    store, caller, count = EmbeddedStore(folder, busy=crc32(name.encode()) % 2 == 0), Caller(dice), 0
    await store.open()
    engine = Engine(store, await adopt_policies(store, SCOPES, lambda: 0))
    await engine.start()
    while True:
        calls = []
        for _ in range(1 + int(dice.expovariate(0.1))):
            asked, count = caller.call(), count + 1
            calls.append(Call(asked.space, asked.input, asked.request, f"{name}-{count}", asked.read_only))
        outcomes = await in_bursts(engine, dice, calls)
        lines = []
        for asked, outcome in zip(calls, outcomes, strict=True):
            assert isinstance(outcome, Outcome), repr(outcome)
            caller.learn(asked, outcome.decision.mpid)
            if outcome.position:
                lines.append(f"{asked.input} {asked.request_id} {outcome.decision.mpid}\n")
        os.write(sys.stdout.fileno(), "".join(lines).encode())


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
