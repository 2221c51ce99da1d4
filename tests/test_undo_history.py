"""What else looks at histories, once decisions were undone: replay, what-if, as of, why (docs/undo.md)."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest

from oneself.engine import Call
from oneself.history import as_of, replay, what_if
from oneself.history.recorded import Span
from oneself.history.undo.planning import NotUndone
from oneself.history.undo.split import plan_split
from oneself.history.why.life import life
from oneself.identity import Request, build
from oneself.store import UNDONE
from store_factories import Backend
from undo_world import ENGINES, OPEN, SCOPES, SENTINEL, SPACE, Maker, use, user_calls, world

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def dice_of(request: pytest.FixtureRequest, name: str) -> random.Random:
    return random.Random(f"{request.config.getoption('--hypothesis-seed')} {name}")


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_replay_and_a_what_if_of_undone_histories_find_nothing_different(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = dice_of(request, "replay")
    undone = 0
    for number in range(6):
        async with world(kind, tmp_path / f"it{number}", dice) as it:
            maker = Maker(dice)
            for _ in range(4):
                for _ in range(12):
                    (outcome,) = await it.do(maker.call())
                    maker.learn(outcome)
                chosen = dice.sample(range(1, it.position + 1), 2)
                for position in chosen:
                    kinds = {entry.request.kind for entry in (await it.store.entries_at([position])).values()}
                    if kinds == {"undo"} and dice.random() < 0.5:
                        continue
                    with suppress(NotUndone):  # some are undone already
                        undone += (await it.undo(position, later="redecide")).plan is not None
                await it.rest()
            await it.flushed()
            found = await replay(it.store)
            assert found.differences == []
            policies = {name: build(settings) for name, settings in SCOPES.items()}
            report = await what_if(it.store, policies, Span(1, it.position))
            for space in report.spaces:
                assert space.users.kept == space.users.all
                assert space.before.profiles == space.after.profiles
                assert space.moved.requests == 0
    assert undone


@pytest.mark.parametrize("kind", ENGINES)
async def test_an_mpid_that_an_undo_removed_tells_where_its_data_went(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with world(kind, tmp_path / "it", dice_of(request, "removed"), OPEN) as it:
        for number in range(3):
            await use(it, user_calls(number))
        (last,) = {outcome.decision.mpid for outcome in it.outcomes}
        assert last is not None
        before = it.position
        made = await it.undo(1, later="redecide")
        assert made.report.profiles_removed == [str(last)]
        (heir,) = made.report.profiles_made
        then, now = await as_of(it.store, last, before), await as_of(it.store, last, it.position)
        assert (then.state, then.leads_to) == ("anonymous", [str(last)])
        assert (now.state, now.holds, now.leads_to) == ("removed", [], [heir])
        assert await it.store.swept(UNDONE) == it.position
        assert await it.store.user(last, "shop") is None
        assert last not in await it.store.mpids([SPACE])
        assert await it.store.existing([last]) == {last}
        told = await life(it.store, last)
        assert told is not None
        assert (told.state, told.space) == ("removed", SPACE)
        assert "undone" in told.decisions[-1].did
        (asked,) = await it.do(Call(SPACE, "shop/web", Request("batch", mpid=last, protection="only_read")))
        assert asked.decision.mpid is None
        split = await plan_split(it.store, int(heir), [("email", "1@x.org")], fresh_mpid=4711)
        await it.carry_out(split)
        await it.flushed()
        assert (await replay(it.store)).differences == []


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_what_if_of_an_undone_sentinel_finds_nothing_different(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with world(kind, tmp_path / "it", dice_of(request, "sentinel"), OPEN) as it:
        for number in range(5):
            await use(it, user_calls(number))
        made = await it.undo_value("other", SENTINEL, later="redecide")
        assert made.plan is not None
        await it.flushed()
        assert (await replay(it.store)).differences == []
