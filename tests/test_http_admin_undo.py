"""Undoing and splitting in a running server by the admin API (docs/undo.md, "By the admin API")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from admin_world import World, admin, event

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio

TABLET = "a2c5e6f0-0000-4000-8000-000000000001"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def post(world: World, path: str, body: Any, status: int = 200, **who: Any) -> Any:
    answer = await world.answer("POST", path, body, **who)
    assert answer.status == status, answer.body
    return answer.json


async def test_a_decision_is_undone_once_and_the_undo_undone(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        ana = await world.identify(email="ana@example.com")
        await world.modify(ana, "other", None, "wrong")
        position = world.store.position
        told = await post(world, "/undo", {"decision": str(position), "dry_run": True})
        assert (told["possible"], told["position"], told["profiles_changed"]) == (True, 0, [ana])
        assert world.store.position == position
        asked = {"decision": str(position), "request_id": "oops"}
        done = await post(world, "/undo", asked)
        assert (done["position"], done["undone"], done["identities_withdrawn"]) == (position + 1, 1, 1)
        details = await world.get(f"/users/{ana}")
        assert [row["value"] for row in details["identities"]] == ["ana@example.com"]
        again = await post(world, "/undo", asked)
        assert again["position"] == position + 1
        assert world.store.position == position + 1
        assert "undone already" in str(await post(world, "/undo", {"decision": str(position)}, 409))
        back = await post(world, "/undo", {"decision": str(position + 1)})
        assert back["identities_linked"] == 1
        told = await world.get(f"/users/{ana}/why")
        assert "undone" in told["decisions"][-1]["did"]


async def test_later_decisions_stand_in_the_way_until_it_is_said_what_becomes_of_them(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        ana = await world.identify(customerid="c-1", email="ana@example.com")
        await world.take({"user_identities": {"customer_id": "c-1"}, "events": [event("Bought")]})
        refused = await post(world, "/undo", {"decision": "1"}, 409)
        assert "Later decisions depend on it, 1 in all" in str(refused)
        told = await post(world, "/undo", {"decision": "1", "dry_run": True})
        assert (told["possible"], [way["position"] for way in told["listed"]]) == (False, [2])
        done = await post(world, "/undo", {"decision": "1", "later": "redecide"})
        (heir,) = done["profiles_made"]
        assert done["profiles_removed"] == [ana]
        assert done["events_moved"] == 1
        assert (await world.answer("GET", f"/users/{ana}")).status == 404
        assert len((await world.get(f"/users/{heir}/timeline"))["batches"]) == 1


async def test_what_an_input_did_in_a_span_and_what_a_value_caused(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        for name in ("ana", "bob"):
            await world.take({
                "user_identities": {"customer_id": name, "other": "12345"}, "events": [event(name)],
            })  # fmt: skip
        await world.take({"user_identities": {"customer_id": "zoe"}, "events": [event("zoe")]}, "web")
        span = await post(world, "/undo", {"input": "server", "from": "1", "to": "3", "dry_run": True})
        assert (span["undone"], span["batches_of_nobody"]) == (2, 2)
        value = await post(world, "/undo", {"type": "other", "value": "12345", "later": "redecide"})
        assert value["guarded"] == "other 12345"
        guarded = await world.get("/guards")
        assert "12345" in str(guarded)
        assert "decided nothing" in str(await post(world, "/undo", {"input": "till"}, 404))


async def test_a_user_is_split(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        for name in ("ana", "bob"):
            document = {"user_identities": {"email": f"{name}@example.com"}, "mp_deviceid": TABLET}
            await world.take(document | {"events": [event(name)]})
        ana = await world.mpid_of(1)
        assert await world.mpid_of(2) == ana
        body = {"mpid": ana, "identities": [{"type": "email", "value": " BOB@example.com"}]}
        assert (await post(world, "/split", body | {"dry_run": True}))["batches_moved"] == 1
        done = await post(world, "/split", body)
        (bob,) = done["profiles_made"]
        assert done["profiles_changed"] == [ana]
        assert len((await world.get(f"/users/{bob}/timeline"))["batches"]) == 1
        assert "does not hold" in str(await post(world, "/split", body, 409))
        body["mpid"] = "404"
        assert "No user" in str(await post(world, "/split", body, 404))


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/undo", {}, 400),
        ("/undo", {"decision": "1", "input": "web"}, 400),
        ("/undo", {"decision": "1", "from": "1"}, 400),
        ("/undo", {"type": "other"}, 400),
        ("/undo", {"type": "nonsense", "value": "1"}, 400),
        ("/undo", {"decision": "1", "later": "never"}, 400),
        ("/undo", {"input": "web", "from": "soon"}, 400),
        ("/undo", {"decision": "404"}, 404),
        ("/undo", {"type": "other", "value": "1", "later": "keep"}, 409),
        ("/split", {"mpid": "1", "identities": []}, 400),
        ("/split", {"mpid": "one", "identities": [{"type": "email", "value": "a"}]}, 400),
        ("/split", {"mpid": "1", "identities": [{"type": "nonsense", "value": "a"}]}, 400),
    ],
)
async def test_what_cannot_be_asked_is_refused(tmp_path: Path, path: str, body: Any, status: int) -> None:
    async with admin(tmp_path) as world:
        await world.identify(email="ana@example.com")
        await post(world, path, body, status)
        assert world.store.position == 1


async def test_only_those_may_who_may_see_the_whole_scope(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        await world.identify(email="ana@example.com")
        for client, status in (("looker", 403), ("stranger", 404)):
            await post(world, "/undo", {"decision": "1"}, status, client=client)
        elsewhere = await world.answer("POST", "/undo", {"decision": "1"}, client="stranger", workspace="other")
        assert elsewhere.status == 404
        assert world.store.position == 1
