"""``oneself replay``: proves that the live state is what the journal says, and looks back (docs/replay.md)."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from oneself.commands.place import place_of
from oneself.config import load

if TYPE_CHECKING:
    from oneself.history import AsOf, Replay
    from oneself.store import Place

__all__ = ["progress", "replay"]

_MPID = re.compile(r"-?\d{1,19}")


@click.command(context_settings={"ignore_unknown_options": True})  # an MPID may be negative
@click.argument("mpid", required=False, metavar="[MPID]")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Data folder; its server may be running.  [default: ./oneself-data]",
)
@click.option("--database", metavar="URL", help="PostgreSQL database, instead of a folder.")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration that names either.")
@click.option("--as-of", metavar="TIME|POSITION", help="Tell where the data of MPID was then, instead.")
@click.option("--show-values", is_flag=True, help="Show identity values as they are, not digests of them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def replay(
    mpid: str | None,
    data: Path | None,
    database: str | None,
    config: Path | None,
    as_of: str | None,
    show_values: bool,
    as_json: bool,
) -> None:
    """Decide the whole journal again, and compare what it comes to with the live state, difference by difference.

    Exits with 0 where nothing is different, else with 1. With --as-of it tells of one MPID instead: what it held
    then, where that went, and to whom it led.

    \b
    Example:
      oneself replay --data ./oneself-data
      oneself replay --as-of 2026-05-01 4611686018427387904
    """
    if (mpid is None) != (as_of is None):
        raise click.UsageError("--as-of and MPID belong together; give both or neither.")
    place = place_of(data, database, None if config is None else load(config, os.environ))
    if mpid is not None and as_of is not None:
        _tell_as_of(place, mpid, as_of, as_json)
        return
    from oneself.history import replay_text

    found = asyncio.run(_replay(place, show_values))
    click.echo(msgspec.json.encode(found).decode() if as_json else replay_text(found))
    if found.differences_in_all:
        raise SystemExit(1)


async def _replay(place: Place, show_values: bool) -> Replay:
    from oneself.history import replay

    store = place.store(read_only=True)
    await store.open()
    try:
        with progress("Replaying", 2 * store.position) as step:
            return await replay(store, show_values=show_values, progress=step)
    finally:
        await store.close()


def _tell_as_of(place: Place, mpid: str, moment: str, as_json: bool) -> None:
    from oneself.history import as_of_text

    if not _MPID.fullmatch(mpid) or abs(int(mpid)) >= 1 << 63:
        raise click.UsageError(f"{mpid!r} is no MPID: it is a whole number of at most 64 bits.")
    found = asyncio.run(_as_of(place, int(mpid), moment))
    click.echo(msgspec.json.encode(found).decode() if as_json else as_of_text(found))


async def _as_of(place: Place, mpid: int, moment: str) -> AsOf:
    from oneself.history import as_of, position_of

    store = place.store(read_only=True)
    await store.open()
    try:
        return await as_of(store, mpid, min(await position_of(store, moment), store.position))
    finally:
        await store.close()


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, nothing anywhere else."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update
