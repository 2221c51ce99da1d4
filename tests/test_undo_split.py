"""Moving identities, and what came by them, off a user into a new one (docs/undo.md)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from batches import event, taken
from engine_at_work import all_of
from histories import mpid_of
from oneself.engine import Call
from oneself.history.undo.planning import NotUndone
from oneself.history.undo.split import plan_split
from oneself.identity import IdentityChange, PolicySettings, Request
from oneself.store import timeline
from profile_world import NOW_MS, source
from rebuilding import assert_backend_rebuilds
from store_factories import Backend
from undo_world import ENGINES, SPACE, World, world

pytestmark = pytest.mark.anyio

FAMILY = {"acme": PolicySettings("best_match")}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def dice_of(request: pytest.FixtureRequest, name: str) -> random.Random:
    return random.Random(f"{request.config.getoption('--hypothesis-seed')} {name}")


async def family(it: World) -> int:
    """Make one profile of two people who share a tablet; return its MPID."""
    first, *_ = await it.do(
        Call(SPACE, "shop/web", Request("identify", {"device_application_stamp": "tablet", "email": "ana@x.org"})),
        bought("ana@x.org", "Tea"),
        Call(SPACE, "shop/web", Request("identify", {"device_application_stamp": "tablet", "email": "bob@x.org"})),
        bought("bob@x.org", "Coffee"),
        bought("bob@x.org", "Cups"),
    )
    assert first.decision.mpid is not None
    assert {outcome.decision.mpid for outcome in it.outcomes} == {first.decision.mpid}
    return first.decision.mpid


def bought(email: str, name: str) -> Call:
    document: dict[str, Any] = {
        "user_identities": {"email": email},
        "user_attributes": {"likes": name},
        "events": [event(name)],
    }
    return taken(document, source("server"), NOW_MS)


async def split(it: World, mpid: int, *identities: tuple[str, str]) -> int:
    """Split identities off; return the new MPID."""
    made = await plan_split(it.store, mpid, identities, fresh_mpid=mpid_of(it.position + 1))
    await it.carry_out(made)
    new = it.outcomes[-1].decision.mpid
    assert new is not None
    return new


async def names(it: World, mpid: int) -> set[str]:
    moments = await timeline(it.store, mpid, "shop")
    records = await it.store.batches([moment.activity.position for moment in moments])
    return {one.name for record in records.values() for one in record.batch.events}


@pytest.mark.parametrize("kind", ENGINES)
async def test_identities_and_what_came_by_them_move_and_come_back(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with world(kind, tmp_path / "it", dice_of(request, "split"), FAMILY) as it:
        mpid = await family(it)
        before = await it.state()
        new = await split(it, mpid, ("email", "bob@x.org"))
        await it.rest()
        assert await names(it, mpid) == {"Tea"}
        assert await names(it, new) == {"Coffee", "Cups"}
        for one, likes in ((mpid, "Tea"), (new, "Cups")):
            user = await it.store.user(one, "shop")
            assert user.workspace.attributes["likes"][0].value == likes
        stayed, moved = await it.store.profile(mpid), await it.store.profile(new)
        left = {("email", "ana@x.org"), ("device_application_stamp", "tablet")}
        assert {row[:2] for row in stayed.identities} == left
        assert [row[:2] for row in moved.identities] == [("email", "bob@x.org")]
        assert [(row.why, row.moved_to) for row in stayed.history] == [("split", new)]
        (found,) = await it.do(bought("bob@x.org", "Sugar"))
        assert found.decision.mpid == new
        in_the_way = await it.undo(it.position - 1)
        assert [way.position for way in in_the_way.report.listed] == [it.position]
        assert in_the_way.plan is None
        assert (await it.undo(it.position)).plan is not None
        undone = await it.undo(6)
        assert undone.plan is not None, undone.report
        assert await it.state() == before
        restored = await it.undo(it.position)
        assert restored.plan is not None
        assert await names(it, new) == {"Coffee", "Cups"}
    await assert_backend_rebuilds(it.backend, tmp_path / "again")


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_plan_that_something_came_after_is_void(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with world(kind, tmp_path / "it", dice_of(request, "void"), FAMILY) as it:
        mpid = await family(it)
        made = await plan_split(it.store, mpid, [("email", "bob@x.org")], fresh_mpid=4711)
        asked = Call(made.space, "/undo", made.request, plan=made.plan)
        (ahead, void) = await all_of(it.engine, bought("bob@x.org", "Sugar"), asked)
        assert ahead.decision.mpid == mpid
        assert void.decision.error is not None
        assert void.decision.error.code == "STATE_CHANGED"
        assert void.position == 0
        (again,) = await it.do(asked)
        assert again.decision.error is not None
        elsewhere = Call(SPACE, "shop/web", Request("identify", {"email": "zoe@x.org"}))
        made = await plan_split(it.store, mpid, [("email", "bob@x.org")], fresh_mpid=4711)
        _, done = await all_of(it.engine, elsewhere, Call(made.space, "/undo", made.request, plan=made.plan))
        assert done.decision.mpid == 4711


@pytest.mark.parametrize("kind", ENGINES)
async def test_what_cannot_be_split_off_is_said(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with world(kind, tmp_path / "it", dice_of(request, "refused"), FAMILY) as it:
        mpid = await family(it)
        for identities, message in (
            ([("email", "zoe@x.org")], "does not hold email 'zoe@x.org'"),
            ([], "leave some"),
            ([("email", "ana@x.org"), ("email", "bob@x.org"), ("device_application_stamp", "tablet")], "leave some"),
        ):
            with pytest.raises(NotUndone, match=message):
                await plan_split(it.store, mpid, identities, fresh_mpid=4711)
        with pytest.raises(NotUndone, match="No user has the MPID 404"):
            await plan_split(it.store, 404, [("email", "ana@x.org")], fresh_mpid=4711)
        change = IdentityChange("email", "bob@x.org", None)
        await it.do(Call(SPACE, "shop/web", Request("modify", mpid=mpid, changes=(change,))))
        with pytest.raises(NotUndone, match="does not hold"):
            await plan_split(it.store, mpid, [("email", "bob@x.org")], fresh_mpid=4711)
