"""The import benchmark: eventless updates from a Parquet file into a filled data folder (docs/benchmarks.md)."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from oneself.bench.disk import DiskReport, measure_disk
from oneself.bench.fill_users import INPUT
from oneself.bench.ingest import filled, filling_steps
from oneself.bench.population import NEW, customer_id, email
from oneself.bench.processes import ServerFailed
from oneself.bench.servers import write_config
from oneself.bench.users import Users
from oneself.bulk import Settings, parts_of
from oneself.bulk.arrow import arrow

__all__ = [
    "ImportMeasured",
    "ImportOptions",
    "ImportReport",
    "measure_import",
    "planned_import_steps",
    "write_updates",
]

_CHUNK = 20_000  # rows written to the file at once
_DISK_SECONDS = 2.0
_NEW_EVERY = 2  # rows: the others are stored users'


class ImportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How many ``rows`` to import in each round, and into which users; ``folder`` is where data is made."""

    rows: int
    users: Users
    rounds: int = 1
    folder: Path | None = None
    seed: int = 1


class ImportReport(msgspec.Struct, frozen=True):
    """One import, its start and its end included.

    ``cpu`` is microseconds of the process a row, ``peak_memory`` bytes, ``read_seconds`` what reading the rows
    alone takes. ``counts`` is what became of the rows, by the import's own summary.
    """

    rows: int
    seconds: float
    cpu: float
    peak_memory: int
    file_bytes: int
    read_seconds: float
    counts: dict[str, int]


class ImportMeasured(msgspec.Struct):
    """Every report of a run, by round; ``disk`` is the disk alone."""

    disk: list[DiskReport] = []
    imports: list[ImportReport] = []


def planned_import_steps(options: ImportOptions) -> int:
    """Return how many steps ``measure_import`` will report, each of roughly the same time."""
    return filling_steps(options.users) + 3 * options.rounds


def measure_import(options: ImportOptions, step: Callable[[int], None] = lambda _: None) -> ImportMeasured:
    """Fill a folder, then write a file of updates, read it alone and import it, in each round.

    ``step`` is told of progress. Raises ``ServerFailed`` where an import fails, ``BulkError`` without pyarrow.
    """
    arrow()
    measured = ImportMeasured()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oneself-bench-", dir=options.folder)))
        filled(folder / "data", options.users, step)
        config = write_config(folder, "none")
        for number in range(options.rounds):
            measured.disk.append(measure_disk(folder, _DISK_SECONDS))
            path = folder / f"updates-{number}.parquet"
            write_updates(path, options.users, options.rows, number, options.seed)
            step(1)
            read_seconds = _read(path)
            step(1)
            measured.imports.append(_imported(path, config, folder, options.rows, read_seconds))
            path.unlink()
            step(1)
    return measured


def write_updates(path: Path, users: Users, rows: int, number: int, seed: int) -> None:
    """Write a Parquet file of updates without events; half of them are stored users', the others' users are new.

    Each sets all attributes; ``number`` tells the files of a run apart.
    """
    pyarrow, parquet = arrow()
    draw = random.Random(seed + number)
    writer = None
    for first in range(0, rows, _CHUNK):
        columns: dict[str, list[Any]] = {}
        for row in _rows(users, range(first, min(first + _CHUNK, rows)), rows * number, draw):
            for name, value in row:
                columns.setdefault(name, []).append(value)
        batch = pyarrow.table(columns)
        writer = writer or parquet.ParquetWriter(path, batch.schema)
        writer.write_table(batch)
    assert writer is not None
    writer.close()


def _rows(users: Users, places: range, before: int, draw: random.Random) -> Iterator[list[tuple[str, str]]]:
    for place in places:
        number = int(draw.random() * users.profiles) if place % _NEW_EVERY else NEW + before + place
        row = [("user_identities.customer_id", customer_id(number)), ("user_identities.email", email(number))]
        for name, value in users.values(number + 1 + before + place).items():
            row.append((f"user_attributes.{name}", value if isinstance(value, str) else value[0]))
        yield row


def _read(path: Path) -> float:
    """Return how long it takes to read a file's rows, and do nothing with them."""
    began = time.perf_counter()
    for part in parts_of(path, Settings()):
        for _ in part.chunks():
            pass
    return time.perf_counter() - began


def _imported(path: Path, config: Path, folder: Path, rows: int, read_seconds: float) -> ImportReport:
    command = [sys.executable, "-m", "oneself", "import", str(path), "--input", INPUT, "--config", str(config)]
    command += ["--data", str(folder / "data"), "--rejects", str(folder / "rejects.jsonl"), "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONESELF_")}
    with (folder / "summary").open("w+b") as summary, (folder / "log").open("w+b") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=summary, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            words = log.read().decode(errors="replace").strip()
            raise ServerFailed(f"oneself import ended with exit code {process.returncode}. Its last words:\n{words}")
        summary.seek(0)
        told: dict[str, Any] = msgspec.json.decode(summary.read())
    return ImportReport(
        rows=rows,
        seconds=seconds,
        cpu=(usage.ru_utime + usage.ru_stime) / rows * 1e6,
        peak_memory=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        file_bytes=path.stat().st_size,
        read_seconds=read_seconds,
        counts={name: count for name, count in told.items() if type(count) is int and name != "rows_per_second"},
    )
