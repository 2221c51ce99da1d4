"""Undoing one decision: do, then undo, equals never done (docs/undo.md)."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from oneself.engine import Call
from oneself.history.undo.planning import NotUndone
from oneself.identity import Request
from rebuilding import assert_backend_rebuilds
from store_factories import Backend
from undo_world import ELSEWHERE, ENGINES, SPACE, Maker, world

pytestmark = pytest.mark.anyio

ROUNDS = 8
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


@pytest.mark.parametrize("kind", ENGINES)
async def test_later_decisions_made_again_are_those_of_a_world_without_it(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = dice_of(request, "redecide")
    again = 0
    for number in range(ROUNDS):
        async with (
            world(kind, tmp_path / f"done{number}", dice) as done,
            world(kind, tmp_path / f"never{number}", dice) as never,
        ):
            maker = Maker(dice, naming=False)
            undone = set(dice.sample(range(CALLS), dice.choice((1, 1, 3))))
            for index in range(CALLS):
                call = maker.call()
                await done.do(call)
                await never.do(ELSEWHERE if index in undone else call)
            before = await done.state()
            plan = await done.undo(*(index + 1 for index in sorted(undone)), later="redecide")
            assert plan.plan is not None, plan.report
            again += plan.report.decided_again
            await done.rest()
            assert await done.state() == await never.state()
            restored = await done.undo(done.position)
            assert restored.plan is not None, restored.report
            assert await done.state() == before
        await assert_backend_rebuilds(done.backend, tmp_path / f"again{number}")
    assert again


@pytest.mark.parametrize("kind", ENGINES)
async def test_what_later_decisions_need_is_kept_where_that_is_told(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = dice_of(request, "keep")
    in_part = 0
    for number in range(ROUNDS):
        async with world(kind, tmp_path / f"done{number}", dice) as done:
            maker = Maker(dice)
            for _ in range(CALLS):
                (outcome,) = await done.do(maker.call())
                maker.learn(outcome)
            before = await done.state()
            chosen = sorted(dice.sample(range(1, CALLS + 1), 4))
            kept = await done.undo(*chosen, later="keep")
            assert kept.report.decided_again == kept.report.in_the_way == 0, kept.report
            if kept.plan is None:
                assert await done.state() == before
                continue
            assert {row.position for row in kept.plan.decision.revised} <= set(chosen)
            in_part += kept.report.undone_in_part + kept.report.undone
            restored = await done.undo(done.position)
            assert restored.plan is not None, restored.report
            assert await done.state() == before
        await assert_backend_rebuilds(done.backend, tmp_path / f"again{number}")
    assert in_part


@pytest.mark.parametrize("kind", ENGINES)
async def test_several_undos_stand_beside_one_another(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Undoing decisions one by one is undoing them all; and taken back in any order, all is as it was."""
    dice = dice_of(request, "several")
    for number in range(ROUNDS // 2):
        async with (
            world(kind, tmp_path / f"done{number}", dice) as done,
            world(kind, tmp_path / f"never{number}", dice) as never,
        ):
            maker = Maker(dice, naming=False)
            undone = dice.sample(range(CALLS), 3)
            for index in range(CALLS):
                call = maker.call()
                await done.do(call)
                await never.do(ELSEWHERE if index in undone else call)
            before = await done.state()
            undos = []
            for index in undone:
                try:
                    plan = await done.undo(index + 1, later="redecide")
                except NotUndone as error:
                    if "drawn" not in str(error):
                        raise
                    break  # one made and took a user away whom the next would make; no MPID is given twice
                assert plan.plan is not None, plan.report
                undos.append(done.position)
            else:
                assert await done.state() == await never.state()
            for position in reversed(undos):
                plan = await done.undo(position, later="redecide")
                assert plan.plan is not None, plan.report
            assert await done.state() == before
        await assert_backend_rebuilds(done.backend, tmp_path / f"again{number}")
