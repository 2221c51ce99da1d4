"""An alias is noted on both users, shows the one's events in the other's timeline, and one call takes it back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from admin_world import NOW_MS, POLICY, World, admin, event
from oneself.engine import Call
from oneself.identity import PolicySettings, Request, build

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def two_users(folder: Path) -> AsyncIterator[tuple[World, str, str]]:
    """A world with an anonymous user and a known one, whose scope has aliases take effect at once."""
    scopes = {"acme": msgspec.structs.replace(POLICY, alias_delay=0), "other": PolicySettings()}
    policies = {name: build(settings) for name, settings in scopes.items()}
    async with admin(folder, scopes=scopes, policies=policies) as world:
        source = await world.identify(device_application_stamp="d-1")
        destination = await world.identify(customerid="c-1")
        for days in (5, 4, 3):
            at_ms = NOW_MS - days * DAY_MS
            await world.take({
                "mpid": source, "mp_deviceid": "d-1", "events": [event(f"early-{days}", at_ms)],
                "attribution_info": {"publisher": "Pub", "campaign": "Spring"}, "user_attributes": {"a": "b"},
            })  # fmt: skip
        await world.take({"mpid": destination, "events": [event("own", NOW_MS - 2 * DAY_MS)]})
        yield world, source, destination


async def alias(world: World, source: str, destination: str, first_day: int, last_day: int) -> int:
    """Ask for an alias of the days so long ago, and return its position."""
    data = {
        "source_mpid": source, "destination_mpid": destination,
        "start_unixtime_ms": NOW_MS - first_day * DAY_MS, "end_unixtime_ms": NOW_MS - last_day * DAY_MS,
    }  # fmt: skip
    body = {"environment": "production", "request_id": str(uuid4()), "data": data}
    assert (await world.ask("POST", "/v1/identity/web-key/Alias", body)).status == 202
    return world.store.position


async def process(world: World, position: int) -> None:
    request = Request("alias_process", position=position)
    outcome = await world.engine.submit(Call("acme/production", "/alias", request))
    assert outcome.decision.error is None


async def names(world: World, mpid: str, **query: Any) -> list[str]:
    page = await world.get(f"/users/{mpid}/timeline", **query)
    return [one["name"] for batch in page["batches"] for one in batch["events"]]


async def test_an_alias_shows_in_the_timeline_the_details_and_the_notes_until_it_is_undone(tmp_path: Path) -> None:
    async with two_users(tmp_path) as (world, source, destination):
        before = await world.get(f"/users/{destination}")
        position = await alias(world, source, destination, 4, 1)
        assert await names(world, destination) == ["own"]
        (note,) = (await world.get(f"/users/{destination}"))["notes"]
        assert (note["note"], note["mpid"], note["alias"]["outcome"]) == ("merged_from", source, "waiting")

        await process(world, position)
        assert await names(world, destination) == ["own", "early-3", "early-4"]
        assert await names(world, destination, name="early-4") == ["early-4"]
        assert await names(world, destination, to=NOW_MS - 3 * DAY_MS - 1) == ["early-4"]
        assert await names(world, destination, device="d-1") == ["early-3", "early-4"]
        page = await world.get(f"/users/{destination}/timeline")
        assert [(one["mpid"], one["alias"]) for one in page["batches"]] == [
            (destination, None), (source, position), (source, position),
        ]  # fmt: skip
        merged = await world.get(f"/users/{destination}")
        assert merged["first_seen_ms"] == merged["workspace_first_seen_ms"] == NOW_MS - 5 * DAY_MS
        assert merged["attribution"]["campaign"] == "Spring"
        assert (merged["attributes"], merged["identities"]) == (before["attributes"], before["identities"])
        for mpid, told, other in ((source, "aliased_to", destination), (destination, "merged_from", source)):
            (note,) = (await world.get(f"/users/{mpid}"))["notes"]
            assert (note["note"], note["mpid"]) == (told, other)
            shown = note["alias"]
            assert (shown["position"], shown["source"], shown["destination"]) == (position, source, destination)
            assert (shown["start_ms"], shown["end_ms"]) == (NOW_MS - 4 * DAY_MS, NOW_MS - DAY_MS)
            assert (shown["outcome"], shown["why"], shown["processed"]) == ("applied", "", position + 1)

        undone = await world.answer("POST", f"/aliases/{position}/undo")
        assert (undone.status, undone.json["outcome"]) == (200, "undone")
        assert await names(world, destination) == ["own"]
        after = await world.get(f"/users/{destination}")
        assert after.pop("notes")[0]["alias"]["outcome"] == "undone"
        before.pop("notes")
        assert after == before
        entry = await world.store.entry(world.store.position)
        assert entry is not None
        assert (entry.input, entry.decision.trace.why) == ("/admin/admin", "alias_undone")


async def test_aliases_are_listed_page_by_page_with_what_became_of_them(tmp_path: Path) -> None:
    async with two_users(tmp_path) as (world, source, destination):
        positions = [await alias(world, source, destination, day, day - 1) for day in (9, 7, 5, 3)]
        overlapping = await alias(world, source, destination, 9, 8)
        for position in (*positions[:2], overlapping):
            await process(world, position)
        seen: list[Any] = []
        before: dict[str, int] = {}
        while True:
            page = await world.get(f"/users/{destination}/aliases", limit=2, **before)
            seen += page["aliases"]
            if page["next"] is None:
                break
            before = {"before": page["next"]}
        told = [(one["alias"]["position"], one["alias"]["outcome"], one["alias"]["why"]) for one in seen]
        assert told == [
            (overlapping, "dropped", "source_overlaps"), (positions[3], "waiting", ""), (positions[2], "waiting", ""),
            (positions[1], "applied", ""), (positions[0], "applied", ""),
        ]  # fmt: skip
        assert (await world.answer("GET", "/users/1/aliases")).status == 404
        answer = await world.answer("GET", f"/users/{destination}/aliases", query={"before": "x"})
        assert (answer.status, answer.message[:21]) == (400, "before (in the query)")


async def test_only_an_alias_in_effect_of_ones_own_users_can_be_undone(tmp_path: Path) -> None:
    async with two_users(tmp_path) as (world, source, destination):
        position = await alias(world, source, destination, 4, 1)
        waiting = await world.answer("POST", f"/aliases/{position}/undo")
        assert (waiting.status, waiting.json["ErrorCode"]) == (409, "NOT_APPLIED")
        await process(world, position)
        stranger = await world.answer("POST", f"/aliases/{position}/undo", client="stranger", workspace="other")
        assert stranger.status == 404
        assert (await world.answer("POST", f"/aliases/{position}/undo", client="looker")).status == 403
        assert (await world.answer("POST", f"/aliases/{position + 1}/undo")).status == 404
        assert (await world.answer("POST", "/aliases/0/undo")).status == 400
        assert await names(world, destination) == ["own", "early-3", "early-4"]
        assert (await world.answer("POST", f"/aliases/{position}/undo")).status == 200
        again = await world.answer("POST", f"/aliases/{position}/undo")
        assert (again.status, again.json["ErrorCode"]) == (409, "NOT_APPLIED")
