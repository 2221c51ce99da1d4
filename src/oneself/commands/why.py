"""``oneself why``: tells the decisions behind a profile or a request."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from oneself.commands.place import place_of
from oneself.errors import OneselfError
from oneself.explain import explain
from oneself.journal import Entry
from oneself.store import Place, Store, StoredProfile

__all__ = ["why"]

_MPID = re.compile(r"-?\d{1,19}")


class _NotFound(OneselfError):
    """Neither a profile nor a request has this name."""


@click.command(context_settings={"ignore_unknown_options": True})  # an MPID may be negative
@click.argument("name", metavar="MPID_OR_REQUEST_ID")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Data folder; its server may be running.  [default: ./oneself-data]",
)
@click.option("--database", metavar="URL", help="PostgreSQL database, instead of a folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines: the profile, then each decision.")
def why(name: str, data: Path | None, database: str | None, as_json: bool) -> None:
    """Tell the decisions behind a profile or a request, in words, oldest first.

    \b
    Example:
      oneself why 4611686018427387904
      oneself why ana-signs-up --data ./oneself-data
    """
    profile, entries = asyncio.run(_look_up(name, place_of(data, database)))
    if as_json:
        if profile is not None:
            click.echo(msgspec.json.encode(profile).decode())
        for position, entry in entries:
            click.echo(msgspec.json.encode({"position": position, **msgspec.to_builtins(entry)}).decode())
        return
    if profile is not None:
        click.echo("\n".join(_describe(profile)) + "\n")
    click.echo("\n\n".join("\n".join(_tell(position, entry)) for position, entry in entries))


async def _look_up(name: str, place: Place) -> tuple[StoredProfile | None, list[tuple[int, Entry]]]:
    """Return the profile that a name is the MPID of, if any, and the decisions to tell."""
    store = place.store(read_only=True)
    await store.open()
    try:
        profile = await store.profile(int(name)) if _MPID.fullmatch(name) and abs(int(name)) < 1 << 63 else None
        positions = profile.decisions if profile is not None else await store.find_request(name)
        if not positions:
            raise _NotFound(f"Neither a profile nor a request in {place} is named {name}.")
        return profile, [(position, await _entry(store, position)) for position in positions]
    finally:
        await store.close()


async def _entry(store: Store, position: int) -> Entry:
    entry = await store.entry(position)
    assert entry is not None, f"the journal has no entry {position}"
    return entry


def _describe(profile: StoredProfile) -> list[str]:
    lines = [f"Profile {profile.mpid} in {profile.space}"]
    if not profile.identities:
        lines.append("  holds no identity: it is an orphan, and nobody finds it")
    lines += [f"  holds {type_} {value!r} since decision {at}" for type_, value, at in profile.identities]
    for row in profile.history:
        to = f", now held by {row.moved_to}" if row.moved_to else ""
        lines.append(f"  held {row.type} {row.value!r} from decision {row.linked} to {row.ended} ({row.why}{to})")
    return lines


def _tell(position: int, entry: Entry) -> list[str]:
    when = datetime.fromtimestamp(entry.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    asked = f", request {entry.request_id}" if entry.request_id else ""
    head = f"Decision {position}: {entry.request.kind} by {entry.input}, {when}{asked} (policy {entry.policy})"
    return [head, *(f"  {line}" for line in explain(entry.request, entry.decision))]
