"""Reports made in a process of their own, ``python -m oneself.history.whatif.running``, in JSON (docs/whatif.md).

It is asked once, on standard input (``Asked``), and says how far it is, line by line, and at last what it found
(``Said``). So the address of a database is in no list of processes, and a server's interpreter does none of the work.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

from oneself.errors import OneselfError
from oneself.history.guards.seen import guards_seen, scan_steps
from oneself.history.recorded import span_of
from oneself.history.whatif.page import page
from oneself.history.whatif.reporting import what_if
from oneself.identity import PolicySettings, build
from oneself.store import Place

__all__ = ["Asked", "Said", "main"]

_SAY_SECONDS: Final = 0.5


class Asked(msgspec.Struct, frozen=True):
    """What is to be made of one scope and a part of the journal: a what-if of ``settings``, or a report of guards.

    The data is in a ``database``, by its URL, else in a ``folder``. ``memory`` is the most that the process may use,
    in bytes, 0 for no limit.
    """

    what: Literal["whatif", "guards"]
    scope: str
    settings: PolicySettings = PolicySettings()
    first: str = ""
    last: str = ""
    show_values: bool = False
    top: int = 10
    folder: str = ""
    database: str = ""
    memory: int = 0


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far it is (0 to 1); or at last the report, as JSON and as a page where it has one, or why there is none."""

    progress: float = 0.0
    report: msgspec.Raw = msgspec.Raw(b"null")
    page: str = ""
    problem: str = ""
    is_last: bool = False


_encode: Final = msgspec.json.Encoder().encode


def _say(said: Said) -> None:
    sys.stdout.buffer.write(_encode(said) + b"\n")
    sys.stdout.buffer.flush()


def _progress(total: int) -> Callable[[int], None]:
    """Return what says how far it is, now and then."""
    done, said = 0, time.monotonic()

    def step(more: int) -> None:
        nonlocal done, said
        done += more
        if time.monotonic() - said >= _SAY_SECONDS:
            said = time.monotonic()
            _say(Said(progress=min(0.99, done / total)))

    return step


async def _run(asked: Asked) -> Said:
    store = Place(Path(asked.folder), asked.database or None).store(read_only=True)
    await store.open()
    try:
        span = await span_of(store, asked.first, asked.last)
        if asked.what == "guards":
            step = _progress(scan_steps(span))
            seen = await guards_seen(store, span, [asked.scope], top=asked.top, progress=step)
            return Said(1.0, msgspec.Raw(_encode(seen)), is_last=True)
        policies = {asked.scope: build(asked.settings)}
        step = _progress(span.last)
        found = await what_if(store, policies, span, show_values=asked.show_values, progress=step)
    finally:
        await store.close()
    report = msgspec.structs.replace(found, left=[])  # other scopes are not the asker's
    return Said(1.0, msgspec.Raw(_encode(report)), page(report), is_last=True)


def main() -> None:
    """Do what is asked, behind everything else on the machine."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    os.nice(19)
    if asked.memory:
        resource.setrlimit(resource.RLIMIT_AS, (asked.memory, asked.memory))
    try:
        said = asyncio.run(_run(asked))
    except OneselfError as error:
        said = Said(problem=str(error), is_last=True)
    except MemoryError:
        problem = "It took more memory than it may have; try a shorter span, or the command line."
        said = Said(problem=problem, is_last=True)
    _say(said)


if __name__ == "__main__":
    main()
