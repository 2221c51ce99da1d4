"""``oneself copy``: moves everything from one folder or database to another (docs/copy.md)."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from oneself.errors import OneselfError
from oneself.logs import configure
from oneself.store.place import Place

if TYPE_CHECKING:
    from oneself.store.transfer import Compared, Copied

__all__ = ["copy"]

_SCHEMES: Final = ("postgresql://", "postgres://")
_SHOWN_DIGITS: Final = 16


def _place(ctx: click.Context, param: click.Parameter, value: str) -> Place:
    """Return the place that an option names: a URL is a database, all else a folder."""
    if value.startswith(_SCHEMES):
        return Place(Path(), value)
    if "://" in value:
        raise click.BadParameter('give a folder, or a database as "postgresql://user@host/oneself".', ctx, param)
    return Place(Path(value))


@click.command()
@click.option("--from", "origin", callback=_place, metavar="DIR|URL", required=True, help="Data folder or database.")
@click.option("--to", callback=_place, metavar="DIR|URL", required=True, help="An empty one.")
@click.option("--restart", is_flag=True, help="Where a copy was not finished, delete what it wrote, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def copy(origin: Place, to: Place, restart: bool, as_json: bool) -> None:
    """Copy everything from a data folder or a PostgreSQL database to an empty one, and prove that it is all there.

    The copy is as of the moment it began; servers may go on working meanwhile. At the end the rows of every table are
    read on both sides, counted and compared by their checksums. Exits with 1 where anything differs: then the copy
    is not finished, and no server opens it.

    \b
    Example:
      oneself copy --from ./oneself-data --to postgresql://oneself@db.example/oneself
    """
    from oneself.store.transfer import copy as copy_all

    configure("warning")
    began = time.monotonic()
    with _Progress() as progress:
        try:
            work = copy_all(origin, to, restart=restart, planned=progress.plan, done=progress.step)
            with _stopped_cleanly():
                copied = asyncio.run(work)
        except OneselfError as error:
            if progress.begun:
                message = f"{error}\nThe copy in {to} is not finished: run the same command with --restart."
                raise click.ClickException(message) from error
            raise
    if as_json:
        click.echo(msgspec.json.encode(_document(origin, to, copied)))
    else:
        click.echo(_text(origin, to, copied, time.monotonic() - began))
    if not copied.is_equal:
        raise SystemExit(1)


@contextmanager
def _stopped_cleanly() -> Iterator[None]:
    """Let SIGTERM stop the work as SIGINT does: what is in a temporary folder must not stay there."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Progress:
    """A bar on a terminal, nothing anywhere else."""

    def __init__(self) -> None:
        self.begun = False
        self._bar: Any = None

    def __enter__(self) -> _Progress:
        return self

    def plan(self, steps: int) -> None:
        """Begin to show it."""
        self.begun = True
        if sys.stderr.isatty():
            self._bar = click.progressbar(length=steps, label="Copying", file=sys.stderr)
            self._bar.__enter__()

    def step(self, steps: int) -> None:
        """Move on."""
        if self._bar is not None:
            self._bar.update(steps)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)


def _document(origin: Place, to: Place, copied: Copied) -> dict[str, object]:
    return {
        "from": str(origin),
        "to": str(to),
        "position": copied.position,
        "equal": copied.is_equal,
        "tables": [msgspec.to_builtins(table) | {"equal": table.is_equal} for table in copied.tables],
    }


def _text(origin: Place, to: Place, copied: Copied, seconds: float) -> str:
    width = max(len(table.table) for table in copied.tables)
    lines = [f"{'table':{width}}  {'rows':>13}  checksum"]
    for table in copied.tables:
        lines += _lines(table, width)
    rows = sum(table.rows for table in copied.tables)
    if copied.is_equal:
        lines.append(
            f"\n{rows:,} rows, through position {copied.position:,}, copied from {origin} to {to} "
            f"in {seconds:,.1f} s.\nCounts and checksums of both sides are equal."
        )
    else:
        lines.append(f"\nThe copy in {to} is not what {origin} has, and is not finished: no server opens it.")
    return "\n".join(lines)


def _lines(table: Compared, width: int) -> list[str]:
    def line(name: str, rows: int, checksum: str, remark: str = "") -> str:
        return f"{name:{width}}  {rows:>13,}  {checksum[:_SHOWN_DIGITS]}{remark}"

    if table.is_equal:
        return [line(table.table, table.rows, table.checksum)]
    copied = line("", table.copied_rows, table.copied_checksum, "  in the copy: DIFFERENT")
    return [line(table.table, table.rows, table.checksum), copied]
