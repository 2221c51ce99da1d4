"""``oneself import`` that is stopped or killed, into a folder and into a database (docs/import-export.md).

``ONESELF_CRASH_ROUNDS`` sets how often it is killed; 15 times unless it is given.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bulk_files import json_lines, written
from bulk_world import Desk, attributes_of, batches_of, read_rejects, request_ids, start_import
from engines import place_of
from test_command_import import people

BOTH_ENGINES = True

ROUNDS = int(os.environ.get("ONESELF_CRASH_ROUNDS", "15"))


def checkpoints(folder: Path) -> list[Path]:
    """Return what imports that did not end have left behind: in the data folder, or where the rejects are."""
    return list((folder / "data" if place_of(folder / "data").database is None else folder).glob("import-*.json"))


def wait_for_checkpoint(folder: Path, worker: subprocess.Popen[str]) -> None:
    """Wait until an import has begun to apply rows, or has ended."""
    known = {path: path.stat().st_mtime_ns for path in checkpoints(folder)}
    while worker.poll() is None:
        for path in checkpoints(folder):
            if path.stat().st_mtime_ns != known.get(path):
                return
        time.sleep(0.005)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose data folder has a configuration."""
    Desk(tmp_path / "data")
    return tmp_path


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_ends_and_the_next_run_goes_on(folder: Path, told: signal.Signals) -> None:
    path = people(folder, 20_000, bad=1_000)
    worker = start_import(folder, path)
    wait_for_checkpoint(folder, worker)
    worker.send_signal(told)
    out, err = worker.communicate(timeout=60)
    assert worker.returncode == 1, err
    assert "The same command goes on from here" in err
    first = json.loads(out)
    assert not first["done"]
    assert 0 < first["rows"] < 20_000
    worker = start_import(folder, path)
    out, err = worker.communicate(timeout=120)
    assert worker.returncode == 0, err
    assert f"Going on after {first['rows']:,} rows" in err
    last = json.loads(out)
    assert (last["rows"], last["repeated"], last["rejected"]) == (20_000, 0, 20)
    assert_applied_once(folder, [path])


def test_a_kill_at_any_moment_loses_and_doubles_nothing(folder: Path, request: pytest.FixtureRequest) -> None:
    seed = str(request.config.getoption("--hypothesis-seed"))
    print(f"repeat with: --hypothesis-seed={seed}")
    dice = random.Random(seed)
    files = [people(folder, 3_000, "0.csv", bad=97)]
    killed = 0
    for round_ in range(ROUNDS):
        worker = start_import(folder, files[-1])
        wait_for_checkpoint(folder, worker)
        time.sleep(dice.uniform(0, 0.25))
        worker.kill()
        _, err = worker.communicate()
        killed += worker.returncode == -9
        assert worker.returncode in (0, -9), err
        if not checkpoints(folder):  # it is done; once more would mend what was lost
            made, suffix = (people, "csv") if round_ % 2 else (lines_of, "jsonl")
            first = len(files) * 3_000 + 1
            files.append(made(folder, 3_000, f"{len(files)}.{suffix}", bad=97, first=first))
    worker = start_import(folder, files[-1])
    out, err = worker.communicate(timeout=120)
    assert worker.returncode == 0, err
    assert killed > 0
    summary = json.loads(out)
    told = read_rejects(folder / "rejects.jsonl")
    assert summary["rejected"] == len(told) == len({bad["line"] for bad in told})
    assert_applied_once(folder, files)


def lines_of(folder: Path, count: int, name: str, bad: int, first: int) -> Path:
    """Write JSON lines of customers, each ``bad``-th of them no batch."""
    rows = (
        [n] if n % bad == 0 else {"user_identities": {"customer_id": f"C-{n}"}, "user_attributes": {"number": n}}
        for n in range(first, first + count)
    )
    return written(folder / name, json_lines(rows))


def assert_applied_once(folder: Path, files: list[Path]) -> None:
    """Prove that each row of some files that can be used is in the journal once, and in its profile."""
    numbers = []
    for path in files:
        lines = path.read_text().splitlines()
        if path.suffix == ".csv":
            numbers += [line.partition(",")[2] for line in lines[1:] if not line.startswith(",")]
        else:
            numbers += [
                str(row["user_attributes"]["number"]) for row in map(json.loads, lines) if isinstance(row, dict)
            ]
    batches = asyncio.run(batches_of(folder / "data"))
    applied = [record.batch.attributes["number"] for _, record in batches if record.batch is not None]
    assert sorted(applied) == sorted(numbers)
    assert set(request_ids(batches).values()) == {1}
    some = numbers[:: max(1, len(numbers) // 300)]
    found = asyncio.run(attributes_of(folder / "data", [f"C-{number}" for number in some], "shop/production"))
    assert found == [{"number": number} for number in some]
