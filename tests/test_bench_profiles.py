"""The ingest and profile benchmarks measure what they say: tiny runs check the harness, never a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from oneself.bench import ingest as ingest_bench
from oneself.bench import profile as profile_bench
from oneself.bench.bare import Bare
from oneself.bench.disk import DiskReport
from oneself.bench.figures_users import import_figures, ingest_figures, profile_figures
from oneself.bench.fill_users import NoRoom
from oneself.bench.importing import (
    ImportMeasured,
    ImportOptions,
    ImportReport,
    measure_import,
    planned_import_steps,
    write_updates,
)
from oneself.bench.ingest import IngestMeasured, IngestOptions, planned_ingest_steps
from oneself.bench.load import LoadReport
from oneself.bench.mix import Cursor
from oneself.bench.population import customer_id
from oneself.bench.profile import ProfileMeasured, ProfileOptions, planned_profile_steps
from oneself.bench.report import Figures, Row, table
from oneself.bench.users import Users
from oneself.commands import main

USERS = Users(100_000, devices=3, attributes=40, crowd=100_000)
FEW = Users(120, devices=2, attributes=5, crowd=90)


def report_of(rate: float, **more: Any) -> LoadReport:
    settings: dict[str, Any] = {
        "seconds": 1.0, "answered": int(rate), "rate": rate, "p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0,
        "errors": {}, "generator_cpu": 10.0, "generator_busy": 0.1, "server_cpu": 1e6 / rate, "cursor": Cursor(),
    }  # fmt: skip
    return LoadReport(**settings | more)


def reports(*rates: float, **more: Any) -> list[LoadReport]:
    return [report_of(rate, **more) for rate in rates]


def ingested(**more: Any) -> IngestMeasured:
    settings: dict[str, Any] = {
        "disk": [DiskReport(10, 0.5, 2.0, 9.0)] * 3,
        "bare": {"web": reports(1000, 2000, 4000), "server": reports(1000, 1000, 1000)},
        "mix": {"web": reports(200, 200, 400), "server": reports(140, 140, 160)},
        "paced": {"web": reports(100, 100, 100), "server": reports(70, 70, 70, p99=9.0)},
        "aimed": {
            "ordinary": reports(300, 600, 600),
            "busy": reports(200, 200, 400),
            "crowded": reports(300, 600, 600),
        },
        "outcomes": {"taken": 1000},
        "peak_memory": 90_000_000,
    }
    return IngestMeasured(**settings | more)


def was_read(**more: Any) -> ProfileMeasured:
    settings: dict[str, Any] = {
        "bare": reports(1000, 2000, 4000),
        "reads": reports(400, 1000, 2000),
        "paced": reports(500, 500, 500, p99=11.0),
        "aimed": {
            "ordinary": reports(900, 900, 900),
            "busy": reports(900, 900, 900),
            "crowded": reports(300, 300, 300),
        },
        "answer_bytes": 2034,
        "peak_memory": None,
    }
    return ProfileMeasured(**settings | more)


INGEST = IngestOptions(users=USERS)
PROFILE = ProfileOptions(users=USERS)


def rows_of(figures: Figures) -> dict[str, Row]:
    return {row.figure: row for row in figures.rows}


# -- figures -------------------------------------------------------------------------------------------------------


def test_ingest_is_compared_with_the_bare_endpoint_by_each_way_in():
    rows = rows_of(ingest_figures(INGEST, ingested()))
    web, server = rows["batches of 3 events, /v3/JS/…/events"], rows["batches of 3 events, /v2/events"]
    assert (web.value, web.ratio, web.target, web.met) == (200, 0.1, 0.15, False)
    assert (server.value, server.ratio, server.met) == (140, 0.14, False)
    assert rows["at half that rate, p99"].value == 9.0
    assert rows["server's peak memory"].value == 90
    assert rows["the disk alone, a sync, longest"].value == 9.0


def test_large_profiles_are_compared_with_an_ordinary_one_in_the_same_round():
    rows = rows_of(ingest_figures(INGEST, ingested()))
    events = rows["cost of a batch, a profile with 100k events"]
    assert (events.value, events.ratio, events.met) == (5000, 1.5, True)
    assert rows["cost of a batch, a profile with 100k devices"].ratio == 1.0
    read = rows_of(profile_figures(PROFILE, was_read()))
    devices = read["cost of a read, a profile with 100k devices"]
    assert (devices.ratio, devices.target, devices.met) == (3.0, 2.0, False)


def test_reads_are_compared_with_the_bare_endpoint_and_their_p99_with_ten_milliseconds():
    rows = rows_of(profile_figures(PROFILE, was_read()))
    reads = rows["profile reads, 100k stored"]
    assert (reads.value, reads.ratio, reads.target, reads.met) == (1000, 0.5, 0.45, True)
    p99 = rows["at half that rate, p99"]
    assert (p99.value, p99.target, p99.met) == (11.0, 10.0, False)
    assert "bare endpoint, 2.0 kB an answer" in rows
    assert "server's peak memory" not in rows


def test_without_a_crowd_there_are_no_large_profiles():
    figures = ingest_figures(IngestOptions(users=msgspec.structs.replace(USERS, crowd=0)), ingested(aimed={}))
    assert not [row for row in figures.rows if "a profile with" in row.figure]


def test_wrong_answers_and_batches_that_were_not_taken_in_are_errors():
    bad = ingested(outcomes={"taken": 900, "quarantined": 7})
    bad.paced["server"] = reports(70, 70, 70, errors={"503": 2})
    figures = ingest_figures(INGEST, bad)
    assert figures.errors == {
        "/v2/events at half its rate": {"503": 6},
        "batches that were not taken in": {"quarantined": 7},
    }
    assert "7 × quarantined" in table(figures)
    lost = was_read()
    lost.aimed["busy"] = reports(900, 900, 900, errors={"404": 1})
    assert profile_figures(PROFILE, lost).errors == {"of the busy profile": {"404": 3}}


def imported(**more: Any) -> ImportReport:
    settings: dict[str, Any] = {
        "rows": 1000, "seconds": 0.1, "cpu": 90.0, "peak_memory": 90_000_000, "file_bytes": 50_000,
        "read_seconds": 0.02, "counts": {"rows": 1000, "taken": 1000, "repeated": 0, "rejected": 0},
    }  # fmt: skip
    return ImportReport(**settings | more)


def test_an_import_is_compared_with_what_is_asked_for_and_with_reading_alone():
    options = ImportOptions(rows=1000, users=USERS)
    disk = [DiskReport(10, 0.5, 2.0, 9.0)]
    figures = import_figures(options, ImportMeasured(disk, [imported(), imported(seconds=0.04), imported()]))
    rows = rows_of(figures)
    assert figures.errors == {}
    done = rows["import of 1k rows"]
    assert (done.value, done.target, done.met) == (10_000, 20_000, False)
    assert rows["the same, beside reading"].ratio == pytest.approx(0.2)
    lost = imported(counts={"rows": 1000, "taken": 999, "repeated": 0, "rejected": 1})
    told = import_figures(options, ImportMeasured(disk, [lost]))
    assert told.errors == {"rows that were not taken in once": {"taken: 999": 1, "rejected: 1": 1}}


# -- the bare endpoint ---------------------------------------------------------------------------------------------


def asked(app: Bare, path: bytes, body: bytes) -> tuple[int, bytes]:
    """Return the status and body of an answer."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"raw_path": path}, receive, send))
    return sent[0]["status"], sent[1]["body"]


