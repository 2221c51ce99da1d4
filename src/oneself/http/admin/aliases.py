"""Aliases of a user, and taking one back (docs/admin-api.md, "Aliases")."""

from __future__ import annotations

from typing import Final

import msgspec

from oneself.engine import Call
from oneself.http.admin.access import ADMIN, Access, answer
from oneself.http.admin.alias_view import NoteView, alias_view, note_view
from oneself.http.admin.query import MOST_MS, Query, path_mpid, path_position
from oneself.http.exchange import Exchange
from oneself.http.identity import refuse
from oneself.http.ports import Engine
from oneself.http.wire import HttpError, Reply
from oneself.identity import Request

__all__ = ["AliasPage", "AliasRoutes"]

MOST_ALIASES: Final = 100
ALIASES: Final = 20
"""Aliases in one answer, where no limit is given."""

_NO_ALIAS: Final = "No alias of users of this workspace was accepted at this position."


class AliasPage(msgspec.Struct, frozen=True):
    """Aliases of a user, the latest request first; ``next`` is to be sent as ``before``, null at the end."""

    aliases: list[NoteView]
    next: int | None


class AliasRoutes:
    """Answers which aliases a user has, and takes them back."""

    def __init__(self, access: Access, engine: Engine) -> None:
        self._access = access
        self._engine = engine

    async def aliases(self, exchange: Exchange) -> Reply:
        """Answer the aliases from and to a user, whatever became of them."""
        place = await self._access.enter(exchange)
        query = Query(exchange, "before", "limit")
        before = query.number("before", 1, MOST_MS) or 0
        limit = query.number("limit", 1, MOST_ALIASES) or ALIASES
        mpid = path_mpid(exchange)
        await self._access.profile(place, mpid)
        rows = await self._engine.store.aliases(mpid, before=before, limit=limit + 1)
        shown = [note_view(mpid, alias) for alias in rows[:limit]]
        return answer(AliasPage(shown, rows[limit - 1].position if len(rows) > limit else None))

    async def undo(self, exchange: Exchange) -> Reply:
        """Take an alias out of effect, as if it had never been made, and answer what it is then."""
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        position = path_position(exchange)
        store = self._engine.store
        found = await store.alias(position)
        if found is not None and found[0] in place.spaces():
            asked = Request("alias_undo", position=position)
            outcome = await self._engine.submit(Call(found[0], f"/admin/{place.caller.client}", asked))
            if outcome.decision.error is not None:
                raise refuse(outcome.decision.error)
            found = await store.alias(position)
            if found is not None:
                return answer(alias_view(found[1]))
        raise HttpError(404, _NO_ALIAS)
