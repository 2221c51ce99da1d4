"""Why by the admin API: by user, request, decision, identity, and never beyond the scope (docs/why.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from admin_world import World, admin
from http_edge import basic

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def elsewhere(world: World, request_id: str, **identities: str) -> str:
    """Identify somebody in another scope."""
    body = {"environment": "production", "known_identities": identities, "request_id": request_id}
    answer = await world.ask("POST", "/v1/identify", body, basic("other-key", "other-secret"))
    assert answer.status == 200
    return str(answer.json["mpid"])


async def test_the_life_of_a_user_is_told_page_by_page(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        mpid = await world.identify(device_application_stamp="d-1", other="null")
        await world.identify(device_application_stamp="d-1", customerid="c-1")
        for number in range(4):
            await world.modify(mpid, "other", None, f"o-{number}")
        life = await world.get(f"/users/{mpid}/why")
        assert (life["mpid"], life["space"], life["state"]) == (mpid, "acme/production", "known")
        assert [one["became"] for one in life["milestones"]] == ["anonymous", "known"]
        assert [one["did"] for one in life["decisions"][:2]] == [
            ["created", "linked", "dropped", "anonymous"], ["linked", "known"],
        ]  # fmt: skip
        assert (life["decisions_total"], life["next"]) == (6, None)
        assert "  other 'null': it is a placeholder that stands for nobody (junk)" in life["decisions"][0]["words"]
        seen: list[int] = []
        before: dict[str, Any] = {}
        while True:
            page = await world.get(f"/users/{mpid}/why", limit=4, **before)
            seen[:0] = [one["position"] for one in page["decisions"]]
            if page["next"] is None:
                break
            before = {"before": page["next"]}
        assert seen == [one["position"] for one in life["decisions"]]


async def test_a_request_and_a_decision_are_told(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        body = {"environment": "production", "known_identities": {"email": "undefined"}, "request_id": "r-1"}
        assert (await world.ask("POST", "/v1/identify", body, basic("web-key", "web-secret"))).status == 400
        for query in ({"request_id": "r-1"}, {"decision": 1}):
            (told,) = (await world.get("/why", **query))["decisions"]
            assert (told["request_id"], told["error"], told["did"]) == ("r-1", "LOOKUP_ERROR", ["denied", "dropped"])
            assert told["entry"]["request"]["identities"] == {"email": "undefined"}


async def test_an_identity_tells_who_held_it_in_each_environment(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        old = await world.identify(customerid="c-1", email="a@example.com")
        new = await world.identify(other="o-1")
        await world.modify(old, "email", "a@example.com", "b@example.com")
        production, development = (await world.get("/why", type="other", value="o-1"))["identity"]
        assert (production["space"], development["space"]) == ("acme/production", "acme/development")
        assert [one["mpid"] for one in production["holders"]] == [new]
        assert development["holders"] == []
        (left, _) = (await world.get("/why", type="email", value="A@example.com"))["identity"]
        assert [(one["mpid"], one["why"], one["until"]["kind"]) for one in left["former"]] == [
            (old, "modified", "modify")
        ]
        (junk, _) = (await world.get("/why", type="email", value="null"))["identity"]
        assert junk["dropped"] == "junk"


async def test_a_client_learns_nothing_of_other_scopes(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        stranger = await elsewhere(world, "theirs", email="ana@example.com")
        position = world.store.position
        for path, query in (
            (f"/users/{stranger}/why", {}), ("/why", {"request_id": "theirs"}), ("/why", {"decision": position}),
        ):  # fmt: skip
            assert (await world.answer("GET", path, query=query)).status == 404
        told = await world.get("/why", type="email", value="ana@example.com")
        assert all(not one["holders"] and one["space"].startswith("acme/") for one in told["identity"])
        theirs = await world.answer("GET", "/why", query={"decision": position}, client="stranger", workspace="other")
        assert theirs.status == 200


async def test_it_takes_the_permission_admin(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        mpid = await world.identify(other="o-1")
        for path in (f"/users/{mpid}/why", "/why"):
            assert (await world.answer("GET", path, client="looker")).status == 403
            assert (await world.answer("GET", path, client="stranger")).status == 404


@pytest.mark.parametrize(
    "query",
    [
        {}, {"value": "x"}, {"type": "email"}, {"request_id": "a", "decision": 1}, {"type": "x", "value": "y"},
        {"decision": 0}, {"decision": 1, "type": "email"}, {"odd": 1},
    ],
)  # fmt: skip
async def test_a_question_that_is_not_one_is_400(tmp_path: Path, query: dict[str, Any]) -> None:
    async with admin(tmp_path) as world:
        assert (await world.answer("GET", "/why", query=query)).status == 400
