"""Guarded values of a workspace's scope, and releasing one (docs/guards.md, "The admin API")."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from oneself.engine import ENVIRONMENTS, Call
from oneself.history import IdentityLife, identity_life
from oneself.http.admin.access import ADMIN, Access, Place, answer, entries_at
from oneself.http.admin.query import MOST_MS, Query
from oneself.http.body import decode, read_body
from oneself.http.exchange import Exchange
from oneself.http.fields import ALLOWED, Environment, Text, TypeName
from oneself.http.identity import refuse
from oneself.http.ports import Engine
from oneself.http.wire import Reply
from oneself.identity import Request
from oneself.identity.names import FROM_EVENTS

__all__ = ["MOST_GUARDED", "GuardRoutes", "GuardedPage", "ReleaseBody", "Released"]

MOST_GUARDED: Final = 100
GUARDED: Final = 20
"""Values in one answer, where no limit is given."""


class GuardedItem(msgspec.Struct, frozen=True):
    """A value that finds nobody: why, since which decision (and unix ms), by which input and request."""

    environment: Literal["production", "development"]
    type: str
    value: str
    why: str
    since: int
    since_ms: int
    input: str
    request_id: str


class GuardedPage(msgspec.Struct, frozen=True):
    """Guarded values, those guarded last first; ``next`` is to be sent as ``before``, null at the end."""

    scope: str
    guarded: list[GuardedItem]
    total: int
    next: int | None


class ReleaseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A guarded value that is to find profiles again."""

    type: TypeName
    value: Annotated[Text, msgspec.Meta(min_length=1)]
    environment: Environment = "production"


class Released(msgspec.Struct, frozen=True):
    """The decision that released a value, and what became of the value."""

    decision: int
    identity: IdentityLife


_decoder: Final = msgspec.json.Decoder(ReleaseBody)


class GuardRoutes:
    """Answers which values are guarded, and releases them."""

    def __init__(self, access: Access, engine: Engine) -> None:
        self._access = access
        self._engine = engine

    async def guarded(self, exchange: Exchange) -> Reply:
        """Answer the guarded values of a scope."""
        place = await self._access.enter(exchange, ADMIN)
        query = Query(exchange, "environment", "before", "limit")
        environment = query.choice("environment", ENVIRONMENTS)
        before = query.number("before", 1, MOST_MS) or MOST_MS
        limit = query.number("limit", 1, MOST_GUARDED) or GUARDED
        rows = await self._rows(place, environment)
        page = [row for row in rows if row[4] < before]
        shown = page[:limit]
        while len(shown) < len(page) and page[len(shown)][4] == shown[-1][4]:
            shown.append(page[len(shown)])  # what one decision guarded stays together
        entries = await entries_at(self._engine.store, (row[4] for row in shown))
        items = [
            GuardedItem(environment_, type_, value, why, at, entry.at_ms, entry.input, entry.request_id)  # type: ignore[arg-type]
            for environment_, type_, value, why, at in shown
            for entry in [entries[at]]
        ]
        more = len(shown) < len(page)
        return answer(GuardedPage(place.workspace.scope, items, len(rows), shown[-1][4] if more else None))

    async def _rows(self, place: Place, environment: str) -> list[tuple[str, str, str, str, int]]:
        """Return ``(environment, type, value, why, position)`` of the guarded values, those guarded last first."""
        rows = [
            (space.rpartition("/")[2], *row)
            for space in place.spaces(environment)
            for row in await self._engine.store.guarded(space)
        ]
        rows.sort(key=lambda row: row[4], reverse=True)
        return rows

    async def release(self, exchange: Exchange) -> Reply:
        """Let a guarded value find profiles again."""
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        exchange.body = await read_body(exchange.headers, exchange.receive)
        asked = decode(_decoder, exchange.body, ALLOWED)
        type_, space = FROM_EVENTS[asked.type], f"{place.workspace.scope}/{asked.environment}"
        call = Call(space, f"/admin/{place.caller.client}", Request("release", {type_: asked.value}))
        outcome = await self._engine.submit(call)
        if outcome.decision.error is not None:
            raise refuse(outcome.decision.error)
        policies = {place.workspace.scope: place.policy}
        (told,) = await identity_life(self._engine.store, [space], policies, type_, asked.value)
        return answer(Released(outcome.position, told))
