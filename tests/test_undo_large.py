"""Undoing in a journal that is too long to be kept in memory comes to the same (docs/undo.md, "What it costs")."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from oneself.engine import Call
from oneself.history.undo import tail as undo_tail
from oneself.history.undo.planning import plan_undo, plan_value
from oneself.identity import Request, Undo
from oneself.journal import Entry
from store_factories import Backend
from undo_world import ENGINES, SENTINEL, SPACE, Maker, fresh, use, user_calls, world

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("few", [0, 1_000_000])
async def test_a_plan_is_the_same_whether_decisions_are_kept_in_memory_or_looked_up_again(
    kind: type[Backend], few: int, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} large")
    async with world(kind, tmp_path / "it", dice) as it:
        maker = Maker(dice)
        for number in range(40):
            (outcome,) = await it.do(maker.call())
            maker.learn(outcome)
            if number % 10 == 9:
                await use(it, user_calls(number))
            if number == 25:
                await it.undo(3, later="redecide")
        asked = [Undo((position,), later="redecide") for position in range(1, 20) if position != 3]
        plans = [await plan_undo(it.store, one, mpids=fresh) for one in asked]
        value = Undo(type="other", value=SENTINEL, later="redecide")
        plans.append(await plan_value(it.store, SPACE, value, mpids=fresh))
        monkeypatch.setattr(undo_tail, "CACHED", 0)
        monkeypatch.setattr(undo_tail, "FEW", few)
        again = [await plan_undo(it.store, one, mpids=fresh) for one in asked]
        again.append(await plan_value(it.store, SPACE, value, mpids=fresh))
        assert [one.report for one in again] == [one.report for one in plans]
        for one, other in zip(plans, again, strict=True):
            assert (one.plan is None) == (other.plan is None)
            if one.plan is not None and other.plan is not None:
                assert set(map(str, one.plan.decision.changes)) == set(map(str, other.plan.decision.changes))
                assert one.plan.decision.revised == other.plan.decision.revised


@pytest.mark.parametrize("kind", ENGINES)
async def test_undoing_what_just_happened_looks_at_nothing_before_it(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} just now")
    looked: list[bytes | str] = []

    def decode(body: bytes | str) -> Entry:
        looked.append(body)
        return whole(body)

    whole = undo_tail.decode
    monkeypatch.setattr(undo_tail, "decode", decode)
    async with world(kind, tmp_path / "it", dice) as it:
        for number in range(60):
            who = {"email": f"e{number}@x.org", "device_application_stamp": f"d{number}"}
            await it.do(Call(SPACE, "shop/web", Request("identify", who)))  # type: ignore[arg-type]
            if number in (0, 59):
                looked.clear()
                made = await plan_undo(it.store, Undo((it.position,)), mpids=fresh)
                assert made.report.possible
                assert len(looked) == 1
