"""Trying another policy on the recorded history, and the report of guards, beside the server (docs/whatif.md)."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from oneself.history.whatif.running import Asked
from oneself.http.admin.access import ADMIN, NO_STORE, Access, Place, answer
from oneself.http.admin.query import Query
from oneself.http.admin.runner import Run, Runner, State
from oneself.http.body import decode, read_body
from oneself.http.exchange import Exchange
from oneself.http.wire import CORS, HttpError, Reply, json_reply
from oneself.identity import PolicyError, PolicySettings, build

__all__ = ["GuardReport", "GuardReportBody", "ReportRoutes", "WhatIf", "WhatIfBody"]

MOST_TOP: Final = 1_000

_Moment = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[^\u0000]*$")]

T = TypeVar("T")


class WhatIfBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that are to be tried: those of a ``[scope.NAME]`` table; on which part of the journal.

    ``from`` and ``to`` are places or times (ISO 8601). Values in the report are digests, unless they are to be shown.
    """

    settings: PolicySettings
    first: _Moment = msgspec.field(default="", name="from")
    last: _Moment = msgspec.field(default="", name="to")
    show_values: bool = False


class GuardReportBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the journal is to be looked through, and how many of each are told at most."""

    first: _Moment = msgspec.field(default="", name="from")
    last: _Moment = msgspec.field(default="", name="to")
    top: Annotated[int, msgspec.Meta(ge=1, le=MOST_TOP)] = 10


class _About(msgspec.Struct, frozen=True):
    id: str
    scope: str
    by: str
    first: str = msgspec.field(name="from")
    last: str = msgspec.field(name="to")
    started_ms: int
    heard_ms: int
    state: State
    progress: float
    problem: str


class WhatIf(_About, frozen=True):
    """The latest what-if of a scope: who asked for it and when, how far it is (0 to 1) and what became of it."""

    settings: PolicySettings


class GuardReport(_About, frozen=True):
    """The latest report of guards of a scope, likewise."""

    top: int


_whatif: Final = msgspec.json.Decoder(WhatIfBody)
_guards: Final = msgspec.json.Decoder(GuardReportBody)
_encode: Final = msgspec.json.Encoder().encode


class ReportRoutes:
    """Starts what-ifs and reports of guards, and answers what became of them."""

    def __init__(self, access: Access, runner: Runner) -> None:
        self._access = access
        self._runner = runner

    async def whatif(self, exchange: Exchange) -> Reply:
        """Answer how far the latest what-if of the scope is, or start one."""
        place = await self._enter(exchange)
        if exchange.scope["method"] != "POST":
            return answer(_whatif_view(await self._runner.latest("whatif", place.workspace.scope)))
        body = await _body(exchange, _whatif)
        try:
            build(body.settings)
        except PolicyError as error:
            raise HttpError(400, f"settings.{error.field}: {error.message}.") from None
        scope = place.workspace.scope
        asked = Asked("whatif", scope, body.settings, body.first, body.last, show_values=body.show_values)
        return _accepted(_whatif_view(await self._runner.start("whatif", scope, _author(place), asked)))

    async def whatif_report(self, exchange: Exchange) -> Reply:
        """Answer the report of the latest what-if, as JSON or as a page."""
        place = await self._access.enter(exchange, ADMIN)
        html = Query(exchange, "format").choice("format", ("json", "html")) == "html"
        body = await self._runner.result("whatif", place.workspace.scope, page=html)
        reply = json_reply(200, body)
        if html:
            type_ = (b"content-type", b"text/html; charset=utf-8")
            sniff = (b"x-content-type-options", b"nosniff")
            reply = Reply(200, [type_, *CORS, sniff, (b"content-length", b"%d" % len(body))], body)
        reply.headers.append(NO_STORE)
        return reply

    async def whatif_stop(self, exchange: Exchange) -> Reply:
        """Stop the what-if of the scope that runs on this server."""
        place = await self._enter(exchange)
        return answer(_whatif_view(await self._runner.stop("whatif", place.workspace.scope)))

    async def guards(self, exchange: Exchange) -> Reply:
        """Answer how far the latest report of guards is, or start one."""
        place = await self._enter(exchange)
        scope = place.workspace.scope
        if exchange.scope["method"] != "POST":
            return answer(_guards_view(await self._runner.latest("guards", scope)))
        body = await _body(exchange, _guards)
        asked = Asked("guards", scope, first=body.first, last=body.last, top=body.top)
        return _accepted(_guards_view(await self._runner.start("guards", scope, _author(place), asked)))

    async def guards_report(self, exchange: Exchange) -> Reply:
        """Answer what the latest report of guards found."""
        place = await self._enter(exchange)
        reply = json_reply(200, await self._runner.result("guards", place.workspace.scope))
        reply.headers.append(NO_STORE)
        return reply

    async def guards_stop(self, exchange: Exchange) -> Reply:
        """Stop the report of guards of the scope that is made on this server."""
        place = await self._enter(exchange)
        return answer(_guards_view(await self._runner.stop("guards", place.workspace.scope)))

    async def _enter(self, exchange: Exchange) -> Place:
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        return place


def _author(place: Place) -> str:
    return f"/admin/{place.caller.client}"


def _whatif_view(run: Run) -> WhatIf:
    asked = run.asked
    return WhatIf(
        run.id, run.scope, run.by, asked.first, asked.last, run.started_ms, run.heard_ms, run.state, run.progress,
        run.problem, asked.settings,
    )  # fmt: skip


def _guards_view(run: Run) -> GuardReport:
    asked = run.asked
    return GuardReport(
        run.id, run.scope, run.by, asked.first, asked.last, run.started_ms, run.heard_ms, run.state, run.progress,
        run.problem, asked.top,
    )  # fmt: skip


def _accepted(value: msgspec.Struct) -> Reply:
    reply = json_reply(202, _encode(value))
    reply.headers.append(NO_STORE)
    return reply


async def _body(exchange: Exchange, decoder: msgspec.json.Decoder[T]) -> T:
    exchange.body = await read_body(exchange.headers, exchange.receive)
    return decode(decoder, exchange.body, {})
