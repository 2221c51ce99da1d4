"""A copy has what an undo changed of the past, and an undo goes on from it (docs/copy.md, docs/undo.md)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import undo_world
from copying import PLACES, contents, place_of
from engine_at_work import running
from oneself.history.undo.planning import NotUndone
from oneself.history.undo.report import UndoReport
from oneself.store.transfer import copy
from store_factories import Backend
from undo_world import ENGINES, SCOPES, Maker, World

pytestmark = pytest.mark.anyio

ROUNDS = 3
CALLS = 30


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def undo(world: World, position: int) -> str | UndoReport | None:
    """Undo a decision; return why it cannot be, or None."""
    try:
        plan = await world.undo(position)
    except NotUndone as refused:
        return str(refused)
    return plan.report if plan.plan is None else None


@pytest.mark.parametrize("other", PLACES, ids=lambda kind: f"to_{kind.__name__}")
@pytest.mark.parametrize("kind", ENGINES)
async def test_random_histories_with_undos_are_copied_and_go_on(
    kind: type[Backend], other: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    undone = 0
    for number in range(ROUNDS):
        dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} copy {number}")
        async with undo_world.world(kind, tmp_path / f"origin{number}", dice) as world:
            maker = Maker(dice)
            for _ in range(CALLS):
                maker.learn((await world.do(maker.call()))[0])
                if dice.random() < 0.2:
                    undone += (await undo(world, dice.randrange(world.position) + 1)) is None
                    await world.rest()
            made = other(tmp_path / f"copy{number}")
            copied = await copy(place_of(world.backend), place_of(made))
            assert copied.is_equal
            await made.start()
            copy_of = World(made)
            async with running(made.store, SCOPES, mpids=copy_of.mpids, clock=copy_of.clock) as copy_of.engine:
                for last in range(world.position, world.position - 3, -1):
                    assert await undo(world, last) == await undo(copy_of, last)
                assert await copy_of.state() == await world.state()
            await made.stop()
        assert contents(made) == contents(world.backend)
    assert undone
