"""Guarded values by the admin API, and releasing one (docs/guards.md, "The admin API")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from admin_world import POLICY, World, admin
from oneself.identity import PolicySettings, build

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio

SCOPES = {"acme": msgspec.structs.replace(POLICY, max_known_profiles_per_value=2), "other": PolicySettings()}
GUARDED: dict[str, Any] = {"scopes": SCOPES, "policies": {name: build(of) for name, of in SCOPES.items()}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def guard(world: World, *values: str) -> None:
    """Let so many known users share each value that it is guarded."""
    for value in values:
        for number in range(3):
            await world.identify(customerid=f"{value}-{number}", other=value)


async def test_guarded_values_are_listed_page_by_page(tmp_path: Path) -> None:
    async with admin(tmp_path, **GUARDED) as world:
        await guard(world, "a", "b", "c")
        listed: list[Any] = []
        before: dict[str, Any] = {}
        while True:
            page = await world.get("/guards", limit=2, **before)
            assert (page["scope"], page["total"]) == ("acme", 3)
            listed += page["guarded"]
            if page["next"] is None:
                break
            before = {"before": page["next"]}
        assert [(one["environment"], one["type"], one["value"], one["since"]) for one in listed] == [
            ("production", "other", "c", 9), ("production", "other", "b", 6), ("production", "other", "a", 3),
        ]  # fmt: skip
        assert listed[0]["why"] == "max_known_profiles_per_value"
        assert (await world.get("/guards", environment="development"))["guarded"] == []


async def test_a_released_value_finds_profiles_again(tmp_path: Path) -> None:
    async with admin(tmp_path, **GUARDED) as world:
        await guard(world, "a")
        released = await world.answer("POST", "/guards/release", {"type": "other", "value": "a"})
        assert released.status == 200, released.body
        assert released.json["decision"] == world.store.position
        told = released.json["identity"]
        assert (told["guarded"], told["guards"][0]["since"]["position"]) == (False, 3)
        assert told["guards"][0]["until"]["input"] == "/admin/admin"
        assert (await world.get("/guards"))["total"] == 0
        again = await world.answer("POST", "/guards/release", {"type": "other", "value": "a"})
        assert again.status == 404


async def test_only_who_may_sees_and_releases_them(tmp_path: Path) -> None:
    async with admin(tmp_path, **GUARDED) as world:
        await guard(world, "a")
        body = {"type": "other", "value": "a"}
        for method, path, sent in (("GET", "/guards", None), ("POST", "/guards/release", body)):
            assert (await world.answer(method, path, sent, client="looker")).status == 403
            assert (await world.answer(method, path, sent, client="stranger")).status == 404
        stranger = await world.answer("POST", "/guards/release", body, client="stranger", workspace="other")
        assert stranger.status == 404
        for wrong in ({}, {"type": "odd", "value": "a"}, {"type": "other", "value": ""}, body | {"odd": 1}):
            assert (await world.answer("POST", "/guards/release", wrong)).status == 400
        assert (await world.get("/guards"))["total"] == 1
