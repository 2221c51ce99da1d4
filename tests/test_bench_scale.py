"""The scale benchmark: several processes on one database, spread loads, rows and targets; never a time."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from oneself.bench import identity as identity_bench
from oneself.bench import scale as scale_bench
from oneself.bench.batches import EVENTS
from oneself.bench.disk import DiskReport
from oneself.bench.figures_scale import scale_figures
from oneself.bench.load import LoadReport, LoadSpec, measure
from oneself.bench.mix import Cursor
from oneself.bench.processes import free_port, machine_seconds
from oneself.bench.report import Row, table
from oneself.bench.scale import ScaleMeasured, ScaleOptions, measure_scale, planned_scale_steps
from oneself.bench.servers import Process, Server
from oneself.commands import main
from postgres_server import asked, server
from test_bench_load import OK, Scripted

TINY = ["--seconds", "0.5", "--settle", "0.1", "--rounds", "1", "--connections", "4", "--processes", "1,2"]


def report_of(rate: float, **more: Any) -> LoadReport:
    settings: dict[str, Any] = {
        "seconds": 1.0, "answered": int(rate), "rate": rate, "p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0,
        "errors": {}, "generator_cpu": 10.0, "generator_busy": 0.1, "server_cpu": 100.0, "cursor": Cursor(),
        "machine_cpu": 400.0,
    }  # fmt: skip
    return LoadReport(**settings | more)


OPTIONS = ScaleOptions(stored=(10_000, 1_000_000), processes=(1, 2), database="postgresql://here/test")


def measured_with(**more: Any) -> ScaleMeasured:
    settings: dict[str, Any] = {
        "disk": [DiskReport(9, 0.5, 1.0, 20.0)] * 3,
        "folder": {"identify": [report_of(1000)] * 3, "ingest": [report_of(500)] * 3},
        "database": {
            "identify": {1: [report_of(800), report_of(900), report_of(1000)], 2: [report_of(1500)] * 3},
            "ingest": {1: [report_of(400)] * 3, 2: [report_of(600)] * 3},
        },
        "grown": {1_000_000: [report_of(450)] * 3},
        "rival": [report_of(150)] * 3,
        "outcomes": {"taken": 5},
        "durability": {"server_version": "15", "fsync": "on", "synchronous_commit": "on"},
    }
    return ScaleMeasured(**settings | more)


def rows_of(measured: ScaleMeasured) -> dict[str, Row]:
    return {row.figure: row for row in scale_figures(OPTIONS, measured).rows}


# -- figures --------------------------------------------------------------------------------------------------------


def test_each_number_of_processes_is_compared_with_the_folder_and_with_the_first() -> None:
    rows = rows_of(measured_with())
    one, two = rows["identity mix, PostgreSQL, 1 process"], rows["identity mix, PostgreSQL, 2 processes"]
    assert (one.value, one.ratio, one.of) == (900, 0.9, "the data folder")
    assert (two.value, two.ratio) == (1500, 1.5)
    assert rows["the same, over 1 process"].ratio is not None
    assert rows["batches of 3 events, PostgreSQL, 2 processes"].ratio == 1.2


def test_the_targets_bind_the_best_number_of_processes() -> None:
    rows = rows_of(measured_with())
    best, beside = (
        rows["identity mix, the best: 2 processes"],
        rows["identity mix, the best: 2 processes, beside the rival"],
    )
    assert (best.ratio, best.target, best.met) == (1.5, 1.0, True)
    assert (beside.ratio, beside.target, beside.met) == (10.0, 8.0, True)
    slower = rows_of(measured_with(rival=[report_of(300)] * 3))
    assert slower["identity mix, the best: 2 processes, beside the rival"].met is False


def test_the_cost_of_a_request_is_told_as_the_store_grows() -> None:
    row = rows_of(measured_with())["cost of a request, 1m stored"]
    assert (row.ratio, row.of, row.target, row.met) == (2.0, "10k", 1.6, False)


def test_who_is_busy_is_told() -> None:
    rows = rows_of(measured_with())
    assert rows["server CPU, PostgreSQL, 2 processes"].value == 100
    assert rows["CPU of all else but the load generator"].value == 400 - 100 - 10
    assert rows["cores busy, of all"].value == pytest.approx(450 * 400 / 1e6)
    untold = measured_with(grown={}, folder={"identify": [report_of(9, server_cpu=None)], "ingest": [report_of(9)]})
    untold.database = {"identify": {1: [report_of(9)]}, "ingest": {1: [report_of(9)]}}
    untold.rival = []
    assert "server CPU, data folder" in rows_of(untold)  # of the batches


def test_wrong_answers_and_lost_batches_fail_the_run() -> None:
    bad = measured_with(
        outcomes={"taken": 5, "refused": 2}, grown={1_000_000: [report_of(450, errors={"503": 1})] * 3}
    )
    bad.database["ingest"][2] = [report_of(600, errors={"409": 1})] * 3
    figures = scale_figures(OPTIONS, bad)
    assert figures.errors == {
        "batches of 3 events, 2 processes": {"409": 3},
        "1m stored": {"503": 3},
        "batches that were not taken in": {"refused": 2},
    }
    assert "2 × refused" in table(figures)
    assert figures.conditions["synchronous_commit"] == "on"


# -- spreading a load -----------------------------------------------------------------------------------------------


def test_connections_are_dealt_out_to_all_ports() -> None:
    with Scripted(lambda _: OK) as one, Scripted(lambda _: OK) as other, Scripted(lambda _: OK) as third:
        spec = LoadSpec(
            one.port,
            0.2,
            6,
            0.0,
            expect="right",
            pid=os.getpid(),
            more_ports=(other.port, third.port),
            more_pids=(1,),
        )
        report = asyncio.run(measure(spec))
        served = [one.served, other.served, third.served]
    assert report.errors == {}
    assert min(served) > 0
    assert report.answered <= sum(served)
    assert report.machine_cpu is None or report.machine_cpu > 0


def test_each_process_gets_as_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    specs: list[LoadSpec] = []

    def run(spec: LoadSpec) -> LoadReport:
        specs.append(spec)
        return report_of(1)

    monkeypatch.setattr("oneself.bench.servers.run", run)
    loaded = Server(1, 11, "s", [Process(2, 12), Process(3, 13)])
    load = scale_bench._LOADS["identify"](OPTIONS, 10_000)
    load(loaded, 1)
    load(loaded, 3)
    assert [(s.port, s.more_ports, s.pid, s.more_pids, s.connections) for s in specs] == [
        (1, (), 11, (), 32),
        (1, (2, 3), 11, (12, 13), 96),
    ]
    with pytest.raises(AssertionError, match="so many processes do not run"):
        load(loaded, 4)


def test_the_machines_time_rises() -> None:
    first = machine_seconds()
    assert first != first or machine_seconds() >= first > 0  # NaN where it is not told


# -- the command ----------------------------------------------------------------------------------------------------


def run_scale(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "scale", *arguments])


@pytest.fixture(autouse=True)
def own_schemas(monkeypatch: pytest.MonkeyPatch) -> str:
    """Names of schemas that no other run of the tests has."""
    name = f"oneself_scale_test_{os.getpid()}"
    monkeypatch.setattr(scale_bench, "_SCHEMA", name)
    monkeypatch.setattr(identity_bench, "_SCHEMA", f"{name}_rival")
    return name


def test_a_whole_tiny_run_answers_every_request(own_schemas: str) -> None:
    result = run_scale("--stored", "400,1k", "--database", server(), *TINY, "--json")
    assert result.exit_code == 0, result.output
    figures = msgspec.json.decode(result.stdout)
    assert figures["errors"] == {}
    assert figures["conditions"]["fsync"] in ("on", "off")
    assert set(figures["raw"]["outcomes"]) == {"taken"}
    for work in ("identify", "ingest"):
        assert [figures["raw"]["database"][work][count][0]["answered"] > 0 for count in "12"] == [True, True]
    names = [row["figure"] for row in figures["rows"]]
    assert "cost of a request, 1k stored" in names
    assert any(name.startswith("rival: ") for name in names) != any("No rival" in note for note in figures["notes"])
    schemas = asked("SELECT schema_name FROM information_schema.schemata")
    assert [name for (name,) in schemas if name.startswith(own_schemas)] == []


def test_progress_is_told_to_its_end() -> None:
    told: list[int] = []
    options = ScaleOptions(
        stored=(400,),
        processes=(1,),
        database=server(),
        rival=False,
        seconds=0.1,
        settle=0.0,
        rounds=1,
        connections=2,
    )
    measure_scale(options, told.append)
    assert sum(told) == planned_scale_steps(options)
    assert options.users.events == EVENTS


def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    nowhere = f"postgresql://postgres:secret@127.0.0.1:{free_port()}/test"
    result = run_scale("--stored", "400", *TINY, "--database", nowhere)
    assert result.exit_code == 1
    assert "Name another one with --database" in result.output
    assert "secret" not in result.output


@pytest.mark.parametrize("counts", ["", "0", "2,1", "1,1", "one"])
def test_numbers_of_processes_that_are_none_are_refused(counts: str) -> None:
    result = run_scale("--processes", counts)
    assert result.exit_code == 2
    assert "--processes" in result.output
