"""The what-if benchmark: a recorded history under other policies, why for a hub, an undo (docs/benchmarks.md)."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from oneself.bench.databases import durability, filled_database
from oneself.bench.fill import INPUT, SCOPE, SPACE, begin
from oneself.bench.processes import ServerFailed
from oneself.bench.recording import record
from oneself.engine import Call, Engine, Outcome
from oneself.engine.policies import stored_policies
from oneself.history import life
from oneself.history.undo.asked import Asked, carried_out, plan_asked
from oneself.history.undo.report import UndoPlan
from oneself.identity import IdentityChange, Request
from oneself.store import EmbeddedStore, Place, Store

__all__ = [
    "TRIED", "HistoryMeasured", "HistoryOptions", "TrialReport", "measure_history", "medians",
    "planned_history_steps",
]  # fmt: skip

TRIED: Final = ("default", "profile_isolation")
"""The strategies that the history is tried under: the one that it was recorded under, and another."""

_SCHEMA: Final = "oneself_bench_whatif"
_A_STEP: Final = 25_000  # requests
_CHUNK: Final = 250
_LIVES: Final = 9
_UNDONE: Final = 40


class HistoryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How many ``requests`` to record, and ``decisions`` of one profile; ``folder`` is where data is made.

    Why and undo are measured in a schema of a ``database``, where there is one, else on a data folder.
    """

    requests: int
    decisions: int = 10_000
    rounds: int = 3
    folder: Path | None = None
    database: str = ""
    seed: int = 1


class TrialReport(msgspec.Struct, frozen=True):
    """One what-if in a process of its own: seconds of its only core, reading and reporting included, and bytes."""

    strategy: str
    requests: int
    cpu_seconds: float
    peak_memory: int
    differs: bool


class HistoryMeasured(msgspec.Struct):
    """Every report of a run; ``record_seconds`` is what making the history took.

    ``why_ms`` are the times of telling the life of a profile with ``decisions``; ``decided_ms`` and ``undone_ms``
    those of deciding and undoing, one after another, durably. ``durability`` has the settings of a database that say
    when something is.
    """

    record_seconds: float = 0.0
    trials: list[TrialReport] = []
    why_ms: list[float] = []
    decisions: int = 0
    decided_ms: list[float] = []
    undone_ms: list[float] = []
    durability: dict[str, str] = {}


def planned_history_steps(options: HistoryOptions) -> int:
    """Return how many steps ``measure_history`` will report, each of roughly the same time."""
    return (options.requests // _A_STEP + 1) * (3 + len(TRIED) * options.rounds) + 2


def measure_history(options: HistoryOptions, step: Callable[[int], None] = lambda _: None) -> HistoryMeasured:
    """Record a history and try it under each policy, round by round; then measure why and undo on a store.

    Raises ``ServerFailed`` where a what-if fails.
    """
    measured = HistoryMeasured()
    a_pass = options.requests // _A_STEP + 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oneself-bench-", dir=options.folder)))
        started = time.monotonic()
        record(folder / "recorded", options.requests, options.seed)
        measured.record_seconds = time.monotonic() - started
        step(3 * a_pass)
        for _ in range(options.rounds):
            for strategy in TRIED:
                measured.trials.append(_tried(folder / "recorded", strategy))
                step(a_pass)
        place = Place(folder / "store")
        asyncio.run(begin(place.folder))
        if options.database:
            url = stack.enter_context(filled_database(place.folder, options.database, _SCHEMA, lambda: None))
            place = Place(place.folder, url)
            measured.durability = durability(options.database)
        asyncio.run(_on_a_store(place, options.decisions, measured))
        step(2)
    return measured


def _tried(folder: Path, strategy: str) -> TrialReport:
    command = [sys.executable, "-m", "oneself.bench.trying", str(folder), SCOPE, strategy]
    ran = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ran.returncode:
        raise ServerFailed(f"A what-if ended with exit code {ran.returncode}. Its last words:\n{ran.stderr[-2_000:]}")
    return msgspec.json.decode(ran.stdout, type=TrialReport)


async def _on_a_store(place: Place, decisions: int, measured: HistoryMeasured) -> None:
    """Measure why of a profile that has been changed often, and undoing."""
    store = place.store()
    await store.open()
    try:
        engine = Engine(store, await stored_policies(store))
        await engine.start()
        try:
            mpid = await _hub(engine, decisions)
            if isinstance(store, EmbeddedStore):
                await store.flush()
            for _ in range(_LIVES):
                started = time.perf_counter()
                told = await life(store, mpid)
                measured.why_ms.append(1_000 * (time.perf_counter() - started))
                measured.decisions = told.decisions_total if told is not None else 0
            for number in range(_UNDONE):
                await _undone(engine, store, number, measured)
        finally:
            await engine.stop()
    finally:
        await store.close()


async def _hub(engine: Engine, decisions: int) -> int:
    """Return a profile that was made and whose address was changed over and over."""
    made = await engine.submit(_call(Request("login", {"customerid": "hub"})))
    mpid = made.decision.mpid
    assert mpid is not None
    for first in range(1, decisions, _CHUNK):
        await asyncio.gather(*(
            engine.submit(
                _call(Request("modify", mpid=mpid, changes=(IdentityChange("email", None, f"hub-{n}@example.com"),)))
            )
            for n in range(first, min(first + _CHUNK, decisions))
        ))  # fmt: skip
    return mpid


async def _undone(engine: Engine, store: Store, number: int, measured: HistoryMeasured) -> None:
    """Decide one request, and undo it."""
    started = time.perf_counter()
    user = {"customerid": f"u-{number}", "device_application_stamp": f"d-{number}"}
    outcome = await engine.submit(_call(Request("login", {**user})))
    decided = time.perf_counter()

    async def carry(made: UndoPlan) -> int | None:
        done: Outcome = await engine.submit(Call(made.space, "/bench", made.request, plan=made.plan))
        return done.position or None

    await carried_out(lambda: plan_asked(store, Asked(decision=str(outcome.position)), lambda at: -at), carry)
    measured.decided_ms.append(1_000 * (decided - started))
    measured.undone_ms.append(1_000 * (time.perf_counter() - decided))


def _call(request: Request) -> Call:
    return Call(SPACE, INPUT, request)


def medians(measured: HistoryMeasured) -> tuple[float, float, float]:
    """Return the median ms of why, of a decision, and of an undo."""
    why, decided, undone = map(statistics.median, (measured.why_ms, measured.decided_ms, measured.undone_ms))
    return why, decided, undone
