"""The admin API over a real engine and a real store, asked without a network.

    async with admin(tmp_path) as world:
        await world.take({"user_identities": {"email": "ana@example.com"}})
        found = await world.get("/users", value="ana@example.com")

The clock stands still unless a test sets it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from engines import store_at
from http_edge import BASIC, NOW, Answer, basic
from oneself.config import ApiClient, Config, Input, Workspace
from oneself.engine import Engine, adopt_policies
from oneself.http import App, create_app
from oneself.identity import PolicySettings, build
from oneself.store import Store

NOW_MS = NOW * 1000

SHOP = Workspace(1001, "shop", 10, 1, "acme")
OUTLET = Workspace(1002, "outlet", 20, 1, "acme")
OTHER = Workspace(2002, "other", 20, 2, "other")
INPUTS = (
    Input("shop", "web", "web", "web-key", "web-secret", True, "create_and_update"),
    Input("shop", "server", "server", "server-key", "server-secret", False, "create_and_update"),
    Input("shop", "feed", "custom_feed", "feed-key", "feed-secret", False, "only_update"),
    Input("shop", "trial", "custom_feed", "trial-key", "trial-secret", False, "only_read"),
    Input("outlet", "till", "server", "till-key", "till-secret", False, "create_and_update"),
    Input("other", "server", "server", "other-key", "other-secret", False, "create_and_update"),
)
CLIENTS = (
    ApiClient("admin", "a-secret", ("shop", "outlet"), ("admin",)),
    ApiClient("looker", "l-secret", ("shop",), ("search:read",)),
    ApiClient("reader", "r-secret", ("shop",), ("profile:read",)),
    ApiClient("stranger", "s-secret", ("other",), ("admin", "search:read")),
)
POLICY = PolicySettings("default", max_known_profiles_per_value=0, max_values_per_profile=0, phone_region="US")


def config(**changed: Any) -> Config:
    """Return the configuration, with some parts changed."""
    parts: dict[str, Any] = {
        "workspaces": (SHOP, OUTLET, OTHER),
        "inputs": INPUTS,
        "api_clients": CLIENTS,
        "scopes": {"acme": POLICY, "other": PolicySettings()},
        "policies": {"acme": build(POLICY), "other": build(PolicySettings())},
    }
    return Config(**parts | changed)


def event(name: str = "Clicked", at_ms: int | None = NOW_MS - 60_000, **data: Any) -> dict[str, Any]:
    """Return a custom event."""
    said = {"event_name": name, "custom_event_type": "navigation", "timestamp_unixtime_ms": at_ms}
    return {"event_type": "custom_event", "data": said | data}


@dataclass
class Watching:
    """A live stream that is being read: what was sent of it so far."""

    task: asyncio.Task[None]
    gone: asyncio.Event
    may_send: asyncio.Event
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"]) if self.messages else 0

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.messages[1:]).decode()

    def events(self, name: str = "batch") -> list[Any]:
        """Return the data of the events of a name that have come."""
        found = []
        for block in self.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
            if fields.get("event") == name:
                found.append(json.loads(fields["data"]))
        return found

    async def until(self, count: int, name: str = "batch") -> list[Any]:
        """Wait until so many events of a name have come, and return them."""
        async with asyncio.timeout(20):
            while len(self.events(name)) < count:
                await asyncio.sleep(0.002)
        return self.events(name)

    async def end(self) -> dict[str, Any]:
        """Wait until the stream has ended, and return why."""
        async with asyncio.timeout(20):
            await self.task
        assert self.messages[-1] == {"type": "http.response.body", "body": b""}
        (why,) = self.events("end")
        return dict(why)


class World:
    """The parts, and ways to ask: paths are those under ``/admin/workspaces/shop``."""

    def __init__(self, store: Store, engine: Engine, app: App) -> None:
        self.store = store
        self.engine = engine
        self.app = app
        self.now = float(NOW)
        self.tokens: dict[str, str] = {}

    async def ask(self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Send one request straight to the application."""
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: list[Any] = []
        pieces = [raw]

        async def receive() -> dict[str, Any]:
            if not pieces:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": pieces.pop(), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        given = {"content-length": str(len(raw))} | (headers or {})
        await self.app(_scope(method, target, given), receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:]))

    async def headers(self, client: str) -> dict[str, str]:
        """Return the headers that show a client's token."""
        if client not in self.tokens:
            secret = next(one.client_secret for one in CLIENTS if one.client_id == client)
            body = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
            self.tokens[client] = (await self.ask("POST", "/oauth/token", body)).json["access_token"]
        return {"authorization": f"Bearer {self.tokens[client]}"}

    async def answer(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        client: str = "admin",
        workspace: str = "shop",
        query: dict[str, Any] | None = None,
    ) -> Answer:
        """Ask the admin API and return its answer."""
        target = f"/admin/workspaces/{workspace}{path}" + (f"?{urlencode(query)}" if query else "")
        return await self.ask(method, target, body, await self.headers(client))

    async def get(self, path: str, **query: Any) -> Any:
        """Return what a GET of the admin answers with 200."""
        answer = await self.answer("GET", path, query={name.rstrip("_"): value for name, value in query.items()})
        assert answer.status == 200, answer.body
        return answer.json

    async def send(self, document: Any, input: str = "server") -> Answer:
        """Send a batch by an input, which may be refused."""
        one = next(one for one in INPUTS if one.name == input)
        return await self.ask("POST", "/v2/events", document, basic(one.key, one.secret))

    async def take(self, document: Any, input: str = "server") -> int:
        """Send a batch that is accepted, and return its position in the journal."""
        answer = await self.send(document, input)
        assert answer.status == 202, answer.body
        return self.store.position

    async def page(self, document: Any) -> int:
        """Send what may be no batch as a web page does, and return its position in the journal."""
        answer = await self.ask("POST", "/v3/JS/web-key/events", document)
        assert answer.status == 202, answer.body
        return self.store.position

    async def identify(self, **identities: str) -> str:
        """Return the MPID of identities of the shop."""
        body = {"environment": "production", "known_identities": identities}
        answer = await self.ask("POST", "/v1/identify", body, dict(BASIC))
        assert answer.status == 200, answer.body
        return str(answer.json["mpid"])

    async def modify(self, mpid: str, type_: str, old: str | None, new: str | None) -> None:
        """Change an identity of a user of the shop."""
        changes = [{"identity_type": type_, "old_value": old, "new_value": new}]
        body = {"environment": "production", "identity_changes": changes}
        answer = await self.ask("POST", f"/v1/{mpid}/modify", body, dict(BASIC))
        assert answer.status == 200, answer.body

    async def mpid_of(self, position: int) -> str:
        """Return whose a batch is."""
        entry = await self.store.entry(position)
        assert entry is not None
        return str(entry.decision.mpid)

    @asynccontextmanager
    async def watching(
        self, query: str = "", client: str = "admin", headers: dict[str, str] | None = None
    ) -> AsyncIterator[Watching]:
        """Read the live stream while the block runs."""
        target = "/admin/workspaces/shop/live" + (f"?{query}" if query else "")
        scope = _scope("GET", target, await self.headers(client) | (headers or {}))
        gone, may_send = asyncio.Event(), asyncio.Event()
        may_send.set()
        asked = [{"type": "http.request", "body": b"", "more_body": False}]
        messages: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if asked:
                return asked.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await may_send.wait()
            messages.append(message)

        task = asyncio.create_task(self.app(scope, receive, send))
        reading = Watching(task, gone, may_send, messages)
        try:
            async with asyncio.timeout(20):
                while len(messages) < 2:
                    await asyncio.sleep(0.002)
            yield reading
        finally:
            gone.set()
            may_send.set()
            await task


def _scope(method: str, target: str, headers: dict[str, str]) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip


@asynccontextmanager
async def admin(folder: Path, store: Store | None = None, **changed: Any) -> AsyncIterator[World]:
    """A world at work on a folder, or on a store that is not open; ``changed`` are parts of its configuration."""
    settings = config(**changed)
    store = store or store_at(folder / "data")
    await store.open()
    worlds: list[World] = []
    try:
        policies = await adopt_policies(store, settings.scopes, lambda: NOW_MS)
        engine = Engine(store, policies, clock=lambda: int(worlds[0].now * 1000) if worlds else NOW_MS)
        await engine.start()
        try:
            app = create_app(settings, engine, clock=lambda: worlds[0].now if worlds else float(NOW))
            worlds.append(World(store, engine, app))
            yield worlds[0]
            app.end_streams()
        finally:
            await engine.stop()
    finally:
        await store.close()
