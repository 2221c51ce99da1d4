"""``oneself why``: tells the decisions behind a profile, a request or an identity (docs/why.md)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from oneself.commands.place import place_of
from oneself.errors import OneselfError
from oneself.identity.names import FROM_EVENTS

if TYPE_CHECKING:
    from oneself.history import IdentityLife, Life, Told
    from oneself.store import Place, Store

__all__ = ["why"]

_MPID = re.compile(r"-?\d{1,19}")


class _NotFound(OneselfError):
    """Nothing has this name."""


@click.command(context_settings={"ignore_unknown_options": True})  # an MPID may be negative
@click.argument("name", metavar="[MPID|REQUEST_ID|TYPE=VALUE]", required=False)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Data folder; its server may be running.  [default: ./oneself-data]",
)
@click.option("--database", metavar="URL", help="PostgreSQL database, instead of a folder.")
@click.option("--decision", type=click.IntRange(1), metavar="N", help="Tell the decision at this place, instead.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many of a profile."
)
@click.option("--before", type=click.IntRange(1), metavar="N", help="Only those of a profile before this decision.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines: what was asked for, then each decision.")
def why(
    name: str | None,
    data: Path | None,
    database: str | None,
    decision: int | None,
    limit: int,
    before: int | None,
    as_json: bool,
) -> None:
    """Tell the decisions behind a profile, a request or an identity, in words, oldest first.

    Of a profile (MPID) it tells the whole life; of an identity (TYPE=VALUE) who held it when, and whether it is
    guarded; of a request or a decision how it came out.

    \b
    Example:
      oneself why 4611686018427387904
      oneself why ana-signs-up --data ./oneself-data
      oneself why email=ana@example.com
      oneself why --decision 41
    """
    if (name is None) == (decision is None):
        raise click.UsageError("Give an MPID, a request id, TYPE=VALUE, or --decision.")
    texts, documents = asyncio.run(_tell(name, decision, place_of(data, database), limit, before or 0))
    if as_json:
        for document in documents:
            click.echo(msgspec.json.encode(document).decode())
    else:
        click.echo("\n\n".join(texts))


async def _tell(
    name: str | None, decision: int | None, place: Place, limit: int, before: int
) -> tuple[list[str], list[Any]]:
    """Return what is to be told, as text and as documents."""
    from oneself.history import decisions_told

    store = place.store(read_only=True)
    await store.open()
    try:
        if decision is not None:
            found = await decisions_told(store, [decision])
            if not found:
                raise _NotFound(f"There is no decision {decision} in {place}; the last one is {store.position}.")
            return _decisions(found)
        assert name is not None
        return await _named(store, name, place, limit, before)
    finally:
        await store.close()


async def _named(store: Store, name: str, place: Place, limit: int, before: int) -> tuple[list[str], list[Any]]:
    from oneself.history import identity_text, life, request_told

    if _MPID.fullmatch(name) and abs(int(name)) < 1 << 63:
        found = await life(store, int(name), before=before, limit=limit)
        if found is not None:
            return _life(found)
    lives = await _identity(store, name)
    if any(one.heard or one.dropped for one in lives):
        heard = [one for one in lives if one.heard or one.dropped]
        return [identity_text(heard)], heard
    told = await request_told(store, name)
    if told:
        return _decisions(told)
    if lives:
        raise _NotFound(f"Nobody in {place} holds {name} or ever did.")
    raise _NotFound(
        f"Neither a profile nor a request in {place} is named {name}. An identity is given as TYPE=VALUE; and "
        "request ids are remembered for a time only, but a decision is told by its place, too: --decision N."
    )


async def _identity(store: Store, name: str) -> list[IdentityLife]:
    """Return what became of an identity in every space, nothing where the name is none."""
    from oneself.engine import ENVIRONMENTS
    from oneself.history import identity_life
    from oneself.history.recorded import newest_policies

    type_, equals, value = name.partition("=")
    if not equals or type_ not in FROM_EVENTS:
        return []
    policies = await newest_policies(store)
    spaces = [f"{scope}/{environment}" for scope in sorted(policies) for environment in ENVIRONMENTS]
    return await identity_life(store, spaces, policies, FROM_EVENTS[type_], value)


def _life(found: Life) -> tuple[list[str], list[Any]]:
    from oneself.history import life_text

    document = msgspec.to_builtins(found)
    decisions = document.pop("decisions")
    return [life_text(found)], [document, *decisions]


def _decisions(told: list[Told]) -> tuple[list[str], list[Any]]:
    from oneself.history import decision_text

    return [decision_text(one) for one in told], [*told]
