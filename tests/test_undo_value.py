"""Undoing all that an identity value caused: it is as if it had been guarded from the first (docs/undo.md)."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from oneself.engine import Call
from oneself.history.undo.planning import NotUndone
from oneself.identity import Request
from oneself.store import timeline
from rebuilding import assert_backend_rebuilds
from store_factories import Backend
from undo_world import ENGINES, KNOWING, OPEN, SENTINEL, SPACE, Maker, use, user_calls, world

pytestmark = pytest.mark.anyio

USERS = 1_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def dice_of(request: pytest.FixtureRequest, name: str) -> random.Random:
    return random.Random(f"{request.config.getoption('--hypothesis-seed')} {name}")


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_sentinel_that_fused_a_thousand_users_is_undone_and_each_has_their_own_again(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with world(kind, tmp_path / "it", dice_of(request, "users"), OPEN) as it:
        for number in range(USERS):
            await use(it, user_calls(number))
        fused = {outcome.decision.mpid for outcome in it.outcomes}
        assert len(fused) == 1
        started = time.perf_counter()
        made = await it.undo_value("other", SENTINEL, later="redecide")
        print(f"undone in {time.perf_counter() - started:.1f} s", made.report.decided_again)
        assert made.plan is not None, made.report
        found = set()
        for number in range(USERS):
            device = f"{number:08x}-0000-4000-8000-000000000000"
            (outcome,) = await it.do(Call(SPACE, "shop/web", Request("search", {"device_application_stamp": device})))
            mpid = outcome.decision.mpid
            assert mpid is not None
            found.add(mpid)
            user = await it.store.user(mpid, "shop")
            assert {(t, v) for t, v, _ in user.profile.identities} >= {("device_application_stamp", device)}
            assert all(value != SENTINEL for _, value, _ in user.profile.identities)
            assert user.workspace.attributes["who"][0].value == str(number)
            moments = await timeline(it.store, mpid, "shop")
            assert len(moments) == 2
        assert len(found) == USERS
        assert (SENTINEL in {value for _, value, _, _ in await it.store.guarded(SPACE)}) is True
    await assert_backend_rebuilds(it.backend, tmp_path / "again")


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_value_undone_equals_a_history_under_a_policy_that_knows_it(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = dice_of(request, "value")
    for number in range(8):
        async with (
            world(kind, tmp_path / f"done{number}", dice, OPEN) as done,
            world(kind, tmp_path / f"never{number}", dice, KNOWING) as never,
        ):
            maker = Maker(dice, naming=False)
            for _ in range(24):
                call = maker.call()
                if call.delivery is None and call.request.kind != "release" and dice.random() < 0.5:
                    given = {**call.request.identities, "other": SENTINEL, "push_token": f"p{dice.randrange(5)}"}
                    call = Call(SPACE, call.input, Request(call.request.kind, given))
                await done.do(call)
                await never.do(call)
            before = await done.state()
            made = await done.undo_value("other", SENTINEL, later="redecide", guard=False)
            if made.plan is None:
                assert made.report.undone + made.report.decided_again == 0, made.report
                continue
            after = await done.state()
            assert after == await never.state()
            restored = await done.undo(done.position)
            assert restored.plan is not None, restored.report
            assert await done.state() == before
        await assert_backend_rebuilds(done.backend, tmp_path / f"again{number}")


@pytest.mark.parametrize("kind", ENGINES)
async def test_without_a_word_on_later_decisions_they_are_listed_and_nothing_changes(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with world(kind, tmp_path / "it", dice_of(request, "listed"), OPEN) as it:
        for number in range(3):
            await use(it, user_calls(number))
        before = await it.state()
        made = await it.undo_value("other", SENTINEL)
        assert made.plan is None
        assert made.report.in_the_way
        assert await it.state() == before
        with pytest.raises(NotUndone, match="as a whole"):
            await it.undo_value("other", SENTINEL, later="keep")
