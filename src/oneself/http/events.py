"""The endpoints that take batches of events: server-to-server, and what the web SDK calls (docs/events.md)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from oneself.config import Config
from oneself.engine import Call, Outcome, delivery, misfit
from oneself.engine.sources import sources_of
from oneself.http.auth import Caller, Gate
from oneself.http.documents import check_nul, decoded, decoded_many
from oneself.http.exchange import Exchange
from oneself.http.identity import refuse
from oneself.http.metrics import Ingestion
from oneself.http.ports import Engine
from oneself.http.rates import Rate
from oneself.http.wire import CORS, HttpError, Reply, json_reply
from oneself.profiles import BatchError, Source

__all__ = ["AudienceAnswer", "EventRoutes"]

MAX_BULK: Final = 100
"""Batches in one bulk request."""

MAX_REQUEST_BYTES: Final = 256 * 1024
"""The most bytes of a request, before and after decompression, where a workspace takes no larger batches."""

_ACCEPTED: Final = Reply(202, [*CORS, (b"content-length", b"0")], b"")


class AudienceAnswer(msgspec.Struct, frozen=True):
    """The audiences that a user is in, as SDKs ask for them; ``ct`` is unix ms."""

    dt: str
    ct: int
    id: str
    audience_memberships: list[dict[str, int]]


class _Intake(msgspec.Struct, frozen=True):
    """What the batches of one input are taken in by."""

    source: Source
    scope: str
    max_bytes: int
    max_event_names: int
    rate: Rate


class EventRoutes:
    """Takes batches in through an engine, and counts them. ``clock`` gives unix seconds.

    It is one of so many ``workers``, and allows its share of what a workspace does.
    """

    def __init__(
        self, config: Config, gate: Gate, engine: Engine, clock: Callable[[], float], workers: int = 1
    ) -> None:
        self._gate = gate
        self._engine = engine
        self._clock = clock
        self.ingestion = Ingestion(clock())
        engine.listeners.append(self.ingestion.record)
        workspaces = {workspace.name: workspace for workspace in config.workspaces}
        self._intakes = {}
        for name, source in sources_of(config).items():
            workspace = workspaces[source.workspace]
            self._intakes[name] = _Intake(
                source,
                workspace.scope,
                workspace.max_batch_bytes,
                workspace.max_event_names,
                Rate(workspace.max_batches_per_second / workers),
            )
        self._max_request = max([MAX_REQUEST_BYTES, *(intake.max_bytes for intake in self._intakes.values())])

    # -- server to server --------------------------------------------------------------------------------------

    async def events(self, exchange: Exchange) -> Reply:
        """Take in one batch."""
        caller = await exchange.admit(self._gate, self._max_request)
        call, reply = self.ask(caller, exchange.body, exchange.sender)
        return reply(await self._engine.submit(call))

    def ask(self, caller: Caller, body: bytes, ip: str) -> tuple[Call, Callable[[Outcome], Reply]]:
        """Read one batch that is refused where it cannot be used; return its call, and what makes the reply."""
        intake = self._intakes[caller.id]
        _check_size(body, intake.max_bytes)
        if intake.rate.per_second:
            _take(intake, 1)
        document = decoded(body, 400)
        try:
            call = self._call(intake, body, document, ip, refuse=True)
        except BatchError as error:
            raise HttpError(400, str(error)) from None
        return call, partial(self._accepted_unless_refused, intake)

    async def bulk(self, exchange: Exchange) -> Reply:
        """Take in many batches, which become durable as one; what cannot be used is set aside."""
        return await self._many(exchange, historical=False)

    async def historical(self, exchange: Exchange) -> Reply:
        """Take in many batches of events that are older than three days."""
        return await self._many(exchange, historical=True)

    async def _many(self, exchange: Exchange, *, historical: bool) -> Reply:
        caller = await exchange.admit(self._gate, self._max_request)
        intake = self._intakes[caller.id]
        _check_size(exchange.body, max(MAX_REQUEST_BYTES, intake.max_bytes))
        bodies = decoded_many(exchange.body)
        if len(bodies) > MAX_BULK:
            raise HttpError(400, f"body: it has {len(bodies)} batches; send at most {MAX_BULK} at once.")
        _take(intake, len(bodies))
        ip = exchange.sender
        calls = [self._one_of_many(intake, body, ip, historical) for body in bodies]
        return self._accepted(intake, *await asyncio.gather(*self._engine.submit_all(calls)))

    def _one_of_many(self, intake: _Intake, body: bytes, ip: str, historical: bool) -> Call:
        """Return the call for one batch of a bulk request, which sets it aside where it is none."""
        if len(body) > intake.max_bytes:
            too_large = BatchError("", f"the batch has {len(body)} bytes; {intake.max_bytes} are allowed")
            return misfit(None, intake.source, too_large, scope=intake.scope)
        try:
            document = decoded(body, 400)
        except HttpError as error:
            unreadable = BatchError("", error.message)
            return misfit(body.decode(errors="replace"), intake.source, unreadable, scope=intake.scope)
        return self._call_or_misfit(intake, body, document, ip, historical=historical)

    # -- the web SDK --------------------------------------------------------------------------------------------

    async def web_events(self, exchange: Exchange) -> Reply:
        """Take in one batch of the input whose key the path names.

        A web page repeats a batch that is answered with 400 for ever, and sends nothing else: what is no batch is
        set aside, and what is no JSON gets a 422, after which it is thrown away.
        """
        caller = await self._admit_web(exchange)
        call, reply = self.ask_web(caller, exchange.body, exchange.sender)
        return reply(await self._engine.submit(call))

    def ask_web(self, caller: Caller, body: bytes, ip: str) -> tuple[Call, Callable[[Outcome], Reply]]:
        """Read one batch that is set aside where it cannot be used; return its call, and what makes the reply."""
        intake = self._intakes[caller.id]
        _check_size(body, intake.max_bytes)
        if intake.rate.per_second:
            _take(intake, 1)
        return self._call_or_misfit(intake, body, decoded(body, 422), ip), partial(self._accepted, intake)

    async def forwarding(self, exchange: Exchange) -> Reply:
        """Take note of what kits in a web page forwarded by themselves: nothing is kept of it."""
        await self._admit_web(exchange)
        decoded(exchange.body, 422)
        return _ACCEPTED

    async def _admit_web(self, exchange: Exchange) -> Caller:
        """Read the body and return the caller; a body that cannot be read is a 422, as one that is no JSON is."""
        try:
            return await exchange.admit_path(self._gate, exchange.scope["path_params"]["key"], self._max_request)
        except HttpError as error:
            if error.status == 400:
                raise HttpError(422, error.message) from None
            raise

    async def audience(self, exchange: Exchange) -> Reply:
        """Answer which audiences a user is in: none, until there are audiences."""
        if self._gate.public(exchange.scope["path_params"]["key"]) is None:
            raise HttpError(401, "No input that a key alone is enough for has this key.")
        answer = AudienceAnswer("cam", int(self._clock() * 1000), str(uuid.uuid4()), [])
        return json_reply(200, msgspec.json.encode(answer))

    # -- both ---------------------------------------------------------------------------------------------------

    def _call(
        self, intake: _Intake, body: bytes, document: Any, ip: str, *, historical: bool = False, refuse: bool = False
    ) -> Call:
        """Return the call that takes a batch in; raise ``BatchError`` where the document is none."""
        check_nul(body, document)
        return delivery(
            document,
            intake.source,
            int(self._clock() * 1000),
            scope=intake.scope,
            ip=ip,
            historical=historical,
            refuse=refuse,
            max_event_names=intake.max_event_names,
        )

    def _call_or_misfit(
        self, intake: _Intake, body: bytes, document: Any, ip: str, *, historical: bool = False
    ) -> Call:
        """Return the call that takes a batch in, or sets aside a document that is none."""
        try:
            return self._call(intake, body, document, ip, historical=historical)
        except BatchError as error:
            return misfit(document, intake.source, error, scope=intake.scope)

    def _accepted(self, intake: _Intake, *outcomes: Outcome) -> Reply:
        """Return the reply to batches that are durable, whatever became of them."""
        for outcome in outcomes:
            if outcome.repeated:
                self.ingestion.repeat(intake.source.input)
        if not intake.rate.per_second:
            return _ACCEPTED
        used = (b"x-mp-rate-limit-percentage-used", b"%d" % intake.rate.used())
        return Reply(202, [*_ACCEPTED.headers, used], b"")

    def _accepted_unless_refused(self, intake: _Intake, outcome: Outcome) -> Reply:
        error = outcome.decision.error
        if error is not None:
            raise refuse(error)
        return self._accepted(intake, outcome)


def _check_size(body: bytes, most: int) -> None:
    if len(body) > most:
        raise HttpError(413, f"body: it has {len(body)} bytes; {most} are allowed.")


def _take(intake: _Intake, batches: int) -> None:
    wait = intake.rate.take(batches)
    if wait:
        message = f"{intake.source.input} sends more batches than its workspace's max_batches_per_second."
        level = b"app" if intake.source.platform else b"feed"
        raise HttpError(429, message, retry_after=wait, headers=[(b"x-mp-rate-limit-exceeded", level)])
