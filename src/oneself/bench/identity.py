"""The identity benchmark: a served mix beside the bare endpoint, other sizes and a rival (docs/benchmarks.md)."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep

import msgspec

from oneself.bench.core import CoreCost, measure_core
from oneself.bench.disk import DiskReport, measure_disk
from oneself.bench.fill import fill
from oneself.bench.load import LoadReport
from oneself.bench.mix import IdentityMix
from oneself.bench.population import Population
from oneself.bench.processes import free_port, peak_memory, serving
from oneself.bench.reads import Get
from oneself.bench.servers import BARE_SHARE, IDENTITY_KEY, LoadOptions, Server, oneself
from oneself.bench.servers import bare as bare_server

__all__ = ["Measured", "Options", "measure_identity", "planned_steps", "rival_server"]

_CORE_REQUESTS = 20_000
_FILLED_A_STEP = 250_000  # identities
_SCHEMA = "oneself_rival"


class Options(LoadOptions, frozen=True, kw_only=True):
    """What to measure: ``stored`` are the sizes, the first being the one that the others are compared with.

    ``database`` is where the rival may make its schema, None to leave the rival out.
    """

    stored: tuple[int, ...] = (10_000,)
    database: str | None = None


class Measured(msgspec.Struct):
    """Every report of a run: ``identify`` by size and round, all others by round.

    ``disk`` is the disk alone, ``empty`` GET /healthz, ``bare`` the mix's requests answered without any work.

    ``peak_memory`` is bytes by size, None where the system does not tell; ``rival_missing`` says why it is.
    """

    disk: list[DiskReport] = []
    bare: list[LoadReport] = []
    empty: list[LoadReport] = []
    identify: dict[int, list[LoadReport]] = {}
    paced: list[LoadReport] = []
    core: CoreCost | None = None
    peak_memory: dict[int, int | None] = {}
    rival: list[LoadReport] = []
    rival_missing: str = ""


class _Served:
    """A server under measurement, and the population that it has."""

    def __init__(self, server: Server, population: Population) -> None:
        self.server = server
        self.population = population

    def empty(self, options: Options) -> LoadReport:
        return self.server.load(Get(), options, stores=False, share=BARE_SHARE)

    def mix(self, options: Options, rate: float | None = None, *, bare: bool = False) -> LoadReport:
        work = IdentityMix(self.population, IDENTITY_KEY, self.server.secret)
        share = BARE_SHARE if bare else 1.0
        return self.server.load(work, options, rate, expect='"mpid":"', stores=not bare, share=share)


def planned_steps(options: Options) -> int:
    """Return how many steps ``measure_identity`` will report, each of roughly the same time."""
    filling = sum(1 + size // _FILLED_A_STEP for size in options.stored)
    return filling + 1 + options.rounds * (2 + 2 * len(options.stored) + (options.database is not None))


def measure_identity(options: Options, step: Callable[[int], None] = lambda _: None) -> Measured:
    """Fill, serve and load each size and the bare endpoint in turns, then at half the rate, and then the rival.

    ``step`` is told of progress. Raises ``LoadError`` or ``ServerFailed`` where no figures can be had.
    """
    measured = Measured()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oneself-bench-", dir=options.folder)))
        served: dict[int, _Served] = {}
        for size in options.stored:
            served[size] = stack.enter_context(_oneself(folder / str(size), Population(size), step))
        first = served[options.stored[0]]
        bare = _Served(stack.enter_context(bare_server(folder)), first.population)
        rival = stack.enter_context(_rival(folder, options, measured)) if options.database else None
        step(1)
        measured.core = measure_core(Population(min(options.stored)), _CORE_REQUESTS, options.rounds, options.seed)
        for _ in range(options.rounds):
            measured.disk.append(measure_disk(folder, options.seconds * BARE_SHARE))
            measured.bare.append(bare.mix(options, bare=True))
            measured.empty.append(first.empty(options))
            step(1)
            for size, server in served.items():
                measured.identify.setdefault(size, []).append(server.mix(options))
                sleep(options.settle)
                step(2)
        rate = statistics.median(report.rate for report in measured.identify[options.stored[0]])
        for _ in range(options.rounds):
            measured.paced.append(first.mix(options, max(rate / 2, 1.0)))
            step(1)
        for _ in range(options.rounds if rival is not None else 0):  # last: its database goes on writing for long
            assert rival is not None
            measured.rival.append(rival.mix(options))
            step(1)
        measured.peak_memory = {size: peak_memory(one.server.pid) for size, one in served.items()}
    return measured


@contextmanager
def _oneself(folder: Path, population: Population, step: Callable[[int], None]) -> Iterator[_Served]:
    folder.mkdir()
    done = 0

    def filled(profiles: int) -> None:
        nonlocal done
        before, done = done, done + profiles
        step(_filling(done, population) - _filling(before, population))

    fill(folder / "data", population, filled)
    with oneself(folder) as server:
        yield _Served(server, population)


def _filling(profiles: int, population: Population) -> int:
    """Return the steps of having made so many of a fill's ``2 * population.profiles``."""
    return profiles * (1 + population.identities // _FILLED_A_STEP) // (2 * population.profiles)


@contextmanager
def _rival(folder: Path, options: Options, measured: Measured) -> Iterator[_Served | None]:
    """Serve the rival over the first size's population, or note why it cannot be."""
    assert options.database is not None
    population = Population(options.stored[0])
    with rival_server(folder, options.database, population, options.connections) as server:
        if isinstance(server, str):
            measured.rival_missing = server
            yield None
        else:
            yield _Served(server, population)


@contextmanager
def rival_server(folder: Path, database: str, population: Population, connections: int) -> Iterator[Server | str]:
    """Serve the rival over a population; where it cannot be, give the reason instead."""
    try:
        from oneself.bench import rival
    except ImportError as error:
        yield f"{error}. Install it with: pip install 'oneself[bench]'"
        return
    try:
        asyncio.run(rival.begin(database, _SCHEMA, population))
    except rival.RivalUnavailable as error:
        yield str(error)
        return
    port, secret = free_port(), secrets.token_urlsafe()
    command = [sys.executable, "-m", "oneself.bench.rival", "--port", str(port), "--schema", _SCHEMA]
    command += ["--pool", str(connections)]
    credentials = {"RIVAL_DATABASE": database, "RIVAL_KEY": IDENTITY_KEY, "RIVAL_SECRET": secret}
    try:
        with serving(command, f"http://127.0.0.1:{port}/healthz", folder / "rival.log", credentials) as pid:
            yield Server(port, pid, secret)
    finally:
        asyncio.run(rival.end(database, _SCHEMA))
