"""``oneself undo``: takes decisions back, as if they had never been made (docs/undo.md)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from oneself.commands.place import place_of
from oneself.commands.replay import progress
from oneself.errors import OneselfError, StoreInUse

if TYPE_CHECKING:
    from oneself.history.undo.report import UndoPlan, UndoReport
    from oneself.store import Place, Store

__all__ = ["data_options", "perform", "undo"]

Planning = Callable[..., Any]
"""Plans on a store, with a source of MPIDs and a progress to tell."""


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name the data, and those that say how it is done."""
    options = [
        click.option("--dry-run", is_flag=True, help="Only tell what would change; a server may be running."),
        click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can be asked."),
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False),
            help="Data folder; of a running server only with --dry-run.  [default: ./oneself-data]",
        ),
        click.option("--database", metavar="URL", help="PostgreSQL database, instead of a folder."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("decision", required=False, metavar="[REQUEST_ID|POSITION]")
@click.option(
    "--input", "input_", metavar="WORKSPACE/INPUT", default="", help="Undo what this input decided instead."
)
@click.option("--from", "first", metavar="TIME|POSITION", default="", help="With --input: from here on.")
@click.option("--to", "last", metavar="TIME|POSITION", default="", help="With --input: up to here.")
@click.option("--identity", metavar="TYPE=VALUE", help="Undo all that this value caused instead.")
@click.option("--scope", default="", help="The scope, where there are several.")
@click.option("--environment", type=click.Choice(["production", "development"]), help="The environment.")
@click.option(
    "--later",
    type=click.Choice(["redecide", "keep"]),
    help="What becomes of later decisions that depend on it; without it, they stand in the way.",
)
@click.option("--no-guard", is_flag=True, help="With --identity: do not guard the value afterwards.")
@data_options
def undo(
    decision: str | None,
    input_: str,
    first: str,
    last: str,
    identity: str | None,
    scope: str,
    environment: str | None,
    later: str | None,
    no_guard: bool,
    dry_run: bool,
    yes: bool,
    data: Path | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Undo one decision, what an input decided in a span, or all that an identity value caused.

    Afterwards the state is as if these decisions had not been made. First it is told what would change, and which
    later decisions depend on it. An undo is a decision, too, and can be undone. Exits with 1 where it cannot be done
    as asked.

    \b
    Example:
      oneself undo ana-signs-up --dry-run
      oneself undo --input shop/web --from 2026-05-01T10:00 --to 2026-05-01T11:00 --later redecide
      oneself undo --identity other=12345 --later redecide --yes
    """
    if sum(map(bool, (decision, input_, identity))) != 1:
        raise click.UsageError("Name what to undo: a decision, or --input, or --identity.")
    if (first or last) and not input_:
        raise click.UsageError("--from and --to belong to --input.")
    from oneself.history.undo.asked import Asked, identity_of, plan_asked

    type_, value = identity_of(identity) if identity else ("", "")
    asked = Asked(
        decision=decision or "",
        input=input_,
        first=first,
        last=last,
        type=type_,
        value=value,
        scope=scope,
        environment=environment or "",  # type: ignore[arg-type]
        later=later or "",  # type: ignore[arg-type]
        guard=not no_guard,
    )
    perform(place_of(data, database), partial(plan_asked, asked=asked), "Undoing", dry_run, yes, as_json)


def perform(place: Place, planning: Planning, label: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Plan, tell the plan, ask, carry it out, and tell what has changed; exit with 1 where it cannot be done."""
    from oneself.history.undo.text import undo_text

    report = asyncio.run(_planned(place, planning, label))
    if report.possible and not dry_run:
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("Nobody can be asked here: give --yes, or --dry-run.")
            click.echo(undo_text(report), err=as_json)
            click.confirm("Go on?", abort=True, err=True)
        report = asyncio.run(_carried_out(place, planning, label))
    click.echo(msgspec.json.encode(report).decode() if as_json else undo_text(report))
    if not report.possible:
        raise SystemExit(1)


async def _planned(place: Place, planning: Planning, label: str) -> UndoReport:
    store = place.store(read_only=True)
    await store.open()
    try:
        return (await _plan(store, planning, label)).report
    finally:
        await store.close()


async def _plan(store: Store, planning: Planning, label: str) -> UndoPlan:
    from oneself.engine.engine import random_mpids

    numbers = random_mpids()
    with progress(label, store.position) as step:
        plan: UndoPlan = await planning(store, mpids=lambda _: next(numbers), progress=step)
    return plan


async def _carried_out(place: Place, planning: Planning, label: str) -> UndoReport:
    from oneself.engine import Call, Engine
    from oneself.engine.policies import stored_policies
    from oneself.history.undo.asked import carried_out

    store = place.store()
    try:
        await store.open()
    except StoreInUse as error:
        raise OneselfError(
            f"{error} A running server does it when it is asked by its admin API: POST "
            "/admin/workspaces/WORKSPACE/undo or …/split (docs/undo.md)."
        ) from error
    engine = Engine(store, await stored_policies(store))
    await engine.start()

    async def carry(made: UndoPlan) -> int | None:
        outcome = await engine.submit(Call(made.space, "/command", made.request, plan=made.plan))
        return outcome.position or None

    try:
        return await carried_out(lambda: _plan(store, planning, label), carry)
    finally:
        await engine.stop()
        await store.close()