def test_the_bare_endpoint_takes_events_and_answers_all_else_alike():
    app = Bare({"mpid": 7})
    assert asked(app, b"/v3/JS/k/events", b"{}") == (202, b"")
    assert asked(app, b"/v2/events", b'{"events":[]}') == (202, b"")
    assert asked(app, b"/userprofile/v1/1/1/1/5", b"") == (200, b'{"mpid":7}')
    with pytest.raises(msgspec.DecodeError):
        asked(app, b"/v2/events", b"{")


# -- the commands --------------------------------------------------------------------------------------------------

TINY = ["--seconds", "1.5", "--settle", "0.1", "--rounds", "1", "--connections", "4"]


def run_bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


def test_a_whole_tiny_ingest_run_takes_every_batch_in():
    result = run_bench("ingest", "--stored", "150", "--crowd", "60", *TINY, "--json")
    assert result.exit_code == 0, result.output
    figures = msgspec.json.decode(result.stdout)
    assert (figures["errors"], list(figures["raw"]["outcomes"])) == ({}, ["taken"])
    names = [row["figure"] for row in figures["rows"]]
    assert "batches of 3 events, /v2/events" in names
    assert "cost of a batch, a profile with 60 devices" in names
    assert figures["conditions"]["profiles"] == 150
    answered = [report["answered"] for report in figures["raw"]["mix"]["web"]]
    assert min(answered) > 0


