"""``oneself bench``: the benchmarks."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from oneself.bench.batches import EVENTS
from oneself.bench.core import measure_core
from oneself.bench.figures import core_figures, identity_figures
from oneself.bench.figures_history import history_figures
from oneself.bench.figures_scale import scale_figures
from oneself.bench.figures_users import import_figures, ingest_figures, profile_figures
from oneself.bench.fill_users import NoRoom
from oneself.bench.histories import HistoryOptions, measure_history, planned_history_steps
from oneself.bench.identity import Options, measure_identity, planned_steps
from oneself.bench.importing import ImportOptions, measure_import, planned_import_steps
from oneself.bench.ingest import IngestOptions, measure_ingest, planned_ingest_steps
from oneself.bench.load import LoadError
from oneself.bench.population import Population
from oneself.bench.processes import ServerFailed
from oneself.bench.profile import ProfileOptions, measure_profile, planned_profile_steps
from oneself.bench.report import Figures, table
from oneself.bench.scale import ScaleOptions, measure_scale, planned_scale_steps
from oneself.bench.users import MAX_DEVICES, Users
from oneself.logs import configure

__all__ = ["bench"]

_DATABASE = "postgresql://postgres@127.0.0.1:5432/test"
_SMALLEST = 100
_BENCHES = {
    "identity": "durable identify requests over HTTP: rate, latency, cost as the store grows, memory, a rival",
    "ingest": "durable batches of events over HTTP: rate, latency, cost of large profiles",
    "profile": "reads of the Profile API: rate, latency, cost of large profiles",
    "import": "updates from a Parquet file: rows a second",
    "scale": "several server processes on one PostgreSQL, beside the data folder and a rival",
    "whatif": "a recorded history under another policy: requests a second, memory; why of a hub, an undo",
    "core": "the pure identity core alone",
}
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}

Command = Callable[..., None]


def _size(value: str, example: str) -> int:
    match = re.fullmatch(r"\s*(\d+)\s*([kKmM]?)\s*", value)
    if not match:
        raise click.BadParameter(f"{value!r} is no number; write for example {example}")
    return int(match[1]) * _UNITS[match[2].lower()]


def _sizes(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    """Return ``10k,1m,10m`` as numbers."""
    sizes = [_size(part, "10k,1m,10m") for part in value.split(",")]
    if min(sizes) < _SMALLEST or len(set(sizes)) < len(sizes):
        raise click.BadParameter(f"give different sizes of at least {_SMALLEST} identities")
    return tuple(sizes)


def _counts(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    """Return ``1,2,4`` as numbers."""
    counts = [_size(part, "1,2,4") for part in value.split(",")]
    if min(counts) < 1 or sorted(set(counts)) != counts:
        raise click.BadParameter("give rising numbers of processes from 1 on")
    return tuple(counts)


def _profiles(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    """Return ``100k`` as a number."""
    size = _size(value, "100k")
    if size < _SMALLEST:
        raise click.BadParameter(f"give at least {_SMALLEST}")
    return size


def _crowd(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    """Return ``100k`` as a number, which may be 0."""
    return _size(value, "100k")


def _load_options(command: Command) -> Command:
    """Add the options that every benchmark with a load has."""
    options = [
        click.option(
            "--seconds", type=click.FloatRange(0.1), default=8.0, show_default=True, help="Counted time of a load."
        ),
        click.option(
            "--settle", type=click.FloatRange(0), default=6.0, show_default=True, help="Load before, and rest after."
        ),
        click.option("--connections", type=click.IntRange(1, 1000), default=32, show_default=True),
        click.option(
            "--rounds", type=click.IntRange(1), default=3, show_default=True, help="Figures are medians of these."
        ),
        click.option(
            "--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where data is made."
        ),
        click.option("--seed", type=int, default=1, show_default=True, help="Of the mix of requests."),
        click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _users_options(devices: int, attributes: int) -> Callable[[Command], Command]:
    """Add the options that say what the stored users are like."""
    options = [
        click.option(
            "--stored", callback=_profiles, metavar="SIZE", default="100k", show_default=True, help="Stored profiles."
        ),
        click.option(
            "--devices", type=click.IntRange(1, MAX_DEVICES), default=devices, show_default=True, help="Of a profile."
        ),
        click.option(
            "--attributes", type=click.IntRange(1, 100), default=attributes, show_default=True, help="Of a profile."
        ),
        click.option(
            "--crowd", callback=_crowd, metavar="SIZE", default="100k", show_default=True,
            help="Events, and devices, of the two large profiles; 0 leaves them out.",
        ),
    ]  # fmt: skip

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group(invoke_without_command=True)
@click.pass_context
def bench(ctx: click.Context) -> None:
    """Run a benchmark and print its figures as a table; without a name, list them.

    \b
    Example:
      oneself bench identity --stored 10k,1m
    """
    if ctx.invoked_subcommand is None:
        for name, what in _BENCHES.items():
            click.echo(f"{name:10}{what}")
        click.echo("\nRun one with: oneself bench NAME")


@bench.command()
@click.option(
    "--stored",
    callback=_sizes,
    metavar="SIZES",
    default="10k",
    show_default=True,
    help="Stored identities, e.g. 10k,1m,10m.",
)
@click.option("--rival/--no-rival", default=True, show_default=True, help="Measure FastAPI + SQLAlchemy beside it.")
@click.option(
    "--database", envvar="ONESELF_BENCH_DATABASE", default=_DATABASE, show_default=True, help="The rival's."
)
@_load_options
def identity(
    stored: tuple[int, ...],
    rival: bool,
    database: str,
    as_json: bool,
    **load: Any,
) -> None:
    """Serve a filled store and load it: durable answers a second beside the bare endpoint, and what they cost.

    The first size is compared with the bare endpoint and the rival; further ones with the first.

    \b
    Example:
      oneself bench identity --stored 10k,1m,10m --no-rival
    """
    configure("warning")
    options = Options(stored=stored, database=database if rival else None, **load)
    with _measuring(planned_steps(options)) as step:
        measured = measure_identity(options, step)
    _print(identity_figures(options, measured), as_json)


@bench.command()
@_users_options(devices=1, attributes=10)
@_load_options
def ingest(stored: int, devices: int, attributes: int, crowd: int, as_json: bool, **load: Any) -> None:
    """Serve stored users and send batches of three events: durable answers a second beside the bare endpoint.

    Batches come as the web SDK sends them, then as a server does. Then all go to one user at a time: ordinary ones,
    one with many events, one with many devices.

    \b
    Example:
      oneself bench ingest --stored 1m
    """
    configure("warning")
    options = IngestOptions(users=Users(stored, devices, attributes, EVENTS, crowd), **load)
    with _measuring(planned_ingest_steps(options)) as step:
        measured = measure_ingest(options, step)
    _print(ingest_figures(options, measured), as_json)


@bench.command()
@_users_options(devices=3, attributes=40)
@_load_options
def profile(stored: int, devices: int, attributes: int, crowd: int, as_json: bool, **load: Any) -> None:
    """Serve stored users and read their profiles: answers a second beside the bare endpoint, and their latency.

    \b
    Example:
      oneself bench profile --stored 1m
    """
    configure("warning")
    options = ProfileOptions(users=Users(stored, devices, attributes, 0, crowd), **load)
    with _measuring(planned_profile_steps(options)) as step:
        measured = measure_profile(options, step)
    _print(profile_figures(options, measured), as_json)


@bench.command("import")
@click.option("--rows", callback=_profiles, metavar="SIZE", default="100k", show_default=True, help="Rows of a file.")
@click.option(
    "--stored", callback=_profiles, metavar="SIZE", default="100k", show_default=True, help="Stored profiles."
)
@click.option(
    "--attributes", type=click.IntRange(1, 40), default=10, show_default=True, help="Of a profile, and of a row."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Figures are medians of these.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where data is made.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def import_(
    rows: int, stored: int, attributes: int, rounds: int, folder: Path | None, seed: int, as_json: bool
) -> None:
    """Import eventless updates from a Parquet file that it makes: rows a second.

    Half of the rows are stored users', half of them make new ones. Every round has a file of its own.

    \b
    Example:
      oneself bench import --rows 1m --rounds 1
    """
    configure("warning")
    users = Users(stored, 1, attributes, 0)
    options = ImportOptions(rows=rows, users=users, rounds=rounds, folder=folder, seed=seed)
    with _measuring(planned_import_steps(options)) as step:
        measured = measure_import(options, step)
    _print(import_figures(options, measured), as_json)


@bench.command()
@click.option(
    "--stored",
    callback=_sizes,
    metavar="SIZES",
    default="10k",
    show_default=True,
    help="Stored identities, e.g. 10k,1m,10m.",
)
@click.option(
    "--processes", callback=_counts, metavar="COUNTS", default="1,2,4", show_default=True, help="Server processes."
)
@click.option("--rival/--no-rival", default=True, show_default=True, help="Measure FastAPI + SQLAlchemy beside it.")
@click.option(
    "--database", envvar="ONESELF_BENCH_DATABASE", default=_DATABASE, show_default=True, help="Where data is made."
)
@_load_options
def scale(
    stored: tuple[int, ...], processes: tuple[int, ...], rival: bool, database: str, as_json: bool, **load: Any
) -> None:
    """Load several server processes on one database, the embedded engine, and a rival on that database, in turns.

    Identities are resolved and batches taken in by each number of processes over the first size; further sizes are
    compared with it at the first number of processes.

    \b
    Example:
      oneself bench scale --stored 10k,1m,10m --database postgresql://postgres@127.0.0.1/bench
    """
    configure("warning")
    options = ScaleOptions(stored=stored, processes=processes, database=database, rival=rival, **load)
    with _measuring(planned_scale_steps(options)) as step:
        measured = measure_scale(options, step)
    _print(scale_figures(options, measured), as_json)


@bench.command()
@click.option(
    "--requests", callback=_profiles, metavar="SIZE", default="100k", show_default=True, help="Recorded requests."
)
@click.option(
    "--decisions", callback=_profiles, metavar="SIZE", default="10k", show_default=True, help="Of the one profile."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Figures are medians of these.")
@click.option(
    "--database",
    envvar="ONESELF_BENCH_DATABASE",
    metavar="URL",
    default="",
    help="Where to undo; else a data folder.",
)
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where data is made.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the mix of requests.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def whatif(
    requests: int, decisions: int, rounds: int, database: str, folder: Path | None, seed: int, as_json: bool
) -> None:
    """Record a history of the identity mix and try it under the same and another policy: requests a second.

    Then a profile with many decisions is told, and decisions are undone.

    \b
    Example:
      oneself bench whatif --requests 10m --rounds 1
    """
    configure("warning")
    options = HistoryOptions(
        requests=requests, decisions=decisions, rounds=rounds, folder=folder, database=database, seed=seed
    )
    with _measuring(planned_history_steps(options)) as step:
        measured = measure_history(options, step)
    _print(history_figures(options, measured), as_json)


@bench.command()
@click.option(
    "--stored", type=click.IntRange(_SMALLEST), default=10_000, show_default=True, help="Stored identities."
)
@click.option("--requests", type=click.IntRange(1), default=20_000, show_default=True, help="Requests a round.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Figures are medians of these.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the mix of requests.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def core(stored: int, requests: int, rounds: int, seed: int, as_json: bool) -> None:
    """Time the pure core: microseconds a request of preparing, deciding and applying.

    \b
    Example:
      oneself bench core --stored 100000
    """
    _print(core_figures(stored, measure_core(Population(stored), requests, rounds, seed), seed), as_json)


def _print(figures: Figures, as_json: bool) -> None:
    click.echo(figures.as_json() if as_json else table(figures))
    if figures.errors:
        raise click.exceptions.Exit(1)


@contextmanager
def _measuring(steps: int) -> Iterator[Callable[[int], None]]:
    """Show progress, and errors that leave no figures as plain messages."""
    try:
        with _progress(steps) as step:
            yield step
    except (LoadError, ServerFailed, NoRoom) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, nothing anywhere else."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=steps, label="Measuring", file=sys.stderr) as bar:
        yield bar.update
