"""The journal as histories are read: only that of an entry which is needed, some thousand entries at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from oneself.errors import OneselfError
from oneself.identity import Change, Create, Dropped, Policy, PolicySettings, Refused, Request, build
from oneself.store import Store

__all__ = [
    "Recorded", "Span", "Was", "bodies", "decode", "decode_request", "newest_policies", "policies_of", "position_of",
    "span_of", "unix_ms",
]  # fmt: skip


class WasRefused(msgspec.Struct, frozen=True, gc=False):
    """The code of an error that a request was answered with."""

    code: str = ""


class WasTrace(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What of a recorded trace is counted: the values dropped, and the links refused."""

    dropped: tuple[Dropped, ...] = ()
    refused: tuple[Refused, ...] = ()


class Was(msgspec.Struct, frozen=True, gc=False):
    """A recorded decision, without the walk."""

    trace: WasTrace
    mpid: int | None = None
    known: bool = False
    changes: list[Change] = []
    error: WasRefused | None = None

    @property
    def made(self) -> int | None:
        """The MPID of the profile that was made, None where none was."""
        for change in self.changes:
            if type(change) is Create:
                return change.mpid
        return None


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An entry of the journal."""

    at_ms: int
    space: str
    request: Request
    decision: Was
    policy: int = 0


decode: Final = msgspec.json.Decoder(Recorded).decode
"""Return the entry of its JSON."""

decode_request: Final = msgspec.json.Decoder(Request).decode
"""Return the request of its JSON."""


class Span(msgspec.Struct, frozen=True):
    """Positions of the journal, both in it."""

    first: int
    last: int


async def bodies(store: Store, last: int) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Yield the entries through a position undecoded, in their order and in chunks.

    Each is best decoded (``decode``) when it is its turn: a whole chunk of decoded entries leaves the caches.
    """
    async for rows in store.bodies():
        if rows[-1][0] > last:
            rows = [row for row in rows if row[0] <= last]
        if not rows:
            return
        yield rows


async def span_of(store: Store, first: str, last: str) -> Span:
    """Return the span between two moments, each a position, a time (ISO 8601, UTC where it names no zone), or empty.

    Both ends are in it. Raises ``OneselfError`` where one is neither, or nothing is between them.
    """
    begin = 1
    if first:
        begin = int(first) if first.isdecimal() else await store.position_at(unix_ms(first) - 1) + 1
    end = min(await position_of(store, last), store.position) if last else store.position
    if begin > end:
        raise OneselfError(f"Nothing was decided from {first or 'the start'} to {last or 'now'}.")
    return Span(max(begin, 1), end)


async def position_of(store: Store, moment: str) -> int:
    """Return the last position at a moment: a position, or a time as ISO 8601."""
    return int(moment) if moment.isdecimal() else await store.position_at(unix_ms(moment))


def unix_ms(moment: str) -> int:
    """Return a time given as ISO 8601 in unix ms; raise ``OneselfError`` where it is none."""
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        raise OneselfError(
            f"{moment!r} is no moment: give a position of the journal, or a time such as 2026-05-01 or "
            "2026-05-01T12:00:00+02:00."
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


async def newest_policies(store: Store) -> dict[str, Policy]:
    """Return the policy of each scope that is in force."""
    built = await policies_of(store)
    return {row.scope: built[row.scope, row.version] for row in await store.policies()}


async def policies_of(store: Store) -> dict[tuple[str, int], Policy]:
    """Return every policy that ever decided, by scope and version."""
    return {(row.scope, row.version): _built(row.settings) for row in await store.policies()}


@lru_cache(maxsize=64)
def _built(settings: str) -> Policy:
    return build(msgspec.json.decode(settings, type=PolicySettings))
