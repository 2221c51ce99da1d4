"""``oneself bench``: the benchmarks."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from oneself.bench.core import measure_core
from oneself.bench.figures import core_figures, identity_figures
from oneself.bench.identity import Options, measure_identity, planned_steps
from oneself.bench.load import LoadError
from oneself.bench.population import Population
from oneself.bench.processes import ServerFailed
from oneself.bench.report import Figures, table
from oneself.logs import configure

__all__ = ["bench"]

_DATABASE = "postgresql://postgres@127.0.0.1:5432/test"
_SMALLEST = 100
_BENCHES = {
    "identity": "durable identify requests over HTTP: rate, latency, cost as the store grows, memory, a rival",
    "core": "the pure identity core alone",
}


def _sizes(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    """Return ``10k,1m,10m`` as numbers."""
    sizes = []
    for part in value.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*([kKmM]?)\s*", part)
        if not match:
            raise click.BadParameter(f"{part!r} is no number of identities; write for example 10k,1m,10m")
        sizes.append(int(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()])
    if min(sizes) < _SMALLEST or len(set(sizes)) < len(sizes):
        raise click.BadParameter(f"give different sizes of at least {_SMALLEST} identities")
    return tuple(sizes)


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
@click.option("--seconds", type=click.FloatRange(0.1), default=8.0, show_default=True, help="Counted time of a load.")
@click.option(
    "--settle", type=click.FloatRange(0), default=6.0, show_default=True, help="Load before, and rest after."
)
@click.option("--connections", type=click.IntRange(1, 1000), default=32, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Figures are medians of these.")
@click.option("--rival/--no-rival", default=True, show_default=True, help="Measure FastAPI + SQLAlchemy beside it.")
@click.option(
    "--database", envvar="ONESELF_BENCH_DATABASE", default=_DATABASE, show_default=True, help="The rival's."
)
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where data is made.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the mix of requests.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def identity(
    stored: tuple[int, ...],
    seconds: float,
    settle: float,
    connections: int,
    rounds: int,
    rival: bool,
    database: str,
    folder: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Serve a filled store and load it: durable answers a second beside the bare endpoint, and what they cost.

    The first size is compared with the bare endpoint and the rival; further ones with the first.

    \b
    Example:
      oneself bench identity --stored 10k,1m,10m --no-rival
    """
    configure("warning")
    options = Options(
        stored=stored,
        seconds=seconds,
        settle=settle,
        connections=connections,
        rounds=rounds,
        database=database if rival else None,
        folder=folder,
        seed=seed,
    )
    try:
        with _progress(planned_steps(options)) as step:
            measured = measure_identity(options, step)
    except (LoadError, ServerFailed) as error:
        raise click.ClickException(str(error)) from error
    _print(identity_figures(options, measured), as_json)


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
def _progress(steps: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, nothing anywhere else."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=steps, label="Measuring", file=sys.stderr) as bar:
        yield bar.update
