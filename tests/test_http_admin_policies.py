"""The policy of a scope by the admin API: versions, promotion and restoration (docs/policies.md, "Versions")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from admin_world import CLIENTS, NOW_MS, World, admin
from oneself.config import ApiClient

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio

ISOLATION = {"strategy": "profile_isolation", "junk_also": ["walk-in"]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def post(world: World, path: str, body: Any = None, **who: Any) -> Any:
    answer = await world.answer("POST", path, body, **who)
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_promoted_policy_decides_at_once_and_the_old_one_can_be_restored(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        (first,) = (await world.get("/policies"))["versions"]
        assert (first["version"], first["in_force"], first["origin"]) == (1, True, "configuration")
        assert first["settings"] == {
            "max_known_profiles_per_value": 0, "max_values_per_profile": 0, "phone_region": "US",
        }  # fmt: skip
        await world.identify(other="walk-in")
        promoted = await post(world, "/policies", {"settings": ISOLATION, "note": "no walk-ins"})
        assert (promoted["version"], promoted["in_force"], promoted["at_ms"]) == (2, True, NOW_MS)
        assert (promoted["origin"], promoted["author"], promoted["note"]) == (
            "promotion", "/admin/admin", "no walk-ins",
        )  # fmt: skip
        assert promoted["position"] == 2
        await world.identify(other="walk-in", email="a@example.com")
        restored = await post(world, "/policies/1/restore", {"note": "again"})
        assert (restored["version"], restored["restores"], restored["settings"]) == (3, 1, first["settings"])
        await world.identify(other="walk-in")
        entries = [entry async for _, entry in world.store.entries()]
        assert [(one.policy, len(one.decision.trace.dropped)) for one in entries] == [(1, 0), (2, 1), (3, 0)]
        listed = (await world.get("/policies"))["versions"]
        assert [one["version"] for one in listed] == [3, 2, 1]
        assert [one["in_force"] for one in listed] == [True, False, False]
        assert await world.get("/policies/2") == promoted | {"in_force": False}


async def test_what_is_in_force_is_not_promoted_again(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        assert (await post(world, "/policies", {"settings": ISOLATION}))["version"] == 2
        assert (await post(world, "/policies", {"settings": ISOLATION}))["version"] == 2
        assert (await post(world, "/policies/2/restore"))["version"] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "isolation"}, "settings.strategy"),
        ({"login": ["email"], "priority": ["customerid"]}, "settings.login"),
        ({"on_logout": "return_anonymous", "strategy": "best_match"}, "settings.on_logout"),
        ({"alias_delay": "soon"}, "settings.alias_delay"),
        ({"odd": 1}, "settings.odd"),
        (None, "settings"),
    ],
)
async def test_a_policy_that_cannot_work_is_refused_with_its_setting(
    tmp_path: Path, settings: Any, message: str
) -> None:
    async with admin(tmp_path) as world:
        answer = await world.answer("POST", "/policies", {"settings": settings})
        assert answer.status == 400
        assert answer.message.startswith(message) or message in answer.message
        assert len((await world.get("/policies"))["versions"]) == 1


async def test_who_may_not_see_all_workspaces_of_a_scope_may_not_change_its_policy(tmp_path: Path) -> None:
    lone = ApiClient("lone", "lone-secret", ("shop",), ("admin",))
    async with admin(tmp_path, api_clients=(*CLIENTS, lone)) as world:
        asked = {"grant_type": "client_credentials", "client_id": "lone", "client_secret": "lone-secret"}
        world.tokens["lone"] = (await world.ask("POST", "/oauth/token", asked)).json["access_token"]
        assert (await world.answer("GET", "/policies", client="lone")).status == 200
        for path in ("/policies", "/policies/1/restore"):
            answer = await world.answer("POST", path, {"settings": ISOLATION}, client="lone")
            assert answer.status == 403
        assert (await world.answer("GET", "/policies", client="looker")).status == 403
        assert (await world.answer("GET", "/policies", client="stranger")).status == 404
        assert (await world.answer("GET", "/policies/9")).status == 404
        assert (await world.answer("GET", "/policies/x")).status == 400
        other = await world.answer("GET", "/policies", client="stranger", workspace="other")
        assert [one["version"] for one in other.json["versions"]] == [1]
