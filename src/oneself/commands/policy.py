"""``oneself policy``: the policies of scopes, version by version (docs/policies.md, "Versions")."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from oneself.commands.place import place_of
from oneself.commands.whatif import settings_of_file
from oneself.config.table import listed, meant
from oneself.errors import OneselfError
from oneself.identity import PolicySettings

if TYPE_CHECKING:
    from oneself.store import Place, PolicyOrigin, PolicyVersion, Store

__all__ = ["known_scope", "policy", "settings_text", "user_name", "versions_text"]

T = TypeVar("T")
Command = Callable[..., None]

MOST_NOTE = 1_000
"""A note has so many characters at the most."""


def _place_options(command: Command) -> Command:
    """Add the options that name the data."""
    options = [
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False),
            help="Data folder; its server may be running.  [default: ./oneself-data]",
        ),
        click.option("--database", metavar="URL", help="PostgreSQL database, instead of a folder."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _author_options(command: Command) -> Command:
    """Add the options that say who makes a version, and why."""
    options = [
        click.option("--scope", help="The scope, where there are several."),
        click.option("--note", default="", metavar="TEXT", help="Why; kept with the version."),
        click.option("--by", metavar="NAME", help="Who; kept with the version.  [default: your user name]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def policy() -> None:
    """List the policy versions of scopes, show one, promote new settings, or restore old ones.

    A version is kept for good, and each decision names the one that it was made under. A running server takes a new
    version over within a second.

    \b
    Example:
      oneself policy list
      oneself policy promote --config new.toml --note "keep anonymous visitors apart"
      oneself policy restore 1
    """


@policy.command("list")
@_place_options
@click.option("--scope", help="Only this one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_(data: Path | None, database: str | None, scope: str | None, as_json: bool) -> None:
    """List the policy versions of every scope; those in force are marked.

    \b
    Example:
      oneself policy list --data ./oneself-data
    """
    versions = _look(place_of(data, database))
    if scope is not None:
        scope = known_scope(scope, versions)
        versions = [one for one in versions if one.scope == scope]
    click.echo(msgspec.json.encode(versions).decode() if as_json else versions_text(versions))


@policy.command()
@click.argument("version", type=click.IntRange(1), required=False)
@_place_options
@click.option("--scope", help="The scope, where there are several.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(version: int | None, data: Path | None, database: str | None, scope: str | None, as_json: bool) -> None:
    """Show the settings of a version, by default of the one in force, as a configuration has them.

    \b
    Example:
      oneself policy show 1 --scope acme
    """
    found = _version(_look(place_of(data, database)), scope, version)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    click.echo(f"# {_headline(found)}")
    click.echo(settings_text(found))


@policy.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="The configuration that has the settings; one that has nothing but [scope.NAME] tables will do.",
)
@_place_options
@_author_options
def promote(
    config: Path, data: Path | None, database: str | None, scope: str | None, note: str, by: str | None
) -> None:
    """Make the settings that a configuration has for a scope its next policy version.

    Try them with `oneself whatif` before. A server that starts with its old configuration keeps to the promoted
    version.

    \b
    Example:
      oneself policy promote --config new.toml --note "keep anonymous visitors apart"
    """
    settings, loaded = settings_of_file(config)
    if scope is None and len(settings) > 1:
        raise click.UsageError(f"{config} has several scopes; give --scope. Scopes: {listed(settings)}.")
    chosen = scope or next(iter(settings))
    if chosen not in settings:
        raise click.UsageError(f"{config} has no scope {chosen!r}{meant(chosen, settings)}")
    place = place_of(data, database, loaded)
    known_scope(chosen, _look(place))
    from oneself.store import PolicyOrigin

    _make(place, chosen, settings[chosen], PolicyOrigin("promotion", by or user_name(), _checked(note)))


@policy.command()
@click.argument("version", type=click.IntRange(1))
@_place_options
@_author_options
def restore(
    version: int, data: Path | None, database: str | None, scope: str | None, note: str, by: str | None
) -> None:
    """Put the settings of an earlier version in force again; they become a version of their own.

    \b
    Example:
      oneself policy restore 1 --scope acme --note "too many users were split"
    """
    from oneself.engine.policies import settings_of
    from oneself.store import PolicyOrigin

    place = place_of(data, database)
    old = _version(_look(place), scope, version)
    made = PolicyOrigin("restoration", by or user_name(), _checked(note), old.version)
    _make(place, old.scope, settings_of(old), made)


def _make(place: Place, scope: str, settings: PolicySettings, made: PolicyOrigin) -> None:
    """Keep settings as a scope's next version, and tell what is in force."""
    from oneself.engine.engine import clock_ms
    from oneself.engine.policies import settings_document

    async def add(store: Store) -> tuple[list[PolicyVersion], PolicyVersion]:
        before = await store.policies()
        return before, await store.add_policy(scope, clock_ms(), settings_document(settings), made)

    # A folder's server holds the folder's lock, and a version needs none.
    before, version = _with_store(place, add, read_only=place.database is None)
    previous = max(one.version for one in before if one.scope == scope)
    if version.version == previous:
        click.echo(f"Nothing to do: version {previous} of {scope} is in force and has these settings.")
        return
    click.echo(f"In force: {_headline(version)}")
    click.echo(f"Servers take it over within a second. To go back: oneself policy restore {previous} --scope {scope}")


