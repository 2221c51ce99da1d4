"""``oneself serve``: runs the server."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import structlog

from oneself.commands.place import DEFAULT_DATA
from oneself.commands.workers import Worker, run_workers
from oneself.config import Config, Input, generate, load
from oneself.errors import ConfigError, OneselfError
from oneself.logs import Level, configure
from oneself.store.place import Place

if TYPE_CHECKING:
    from oneself.http import App

__all__ = ["serve"]

_log = structlog.get_logger("oneself.serve")

_SWITCH_SECONDS = 0.0001
"""How long one thread may keep another from running; the thread that waits for the disk must not wait for long."""

_COLLECT_AFTER = (5_000, 1_000, 50)
"""Hardly anything of ours is cyclic garbage: look at little at a time, which is soon done, and rarely at all."""


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    config: Config
    place: Place
    host: str
    port: int
    tls_cert: Path | None
    tls_key: Path | None
    demo: bool
    generated: Path | None


_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Configuration file (TOML).")
@click.option("--data", type=_FOLDER, help="Data folder.  [default: ./oneself-data]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--tls-cert", type=_FILE, help="Certificate chain (PEM).")
@click.option("--tls-key", type=_FILE, help="Private key (PEM).")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Server processes.")
@click.option("--demo", is_flag=True, help="Fill the first workspace with the sample shop.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What to log; debug adds a line for each request.",
)
def serve(
    config_file: Path | None,
    data: Path | None,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    workers: int,
    demo: bool,
    log_level: Level,
) -> None:
    """Run the server until it is told to stop (SIGTERM or SIGINT).

    Without a configuration it makes one in the data folder: a workspace, a server input and a web input with
    random credentials. It prints the address, the keys and a curl line that works.

    \b
    Example:
      oneself serve --data ./oneself-data --port 8080
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together; give both or neither.")
    configure(log_level)
    config, place, generated = _configuration(config_file, data)
    if workers > 1 and place.database is None:
        raise click.UsageError(
            "--workers above 1 needs a database (database = in the configuration, or ONESELF_DATABASE); "
            "one server writes to a data folder."
        )
    options = _Options(
        config=config, place=place, host=host, port=port, tls_cert=tls_cert, tls_key=tls_key, demo=demo,
        generated=generated,
    )  # fmt: skip
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(*_COLLECT_AFTER)
    if workers == 1:
        _run(options)
    else:
        run_workers(workers, host, port, partial(_run, options), partial(_greet, options))


def _configuration(config_file: Path | None, data: Path | None) -> tuple[Config, Place, Path | None]:
    """Return the configuration, where the data is, and the path of the configuration where that was generated."""
    if config_file is not None:
        config = load(config_file, os.environ)
        generated = None
    else:
        folder = data or Path(os.environ.get("ONESELF_DATA") or DEFAULT_DATA)
        generated = folder / "oneself.toml"
        if not generated.exists():
            generate(folder)
        config = load(generated, os.environ)
    if config.database is not None and config_file is not None and data is not None:
        raise ConfigError(
            str(config_file), [("database", "is given together with --data; the data lives in one place.")]
        )
    return config, Place(data or config.data or DEFAULT_DATA, config.database), generated


def _run(options: _Options, worker: Worker | None = None) -> None:
    import uvloop

    uvloop.run(_serve(options, worker))


