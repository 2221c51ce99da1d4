"""From what the scale benchmark measured to the rows of its table (docs/benchmarks.md)."""

from __future__ import annotations

import msgspec

from oneself.bench.figures import (
    cost,
    cpu,
    disk_rows,
    machine,
    median,
    p50,
    p99,
    rate,
    ratio,
    size_name,
    wrong_answers,
)
from oneself.bench.ingest import TAKEN
from oneself.bench.load import LoadReport
from oneself.bench.report import Figures, Row
from oneself.bench.scale import WORK, ScaleMeasured, ScaleOptions, Work

__all__ = ["scale_figures"]

_LEAST_OF_RIVAL = 8.0
_LEAST_OF_FOLDER = 1.0
_MOST_GROWTH = 1.6
_NAMES: dict[Work, str] = {"identify": "identity mix", "ingest": "batches of 3 events"}


def scale_figures(options: ScaleOptions, measured: ScaleMeasured) -> Figures:
    """Return the figures of the scale benchmark; ``errors`` has wrong answers, and batches that were not taken in."""
    rows = [row for work in WORK for row in _work(work, measured)]
    rows += _targets(measured)
    for size, reports in measured.grown.items():
        rows += _growth(size, options.stored[0], reports, measured.database["identify"][options.processes[0]])
    rows += disk_rows(measured.disk)
    notes = [f"No rival: {measured.rival_missing}"] if measured.rival_missing else []
    errors = _errors(measured)
    notes += [f"{where}: {count} × {what}" for where, found in errors.items() for what, count in found.items()]
    conditions: dict[str, str | int | float] = {
        **machine(),
        **measured.durability,
        "stored": size_name(options.stored[0]),
        "connections a process": options.connections,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "seed": options.seed,
    }
    return Figures("scale", rows, notes, errors, conditions, msgspec.to_builtins(measured, str_keys=True))


def _work(work: Work, measured: ScaleMeasured) -> list[Row]:
    """Return the rows of one kind of work: the folder, then each number of processes on the database."""
    name, folder, database = _NAMES[work], measured.folder[work], measured.database[work]
    first = next(iter(database.values()))
    rows = [Row(f"{name}, data folder", median(folder, rate), "/s"), *_cpu("data folder", folder)]
    for processes, reports in database.items():
        where = f"PostgreSQL, {_processes(processes)}"
        rows.append(
            Row(f"{name}, {where}", median(reports, rate), "/s", ratio(rate, reports, folder), "the data folder")
        )
        if reports is not first:
            rows.append(
                Row(f"the same, over {_processes(next(iter(database)))}", median(reports, rate), "/s",
                    ratio(rate, reports, first), "that")
            )  # fmt: skip
        rows += [
            Row("its latency, p50", median(reports, p50), "ms"),
            Row("its latency, p99", median(reports, p99), "ms"),
            *_cpu(where, reports),
        ]
    return rows


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def _cpu(where: str, reports: list[LoadReport]) -> list[Row]:
    """Return what a request costs the servers, and what everything else took meanwhile: who is busy binds."""
    if any(report.server_cpu is None for report in reports):
        return []
    rows = [Row(f"server CPU, {where}", median(reports, cpu), "µs a request")]
    if all(report.machine_cpu is not None for report in reports):
        rest = median(reports, lambda r: max(0.0, (r.machine_cpu or 0.0) - cpu(r) - r.generator_cpu))
        busy = median(reports, lambda r: (r.machine_cpu or 0.0) * r.rate / 1e6)
        rows += [
            Row("CPU of all else but the load generator", rest, "µs a request"),
            Row("cores busy, of all", busy, "cores", busy / float(machine()["CPUs"] or 1), "the machine"),
        ]
    return rows


def _targets(measured: ScaleMeasured) -> list[Row]:
    """Return the rate of the best number of processes, beside the folder's and the rival's."""
    database, folder, rival = measured.database["identify"], measured.folder["identify"], measured.rival
    count, best = max(database.items(), key=lambda item: median(item[1], rate))
    name = f"identity mix, the best: {_processes(count)}"
    rows = [Row(name, median(best, rate), "/s", ratio(rate, best, folder), "the data folder", ">=", _LEAST_OF_FOLDER)]
    if rival:
        rows += [
            Row("rival: FastAPI, SQLAlchemy, the same PostgreSQL", median(rival, rate), "/s"),
            Row("rival's latency, p99", median(rival, p99), "ms"),
            *_cpu("rival", rival),
            Row(f"{name}, beside the rival", median(best, rate), "/s",
                ratio(rate, best, rival), "rival", ">=", _LEAST_OF_RIVAL),
        ]  # fmt: skip
    return rows


def _growth(size: int, base: int, large: list[LoadReport], small: list[LoadReport]) -> list[Row]:
    name, of = size_name(size), size_name(base)
    rows = [
        Row(f"cost of a request, {name} stored", median(large, cost), "µs",
            ratio(cost, large, small), of, "<", _MOST_GROWTH),
    ]  # fmt: skip
    return rows + _cpu(f"{name} stored", large)


def _errors(measured: ScaleMeasured) -> dict[str, dict[str, int]]:
    loads = {f"{_NAMES[work]}, data folder": reports for work, reports in measured.folder.items()}
    for work, by_count in measured.database.items():
        loads |= {f"{_NAMES[work]}, {_processes(count)}": reports for count, reports in by_count.items()}
    loads |= {f"{size_name(size)} stored": reports for size, reports in measured.grown.items()}
    if measured.rival:
        loads["rival"] = measured.rival
    errors = wrong_answers(loads)
    lost = {outcome: count for outcome, count in measured.outcomes.items() if outcome != TAKEN}
    if lost:
        errors["batches that were not taken in"] = lost
    return errors
