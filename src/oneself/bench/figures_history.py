"""From what was measured of a history to the rows of the table (docs/benchmarks.md)."""

from __future__ import annotations

import statistics

import msgspec

from oneself.bench.figures import machine, size_name
from oneself.bench.histories import TRIED, HistoryMeasured, HistoryOptions, medians
from oneself.bench.report import Figures, Row

__all__ = ["history_figures"]

_LEAST_RATE = 100_000.0
_MOST_MEMORY_MB = 4_000.0
_MOST_WHY_MS = 50.0
_MOST_UNDO = 2.0


def history_figures(options: HistoryOptions, measured: HistoryMeasured) -> Figures:
    """Return the figures of the what-if benchmark; ``errors`` tells of a policy that differs from itself."""
    rows, notes, errors = [], [], {}
    name = size_name(options.requests)
    for strategy in TRIED:
        trials = [one for one in measured.trials if one.strategy == strategy]
        rate = statistics.median(one.requests / one.cpu_seconds for one in trials)
        memory = max(one.peak_memory for one in trials) / 1e6
        rows += [
            Row(f"{name} requests under {strategy}", rate, "/s", None, "", ">=", _LEAST_RATE),
            Row("its peak memory", memory, "MB", None, "", "<", _MOST_MEMORY_MB),
            Row("its memory a request", 1e6 * memory / options.requests, "bytes"),
        ]
        if strategy == TRIED[0] and any(one.differs for one in trials):
            errors["what-if"] = {"the policy that it was recorded under differs": 1}
    why, decided, undone = medians(measured)
    rows += [
        Row(f"why of a profile with {measured.decisions:,} decisions", why, "ms", None, "", "<", _MOST_WHY_MS),
        Row("a decision alone", decided, "ms"),
        Row("its undo", undone, "ms", undone / decided, "a decision", "<", _MOST_UNDO),
    ]
    told = "Rates are of one core's CPU time, the report included."
    if options.database:
        notes.append("Why, the decisions and their undo are on the database.")
    notes.append(f"Recording took {measured.record_seconds:.1f} s. {told}")
    conditions = {**machine(), **measured.durability, "rounds": options.rounds, "seed": options.seed}
    return Figures("whatif", rows, notes, errors, conditions, msgspec.to_builtins(measured, str_keys=True))
