"""The application: hot paths by hand, every other one through a router, one form for every answer (docs/http.md).

Every answer can be read by a web page of any origin, errors too. Paths are taken as they were sent: nothing is
decoded, collapsed or redirected.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

import structlog
from prometheus_client.registry import Collector
from starlette.routing import Match, Route

from oneself.config import Config
from oneself.errors import Overloaded, StoreUnavailable
from oneself.http.admin import AdminRoutes
from oneself.http.alias import AliasRoutes
from oneself.http.auth import Caller, Gate
from oneself.http.body import ClientGone
from oneself.http.direct import Ask, Front, HotRoute, ReadRoute
from oneself.http.events import EventRoutes
from oneself.http.exchange import Exchange, Handler, Receive, Scope, Send
from oneself.http.field_errors import request_id_of
from oneself.http.identity import IdentityRoutes
from oneself.http.metrics import Measures
from oneself.http.oauth import OAuthRoutes
from oneself.http.openapi import document
from oneself.http.operations import ALIVE, OperationsRoutes
from oneself.http.ports import Engine
from oneself.http.profile_api import ProfileRoutes
from oneself.http.siblings import Siblings
from oneself.http.stream import send_stream
from oneself.http.tokens import Tokens
from oneself.http.web_sdk import WebSdkRoutes
from oneself.http.wire import HttpError, Reply, Stream, error_reply, json_reply, preflight_reply
from oneself.identity import Kind
from oneself.logs import digest, is_debug

__all__ = ["App", "create_app"]

_log = structlog.get_logger("oneself.http")

PREFIXES: Final = ("/v1", "/identity/v1")
"""Where the identity endpoints are: as servers and native clients call them, and as a web page's own domain does."""

EVENT_PREFIXES: Final = ("/v2", "/v2/", "/s2s/v2")
"""Where batches of events are taken in: some clients write two slashes, and feeds have a place of their own."""

WEB_PREFIXES: Final = ("", "/webevents")
"""Where the web SDK sends: to the server itself, or by a web page's own domain."""

_PROFILE_PATH: Final = "/userprofile/v1/{org}/{account}/{workspace}/{mpid}"

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9._~-]+")
"""A key that stands in a path as it is."""

KINDS: Final[tuple[Kind, ...]] = ("identify", "login", "logout", "search")

_ALIVE_START: Final = {"type": "http.response.start", "status": ALIVE.status, "headers": ALIVE.headers}
_ALIVE_BODY: Final = {"type": "http.response.body", "body": ALIVE.body}


class Target(NamedTuple):
    """What a path leads to; ``path`` is the documented one, by which requests are counted."""

    path: str
    methods: frozenset[str]
    answer: Handler


_POST: Final = frozenset({"POST"})
_GET: Final = frozenset({"GET", "HEAD"})


async def _nowhere(_: Exchange) -> Reply:
    raise HttpError(404, "There is nothing at this path; /openapi.json lists what there is.")


_NOWHERE: Final = Target("other", frozenset(), _nowhere)


