"""Why users are who they are: the admin API's side of ``oneself why`` (docs/why.md)."""

from __future__ import annotations

from typing import Final

import msgspec

from oneself.history import IdentityLife, Life, Told, decisions_told, identity_life, life, request_told
from oneself.http.admin.access import ADMIN, NO_USER, Access, Place, answer
from oneself.http.admin.query import MOST_MS, Query, path_mpid
from oneself.http.exchange import Exchange
from oneself.http.ports import Engine
from oneself.http.wire import HttpError, Reply
from oneself.identity.names import FROM_EVENTS

__all__ = ["MOST_DECISIONS", "Decisions", "IdentityLives", "WhyRoutes"]

MOST_DECISIONS: Final = 100
DECISIONS: Final = 20
"""Decisions in one answer, where no limit is given."""

_NOTHING: Final = "Nothing was decided of this in the workspace's scope, or the request id is no longer remembered."


class Decisions(msgspec.Struct, frozen=True):
    """Decisions, oldest first."""

    decisions: list[Told]


class IdentityLives(msgspec.Struct, frozen=True):
    """An identity in the environments of the workspace's scope."""

    identity: list[IdentityLife]


class WhyRoutes:
    """Answers why; a client learns of the scope of the workspace that it names, and of no other."""

    def __init__(self, access: Access, engine: Engine) -> None:
        self._access = access
        self._engine = engine

    async def life(self, exchange: Exchange) -> Reply:
        """Answer the life of a user, the newest decisions of it."""
        place = await self._access.enter(exchange, ADMIN)
        query = Query(exchange, "before", "limit")
        before = query.number("before", 1, MOST_MS) or 0
        limit = query.number("limit", 1, MOST_DECISIONS) or DECISIONS
        mpid = path_mpid(exchange)
        await self._access.profile(place, mpid)
        found: Life | None = await life(self._engine.store, mpid, before=before, limit=limit)
        if found is None:
            raise HttpError(404, NO_USER)
        return answer(found)

    async def why(self, exchange: Exchange) -> Reply:
        """Answer the decisions on a request, the decision at a place, or what became of an identity."""
        place = await self._access.enter(exchange, ADMIN)
        query = Query(exchange, "request_id", "decision", "type", "value")
        names = [name for name in ("request_id", "decision", "value") if query.has(name)]
        if len(names) != 1 or (names == ["value"]) != query.has("type"):
            raise HttpError(400, "request_id (in the query): give either it, or decision, or type and value.")
        if names == ["value"]:
            return await self._identity(place, query.choice("type", FROM_EVENTS.keys()), query.text("value"))
        store = self._engine.store
        if names == ["decision"]:
            position = query.number("decision", 1, MOST_MS) or 0
            told = await decisions_told(store, [position] if position <= store.position else [])
        else:
            told = await request_told(store, query.text("request_id"))
        spaces = place.spaces()
        here = [one for one in told if one.space in spaces]
        if not here:
            raise HttpError(404, _NOTHING)
        return answer(Decisions(here))

    async def _identity(self, place: Place, type_: str, value: str) -> Reply:
        policies = {place.workspace.scope: place.policy}
        lives = await identity_life(self._engine.store, place.spaces(), policies, FROM_EVENTS[type_], value)
        return answer(IdentityLives(lives))
