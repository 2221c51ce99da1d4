"""Undoing one decision: do, then undo, equals never done (docs/undo.md)."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from oneself.engine import Call
from oneself.identity import Request
from rebuilding import assert_backend_rebuilds
from store_factories import Backend
from undo_world import ELSEWHERE, ENGINES, SPACE, Maker, world

pytestmark = pytest.mark.anyio

ROUNDS = 12
CALLS = 24


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def dice_of(request: pytest.FixtureRequest, name: str) -> random.Random:
    return random.Random(f"{request.config.getoption('--hypothesis-seed')} {name}")


@pytest.mark.parametrize("kind", ENGINES)
async def test_do_then_undo_equals_never_done_and_undo_of_undo_restores(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = dice_of(request, "undo")
    came = Counter[str]()
    for number in range(ROUNDS):
        async with (
            world(kind, tmp_path / f"done{number}", dice) as done,
            world(kind, tmp_path / f"never{number}", dice) as never,
        ):
            maker = Maker(dice)
            undone = dice.randrange(CALLS)
            for index in range(CALLS):
                call = maker.call()
                (outcome,) = await done.do(call)
                await never.do(ELSEWHERE if index == undone else call)
                maker.learn(outcome)
                if dice.random() < 0.1:
                    await done.rest()
            before = await done.state()
            decision = done.outcomes[undone].decision
            plan = await done.undo(undone + 1)
            if plan.plan is None:
                came["in the way"] += 1
                assert plan.report.in_the_way
                assert await done.state() == before
                continue
            assert plan.report.in_the_way == 0
            came["changes" if decision.changes else "none"] += 1
            await done.rest()
            assert await done.state() == await never.state()
            again = await done.undo(done.position)
            assert again.plan is not None, again.report
            assert await done.state() == before
            once_more = await done.undo(done.position)
            assert once_more.plan is not None, once_more.report
            assert await done.state() == await never.state()
        await assert_backend_rebuilds(done.backend, tmp_path / f"again{number}")
    print(came)
    assert came["changes"]


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_later_decision_that_depends_on_it_stands_in_the_way(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with world(kind, tmp_path / "it", dice_of(request, "way")) as it:
        first, second = await it.do(
            Call(SPACE, "shop/web", Request("identify", {"device_application_stamp": "d1"})),
            Call(SPACE, "shop/web", Request("login", {"device_application_stamp": "d1", "customerid": "c1"})),
        )
        assert first.decision.mpid == second.decision.mpid
        before = await it.state()
        plan = await it.undo(1)
        assert plan.plan is None
        assert [(way.position, way.how) for way in plan.report.listed] == [(2, "again")]
        assert await it.state() == before
        assert it.position == 2