def _look(place: Place) -> list[PolicyVersion]:
    """Return every version, oldest first."""
    return _with_store(place, lambda store: store.policies(), read_only=True)


def _with_store(place: Place, work: Callable[[Store], Awaitable[T]], *, read_only: bool) -> T:
    async def run() -> T:
        store = place.store(read_only=read_only)
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def known_scope(scope: str, versions: list[PolicyVersion]) -> str:
    """Return a scope that there is; raise ``OneselfError`` where there is none of that name."""
    scopes = {one.scope for one in versions}
    if scope not in scopes:
        raise OneselfError(
            f"No server has decided in a scope {scope!r} here{meant(scope, scopes)} Scopes: {listed(scopes)}."
        )
    return scope


def _version(versions: list[PolicyVersion], scope: str | None, number: int | None) -> PolicyVersion:
    """Return a version of a scope, the newest where no number is given."""
    scopes = sorted({one.scope for one in versions})
    if scope is None and len(scopes) != 1:
        raise click.UsageError(f"Give --scope. Scopes: {listed(scopes)}.")
    scope = known_scope(scope or scopes[0], versions)
    found = [one for one in versions if one.scope == scope and number in (None, one.version)]
    if not found:
        newest = max(one.version for one in versions if one.scope == scope)
        raise OneselfError(f"{scope} has no version {number}; its versions are 1 to {newest}.")
    return found[-1]


def _checked(note: str) -> str:
    if len(note) > MOST_NOTE:
        raise click.UsageError(f"--note: at most {MOST_NOTE} characters.")
    return note


def user_name() -> str:
    """Return the name of the user who runs the command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


# -- words --------------------------------------------------------------------------------------------------------


def versions_text(versions: list[PolicyVersion]) -> str:
    """Return a list of versions in words, a line each; those in force are marked with a star."""
    newest = {one.scope: one for one in versions}
    lines = [f"{'*' if newest[one.scope] is one else ' '} {_headline(one)}" for one in versions]
    return "\n".join(lines) or "No server has started here yet: there is no policy."


def _headline(version: PolicyVersion) -> str:
    when = datetime.fromtimestamp(version.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    came = {
        "configuration": "from the configuration",
        "promotion": f"promoted by {version.author}",
        "restoration": f"version {version.restores} restored by {version.author}",
    }[version.origin]
    strategy = _settings(version).get("strategy", "default")
    note = f": {''.join(c if c.isprintable() else ' ' for c in version.note)}" if version.note else ""
    return (
        f"{version.scope} version {version.version}, {strategy}, {when}, "
        f"from decision {version.position} on, {came}{note}"
    )


def _settings(version: PolicyVersion) -> dict[str, Any]:
    settings: dict[str, Any] = msgspec.json.decode(version.settings)
    return settings


def settings_text(version: PolicyVersion) -> str:
    """Return the settings of a version as TOML."""
    name = version.scope if version.scope.replace("-", "").replace("_", "").isalnum() else _toml(version.scope)
    settings = {"strategy": "default", **_settings(version)}
    return "\n".join([f"[scope.{name}]", *(f"{key} = {_toml(value)}" for key, value in settings.items())])


def _toml(value: Any) -> str:
    """Return a value as TOML, which for texts, numbers, yes and no, and lists of texts is as JSON is."""
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode().replace("\x7f", "\\u007f")
