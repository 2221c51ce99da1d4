"""Undoing decisions and splitting users in a running server (docs/undo.md, "By the admin API")."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from oneself.config import Config
from oneself.engine import Call
from oneself.engine.engine import random_mpids
from oneself.errors import OneselfError, StoreUnavailable
from oneself.history.undo.asked import Asked, AskedSplit, carried_out, plan_asked, plan_asked_split
from oneself.history.undo.planning import NotThere, NotUndone
from oneself.history.undo.report import UndoPlan, UndoReport, report_of
from oneself.http.admin.access import ADMIN, Access, Place, answer
from oneself.http.admin.query import Query
from oneself.http.body import decode, read_body
from oneself.http.exchange import Exchange
from oneself.http.fields import mpid_of
from oneself.http.ports import Engine
from oneself.http.wire import HttpError, Reply
from oneself.identity import IDENTITY_TYPES, Later
from oneself.journal import Entry
from oneself.store import Store
from oneself.store.keys import request_key

__all__ = ["SplitBody", "SplitIdentity", "UndoBody", "UndoRoutes"]

_Text = Annotated[str, msgspec.Meta(max_length=1_024, pattern=r"^[^\u0000]*$")]
_Id = Annotated[
    str,
    msgspec.Meta(max_length=256, pattern=r"^[^\u0000]*$", description="Sent again, it is answered as before."),
]

T = TypeVar("T")
Planning = Callable[..., Awaitable[UndoPlan]]


class UndoBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be undone: a decision, by its request id or position; all of an input in a span; or a value.

    With ``dry_run`` it is only told what would change.
    """

    decision: _Text = ""
    input: _Text = ""
    first: _Text = msgspec.field(default="", name="from")
    last: _Text = msgspec.field(default="", name="to")
    type: _Text = ""
    value: _Text = ""
    environment: Literal["", "production", "development"] = ""
    later: Later = ""
    guard: bool = True
    dry_run: bool = False
    request_id: _Id = ""


class SplitIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An identity that is to be moved."""

    type: _Text
    value: _Text


class SplitBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The identities that are to be moved off a user, whose MPID is given as a string.

    With ``dry_run`` it is only told what would change.
    """

    mpid: _Text
    identities: Annotated[list[SplitIdentity], msgspec.Meta(min_length=1)]
    dry_run: bool = False
    request_id: _Id = ""


