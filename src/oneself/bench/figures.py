"""From what was measured to the rows of the table: ratios, targets, remarks (docs/benchmarks.md)."""

from __future__ import annotations

import os
import platform
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from oneself.bench.core import CoreCost
from oneself.bench.disk import DiskReport
from oneself.bench.identity import Measured, Options
from oneself.bench.load import LoadReport
from oneself.bench.report import Figures, Row

__all__ = [
    "core_figures",
    "cost",
    "cpu",
    "disk_rows",
    "identity_figures",
    "machine",
    "median",
    "of_rounds",
    "p50",
    "p99",
    "rate",
    "ratio",
    "size_name",
    "slowest",
    "wrong_answers",
]

_LEAST_OF_BARE = 0.35
_MOST_P99_MS = 30.0
_MOST_GROWTH = 1.6
_MOST_MEMORY_MB = 600.0
_MOST_CORE_US = 15.0


def size_name(size: int) -> str:
    """Return 10000 as ``10k`` and 10000000 as ``10m``."""
    for unit, letter in ((1_000_000, "m"), (1_000, "k")):
        if size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def of_rounds(one: Iterable[float], other: Iterable[float]) -> float:
    """Return the median of the ratios of two figures measured in the same rounds; 0 where a divisor is 0."""
    return statistics.median(a / b if b else 0.0 for a, b in zip(one, other, strict=True))


def ratio(figure: Callable[[LoadReport], float], one: list[LoadReport], other: list[LoadReport]) -> float:
    """Return the median of the rounds' ratios of a figure."""
    return of_rounds(map(figure, one), map(figure, other))


def core_figures(stored: int, spent: CoreCost, seed: int) -> Figures:
    """Return the figures of the pure core alone."""
    rows = [
        Row("prepare", spent.prepare, "µs a request"),
        Row("decide and apply", spent.decide, "µs a request"),
        _core_row(stored, spent),
    ]
    return Figures("core", rows, [], {}, {**machine(), "requests": spent.requests, "seed": seed})


def identity_figures(options: Options, measured: Measured) -> Figures:
    """Return the figures of the identity benchmark; ``errors`` has every answer that was not 200."""
    base = options.stored[0]
    rows = _headline(options, measured)
    for size in options.stored[1:]:
        rows += _growth(size, base, measured)
    rows += [_memory(size, peak) for size, peak in measured.peak_memory.items() if peak is not None]
    if measured.core is not None:
        rows.append(_core_row(min(options.stored), measured.core))
    notes = []
    if measured.rival:
        rows += _rival(base, measured)
    elif measured.rival_missing:
        notes.append(f"No rival: {measured.rival_missing}")
    errors = _errors(measured)
    notes += [f"{where}: {count} × {what}" for where, found in errors.items() for what, count in found.items()]
    conditions = {
        **machine(),
        "connections": options.connections,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "seed": options.seed,
    }
    return Figures("identity", rows, notes, errors, conditions, msgspec.to_builtins(measured, str_keys=True))


def _headline(options: Options, measured: Measured) -> list[Row]:
    base = options.stored[0]
    name = size_name(base)
    bare, mix, paced = measured.bare, measured.identify[base], measured.paced
    rows = [
        Row("bare endpoint", median(bare, rate), "/s"),
        Row("GET /healthz", median(measured.empty, rate), "/s",
            ratio(rate, measured.empty, bare), "bare"),
        Row(f"identity mix, {name} stored", median(mix, rate), "/s",
            ratio(rate, mix, bare), "bare", ">=", _LEAST_OF_BARE),
        Row("its latency, p50", median(mix, p50), "ms"),
        Row("its latency, p99", median(mix, p99), "ms"),
        Row("its latency, longest", median(mix, slowest), "ms"),
        Row(f"at half that rate ({median(paced, rate):,.0f}/s), p50", median(paced, p50), "ms"),
        Row("at half that rate, p99", median(paced, p99), "ms", None, "", "<", _MOST_P99_MS),
        Row("at half that rate, longest", median(paced, slowest), "ms"),
        *disk_rows(measured.disk),
    ]  # fmt: skip
    if all(report.server_cpu is not None for report in [*bare, *mix]):
        rows += [
            Row("server CPU, bare endpoint", median(bare, cpu), "µs a request"),
            Row("server CPU, identity mix", median(mix, cpu), "µs a request",
                ratio(cpu, mix, bare), "bare"),
        ]  # fmt: skip
    busy = median(mix, lambda report: report.generator_busy)
    rows.append(Row("load generator CPU", median(mix, lambda r: r.generator_cpu), "µs a request", busy, "a core"))
    return rows


