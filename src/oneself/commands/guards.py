"""``oneself guards``: what was held off and what is shared by many, and releasing a value (docs/guards.md)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from oneself.commands.place import place_of
from oneself.commands.policy import known_scope, user_name
from oneself.commands.replay import progress
from oneself.errors import OneselfError, StoreInUse
from oneself.identity.names import FROM_EVENTS

if TYPE_CHECKING:
    from oneself.engine import Outcome
    from oneself.history import GuardsSeen
    from oneself.store import Place

__all__ = ["guards"]

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group(invoke_without_command=True)
@click.option("--data", type=_FOLDER, help="Data folder; its server may be running.  [default: ./oneself-data]")
@click.option("--database", metavar="URL", help="PostgreSQL database, instead of a folder.")
@click.option("--scope", "scopes", multiple=True, metavar="NAME", help="Only this scope; may be repeated.")
@click.option("--from", "first", metavar="TIME|POSITION", default="", help="Count what was held off from here on.")
@click.option("--to", "last", metavar="TIME|POSITION", default="", help="… and no later than this.")
@click.option(
    "--top", type=click.IntRange(1, 1_000), default=10, show_default=True, help="So many of each are told at most."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def guards(
    ctx: click.Context,
    data: Path | None,
    database: str | None,
    scopes: tuple[str, ...],
    first: str,
    last: str,
    top: int,
    as_json: bool,
) -> None:
    """Report guarded values, values and profiles that look shared by many, and what was held off, with what to do.

    It looks at what is held now and at the whole journal, or a part of it, and changes nothing.

    \b
    Example:
      oneself guards --from 2026-05-01
      oneself guards release device_application_stamp=4f0c61d2 --scope acme
    """
    if ctx.invoked_subcommand is not None:
        return
    from oneself.history import guards_text

    report = asyncio.run(_report(place_of(data, database), scopes, first, last, top))
    click.echo(msgspec.json.encode(report).decode() if as_json else guards_text(report))


async def _report(place: Place, scopes: tuple[str, ...], first: str, last: str, top: int) -> GuardsSeen:
    from oneself.history import guards_seen, scan_steps, span_of

    store = place.store(read_only=True)
    await store.open()
    try:
        versions = await store.policies()
        for scope in scopes:
            known_scope(scope, versions)
        span = await span_of(store, first, last)
        with progress("Looking through", scan_steps(span)) as step:
            return await guards_seen(store, span, scopes, top=top, progress=step)
    finally:
        await store.close()


@guards.command()
@click.argument("identity", metavar="TYPE=VALUE")
@click.option("--data", type=_FOLDER, help="Data folder.  [default: ./oneself-data]")
@click.option("--database", metavar="URL", help="PostgreSQL database, instead of a folder; servers may be running.")
@click.option("--scope", help="The scope, where there are several.")
@click.option("--environment", type=click.Choice(["production", "development"]), default="production")
def release(identity: str, data: Path | None, database: str | None, scope: str | None, environment: str) -> None:
    """Let a guarded value find profiles again; the decision is kept in the journal like any other.

    A server that is at work on a data folder does it itself: POST /admin/workspaces/WORKSPACE/guards/release.

    \b
    Example:
      oneself guards release customerid=C-1001 --scope acme
    """
    type_, equals, value = identity.partition("=")
    if not equals or type_ not in FROM_EVENTS:
        raise click.UsageError(f"{identity!r}: write TYPE=VALUE, with a type of the Identity API.")
    outcome = asyncio.run(_release(place_of(data, database), scope, environment, FROM_EVENTS[type_], value))
    if outcome.decision.error is not None:
        raise OneselfError(f"{identity} is not guarded here; nothing was changed.")
    click.echo(f"Released by decision {outcome.position}: it finds profiles again, and is guarded anew if need be.")


async def _release(place: Place, scope: str | None, environment: str, type_: str, value: str) -> Outcome:
    from oneself.engine import Call, Engine
    from oneself.engine.policies import stored_policies
    from oneself.identity import Request

    store = place.store()
    try:
        await store.open()
    except StoreInUse as error:
        raise OneselfError(
            f"{error} Or let that server do it: POST /admin/workspaces/WORKSPACE/guards/release."
        ) from error
    try:
        scopes = await stored_policies(store)
        if scope is None and len(scopes) != 1:
            raise click.UsageError(f"Give --scope. Scopes: {', '.join(sorted(scopes))}.")
        chosen = scope or next(iter(scopes))
        known_scope(chosen, await store.policies())
        engine = Engine(store, scopes)
        await engine.start()
        try:
            asked = Request("release", {type_: value})
            return await engine.submit(Call(f"{chosen}/{environment}", f"/command/{user_name()}", asked))
        finally:
            await engine.stop()
    finally:
        await store.close()