class UndoRoutes:
    """Undoes and splits, one after another; plans are made on a thread of their own."""

    def __init__(self, config: Config, access: Access, engine: Engine) -> None:
        self._access = access
        self._engine = engine
        self._one = asyncio.Lock()
        self._sharing: dict[str, set[str]] = {}
        for workspace in config.workspaces:
            self._sharing.setdefault(workspace.scope, set()).add(workspace.name)

    async def undo(self, exchange: Exchange) -> Reply:
        """Undo, or tell what would change."""
        place = await self._enter(exchange)
        body = await _body(exchange, _undo)
        if sum(map(bool, (body.decision, body.input, body.type))) != 1 or bool(body.type) != bool(body.value):
            raise HttpError(400, "Name what to undo: decision, or input, or type and value.")
        if body.type and body.type not in IDENTITY_TYPES:
            raise HttpError(400, f"type: it must be one of {', '.join(sorted(IDENTITY_TYPES))}.")
        if (body.first or body.last) and not body.input:
            raise HttpError(400, "from and to belong to input.")
        asked = Asked(
            decision=body.decision,
            input=place.input_id(body.input),
            first=body.first,
            last=body.last,
            type=body.type,
            value=body.value,
            scope=place.workspace.scope,
            environment=body.environment,
            later=body.later,
            guard=body.guard,
            scopes=frozenset({place.workspace.scope}),
        )
        return await self._done(place, plan_asked, asked, body.dry_run, body.request_id)

    async def split(self, exchange: Exchange) -> Reply:
        """Split a user, or tell what would change."""
        place = await self._enter(exchange)
        body = await _body(exchange, _split)
        mpid = mpid_of(body.mpid, "mpid")
        if mpid is None:
            raise HttpError(400, "mpid: it is 0, which no user has.")
        for number, identity in enumerate(body.identities):
            if identity.type not in IDENTITY_TYPES:
                raise HttpError(400, f"identities[{number}].type: there is no such identity type.")
        identities = tuple((one.type, one.value) for one in body.identities)
        asked = AskedSplit(mpid=mpid, identities=identities, scopes=frozenset({place.workspace.scope}))
        return await self._done(place, plan_asked_split, asked, body.dry_run, body.request_id)

    async def _enter(self, exchange: Exchange) -> Place:
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        if not self._sharing[place.workspace.scope] <= place.caller.workspaces:
            raise HttpError(403, "The scope is shared with workspaces that this client may not see.")
        return place

    async def _done(
        self, place: Place, planning: Planning, asked: Asked | AskedSplit, dry_run: bool, request_id: str
    ) -> Reply:
        by = f"/admin/{place.caller.client}"
        async with self._one:
            before = await self._answered(by, request_id)
            if before is not None:
                return answer(before)

            async def plan() -> UndoPlan:
                return await asyncio.to_thread(_planned, self._engine.store.beside(), planning, asked)

            async def carry(made: UndoPlan) -> int | None:
                outcome = await self._engine.submit(Call(made.space, by, made.request, request_id, plan=made.plan))
                return outcome.position or None

            try:
                report = (await plan()).report if dry_run else await carried_out(plan, carry)
            except NotThere as error:
                raise HttpError(404, str(error)) from None
            except NotUndone as error:
                raise HttpError(409, str(error)) from None
        if not dry_run and not report.possible:
            raise HttpError(409, _in_the_way(report))
        return answer(report)

    async def _answered(self, by: str, request_id: str) -> UndoReport | None:
        """Return the report of an undo that was done by a request of the same id."""
        if not request_id:
            return None
        store = self._engine.store
        found = (await store.read({}, [request_key(by, request_id)])).answered
        for position in found.values():
            entry = await store.entry(position)
            if entry is not None and entry.request.kind in ("undo", "split"):
                return _recorded(position, entry)
            raise HttpError(400, "request_id: it was used before, for another request.")
        return None


def _planned(store: Store, planning: Planning, asked: Any) -> UndoPlan:
    """Plan in a loop of its own, over a store of its own, so that no answer waits for it."""
    numbers = random_mpids()

    async def run() -> UndoPlan:
        await store.open()
        try:
            return await planning(store, asked, lambda _: next(numbers))
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except (NotUndone, StoreUnavailable):
        raise
    except OneselfError as error:
        raise HttpError(400, str(error)) from None


def _in_the_way(report: UndoReport) -> str:
    if not report.in_the_way:
        return "There is nothing to undo."
    if any(way.how not in ("again", "alias") for way in report.listed):
        return "Later undos or splits depend on it: undo those first."
    return f"Later decisions depend on it, {report.in_the_way} in all: say by later what becomes of them."


def _recorded(position: int, entry: Entry) -> UndoReport:
    what: Literal["undo", "split"] = "split" if entry.request.kind == "split" else "undo"
    later = entry.request.undo.later if entry.request.undo is not None else ""
    decision = entry.decision
    report = report_of(entry.space, what, later, decision.changes, decision.revised, (), possible=True, events=0)
    return msgspec.structs.replace(report, position=position)


_undo: Final = msgspec.json.Decoder(UndoBody)
_split: Final = msgspec.json.Decoder(SplitBody)


async def _body(exchange: Exchange, decoder: msgspec.json.Decoder[T]) -> T:
    exchange.body = await read_body(exchange.headers, exchange.receive)
    return decode(decoder, exchange.body, {})
