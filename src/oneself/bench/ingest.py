"""The ingest benchmark: batches of events beside the bare endpoint, and into large profiles (docs/benchmarks.md)."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Final, Literal

import msgspec

from oneself.bench.batches import Batches
from oneself.bench.crowds import add_crowds, planned_batches
from oneself.bench.disk import DiskReport, measure_disk
from oneself.bench.fill_users import fill_users
from oneself.bench.load import LoadReport
from oneself.bench.processes import peak_memory
from oneself.bench.servers import BARE_SHARE, SERVER_KEY, WEB_KEY, LoadOptions, Server, bare, batch_outcomes, oneself
from oneself.bench.users import Users

__all__ = [
    "AIMS",
    "CHANNELS",
    "TAKEN",
    "Aim",
    "Channel",
    "IngestMeasured",
    "IngestOptions",
    "filled",
    "filling_steps",
    "measure_ingest",
    "planned_ingest_steps",
]

Channel = Literal["web", "server"]
Aim = Literal["ordinary", "busy", "crowded"]

CHANNELS: Final[tuple[Channel, ...]] = ("web", "server")
AIMS: Final[tuple[Aim, ...]] = ("ordinary", "busy", "crowded")

TAKEN: Final = "taken"
"""What became of a batch that is part of a profile, as the server counts it."""

_FILLED_A_STEP = 50_000  # batches


class IngestOptions(LoadOptions, frozen=True, kw_only=True):
    """What to measure, and over which users; without a crowd large profiles are left out."""

    users: Users


class IngestMeasured(msgspec.Struct):
    """Every report of a run, by round: ``bare``, ``mix`` and ``paced`` by channel, ``aimed`` by whose batches.

    ``disk`` is the disk alone. ``outcomes`` counts what became of the batches, by the server's own count.
    ``peak_memory`` is the server's, in bytes, None where the system does not tell.
    """

    disk: list[DiskReport] = []
    bare: dict[Channel, list[LoadReport]] = {}
    mix: dict[Channel, list[LoadReport]] = {}
    paced: dict[Channel, list[LoadReport]] = {}
    aimed: dict[Aim, list[LoadReport]] = {}
    outcomes: dict[str, int] = {}
    peak_memory: int | None = None


def planned_ingest_steps(options: IngestOptions) -> int:
    """Return how many steps ``measure_ingest`` will report, each of roughly the same time."""
    aims = len(AIMS) if options.users.crowd else 0
    return filling_steps(options.users) + options.rounds * (1 + 5 * len(CHANNELS) + 2 * aims)


def measure_ingest(options: IngestOptions, step: Callable[[int], None] = lambda _: None) -> IngestMeasured:
    """Fill, serve, and load by both channels in turns; then each at half its rate.

    ``step`` is told of progress. Raises ``LoadError``, ``ServerFailed`` or ``NoRoom`` where no figures can be had.
    """
    measured = IngestMeasured()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oneself-bench-", dir=options.folder)))
        filled(folder / "data", options.users, step)
        server = stack.enter_context(oneself(folder))
        nothing = stack.enter_context(bare(folder))
        for _ in range(options.rounds):
            measured.disk.append(measure_disk(folder, options.seconds * BARE_SHARE))
            step(1)
            for channel in CHANNELS:
                measured.bare.setdefault(channel, []).append(_load(nothing, options, channel, stores=False))
                step(1)
                measured.mix.setdefault(channel, []).append(_load(server, options, channel))
                sleep(options.settle)
                step(2)
            for aim in AIMS if options.users.crowd else ():
                measured.aimed.setdefault(aim, []).append(_load(server, options, "web", aim=aim))
                sleep(options.settle)
                step(2)
        for _ in range(options.rounds):
            for channel in CHANNELS:
                rate = statistics.median(report.rate for report in measured.mix[channel])
                measured.paced.setdefault(channel, []).append(_load(server, options, channel, max(rate / 2, 1.0)))
                sleep(options.settle)
                step(2)
        measured.outcomes = dict(batch_outcomes(server))
        measured.peak_memory = peak_memory(server.pid)
    return measured


def filled(folder: Path, users: Users, step: Callable[[int], None]) -> None:
    """Make a data folder with users, and tell ``step`` of as many steps as it counts for."""
    done, told = 0, 0
    batches = users.profiles * users.devices + planned_batches(users)

    def made(more: int) -> None:
        nonlocal done, told
        done += more
        now = done * filling_steps(users) // batches
        if now > told:
            step(now - told)
            told = now

    fill_users(folder, users, made)
    if users.crowd:
        add_crowds(folder, users, made)


def filling_steps(users: Users) -> int:
    """Return how many steps ``filled`` counts for."""
    return 1 + (users.profiles * users.devices + planned_batches(users)) // _FILLED_A_STEP


def _load(
    server: Server,
    options: IngestOptions,
    channel: Channel,
    rate: float | None = None,
    *,
    aim: Literal["mix"] | Aim = "mix",
    stores: bool = True,
) -> LoadReport:
    key = WEB_KEY if channel == "web" else SERVER_KEY
    work = Batches(options.users, channel, key, server.secret, aim)
    return server.load(work, options, rate, status=202, stores=stores, share=1.0 if stores else BARE_SHARE)
