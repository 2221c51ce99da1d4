"""The HTTP edge over an engine of straw: what was asked of it, and what it is told to answer."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvloop

from oneself.config import Config, Input, Workspace
from oneself.engine import calls
from oneself.engine.calls import Call, Outcome
from oneself.engine.engine import Listener
from oneself.http import App, ServerSettings, create_app, serve
from oneself.identity import Decision, PolicySettings, Refusal, Trace, build
from oneself.logs import configure

LOG = io.StringIO()
"""What was logged, by all tests so far."""

configure("info", LOG)

MPID = 7000000000001234567
NOW = 1_795_294_533
"""The time by the edge's clock: 2026-11-21T20:55:33Z."""

SHOP = Workspace(1001, "shop", 10, 1, "acme")
OTHER = Workspace(2002, "other", 20, 2, "other")
WEB = Input("shop", "web", "web", "web-key", "web-secret", True, "create_and_update")
SERVER = Input("shop", "server", "server", "server-key", "server-secret", False, "create_and_update")
BARE = Input("shop", "bare", "web", "bare-key", "", True, "create_and_update")
STRANGER = Input("other", "server", "server", "other-key", "other-secret", False, "create_and_update")

CONFIG = Config(
    workspaces=(SHOP, OTHER),
    inputs=(WEB, SERVER, BARE, STRANGER),
    scopes={"acme": PolicySettings(), "other": PolicySettings()},
    policies={"acme": build(PolicySettings()), "other": build(PolicySettings())},
)

KINDS = ("identify", "login", "logout", "search")
IDENTITY_PATHS = [f"{prefix}/{kind}" for prefix in ("/v1", "/identity/v1") for kind in KINDS]
MODIFY_PATHS = [f"/v1/{MPID}/modify", f"/identity/v1/{MPID}/modify"]
ALIAS_PATHS = ["/v1/identity/web-key/Alias", "/webevents/v1/identity/web-key/Alias"]
CONFIG_PATHS = ["/JS/v2/web-key/config", "/tags/JS/v2/web-key/config"]
OPERATION_PATHS = ["/healthz", "/readyz", "/metrics", "/openapi.json"]

ONE_BATCH_PATHS = ["/v2/events", "/s2s/v2/events"]
BULK_PATHS = [f"{prefix}/bulkevents{more}" for prefix in ("/v2", "/s2s/v2") for more in ("", "/historical")]
WEB_EVENT_PATHS = ["/v3/JS/web-key/events", "/webevents/v3/JS/web-key/events"]
FORWARDING_PATHS = [f"{prefix}/{v}/JS/web-key/Forwarding" for prefix in ("", "/webevents") for v in ("v1", "v2")]
AUDIENCE_PATHS = ["/v1/web-key/audience"]


class NoStore:
    """The store of an engine that keeps nothing: no other server is at work on it."""

    shared = False


class StrawEngine:
    """Remembers calls and answers them as told; by default everybody is one known user."""

    store = NoStore()

    def __init__(self, answer: Callable[[Call], Decision] | None = None) -> None:
        self.calls: list[Call] = []
        self.answer = answer or known_user
        self.repeated_from: Call | None = None
        self.failure: Exception | None = None
        self.refusal: Exception | None = None
        self.ready = True
        self.waiting = 0
        self.listeners: list[Listener] = []

    def submit(self, call: Call, answer: calls.Answer | None = None) -> asyncio.Future[Outcome]:
        future = self.outcome(call)
        if answer is not None:
            future.add_done_callback(partial(_tell, answer))
        return future

    def submit_all(self, calls: Sequence[Call]) -> list[asyncio.Future[Outcome]]:
        return [self.outcome(call) for call in calls]

    def outcome(self, call: Call) -> asyncio.Future[Outcome]:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(call)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            future.set_exception(self.failure)
        else:
            first = self.repeated_from or call
            future.set_result(Outcome(self.answer(call), first.request, 1, self.repeated_from is not None))
        return future


