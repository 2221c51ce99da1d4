"""What a server knows of its users, read back: by the Profile API, the admin API's timeline, from its data folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from oneself.journal import BatchRecord
from oneself.profiles import Batch, Event
from oneself.store import QuarantinedBatch, Store
from serving import Server, shop

T = TypeVar("T")

PATIENCE_SECONDS = 30
FIELDS = "user_identities,device_identities,user_attributes,attribution,consent_state"

READER = """
[[api_client]]
client_id = "reader"
client_secret = "reader-secret"
workspaces = ["shop"]
permissions = ["profile:read", "search:read"]
"""


def readable_shop(policy: str = "", workspace: str = "") -> str:
    """Return a configuration as ``serving.shop`` does, with an API client; ``workspace`` are settings of the shop."""
    return shop(policy).replace("organization = 1\n", f"organization = 1\n{workspace}\n") + READER


def _get(server: Server, path: str, **query: str) -> dict[str, Any]:
    """Return what an API client is answered."""
    credentials = {"client_id": "reader", "client_secret": "reader-secret", "grant_type": "client_credentials"}
    granted = server.client.post("/oauth/token", json=credentials)
    assert granted.status_code == 200, granted.text
    bearer = {"authorization": f"Bearer {granted.json()['access_token']}"}
    answer = server.client.get(path, params=query, headers=bearer)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def profile_of(server: Server, mpid: int | str) -> dict[str, Any]:
    """Return what the Profile API says of a user."""
    profile = _get(server, f"/userprofile/v1/1/10/1001/{mpid}", fields=FIELDS)
    assert profile["mpid"] == int(mpid)
    return profile


def shown_events(server: Server, mpid: int | str) -> list[dict[str, Any]]:
    """Return the events, as they were sent, that the admin API shows on a user's timeline, by their source ids."""
    events: list[dict[str, Any]] = []
    before: dict[str, str] = {}
    while True:
        page = _get(server, f"/admin/workspaces/shop/users/{mpid}/timeline", limit="3", **before)
        events += [one["event"] for batch in page["batches"] for one in batch["events"]]
        if page["next"] is None:
            return sorted(events, key=lambda event: str(event["data"]["source_message_id"]))
        before = {"before": page["next"]}


def identities_of(profile: dict[str, Any], field: str = "user_identities") -> dict[str, str]:
    """Return a profile's identities, type to value."""
    return {one["type"]: one["value"] for one in profile[field]}


def _looking(server: Server, look: Callable[[Store], Awaitable[T]]) -> T:
    async def run() -> T:
        store = server.place.store(read_only=True)
        await store.open()
        try:
            return await look(store)
        finally:
            await store.close()

    return asyncio.run(run())


def timeline(server: Server, mpid: int | str) -> list[Batch]:
    """Return the batches on a user's timeline, oldest first."""

    async def look(store: Store) -> list[Batch]:
        rows = await store.activity(int(mpid), "shop", limit=10_000)
        records = await store.batches([row.position for row in rows])
        return [batch for row in reversed(rows) if (batch := records[row.position].batch) is not None]

    return _looking(server, look)


def events_of(server: Server, mpid: int | str) -> list[Event]:
    """Return the events on a user's timeline, in the order in which they happened."""
    return sorted([event for batch in timeline(server, mpid) for event in batch.events], key=lambda one: one.at_ms)


def records_of(server: Server) -> dict[int, BatchRecord]:
    """Return everything that is kept of batches, by position."""
    return _looking(server, lambda store: store.batches(range(1, store.position + 1)))


def set_aside(server: Server) -> list[QuarantinedBatch]:
    """Return what was set aside, latest first."""
    return _looking(server, lambda store: store.quarantined("shop"))


def until(found: Callable[[], T], what: str) -> T:
    """Wait until something is found, which is not empty."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (seen := found()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
    return seen
