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
from oneself.bench.fill import fill
from oneself.bench.load import LoadReport, LoadSpec, run
from oneself.bench.mix import Cursor
from oneself.bench.population import Population
from oneself.bench.processes import free_port, peak_memory, serving
from oneself.store.embedded.store import FLUSH_SECONDS

__all__ = ["Measured", "Options", "measure_identity", "planned_steps"]

_BARE_WARM_UP = 0.5
_CORE_REQUESTS = 20_000
_FILLED_A_STEP = 250_000  # identities
_KEY = "bench"
_SCHEMA = "oneself_rival"
_CONFIG = """
[[workspace]]
id = 1
name = "default"
account = 1
organization = 1

[[input]]
workspace = "default"
name = "bench"
kind = "server"
key = "{key}"
secret = "{secret}"

[scope.default]
strategy = "default"
"""


class Options(msgspec.Struct, frozen=True):
    """What to measure: ``stored`` are the sizes, the first being the one that the others are compared with.

    ``seconds`` is the counted time of a load. ``settle`` is the time before it that is not counted, and of rest
    after it: long enough for the store to write its tables at least once. ``database`` is where the rival may make
    its schema, None to leave the rival out; ``folder`` is where the data folders are made.
    """

    stored: tuple[int, ...] = (10_000,)
    seconds: float = 8.0
    settle: float = FLUSH_SECONDS + 1.0
    connections: int = 32
    rounds: int = 3
    database: str | None = None
    folder: Path | None = None
    seed: int = 1

    @property
    def short_settle(self) -> float:
        """The time to settle where nothing is stored."""
        return min(self.settle, _BARE_WARM_UP)


class Measured(msgspec.Struct):
    """Every report of a run: ``bare``, ``empty``, ``paced`` and ``rival`` by round, ``identify`` by size and round.

    ``empty`` is GET /healthz, ``bare`` the mix's requests answered without any work.

    ``peak_memory`` is bytes by size, None where the system does not tell; ``rival_missing`` says why it is.
    """

    bare: list[LoadReport] = []
    empty: list[LoadReport] = []
    identify: dict[int, list[LoadReport]] = {}
    paced: list[LoadReport] = []
    core: CoreCost | None = None
    peak_memory: dict[int, int | None] = {}
    rival: list[LoadReport] = []
    rival_missing: str = ""


class _Served:
    """A server under measurement: where it is, and how far the mix has gone on it."""

    def __init__(self, port: int, pid: int, population: Population, secret: str) -> None:
        self.port = port
        self.pid = pid
        self.population = population
        self.secret = secret
        self.cursor = Cursor()

    def empty(self, options: Options) -> LoadReport:
        return run(LoadSpec(self.port, options.seconds / 2, options.connections, options.short_settle, pid=self.pid))

    def mix(self, options: Options, rate: float | None = None, *, bare: bool = False) -> LoadReport:
        spec = LoadSpec(
            self.port,
            options.seconds / 2 if bare else options.seconds,
            options.connections,
            options.short_settle if bare else options.settle,
            rate,
            population=self.population,
            cursor=self.cursor,
            seed=options.seed,
            key=_KEY,
            secret=self.secret,
            expect='"mpid":"',
            pid=self.pid,
        )
        report = run(spec)
        self.cursor = report.cursor
        return report


def planned_steps(options: Options) -> int:
    """Return how many steps ``measure_identity`` will report, each of roughly the same time."""
    filling = sum(1 + size // _FILLED_A_STEP for size in options.stored)
    return filling + 1 + options.rounds * (2 + 2 * len(options.stored) + (options.database is not None))


def measure_identity(options: Options, step: Callable[[int], None] = lambda _: None) -> Measured:
    """Fill, serve and load each size, the bare endpoint and the rival in turns, then at half the rate.

    ``step`` is told of progress. Raises ``LoadError`` or ``ServerFailed`` where no figures can be had.
    """
    measured = Measured()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oneself-bench-", dir=options.folder)))
        served: dict[int, _Served] = {}
        for size in options.stored:
            served[size] = stack.enter_context(_oneself(folder / str(size), Population(size), step))
        first = served[options.stored[0]]
        bare = stack.enter_context(_bare(folder, first.population))
        rival = stack.enter_context(_rival(folder, options, measured)) if options.database else None
        step(1)
        measured.core = measure_core(Population(min(options.stored)), _CORE_REQUESTS, options.rounds, options.seed)
        for _ in range(options.rounds):
            measured.bare.append(bare.mix(options, bare=True))
            measured.empty.append(first.empty(options))
            step(1)
            for size, server in served.items():
                measured.identify.setdefault(size, []).append(server.mix(options))
                sleep(options.settle)
                step(2)
            if rival is not None:
                measured.rival.append(rival.mix(options))
                step(1)
        rate = statistics.median(report.rate for report in measured.identify[options.stored[0]])
        for _ in range(options.rounds):
            measured.paced.append(first.mix(options, max(rate / 2, 1.0)))
            step(1)
        measured.peak_memory = {size: peak_memory(server.pid) for size, server in served.items()}
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
    port, secret = free_port(), secrets.token_urlsafe()
    config = folder / "oneself.toml"
    config.touch(0o600)
    config.write_text(_CONFIG.format(key=_KEY, secret=secret))
    command = [sys.executable, "-m", "oneself", "serve", "--config", str(config), "--data", str(folder / "data")]
    command += ["--port", str(port)]
    with serving(command, f"http://127.0.0.1:{port}/readyz", folder / "log") as pid:
        yield _Served(port, pid, population, secret)


def _filling(profiles: int, population: Population) -> int:
    """Return the steps of having made so many of a fill's ``2 * population.profiles``."""
    return profiles * (1 + population.identities // _FILLED_A_STEP) // (2 * population.profiles)


@contextmanager
def _bare(folder: Path, population: Population) -> Iterator[_Served]:
    port = free_port()
    command = [sys.executable, "-m", "oneself.bench.bare", str(port)]
    with serving(command, f"http://127.0.0.1:{port}/", folder / "bare.log") as pid:
        yield _Served(port, pid, population, secrets.token_urlsafe())


@contextmanager
def _rival(folder: Path, options: Options, measured: Measured) -> Iterator[_Served | None]:
    """Serve the rival over the first size's population, or note why it cannot be."""
    assert options.database is not None
    try:
        from oneself.bench import rival
    except ImportError as error:
        measured.rival_missing = f"{error}. Install it with: pip install 'oneself[bench]'"
        yield None
        return
    population = Population(options.stored[0])
    try:
        asyncio.run(rival.begin(options.database, _SCHEMA, population))
    except rival.RivalUnavailable as error:
        measured.rival_missing = str(error)
        yield None
        return
    port, secret = free_port(), secrets.token_urlsafe()
    command = [sys.executable, "-m", "oneself.bench.rival", "--port", str(port), "--schema", _SCHEMA]
    command += ["--pool", str(options.connections)]
    credentials = {"RIVAL_DATABASE": options.database, "RIVAL_KEY": _KEY, "RIVAL_SECRET": secret}
    try:
        with serving(command, f"http://127.0.0.1:{port}/healthz", folder / "rival.log", credentials) as pid:
            yield _Served(port, pid, population, secret)
    finally:
        asyncio.run(rival.end(options.database, _SCHEMA))
