"""The scale benchmark: several processes on one database beside the folder and the rival (docs/benchmarks.md)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep
from typing import Final, Literal

import msgspec

from oneself.bench.batches import EVENTS, Batches
from oneself.bench.databases import durability, filled_database
from oneself.bench.disk import DiskReport, measure_disk
from oneself.bench.fill import fill
from oneself.bench.fill_users import fill_users
from oneself.bench.identity import rival_server
from oneself.bench.load import LoadReport
from oneself.bench.mix import IdentityMix
from oneself.bench.population import Population
from oneself.bench.servers import (
    BARE_SHARE,
    IDENTITY_KEY,
    SERVER_KEY,
    LoadOptions,
    Server,
    batch_outcomes,
    oneself,
    together,
)
from oneself.bench.users import Users

__all__ = ["WORK", "ScaleMeasured", "ScaleOptions", "Work", "measure_scale", "planned_scale_steps"]

Work = Literal["identify", "ingest"]

WORK: Final[tuple[Work, ...]] = ("identify", "ingest")

_SCHEMA = "oneself_scale"
_FILLED_A_STEP = 100_000  # identities or users
_COPIED = 2  # steps that a copy counts for, against one of filling


class ScaleOptions(LoadOptions, frozen=True, kw_only=True):
    """What to measure: each number of ``processes``, on the first size of ``stored``; 1 process on all sizes.

    ``stored`` are identities; the users whose batches are taken in are as many as the first of them. ``database`` is
    where the schemas are made and removed. ``connections`` are those of each process.
    """

    stored: tuple[int, ...]
    processes: tuple[int, ...]
    database: str
    rival: bool = True

    @property
    def users(self) -> Users:
        """The users whose batches are taken in."""
        return Users(self.stored[0], 1, 10, EVENTS)


class ScaleMeasured(msgspec.Struct):
    """Every report of a run, by round: ``folder`` by work, ``database`` by work and processes, ``grown`` by size.

    ``disk`` is the disk alone. ``outcomes`` counts what became of the batches, by the servers' own count;
    ``durability`` is what the database says of itself; ``rival_missing`` says why there is no rival.
    """

    disk: list[DiskReport] = []
    folder: dict[Work, list[LoadReport]] = {}
    database: dict[Work, dict[int, list[LoadReport]]] = {}
    grown: dict[int, list[LoadReport]] = {}
    rival: list[LoadReport] = []
    rival_missing: str = ""
    outcomes: dict[str, int] = {}
    durability: dict[str, str] = {}


Load = Callable[[Server, int], LoadReport]


def planned_scale_steps(options: ScaleOptions) -> int:
    """Return how many steps ``measure_scale`` will report, each of roughly the same time."""
    filling = sum(map(_filling, (*options.stored, options.stored[0])))
    loads = len(WORK) * (1 + len(options.processes)) + len(options.stored[1:]) + options.rival
    return filling + options.rounds * (1 + 2 * loads)


def _filling(size: int) -> int:
    return (1 + _COPIED) * (1 + size // _FILLED_A_STEP)


def measure_scale(options: ScaleOptions, step: Callable[[int], None] = lambda _: None) -> ScaleMeasured:
    """Fill, serve from a folder and from a database, and load in turns: by work, by processes, by size.

    ``step`` is told of progress. Raises ``LoadError`` or ``ServerFailed`` where no figures can be had.
    """
    measured = ScaleMeasured()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oneself-bench-", dir=options.folder)))
        served = _Served(stack, folder, options, step)
        measured.durability = durability(options.database)
        for _ in range(options.rounds):
            measured.disk.append(measure_disk(folder, options.seconds * BARE_SHARE))
            step(1)
            _round(served, options, measured, step)
        for server in (served.folders["ingest"], served.databases["ingest"]):
            for outcome, count in batch_outcomes(server).items():
                measured.outcomes[outcome] = measured.outcomes.get(outcome, 0) + count
        measured.rival_missing = served.rival_missing
    return measured


def _round(served: _Served, options: ScaleOptions, measured: ScaleMeasured, step: Callable[[int], None]) -> None:
    """Load everything once."""

    def rest(reports: list[LoadReport], report: LoadReport) -> None:
        reports.append(report)
        sleep(options.settle)
        step(2)

    for work in WORK:
        load = _LOADS[work](options, options.stored[0])
        rest(measured.folder.setdefault(work, []), load(served.folders[work], 1))
        for processes in options.processes:
            reports = measured.database.setdefault(work, {}).setdefault(processes, [])
            rest(reports, load(served.databases[work], processes))
        if work == "identify" and served.rival is not None:
            rest(measured.rival, load(served.rival, 1))
    for size, server in served.grown.items():
        rest(measured.grown.setdefault(size, []), _identify(options, size)(server, options.processes[0]))


def _identify(options: ScaleOptions, size: int) -> Load:
    def load(server: Server, processes: int) -> LoadReport:
        work = IdentityMix(Population(size), IDENTITY_KEY, server.secret)
        return server.load(work, options, expect='"mpid":"', processes=processes)

    return load


def _ingest(options: ScaleOptions, _size: int) -> Load:
    def load(server: Server, processes: int) -> LoadReport:
        work = Batches(options.users, "server", SERVER_KEY, server.secret)
        return server.load(work, options, status=202, processes=processes)

    return load


_LOADS: Final[dict[Work, Callable[[ScaleOptions, int], Load]]] = {"identify": _identify, "ingest": _ingest}


class _Served:
    """The servers under measurement, on what they were filled with; all run at once, and one is loaded at a time."""

    def __init__(self, stack: ExitStack, folder: Path, options: ScaleOptions, step: Callable[[int], None]) -> None:
        self.folders: dict[Work, Server] = {}
        self.databases: dict[Work, Server] = {}
        self.grown: dict[int, Server] = {}
        self.rival: Server | None = None
        self.rival_missing = ""
        first = Population(options.stored[0])
        for work in WORK:
            place = folder / work
            place.mkdir()
            _fill(place, work, options)
            step(_filling(options.stored[0]) // (1 + _COPIED))
            made = _on_database(place, options, work, max(options.processes), step)
            self.databases[work] = stack.enter_context(made)
            self.folders[work] = stack.enter_context(oneself(place))
        for size in options.stored[1:]:
            place = folder / str(size)
            place.mkdir()
            fill(place / "data", Population(size))
            step(_filling(size) // (1 + _COPIED))
            self.grown[size] = stack.enter_context(
                _on_database(place, options, str(size), options.processes[0], step, size)
            )
        if options.rival:
            found = stack.enter_context(rival_server(folder, options.database, first, options.connections))
            self.rival, self.rival_missing = (None, found) if isinstance(found, str) else (found, "")


def _fill(place: Path, work: Work, options: ScaleOptions) -> None:
    if work == "identify":
        fill(place / "data", Population(options.stored[0]))
    else:
        fill_users(place / "data", options.users)


@contextmanager
def _on_database(
    place: Path, options: ScaleOptions, name: str, processes: int, step: Callable[[int], None], size: int = 0
) -> Iterator[Server]:
    """Copy what a place was filled with to the database, and serve it there by some processes."""

    def copied() -> None:
        step(_filling(size or options.stored[0]) * _COPIED // (1 + _COPIED))

    with filled_database(place / "data", options.database, f"{_SCHEMA}_{name}", copied) as url:
        servers = place / "servers"
        servers.mkdir()
        with together(servers, url, processes) as server:
            yield server