class App:
    """An ASGI application over one engine; make it with ``create_app``.

    ``hot`` are whole paths, ``identity`` answers the paths that name an MPID, and ``cold`` is searched last.
    ``front`` answers what it can straight from the connection; it is None where every request is logged.
    ``end_streams`` ends the answers that have no end of their own; the server calls it when it stops.
    ``operations`` is to be started and stopped with the server.
    """

    def __init__(
        self,
        hot: dict[bytes, Target],
        identity: IdentityRoutes,
        cold: list[tuple[Route, Target]],
        measures: Measures,
        front: Front,
        end_streams: Callable[[], None],
        operations: OperationsRoutes,
    ) -> None:
        self.end_streams = end_streams
        self.operations = operations
        self.front = None if is_debug() else front
        self._hot = hot
        self._identity = identity
        self._cold = cold
        self._measures = measures
        self._debug = is_debug()

    @property
    def paths(self) -> set[str]:
        """Every path that is answered, as documented."""
        modify = {f"{prefix}/{{mpid}}/modify" for prefix in PREFIXES}
        return (
            {path.decode() for path in self._hot if b"//" not in path}
            | modify
            | {route.path for route, _ in self._cold}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: bytes = scope["raw_path"]
        if path == b"/healthz" and scope["method"] == "GET":
            await send(_ALIVE_START)
            await send(_ALIVE_BODY)
            return
        began = time.perf_counter()
        exchange = Exchange(scope, receive)
        reply: Reply | Stream
        target = self._hot.get(path) or self._find(path, scope)
        try:
            if scope["method"] in target.methods or target is _NOWHERE:
                reply = await target.answer(exchange)
            else:
                reply = _other_method(scope["method"], target)
        except ClientGone:
            return
        except BaseException as error:
            reply = _failed(target.path, error, exchange.body)
        if isinstance(reply, Stream):
            self._measures.record(target.path, reply.status, time.perf_counter() - began)
            await send_stream(reply, receive, send)
            return
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})
        seconds = time.perf_counter() - began
        self._measures.record(target.path, reply.status, seconds)
        if self._debug:
            _log_request(exchange, target, reply, seconds)

    def _find(self, path: bytes, scope: Scope) -> Target:
        """Return what a path that is not among the hot ones leads to."""
        if b"%" in path:
            return _NOWHERE
        if path.endswith(b"/modify"):
            parts = path.decode("latin-1").split("/")
            if parts[1:-2] in (["v1"], ["identity", "v1"]) and parts[-2]:
                return Target("/v1/{mpid}/modify", _POST, partial(self._identity.modify, parts[-2]))
        for route, target in self._cold:
            match, found = route.matches(scope)
            if match is not Match.NONE:
                scope.update(found)
                return target
        return _NOWHERE


def _other_method(method: str, target: Target) -> Reply:
    """Answer a method that a path does not take itself."""
    if method == "OPTIONS":
        return preflight_reply()
    allow = ", ".join(sorted(target.methods | {"OPTIONS"}))
    raise HttpError(405, f"This path takes {allow} only.", allow=allow)


def _failed(path: str, error: BaseException, body: bytes) -> Reply:
    """Return the reply of a request that failed."""
    return error_reply(_error(error, path), request_id_of(body))


