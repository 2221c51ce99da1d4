"""``oneself whatif``: tries another configuration on the recorded history (docs/whatif.md)."""

from __future__ import annotations

import asyncio
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from oneself.commands.place import place_of
from oneself.commands.replay import progress
from oneself.config import Config, load
from oneself.errors import ConfigError, OneselfError
from oneself.identity import Policy, PolicySettings, build

if TYPE_CHECKING:
    from oneself.history import Report
    from oneself.store import Place

__all__ = ["settings_of_file", "whatif"]


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="The configuration to try; one that has nothing but [scope.NAME] tables will do.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Data folder; its server may be running.  [default: that of the configuration, or ./oneself-data]",
)
@click.option("--database", metavar="URL", help="PostgreSQL database, instead of a folder.")
@click.option("--from", "first", metavar="TIME|POSITION", default="", help="Leave what was decided before as it is.")
@click.option("--to", "last", metavar="TIME|POSITION", default="", help="Do not look at what was decided later.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as a page, too.")
@click.option("--show-values", is_flag=True, help="Show identity values as they are, not digests of them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def whatif(
    config: Path,
    data: Path | None,
    database: str | None,
    first: str,
    last: str,
    html: Path | None,
    show_values: bool,
    as_json: bool,
) -> None:
    """Decide the recorded history again under another configuration, and report what would be different.

    Nothing is changed: neither the data nor the server that may be running on it.

    \b
    Example:
      oneself whatif --config new.toml --data ./oneself-data --html report.html
      oneself whatif --config new.toml --from 2026-05-01 --to 2026-06-01 --json
    """
    from oneself.history import page, whatif_text

    settings, loaded = settings_of_file(config)
    policies = {scope: build(its) for scope, its in settings.items()}
    report = asyncio.run(_what_if(place_of(data, database, loaded), policies, first, last, show_values))
    if html is not None:
        try:
            html.write_text(page(report), encoding="utf-8")
        except OSError as error:
            raise OneselfError(f"{html} cannot be written: {error.strerror or error}.") from error
    click.echo(msgspec.json.encode(report).decode() if as_json else whatif_text(report))


def settings_of_file(path: Path) -> tuple[dict[str, PolicySettings], Config | None]:
    """Return the policies of a configuration, as settings by scope, and the configuration.

    A file without a workspace is taken as policies alone, and None is returned for it.
    """
    from oneself.config.scopes import check_scopes

    try:
        document = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError):
        document = {"workspace": ()}  # reading it as a configuration tells what is wrong
    if "workspace" in document:
        config = load(path, os.environ)
        return config.scopes, config
    problems = [(key, "needs a [[workspace]], else only scopes count.") for key in document if key != "scope"]
    settings, _ = check_scopes(document.get("scope", {}), (), False, problems)
    if not problems and not settings:
        problems.append(("scope", "is missing; write [scope.NAME] with the policy to try."))
    if problems:
        raise ConfigError(str(path), problems)
    return settings, None


async def _what_if(place: Place, policies: dict[str, Policy], first: str, last: str, show_values: bool) -> Report:
    from oneself.history import span_of, what_if

    store = place.store(read_only=True)
    await store.open()
    try:
        span = await span_of(store, first, last)
        with progress("Deciding again", span.last) as step:
            return await what_if(store, policies, span, show_values=show_values, progress=step)
    finally:
        await store.close()