async def _serve(options: _Options, worker: Worker | None) -> None:
    from oneself.engine import Engine, adopt_policies
    from oneself.engine.engine import clock_ms
    from oneself.http import Conflicts, Gauge, Groups, Siblings, create_app
    from oneself.jobs import Jobs

    store = options.place.store(busy=True)
    await store.open()
    try:
        groups = Groups()
        position = Gauge("oneself_journal_position", "Decisions in the journal.", lambda: store.position)
        policies = await adopt_policies(store, options.config.scopes, clock_ms)
        engine = Engine(store, policies, on_group=groups.record)
        await engine.start()
        try:
            if options.demo and (worker is None or worker.number == 0):
                await _fill(engine, options.config)
            jobs = Jobs(engine, options.config)
            siblings = None if worker is None else Siblings(worker.folder, worker.number, worker.count)
            collectors = [groups, position, Conflicts(lambda: store.conflicts), jobs]
            app = create_app(options.config, engine, collectors=collectors, siblings=siblings)
            gc.freeze()
            await jobs.start()
            await app.operations.start()
            try:
                await _listen(options, worker, app)
            finally:
                await app.operations.stop()
                await jobs.stop()
        finally:
            await engine.stop()
    finally:
        await store.close()
    _log.info("stopped", position=store.position)


async def _listen(options: _Options, worker: Worker | None, app: App) -> None:
    """Serve until the server is to stop; a worker stops, too, when the process that started it is gone."""
    from oneself.http import ServerSettings
    from oneself.http import serve as serve_http

    stop = asyncio.Event()
    settings = ServerSettings(
        host=options.host,
        port=options.port if worker is None else worker.port,
        reuse_port=worker is not None,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
    )

    def bound(port: int) -> None:
        if worker is None:
            _greet(options, port)
        else:
            worker.started.send(worker.number)
            worker.started.close()

    if worker is not None:
        asyncio.get_running_loop().add_reader(worker.alive, stop.set)
    try:
        await serve_http(app, settings, on_bound=bound, stop=stop)
        _log.info("stopping")
    except OSError as error:
        raise OneselfError(f"Cannot serve {options.host}:{settings.port}: {error.strerror or error}.") from error
    finally:
        if worker is not None:
            asyncio.get_running_loop().remove_reader(worker.alive)


async def _fill(engine: object, config: Config) -> None:
    from oneself.demo import Inputs, fill
    from oneself.engine import Engine
    from oneself.engine.engine import clock_ms
    from oneself.engine.sources import sources_of

    assert isinstance(engine, Engine)
    workspace = config.workspaces[0]
    own = [source for source in sources_of(config).values() if source.workspace == workspace.name]
    platforms = [source for source in own if source.platform]
    if not platforms:
        raise ConfigError("--demo", [("input", f"workspace {workspace.name} needs a web input for the sample shop.")])
    web = next((source for source in platforms if source.kind == "web"), platforms[0])
    app = next((source for source in platforms if source is not web), web)
    server = next((source for source in own if source.kind == "server"), web)
    made = await fill(engine, workspace.scope, Inputs(web, app, server), clock_ms())
    click.echo(f"The sample shop is in workspace {workspace.name} ({made} new decisions).")


def _greet(options: _Options, port: int) -> None:
    _log.info("serving", host=options.host, port=port, tls=options.tls_cert is not None, data=str(options.place))
    scheme = "https" if options.tls_cert else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"{scheme}://{host}:{port}"
    click.echo(f"Oneself serves {url} with its data in {options.place}")
    if options.generated is not None:
        click.echo(f"Its configuration, which holds the keys, is {options.generated}")
        for input_ in options.config.inputs:
            click.echo(
                f"  {input_.name:7} key {input_.key}" + ("" if input_.key_only else f" secret {input_.secret}")
            )
        for client in options.config.api_clients:
            click.echo(f"  API client {client.client_id} secret {client.client_secret}")
        server = next((i for i in options.config.inputs if i.secret and not i.key_only), None)
        if server is not None:
            click.echo("Try it:\n" + _curl(url, server, insecure=options.tls_cert is not None))
    sys.stdout.flush()


def _curl(url: str, caller: Input, *, insecure: bool) -> str:
    flag = " -k" if insecure else ""
    body = '{"environment":"production","known_identities":{"customerid":"C-1001"}}'
    return f"curl{flag} -u {caller.key}:{caller.secret} {url}/v1/identify -d '{body}'"
