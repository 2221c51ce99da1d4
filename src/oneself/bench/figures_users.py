"""From what the ingest and profile benchmarks measured to the rows of their tables (docs/benchmarks.md)."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping

import msgspec

from oneself.bench.figures import (
    cost,
    cpu,
    disk_rows,
    machine,
    median,
    of_rounds,
    p50,
    p99,
    rate,
    ratio,
    size_name,
    slowest,
    wrong_answers,
)
from oneself.bench.importing import ImportMeasured, ImportOptions
from oneself.bench.ingest import AIMS, CHANNELS, TAKEN, Aim, Channel, IngestMeasured, IngestOptions
from oneself.bench.load import LoadReport
from oneself.bench.profile import ProfileMeasured, ProfileOptions
from oneself.bench.report import Figures, Row

__all__ = ["import_figures", "ingest_figures", "profile_figures"]

_LEAST_INGEST_OF_BARE = 0.15
_LEAST_READS_OF_BARE = 0.45
_MOST_READ_P99_MS = 10.0
_MOST_LARGE = 2.0
_LEAST_ROWS = 20_000.0
_PATHS: Mapping[Channel, str] = {"web": "/v3/JS/…/events", "server": "/v2/events"}
_LARGE: Mapping[Aim, str] = {"busy": "events", "crowded": "devices"}


def ingest_figures(options: IngestOptions, measured: IngestMeasured) -> Figures:
    """Return the figures of the ingest benchmark; ``errors`` has answers other than 202, and batches not taken in."""
    rows = [row for channel in CHANNELS for row in _channel(channel, measured)]
    rows += _large("batch", options.users.crowd, measured.aimed) if measured.aimed else []
    rows += disk_rows(measured.disk)
    loads = {f"bare endpoint, {_PATHS[channel]}": reports for channel, reports in measured.bare.items()}
    loads |= {_PATHS[channel]: reports for channel, reports in measured.mix.items()}
    loads |= {f"{_PATHS[channel]} at half its rate": reports for channel, reports in measured.paced.items()}
    loads |= _aimed_loads("to", measured.aimed)
    errors = wrong_answers(loads)
    lost = {outcome: count for outcome, count in measured.outcomes.items() if outcome != TAKEN}
    if lost:
        errors["batches that were not taken in"] = lost
    return _figures("ingest", options, rows, measured.peak_memory, errors, measured)


def profile_figures(options: ProfileOptions, measured: ProfileMeasured) -> Figures:
    """Return the figures of the profile benchmark; ``errors`` has every answer that was not 200 with a profile."""
    bare, reads, paced = measured.bare, measured.reads, measured.paced
    users = options.users
    rows = [
        Row(f"bare endpoint, {measured.answer_bytes / 1000:.1f} kB an answer", median(bare, rate), "/s"),
        Row(f"profile reads, {size_name(users.profiles)} stored", median(reads, rate), "/s",
            ratio(rate, reads, bare), "bare", ">=", _LEAST_READS_OF_BARE),
        *_latency(reads),
        *_at_half(paced, _MOST_READ_P99_MS),
        *_cpu("profile reads", reads, bare),
        *_generator(reads),
    ]  # fmt: skip
    rows += _large("read", users.crowd, measured.aimed) if measured.aimed else []
    loads = {"bare endpoint": bare, "profile reads": reads, "half rate": paced}
    loads |= _aimed_loads("of", measured.aimed)
    return _figures("profile", options, rows, measured.peak_memory, wrong_answers(loads), measured)


def import_figures(options: ImportOptions, measured: ImportMeasured) -> Figures:
    """Return the figures of the import benchmark; ``errors`` has the rows that were not taken in once."""
    done = measured.imports
    rates = [report.rows / report.seconds for report in done]
    reading = [report.rows / report.read_seconds for report in done]
    rows = [
        Row("reading the rows alone", statistics.median(reading), "rows/s"),
        Row(f"import of {size_name(options.rows)} rows", statistics.median(rates), "rows/s",
            None, "", ">=", _LEAST_ROWS),
        Row("the same, beside reading", statistics.median(rates), "rows/s", of_rounds(rates, reading), "reading"),
        Row("CPU of the import", statistics.median(report.cpu for report in done), "µs a row"),
        Row("its peak memory", max(report.peak_memory for report in done) / 1e6, "MB"),
        Row("the file", statistics.median(report.file_bytes for report in done) / 1e6, "MB"),
        *disk_rows(measured.disk),
    ]  # fmt: skip
    wrong: Counter[str] = Counter()
    for report in done:
        right = {"rows": report.rows, "taken": report.rows}
        wrong.update({
            f"{name}: {count}": 1 for name, count in (dict.fromkeys(right, 0) | report.counts).items()
            if count != right.get(name, 0)
        })  # fmt: skip
    errors = {"rows that were not taken in once": dict(wrong)} if wrong else {}
    notes = [f"{where}: {count} × {what}" for where, found in errors.items() for what, count in found.items()]
    conditions: dict[str, str | int | float] = {
        **machine(),
        "profiles": options.users.profiles,
        "attributes": options.users.attributes,
        "rows": options.rows,
        "rounds": options.rounds,
        "seed": options.seed,
    }
    return Figures("import", rows, notes, errors, conditions, msgspec.to_builtins(measured))


def _channel(channel: Channel, measured: IngestMeasured) -> list[Row]:
    """Return the rows of one way in."""
    name = _PATHS[channel]
    bare, mix, paced = measured.bare[channel], measured.mix[channel], measured.paced[channel]
    return [
        Row(f"bare endpoint, {name}", median(bare, rate), "/s"),
        Row(f"batches of 3 events, {name}", median(mix, rate), "/s",
            ratio(rate, mix, bare), "bare", ">=", _LEAST_INGEST_OF_BARE),
        *_latency(mix),
        *_at_half(paced),
        *_cpu("batches", mix, bare),
        *_generator(mix),
    ]  # fmt: skip


def _latency(reports: list[LoadReport]) -> list[Row]:
    return [
        Row("its latency, p50", median(reports, p50), "ms"),
        Row("its latency, p99", median(reports, p99), "ms"),
        Row("its latency, longest", median(reports, slowest), "ms"),
    ]


def _at_half(paced: list[LoadReport], most_p99: float | None = None) -> list[Row]:
    return [
        Row(f"at half that rate ({median(paced, rate):,.0f}/s), p50", median(paced, p50), "ms"),
        Row("at half that rate, p99", median(paced, p99), "ms", None, "", "<" if most_p99 else "", most_p99),
        Row("at half that rate, longest", median(paced, slowest), "ms"),
    ]


def _cpu(name: str, reports: list[LoadReport], bare: list[LoadReport]) -> list[Row]:
    if any(report.server_cpu is None for report in [*reports, *bare]):
        return []
    return [
        Row("server CPU, bare endpoint", median(bare, cpu), "µs a request"),
        Row(f"server CPU, {name}", median(reports, cpu), "µs a request", ratio(cpu, reports, bare), "bare"),
    ]


def _generator(reports: list[LoadReport]) -> list[Row]:
    busy = median(reports, lambda report: report.generator_busy)
    spent = median(reports, lambda report: report.generator_cpu)
    return [Row("load generator CPU", spent, "µs a request", busy, "a core")]


def _large(what: str, crowd: int, aimed: Mapping[Aim, list[LoadReport]]) -> list[Row]:
    """Compare what large profiles cost with an ordinary one, round by round."""
    ordinary = aimed["ordinary"]
    told = all(report.server_cpu is not None for reports in aimed.values() for report in reports)
    rows = [Row(f"cost of a {what}, an ordinary profile", median(ordinary, cost), "µs")]
    if told:
        rows.append(Row("server CPU, the same", median(ordinary, cpu), "µs a request"))
    for aim, of in _LARGE.items():
        large, name = aimed[aim], f"a profile with {size_name(crowd)} {of}"
        rows.append(
            Row(f"cost of a {what}, {name}", median(large, cost), "µs",
                ratio(cost, large, ordinary), "ordinary", "<", _MOST_LARGE)
        )  # fmt: skip
        if told:
            rows.append(
                Row("server CPU, the same", median(large, cpu), "µs a request",
                    ratio(cpu, large, ordinary), "ordinary", "<", _MOST_LARGE)
            )  # fmt: skip
    return rows


def _aimed_loads(way: str, aimed: Mapping[Aim, list[LoadReport]]) -> dict[str, list[LoadReport]]:
    return {f"{way} the {aim} profile": aimed[aim] for aim in AIMS if aim in aimed}


def _figures(
    bench: str,
    options: IngestOptions | ProfileOptions,
    rows: list[Row],
    peak_memory: int | None,
    errors: dict[str, dict[str, int]],
    measured: msgspec.Struct,
) -> Figures:
    if peak_memory is not None:
        rows.append(Row("server's peak memory", peak_memory / 1e6, "MB"))
    notes = [f"{where}: {count} × {what}" for where, found in errors.items() for what, count in found.items()]
    users = options.users
    conditions: dict[str, str | int | float] = {
        **machine(),
        "profiles": users.profiles,
        "devices": users.devices,
        "attributes": users.attributes,
        "events a batch": users.events,
        "crowd": users.crowd,
        "connections": options.connections,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "seed": options.seed,
    }
    return Figures(bench, rows, notes, errors, conditions, msgspec.to_builtins(measured, str_keys=True))