def test_a_whole_tiny_profile_run_reads_whole_profiles():
    result = run_bench("profile", "--stored", "150", "--crowd", "60", *TINY)
    assert result.exit_code == 0, result.output
    assert "profile reads, 150 stored" in result.output
    assert "cost of a read, a profile with 60 events" in result.output
    assert "attributes 40" in result.output


def test_a_whole_tiny_import_takes_every_row_in_once():
    pytest.importorskip("pyarrow", reason="the extra oneself[parquet] is not installed")
    result = run_bench("import", "--rows", "230", "--stored", "100", "--rounds", "2", "--json")
    assert result.exit_code == 0, result.output
    figures = msgspec.json.decode(result.stdout)
    assert figures["errors"] == {}
    assert [report["counts"]["taken"] for report in figures["raw"]["imports"]] == [230, 230]


def test_half_of_the_rows_of_a_file_are_stored_users(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra oneself[parquet] is not installed")
    stored = {customer_id(number) for number in range(FEW.profiles)}
    seen: set[str] = set()
    for number in range(2):
        write_updates(tmp_path / "updates.parquet", FEW, 200, number, seed=1)
        ids = parquet.read_table(tmp_path / "updates.parquet")["user_identities.customer_id"].to_pylist()
        assert sum(one in stored for one in ids) == 100
        new = set(ids) - stored
        assert len(new) == 100
        assert not new & seen
        seen |= new


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ingest", ["--stored", "10"]),
        ("profile", ["--stored", "many"]),
        ("profile", ["--devices", "16"]),
        ("ingest", ["--crowd", "-1"]),
    ],
)
def test_what_cannot_be_stored_is_refused(name: str, options: list[str]):
    result = run_bench(name, *options)
    assert result.exit_code == 2
    assert options[0] in result.output


def test_a_disk_without_room_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch):
    def no_room(*_: object) -> None:
        raise NoRoom("10 such profiles need about 99 GB.")

    monkeypatch.setattr(profile_bench, "filled", no_room)
    result = run_bench("profile", *TINY)
    assert result.exit_code == 1
    assert result.output.strip() == "Error: 10 such profiles need about 99 GB."


def test_progress_is_told_to_its_end():
    pytest.importorskip("pyarrow", reason="the extra oneself[parquet] is not installed")
    told: list[int] = []
    options = IngestOptions(users=FEW, seconds=0.1, settle=0.0, rounds=1, connections=2)
    ingest_bench.measure_ingest(options, told.append)
    assert sum(told) == planned_ingest_steps(options)
    told.clear()
    importing = ImportOptions(rows=100, users=FEW)
    measure_import(importing, told.append)
    assert sum(told) == planned_import_steps(importing)
    told.clear()
    reading = ProfileOptions(users=FEW, seconds=0.1, settle=0.0, rounds=1, connections=2)
    profile_bench.measure_profile(reading, told.append)
    assert sum(told) == planned_profile_steps(reading)
