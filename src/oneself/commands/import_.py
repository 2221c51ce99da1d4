"""``oneself import``: takes the rows of files in as batches (docs/import-export.md)."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from oneself.commands.place import DEFAULT_DATA, place_of
from oneself.config import Config, Input, Workspace, load
from oneself.config.table import listed, meant
from oneself.errors import OneselfError, StoreInUse
from oneself.logs import configure
from oneself.store.place import Place

if TYPE_CHECKING:
    from oneself.bulk import Counts, Import, Job, Settings, Taker
    from oneself.profiles import Source

__all__ = ["configuration", "import_"]

_SWITCH_SECONDS: Final = 0.0005
"""How long one thread may keep another from running; the thread that waits for the disk must not wait for long."""

_COLLECT_AFTER: Final = (5_000_000, 5, 5)
"""What waits for the tables is much and no garbage; look through it hardly ever."""

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; ``caller`` and ``workspace`` are those of the input."""

    files: tuple[Path, ...]
    config: Config
    place: Place
    caller: Input
    workspace: Workspace
    source: Source
    settings: Settings
    environment: str | None
    historical: bool
    rejects: Path
    url: str | None
    as_json: bool


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@click.option("--input", "input_", required=True, metavar="WORKSPACE/INPUT", help="The input that the rows come by.")
@click.option(
    "--config", "config_file", type=_PATH, help="Configuration.  [default: oneself.toml of the data folder]"
)
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Data folder.  [default: ./oneself-data]"
)
@click.option("--database", metavar="URL", help="PostgreSQL database, instead of a folder.")
@click.option("--environment", type=click.Choice(["production", "development"]), help="That of rows which name none.")
@click.option("--event-name", metavar="NAME", help="Name of the events of a table, where a row has none.")
@click.option("--event-type", metavar="TYPE", help="custom_event_type of custom events, where a row has none.")
@click.option("--manifest", type=_FILE, help="Manifest (JSON): which columns of tables count, and as what.")
@click.option("--historical", is_flag=True, help="Take events in as historical ones, older than three days.")
@click.option("--rejects", type=_FILE, help="Where rejected rows go.  [default: ./FILE.rejects.jsonl]")
@click.option("--url", metavar="URL", help="Send to the server at this address, instead of opening the data.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def import_(
    files: tuple[Path, ...],
    input_: str,
    config_file: Path | None,
    data: Path | None,
    database: str | None,
    environment: str | None,
    event_name: str | None,
    event_type: str | None,
    manifest: Path | None,
    historical: bool,
    rejects: Path | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Take in the rows of FILEs, each as one batch: JSON lines, CSV (also .gz and .zip) or Parquet.

    Rows that cannot be used go to the rejects file, with their lines and the reasons. An import that was stopped
    goes on with the same command, and a file that was imported is not applied again.

    \b
    Example:
      oneself import customers.parquet --input default/server
      oneself import orders-custom_event.csv.gz --input shop/feed --url http://127.0.0.1:8080
    """
    from oneself.bulk import Settings, read_manifest
    from oneself.engine.sources import sources_of

    configure("warning")
    if url is not None and database is not None:
        raise click.UsageError("--url sends to a server, --database opens a database; give one.")
    config, place = configuration(config_file, data, database)
    inputs = {one.id: one for one in config.inputs}
    if input_ not in inputs:
        raise click.UsageError(
            f"--input {input_!r} is no input of the configuration{meant(input_, inputs)} Inputs: {listed(inputs)}."
        )
    workspace = next(one for one in config.workspaces if one.name == inputs[input_].workspace)
    rejects = rejects or Path(f"{files[0].name}.rejects.jsonl")
    if rejects.resolve() in {file.resolve() for file in files}:
        raise click.UsageError(f"--rejects {rejects} is a file to import.")
    options = _Options(
        files=files,
        config=config,
        place=place,
        caller=inputs[input_],
        workspace=workspace,
        source=sources_of(config)[input_],
        settings=Settings(
            event_name=event_name,
            event_type=event_type,
            manifest=read_manifest(manifest) if manifest is not None else None,
            max_batch_bytes=workspace.max_batch_bytes,
        ),
        environment=environment,
        historical=historical,
        rejects=rejects,
        url=url,
        as_json=as_json,
    )
    _run(options)


def configuration(file: Path | None, data: Path | None, database: str | None = None) -> tuple[Config, Place]:
    """Return the configuration that a command means and where the data is, as ``oneself serve`` finds them.

    A ``database`` goes before that of the configuration.
    """
    named = None if database is None else place_of(data, database)
    folder = data or Path(os.environ.get("ONESELF_DATA") or DEFAULT_DATA)
    found = file or folder / "oneself.toml"
    if file is None and not found.exists():
        raise click.UsageError(f"{found} is not there. Name the data folder with --data, or give --config.")
    config = load(found, os.environ)
    if named is not None:
        return config, named
    if config.database is not None:
        return config, Place(folder, config.database)
    return config, Place(data or config.data or folder)


def _run(options: _Options) -> None:
    import uvloop

    from oneself.bulk import Job

    where = options.place.key if options.url is None else options.url
    destination = f"{where} {options.caller.id}" if where else options.caller.id
    job = Job.of(options.files, options.settings, destination, options.environment)
    with _hurried():
        done = uvloop.run(_import(options, job))
    if not done:
        click.echo("Stopped. The same command goes on from here.", err=True)
        raise SystemExit(1)


@contextmanager
def _hurried() -> Iterator[None]:
    """Let the interpreter do less beside the work."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(*_COLLECT_AFTER)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)


async def _import(options: _Options, job: Job) -> bool:
    """Run a job; tell whether it is done, and not stopped before its end."""
    from oneself.bulk import Import

    here = options.url is None and options.place.database is None
    folder = options.place.folder if here else options.rejects.absolute().parent
    async with _taker(options) as (taker, stop):
        run = Import(job, taker, folder / f"import-{job.name}.json", options.rejects)
        if run.counts.rows:
            click.echo(f"Going on after {run.counts.rows:,} rows.", err=True)
        started = time.monotonic()
        with _told_to_stop(run.stop, stop), _progress(run) as progress:
            try:
                done = await run.run(progress)
            except OneselfError:
                if not run.stopping:
                    raise
                done = False
    _summarise(options, run, done, time.monotonic() - started)
    return done


@asynccontextmanager
async def _taker(options: _Options) -> AsyncIterator[tuple[Taker, Callable[[], None]]]:
    """Open what takes the rows in, with what ends its waiting."""
    if options.url is not None:
        from oneself.bulk import Client, ServerTaker

        if not options.caller.secret:
            raise click.UsageError(f"{options.caller.id} has no secret, and sending to a server needs one.")
        client = Client(options.url, options.caller)
        taker = ServerTaker(client, options.source, historical=options.historical)
        try:
            yield taker, client.stopped.set
        finally:
            taker.close()
        return
    from oneself.bulk import CHUNK_ROWS, EngineTaker
    from oneself.engine import Engine, adopt_policies
    from oneself.engine.engine import clock_ms

    store = options.place.store(busy=True)
    try:
        await store.open()
    except StoreInUse as error:
        raise OneselfError(
            f"{error} Or let that server take the rows in: give its address with --url http://HOST:PORT."
        ) from error
    try:
        policies = await adopt_policies(store, options.config.scopes, clock_ms)
        engine = Engine(store, policies, max_group=CHUNK_ROWS)
        await engine.start()
        try:
            yield (
                EngineTaker(
                    engine,
                    options.source,
                    scope=options.workspace.scope,
                    max_event_names=options.workspace.max_event_names,
                    historical=options.historical,
                ),
                lambda: None,
            )
        finally:
            await engine.stop()
    finally:
        await store.close()


@contextmanager
def _told_to_stop(*stops: Callable[[], None]) -> Iterator[None]:
    """Call what stops the work at the first SIGINT or SIGTERM; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def told() -> None:
        for one in signals:
            loop.remove_signal_handler(one)
        for stop in stops:
            stop()

    for one in signals:
        loop.add_signal_handler(one, told)
    try:
        yield
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


@contextmanager
def _progress(run: Import) -> Iterator[Callable[[int, Counts], None]]:
    """Show a progress bar on a terminal, nothing anywhere else."""
    if not sys.stderr.isatty():
        yield lambda _read, _counts: None
        return
    started, before = time.monotonic(), run.counts.rows

    def shown(rows: int | None) -> str:
        if rows is None:
            return ""
        return f"{rows:,} rows, {(rows - before) / (time.monotonic() - started):,.0f} rows/s"

    with click.progressbar(length=run.size, label="Importing", file=sys.stderr, item_show_func=shown) as bar:
        yield lambda read, counts: bar.update(read - bar.pos, counts.rows)


def _summarise(options: _Options, run: Import, done: bool, seconds: float) -> None:
    counts = run.counts
    new = counts.rows - run.resumed_rows
    if options.as_json:
        document = {
            "done": done,
            "rows": counts.rows,
            **msgspec.to_builtins(counts),
            "rejects": str(options.rejects) if counts.rejected or counts.set_aside else None,
            "seconds": round(seconds, 3),
            "rows_per_second": round(new / seconds) if seconds else None,
        }
        click.echo(msgspec.json.encode(document).decode())
        return
    click.echo(f"{counts.rows:,} rows: {', '.join(_words(counts))}; {new:,} of them now, in {seconds:,.1f} s.")
    if counts.rejected or counts.set_aside:
        click.echo(f"What was rejected and why is in {options.rejects}")


def _words(counts: Counts) -> Iterator[str]:
    yield f"{counts.taken:,} taken in"
    if counts.repeated:
        yield f"{counts.repeated:,} of these had been before"
    if counts.unknown:
        yield f"{counts.unknown:,} dropped, since nobody was found and the input may only update"
    yield f"{counts.rejected:,} rejected"
    if counts.set_aside:
        yield f"{counts.set_aside:,} single events set aside"