def _tell(answer: calls.Answer, future: asyncio.Future[Outcome]) -> None:
    if answer.done():
        return
    if future.cancelled():
        answer.set_exception(asyncio.CancelledError())  # type: ignore[arg-type]
    elif future.exception() is not None:
        answer.set_exception(future.exception())  # type: ignore[arg-type]
    else:
        answer.set_result(future.result())


def known_user(call: Call) -> Decision:
    """Everybody is the same user, who is logged in and has everything that was sent."""
    return Decision(Trace("matched"), MPID, True, list(call.request.identities))


def refused(status: int, code: str, message: str) -> Callable[[Call], Decision]:
    """Refuse every call."""
    return lambda call: Decision(Trace("refused"), error=Refusal(status, code, message))


def edge(engine: StrawEngine | None = None) -> App:
    """Return the application over a straw engine, with its clock at ``NOW``."""
    return create_app(CONFIG, engine or StrawEngine(), clock=lambda: NOW)


@dataclass
class Answer:
    """What the application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["errors"][0]["message"])


Headers = Mapping[str, str]
KEY: Headers = {"x-mp-key": "web-key"}
BASIC: Headers = {"authorization": "Basic " + base64.b64encode(b"server-key:server-secret").decode()}


def basic(key: str, secret: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()}


def ask(
    app: App, method: str, target: str, body: bytes | Any = b"", headers: Headers = KEY, chunk: int = 0
) -> Answer:
    """Send one request straight to the application; ``chunk`` sends the body in pieces of so many bytes.

    A body that is not bytes is sent as JSON; with a chunk of -1 the client leaves before it has sent any.
    """
    return asyncio.run(ask_within(app, method, target, body, headers, chunk))


async def ask_within(
    app: App, method: str, target: str, body: bytes | Any = b"", headers: Headers = KEY, chunk: int = 0
) -> Answer:
    """Do what ``ask`` does in a loop that runs already."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)] if chunk else [body]
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not pieces:
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        raise ConnectionError("the application gave no answer")
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:]))


def resolving(identities: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return the body of an identify, login, logout or search request."""
    known = {"email": "ada@example.com"} if identities is None else identities
    return {"environment": "production", "known_identities": known} | more


def modifying(*changes: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the body of a modify request."""
    one = {"identity_type": "email", "old_value": None, "new_value": "ada@example.com"}
    return {"environment": "production", "identity_changes": list(changes) or [one]} | more


def aliasing(**more: Any) -> dict[str, Any]:
    """Return the body of an alias request as the web SDK sends it; ``more`` goes to its ``data``."""
    data = {"destination_mpid": "222", "source_mpid": "111", "start_unixtime_ms": 1, "end_unixtime_ms": 2}
    return {
        "request_id": "5d1c6b3e-0000-4000-8000-000000000001", "request_type": "alias", "environment": "production",
        "api_key": "web-key", "data": data | more,
    }  # fmt: skip


def happening(**data: Any) -> dict[str, Any]:
    """Return a custom event; ``data`` goes to its data."""
    said = {"event_name": "Viewed", "custom_event_type": "navigation", "timestamp_unixtime_ms": NOW * 1000 - 5000}
    return {"event_type": "custom_event", "data": said | data}


def batch(*events: Any, **more: Any) -> dict[str, Any]:
    """Return a batch of events, one where none is given, on a device; ``more`` goes to the batch."""
    return {"environment": "production", "mp_deviceid": "d-1", "events": list(events) or [happening()]} | more


@contextmanager
def served(app: Any, **settings: Any) -> Iterator[int]:
    """Serve an application on a port of 127.0.0.1, in a thread of its own, while the block runs."""
    ready = threading.Event()
    ports: list[int] = []
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    failures: list[BaseException] = []

    def bound(port: int) -> None:
        ports.append(port)
        ready.set()

    async def run() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        await serve(app, ServerSettings(**{"port": 0} | settings), on_bound=bound, stop=stop)

    def work() -> None:
        try:
            uvloop.run(run())
        except BaseException as error:
            failures.append(error)
        ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(10)
        if failures:
            raise failures[0]
        yield ports[0]
    finally:
        if loops and thread.is_alive():
            loop, stop = loops[0]
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)
    assert not thread.is_alive()
    if failures:
        raise failures[0]
