"""``oneself export``: writes the profiles and events of a folder or a database to a file (docs/import-export.md)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from oneself.commands.import_ import configuration
from oneself.config import Config, Workspace
from oneself.config.table import listed, meant
from oneself.logs import configure

if TYPE_CHECKING:
    from oneself.bulk import Exported, Selection, Writer
    from oneself.store import Place

__all__ = ["export"]

_PATH = click.Path(path_type=Path)
_STEPS: Final = 10_000
"""Steps of the progress bar."""

_SHOWN_EVERY: Final = 200


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Return a date or time by ISO 8601 as unix ms; in UTC where no zone is given."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        message = f"{value!r} is no date or time; write for example 2026-11-21 or 2026-11-21T10:15:00Z."
        raise click.BadParameter(message, ctx, param) from None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Data folder.  [default: ./oneself-data]"
)
@click.option("--database", metavar="URL", help="PostgreSQL database, instead of a folder.")
@click.option(
    "--config", "config_file", type=_PATH, help="Configuration.  [default: oneself.toml of the data folder]"
)
@click.option("--workspace", metavar="NAME", help="The workspace, where there are several.")
@click.option("--what", type=click.Choice(["profiles", "events"]), default="profiles", show_default=True)
@click.option(
    "--format", "format_", type=click.Choice(["jsonl", "parquet"]), help="Default: by the name of the output."
)
@click.option("--environment", type=click.Choice(["production", "development"]), help="Only this one.")
@click.option("--input", "input_", metavar="WORKSPACE/INPUT", help="Only the events that came by this input.")
@click.option("--from", "from_ms", callback=_time, metavar="TIME", help="Only what was seen at this time or later.")
@click.option("--to", "to_ms", callback=_time, metavar="TIME", help="Only what was seen before this time.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), default="-", show_default=True,
    help="File; - is standard output.",
)  # fmt: skip
def export(
    data: Path | None,
    database: str | None,
    config_file: Path | None,
    workspace: str | None,
    what: str,
    format_: str | None,
    environment: str | None,
    input_: str | None,
    from_ms: int | None,
    to_ms: int | None,
    output: Path,
) -> None:
    """Write the profiles or the events of a workspace as JSON lines or Parquet, also while a server runs.

    Profiles are as the Profile API gives them, with what the workspace knows beyond that. Events are batches of
    the Events API, which "oneself import" takes in again.

    \b
    Example:
      oneself export --output profiles.parquet
      oneself export --what events --from 2026-11-01 --to 2026-12-01 --output november.jsonl.gz
    """
    from oneself.bulk import Selection
    from oneself.engine import ENVIRONMENTS
    from oneself.engine.engine import clock_ms

    configure("warning")
    config, place = configuration(config_file, data, database)
    if input_ is not None:
        inputs = {one.id: one.workspace for one in config.inputs}
        if what != "events":
            raise click.UsageError("--input goes with --what events: a profile has data of several inputs.")
        if input_ not in inputs:
            raise click.UsageError(f"--input {input_!r} is no input{meant(input_, inputs)} Inputs: {listed(inputs)}.")
        workspace = workspace or inputs[input_]
        if inputs[input_] != workspace:
            raise click.UsageError(f"--input {input_} is no input of the workspace {workspace}.")
    selection = Selection(
        workspace=_workspace(config, workspace),
        now_ms=clock_ms(),
        environments=ENVIRONMENTS if environment is None else (environment,),
        from_ms=from_ms,
        to_ms=to_ms,
        input=input_,
    )
    count = asyncio.run(_export(place, selection, what, _writer(what, format_, output)))
    if str(output) != "-":
        click.echo(f"{count:,} {'profiles' if what == 'profiles' else 'batches'} written to {output}")


def _workspace(config: Config, name: str | None) -> Workspace:
    workspaces = {one.name: one for one in config.workspaces}
    if name is None and len(workspaces) == 1:
        return next(iter(workspaces.values()))
    if name is None:
        raise click.UsageError(f"There are several workspaces; give --workspace. Workspaces: {listed(workspaces)}.")
    if name not in workspaces:
        raise click.UsageError(
            f"--workspace {name!r} is no workspace{meant(name, workspaces)} Workspaces: {listed(workspaces)}."
        )
    return workspaces[name]


def _writer(what: str, format_: str | None, output: Path) -> AbstractContextManager[Writer]:
    from oneself.bulk.writers import BATCHES, PROFILES, json_lines, parquet

    if format_ is None:
        format_ = "parquet" if output.suffix == ".parquet" else "jsonl"
    if format_ == "jsonl":
        return json_lines(None if str(output) == "-" else output)
    if str(output) == "-":
        raise click.UsageError("Parquet goes to a file; give --output FILE.")
    return parquet(output, PROFILES if what == "profiles" else BATCHES)


async def _export(place: Place, selection: Selection, what: str, writing: AbstractContextManager[Writer]) -> int:
    """Write what is selected, and return how many documents that are."""
    from oneself.bulk.exporting import batches, profiles

    store = place.store(read_only=True)
    await store.open()
    try:
        walk: AsyncIterator[Exported] = (profiles if what == "profiles" else batches)(store, selection)
        count = 0
        with writing as writer, _progress() as progress:
            async for one in walk:
                writer.write(one.document)
                count += 1
                if count % _SHOWN_EVERY == 0:
                    progress(one.share, count)
            progress(1.0, count)
        return count
    finally:
        await store.close()


@contextmanager
def _progress() -> Iterator[Callable[[float, int], None]]:
    """Show a progress bar on a terminal, nothing anywhere else."""
    if not sys.stderr.isatty():
        yield lambda _share, _count: None
        return

    def shown(count: int | None) -> str:
        return "" if count is None else f"{count:,}"

    with click.progressbar(length=_STEPS, label="Exporting", file=sys.stderr, item_show_func=shown) as bar:
        yield lambda share, count: bar.update(int(share * _STEPS) - bar.pos, count)
