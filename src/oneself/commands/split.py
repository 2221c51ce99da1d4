"""``oneself split``: moves identities, and what came by them, off a user into a new one (docs/undo.md)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import click

from oneself.commands.place import place_of
from oneself.commands.undo import data_options, perform

__all__ = ["split"]

_MPID = re.compile(r"-?\d{1,19}")


@click.command(context_settings={"ignore_unknown_options": True})  # an MPID may be negative
@click.argument("mpid")
@click.option(
    "--identity", "identities", metavar="TYPE=VALUE", multiple=True, required=True, help="One to move; give several."
)
@data_options
def split(
    mpid: str,
    identities: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    data: Path | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Move identities off a user into a new one, with the batches whose requests carried them.

    First it is told what would change. A split is a decision, and can be undone.

    \b
    Example:
      oneself split 4611686018427387904 --identity email=bob@example.com --dry-run
    """
    if not _MPID.fullmatch(mpid) or abs(int(mpid)) >= 1 << 63:
        raise click.UsageError(f"{mpid!r} is no MPID: it is a whole number of at most 64 bits.")
    from oneself.history.undo.asked import AskedSplit, identity_of, plan_asked_split

    asked = AskedSplit(mpid=int(mpid), identities=tuple(map(identity_of, identities)))
    perform(place_of(data, database), partial(plan_asked_split, asked=asked), "Splitting", dry_run, yes, as_json)
