"""A what-if in its own process, ``python -m oneself.bench.trying FOLDER SCOPE STRATEGY`` (docs/benchmarks.md)."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import cast

import msgspec

from oneself.bench.histories import TrialReport
from oneself.bench.processes import peak_memory
from oneself.history import span_of, what_if
from oneself.identity import PolicySettings, build
from oneself.identity.policy import Strategy
from oneself.store import EmbeddedStore

__all__ = ["main"]


async def _try(folder: Path, scope: str, strategy: str) -> TrialReport:
    store = EmbeddedStore(folder, read_only=True)
    await store.open()
    try:
        began = time.process_time()
        span = await span_of(store, "", "")
        report = await what_if(store, {scope: build(PolicySettings(cast(Strategy, strategy)))}, span)
        seconds = time.process_time() - began
    finally:
        await store.close()
    return TrialReport(strategy, span.last, seconds, peak_memory(os.getpid()) or 0, report.differs)


def main() -> None:
    """Try a history and print what it took, as JSON."""
    folder, scope, strategy = sys.argv[1:]
    print(msgspec.json.encode(asyncio.run(_try(Path(folder), scope, strategy))).decode())  # noqa: T201


if __name__ == "__main__":
    main()