def _growth(size: int, base: int, measured: Measured) -> list[Row]:
    """Compare a size with the first, round by round."""
    name, of = size_name(size), size_name(base)
    large, small = measured.identify[size], measured.identify[base]
    rows = [
        Row(f"cost of a request, {name} stored", median(large, cost), "µs",
            ratio(cost, large, small), of, "<", _MOST_GROWTH),
    ]  # fmt: skip
    if all(report.server_cpu is not None for report in [*large, *small]):
        rows.append(
            Row(f"server CPU, {name} stored", median(large, cpu), "µs a request",
                ratio(cpu, large, small), of, "<", _MOST_GROWTH)
        )  # fmt: skip
    return rows


def _memory(size: int, peak: int) -> Row:
    return Row(f"server's peak memory, {size_name(size)} stored", peak / 1e6, "MB", None, "", "<", _MOST_MEMORY_MB)


def _core_row(stored: int, spent: CoreCost) -> Row:
    return Row(f"pure core, {size_name(stored)} stored", spent.total, "µs a request", None, "", "<", _MOST_CORE_US)


def _rival(base: int, measured: Measured) -> list[Row]:
    mix, rival = measured.identify[base], measured.rival
    return [
        Row("rival: FastAPI, SQLAlchemy, PostgreSQL", median(rival, rate), "/s"),
        Row("rival's latency, p99", median(rival, p99), "ms"),
        Row("identity mix beside the rival", median(mix, rate), "/s",
            ratio(rate, mix, rival), "rival"),
    ]  # fmt: skip


def _errors(measured: Measured) -> dict[str, dict[str, int]]:
    loads = {"bare endpoint": measured.bare, "GET /healthz": measured.empty, "rival": measured.rival}
    loads |= {f"{size_name(size)} stored": reports for size, reports in measured.identify.items()}
    return wrong_answers(loads | {"half rate": measured.paced})


def wrong_answers(loads: Mapping[str, Sequence[LoadReport]]) -> dict[str, dict[str, int]]:
    """Return, for each load that had any, what came back that should not have, and how often."""
    found: dict[str, dict[str, int]] = {}
    for where, reports in loads.items():
        counts: Counter[str] = Counter()
        for report in reports:
            counts.update(report.errors)
            if not report.answered:
                counts["no answers at all"] += 1
        if counts:
            found[where] = dict(counts)
    return found


def disk_rows(reports: Sequence[DiskReport]) -> list[Row]:
    """Return how long the disk itself took to sync."""
    return [
        Row("the disk alone, a sync, p50", statistics.median(report.p50 for report in reports), "ms"),
        Row("the disk alone, a sync, longest", statistics.median(report.max for report in reports), "ms"),
    ]


def machine() -> dict[str, str | int | float]:
    """Return the conditions that are the machine's."""
    return {"CPUs": os.cpu_count() or 0, "Python": platform.python_version(), "on": platform.platform()}


def median(reports: Sequence[LoadReport], figure: Callable[[LoadReport], float]) -> float:
    """Return the median of a figure over the rounds."""
    return statistics.median(map(figure, reports))


def rate(report: LoadReport) -> float:
    """Return answers a second."""
    return report.rate


def p50(report: LoadReport) -> float:
    """Return the median latency in ms."""
    return report.p50


def p99(report: LoadReport) -> float:
    """Return the latency in ms that one answer in a hundred exceeds."""
    return report.p99


def slowest(report: LoadReport) -> float:
    """Return the longest latency in ms."""
    return report.max


def cost(report: LoadReport) -> float:
    """Return microseconds a request at full load, all waiting for the disk included."""
    return 1e6 / report.rate if report.rate else 0.0


def cpu(report: LoadReport) -> float:
    """Return the server's CPU time in microseconds a request, 0 where it is not told."""
    return report.server_cpu or 0.0