def _error(error: BaseException, path: str) -> HttpError:
    """Return how an exception is answered; what nobody expected is logged, without what the request said."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, Overloaded):
        return HttpError(429, str(error), retry_after=error.retry_after)
    if isinstance(error, StoreUnavailable):
        return HttpError(503, str(error), retry_after=error.retry_after)
    if isinstance(error, asyncio.CancelledError):
        return HttpError(503, "The server is stopping; ask again.", retry_after=1)
    if not isinstance(error, Exception):
        raise error
    _log.error("a request failed", route=path, exc_info=error)
    return HttpError(500, "The server met an unexpected error; its log says more.")


def _log_request(exchange: Exchange, target: Target, reply: Reply, seconds: float) -> None:
    request_id = request_id_of(exchange.body)
    _log.debug(
        "request",
        route=target.path,
        status=reply.status,
        ms=round(seconds * 1000, 3),
        input=exchange.caller.id if exchange.caller else None,
        request_id=digest(request_id) if request_id else None,
    )


def create_app(
    config: Config,
    engine: Engine,
    *,
    collectors: Iterable[Collector] = (),
    clock: Callable[[], float] = time.time,
    siblings: Siblings | None = None,
) -> App:
    """Return the application that serves a configuration through an engine.

    ``collectors`` add metrics to ``/metrics``; ``clock`` gives unix seconds, for the dates of signed requests.
    ``siblings`` are the other workers of the same server.
    """
    gate = Gate(config, clock)
    measures = Measures()
    identity, alias, web = IdentityRoutes(gate, engine), AliasRoutes(gate, engine), WebSdkRoutes(gate)
    workers = 1 if siblings is None else siblings.count
    events = EventRoutes(config, gate, engine, clock, workers)
    tokens = Tokens(config, engine, clock)
    oauth, profiles = OAuthRoutes(tokens), ProfileRoutes(config, tokens, engine, clock, workers=workers)
    operations = OperationsRoutes(engine, [measures, events.ingestion, *collectors], siblings)
    described = json_reply(200, document())

    async def openapi(_: Exchange) -> Reply:
        return described

    async def alive(_: Exchange) -> Reply:
        return ALIVE

    hot = {
        f"{prefix}/{kind}".encode(): Target(f"/v1/{kind}", _POST, partial(identity.resolve, kind))
        for prefix in PREFIXES
        for kind in KINDS
    }
    for name, take in (
        ("events", events.events),
        ("bulkevents", events.bulk),
        ("bulkevents/historical", events.historical),
    ):
        target = Target(f"/v2/{name}", _POST, take)
        hot |= {f"{prefix}/{name}".encode(): target for prefix in EVENT_PREFIXES}
    cold: list[tuple[str, frozenset[str], Handler]] = [
        ("/userprofile/v1/resolve/{org}/{account}/{workspace}", _POST, profiles.resolve),
        (_PROFILE_PATH, _GET | _POST, profiles.by_mpid),
        ("/healthz", _GET, alive),
        ("/readyz", _GET, operations.ready),
        ("/metrics", _GET, operations.metrics),
        ("/openapi.json", _GET, openapi),
        ("/JS/v2/{key}/config", _GET, web.config),
        ("/tags/JS/v2/{key}/config", _GET, web.config),
        ("/v1/identity/{key}/Alias", _POST, alias.alias),
        ("/webevents/v1/identity/{key}/Alias", _POST, alias.alias),
        ("/v1/{key}/audience", _GET, events.audience),
        ("/oauth/token", _POST, oauth.token),
        ("/oauth/revoke", _POST, oauth.revoke),
        ("/admin/clients/{client_id}/revoke", _POST, oauth.revoke_other),
    ]
    for prefix in WEB_PREFIXES:
        cold += [
            (f"{prefix}/v3/JS/{{key}}/events", _POST, events.web_events),
            (f"{prefix}/v1/JS/{{key}}/Forwarding", _POST, events.forwarding),
            (f"{prefix}/v2/JS/{{key}}/Forwarding", _POST, events.forwarding),
        ]
    admin = AdminRoutes(config, tokens, engine, clock, operations.ingested)
    cold += admin.paths
    routes = [(Route(path, answer, methods=methods), Target(path, methods, answer)) for path, methods, answer in cold]
    direct = _direct(config, gate, engine, identity, events, measures)
    read = ReadRoute(b"/userprofile/v1/", profiles.at_once, partial(measures.record, _PROFILE_PATH))
    return App(hot, identity, routes, measures, Front(direct, [read], gate), admin.end_streams, operations)


def _direct(
    config: Config, gate: Gate, engine: Engine, identity: IdentityRoutes, events: EventRoutes, measures: Measures
) -> dict[bytes, HotRoute]:
    """Return what answers those paths that may be answered straight from their connection."""

    def hot(path: str, ask: Ask, caller: Caller | None = None) -> HotRoute:
        return HotRoute(ask, engine.submit, partial(_failed, path), partial(measures.record, path), caller)

    direct = {
        f"{prefix}/{kind}".encode(): hot(f"/v1/{kind}", partial(identity.ask, kind))
        for prefix in PREFIXES
        for kind in KINDS
    }
    direct |= {f"{prefix}/events".encode(): hot("/v2/events", events.ask) for prefix in EVENT_PREFIXES}
    for input_ in config.inputs:
        caller = gate.public(input_.key)
        if caller is not None and _PLAIN_KEY.fullmatch(input_.key):
            for prefix in WEB_PREFIXES:
                path = f"{prefix}/v3/JS/{input_.key}/events".encode()
                direct[path] = hot("/v3/JS/{key}/events", events.ask_web, caller)
    return direct
