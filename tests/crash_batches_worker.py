"""A process that is there to be killed: many clients send it batches, and it writes its tables all the time.

    python crash_batches_worker.py FOLDER NAME

Of each batch that was answered it writes ``NUMBER POSITION`` to standard output, in one go. ``sent`` tells what the
batch of a number is.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from itertools import count
from pathlib import Path
from zlib import crc32

import structlog

from batches import bad, event, of, taken
from histories import SCOPES
from oneself.engine import Call, Engine, adopt_policies
from oneself.store import EmbeddedStore
from oneself.store.embedded import store as embedded
from profile_world import NOW_MS, change, source

CLIENTS = 12
CUSTOMERS = 6
KINDS = ("web", "ios", "server", "partner_feed", "csv")


def sent(name: str, number: int) -> Call:
    """Return the batch of a number in the round of a name; the same for the same arguments."""
    dice = random.Random(f"{name} {number}")
    at_ms = NOW_MS - dice.randrange(1_000_000)
    id_ = f"{name}-{number}"
    events = [
        event(dice.choice("ABCDE"), f"{id_}-{at}", at_ms - dice.randrange(99)) for at in range(dice.randrange(4))
    ]
    if dice.random() < 0.5:
        made = change(dice.choice("ab"), id_, at_ms - dice.randrange(99), deleted=dice.random() < 0.2)
        made["data"]["source_message_id"] = f"{id_}-change"
        events.append(made)
    if dice.random() < 0.1:
        events.insert(0, bad())
    document = of(
        f"c{dice.randrange(CUSTOMERS)}", *events, source_request_id=id_, timestamp_unixtime_ms=at_ms,
        mp_deviceid=dice.choice(("", f"d{dice.randrange(9)}")), user_attributes={dice.choice("ab"): id_},
        deleted_user_attributes=[dice.choice("cd")], device_info={dice.choice(("brand", "product")): id_},
        consent_state={"gdpr": {dice.choice("pq"): {"consented": dice.random() < 0.5}}},
    )  # fmt: skip
    if dice.random() < 0.05:
        document["mpid"] = 404
    level = dice.choices(("create_and_update", "only_update", "only_read"), (8, 1, 1))[0]
    return taken(document, source(dice.choice(KINDS), level, dice.choice(("shop", "lab"))), NOW_MS + number)


async def main(folder: Path, name: str) -> None:
    """Take batches in until killed."""
    embedded.FLUSH_ROWS = 60
    embedded.FLUSH_SECONDS = 0.002
    store = EmbeddedStore(folder, busy=crc32(name.encode()) % 2 == 0)
    await store.open()
    engine = Engine(store, await adopt_policies(store, SCOPES, lambda: 0))
    await engine.start()
    numbers = count()

    async def client(dice: random.Random) -> None:
        while True:
            some = [next(numbers) for _ in range(dice.choice((1, 1, 1, 1, 2, 5)))]
            calls = [sent(name, number) for number in some]
            answers = engine.submit_all(calls) if len(calls) > 1 else [engine.submit(calls[0])]
            outcomes = await asyncio.gather(*answers)
            told = "".join(f"{number} {made.position}\n" for number, made in zip(some, outcomes, strict=True))
            os.write(sys.stdout.fileno(), told.encode())

    await asyncio.gather(*(client(random.Random(f"{name} client {one}")) for one in range(CLIENTS)))


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
