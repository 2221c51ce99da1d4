"""Undos beside what else moves rows: retention, expiry, crashes, groups, and copies (docs/undo.md, "What stays")."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from batches import event, user_of
from engine_at_work import all_of, running
from histories import mpid_of
from oneself.engine import Call
from oneself.history.undo.planning import plan_undo
from oneself.history.undo.split import plan_split
from oneself.identity import Decision, Mentioned, Request, Trace, Undo, Upkeep
from oneself.jobs import ExpiryJob, RetentionJob
from oneself.store import EmbeddedStore, Plan, Rewritten
from profile_world import source
from rebuilding import assert_backend_rebuilds, tables_now
from store_factories import SPACE, Backend, InMemory, Mixed, Postgres, PostgresShared
from undo_world import OPEN, SENTINEL, canonical, use, user_calls, world
from upkeep_world import World

pytestmark = pytest.mark.anyio

KINDS = (Mixed, InMemory, Postgres)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def dice_of(request: pytest.FixtureRequest, name: str) -> random.Random:
    return random.Random(f"{request.config.getoption('--hypothesis-seed')} {name}")


async def started(kind: type[Backend], folder: Path, dice: random.Random) -> World:
    backend = kind(folder)
    if isinstance(backend, Mixed):
        backend.dice = dice
    await backend.start()
    return World(backend)


async def carry_out(it: World, made: Any) -> Any:
    assert made.plan is not None, made.report
    (outcome,) = await it.decide(Call(made.space, "/undo", made.request, plan=made.plan))
    assert outcome.decision.error is None, outcome.decision.error
    return outcome


async def undo(it: World, position: int) -> None:
    await carry_out(it, await plan_undo(it.store, Undo((position,), later="redecide"), mpids=mpid_of))


async def shown(it: World, mpid: int) -> list[str]:
    return sorted(name for _, name in await it.events(mpid))


async def family(it: World) -> tuple[int, int]:
    """Make a user of two people and split one off; return both."""
    mpid = await it.user("ana", user_attributes={"likes": "tea"})
    cups = [event("Cups", at_ms=it.now_ms - 2)]
    await it.take({"mpid": mpid, "user_attributes": {"likes": "cups"}, "mp_deviceid": "tablet", "events": cups})
    for name in ("Coffee", "Sugar"):
        document = {
            "user_identities": {"customer_id": "ana", "email": "bob@x.org"}, "mp_deviceid": "tablet",
            "user_attributes": {"likes": name}, "events": [event(name, at_ms=it.now_ms - 1)],
        }  # fmt: skip
        await it.take(document)
    made = await plan_split(it.store, mpid, [("email", "bob@x.org")], fresh_mpid=4711)
    await carry_out(it, made)
    return mpid, 4711


@pytest.mark.parametrize("kind", KINDS)
async def test_batches_that_moved_lose_their_events_where_they_are_and_expire_with_whom_they_are(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    it = await started(kind, tmp_path, dice_of(request, "retention"))
    ana, bob = await family(it)
    assert (await shown(it, ana), await shown(it, bob)) == (["Clicked", "Cups"], ["Coffee", "Sugar"])
    it.later(20)
    await it.user("ana")
    await it.grow_old(15)
    assert await shown(it, bob) == []
    user = await user_of(it.store, bob, "shop")
    assert user.workspace.attributes["likes"][0].value == "Sugar"
    assert (await user_of(it.store, ana, "shop")).workspace.attributes["likes"][0].value == "cups"
    await undo(it, 5)
    assert (await user_of(it.store, ana, "shop")).workspace.attributes["likes"][0].value == "Sugar"
    assert await user_of(it.store, bob, "shop") is None
    await undo(it, it.store.position)
    assert (await user_of(it.store, bob, "shop")).workspace.attributes["likes"][0].value == "Sugar"
    await it.backend_flushed()
    await it.grow_old(60)
    assert (await user_of(it.store, bob, "shop")).workspace is None
    assert (await user_of(it.store, ana, "shop")).workspace is not None
    await it.grow_old(100)
    await it.backend_flushed()
    await assert_backend_rebuilds(it.backend, tmp_path / "again")
    await it.backend.stop()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_step_of_retention_that_was_made_ready_before_an_undo_is_void(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    it = await started(kind, tmp_path, dice_of(request, "void"))
    ana = await it.user("ana")
    await it.take({"user_identities": {"customer_id": "ana", "email": "bob@x.org"}, "events": [event("Coffee")]})
    it.later(40)
    await it.backend_flushed()
    step = await it.store.trimming(("shop",), 0, it.store.position, 10)
    await carry_out(it, await plan_split(it.store, ana, [("email", "bob@x.org")], fresh_mpid=4711))
    upkeep = Upkeep(("shop",), 0, step.through, step.batches, step.events, step.names)
    asked = Call(SPACE, "/retention", Request("retention", upkeep=upkeep), trimming=step)
    (outcome,) = await it.decide(asked)
    assert outcome.decision.error is not None
    assert outcome.position == 0
    assert await shown(it, 4711) == ["Coffee"]
    await it.round(RetentionJob)
    await it.round(ExpiryJob)
    assert await shown(it, 4711) == []
    await it.backend.stop()


async def test_a_crash_between_an_undo_and_the_tables_loses_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The tables have the batches where they were: each move is made again as the journal is folded in."""
    async with world(InMemory, tmp_path / "it", dice_of(request, "crash"), OPEN) as it:
        assert isinstance(it.backend, InMemory)
        for number in range(8):
            await use(it, user_calls(number))
        before = await it.state()  # brings the tables up to date
        for step in range(3):
            if step == 0:
                made = await it.undo_value("other", SENTINEL, later="redecide")
                assert made.plan is not None
            else:
                assert (await it.undo(it.position)).plan is not None
            looking = EmbeddedStore(it.backend.folder / "data", read_only=True)
            await looking.open()
            users = await it.store.mpids([SPACE])
            assert await looking.mpids([SPACE]) == users
            for mpid in users:
                assert await looking.user(mpid, "shop") == await user_of(it.store, mpid, "shop")
                assert await looking.activity(mpid, "shop") == await it.store.activity(mpid, "shop")
                assert await looking.profile(mpid) == await it.store.profile(mpid)
                assert await looking.made_of(mpid) == await it.store.made_of(mpid)
            await looking.close()
            live = it.store
            await it.backend.crash()
            it.engine.store = it.store
            assert it.store is not live
            if step == 1:
                assert await it.state() == before
    await assert_backend_rebuilds(it.backend, tmp_path / "again")


async def test_another_server_s_decision_in_between_voids_a_plan(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with world(PostgresShared, tmp_path / "it", dice_of(request, "servers"), OPEN) as it:
        for number in range(2):
            await use(it, user_calls(number))
        made = await plan_undo(it.store, Undo((it.position,)), mpids=mpid_of)
        assert made.plan is not None
        assert isinstance(it.backend, PostgresShared)
        async with running(it.backend._other, OPEN, mpids=lambda: 4242, clock=it.clock) as other:
            await use_again(other, 0)
            (outcome,) = await it.do(Call(made.space, "/undo", made.request, plan=made.plan))
            assert outcome.decision.error is not None
            assert outcome.decision.error.code == "STATE_CHANGED"
            again = await plan_undo(it.store, Undo((it.store.position - 1,)), mpids=mpid_of)
            assert again.plan is not None
            ahead, done = await all_of(
                it.engine,
                Call(SPACE, "shop/web", Request("identify", {"email": "zoe@x.org"})),
                Call(again.space, "/undo", again.request, plan=again.plan),
            )
            assert ahead.decision.error is None
            assert done.decision.error is None
    await assert_backend_rebuilds(it.backend, tmp_path / "again")


async def use_again(engine: Any, number: int) -> None:
    """Have another server take in what a user does next."""
    await engine.submit(user_calls(number)[3])


async def test_what_is_removed_counts_as_given_and_is_nobodys(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    for kind in (InMemory, Postgres):
        async with world(kind, tmp_path / kind.__name__, dice_of(request, "removed"), OPEN) as it:
            await use(it, user_calls(0))
            mpid = it.outcomes[0].decision.mpid
            assert mpid is not None
            await it.undo(1, 2, 3, 4)
            assert await it.store.mpids([SPACE]) == []
            assert await user_of(it.store, mpid, "shop") is None
            assert await it.store.existing([mpid]) == {mpid}
            stored = await it.store.profile(mpid)
            assert (stored.space, stored.identities) == (f"/{SPACE}", [])
            tables = canonical(tables_now(it.backend)) if kind is Postgres else await it.state()
            assert tables["profile"] == {}
            assert tables["person"] == tables["activity"] == tables["device"] == tables["holder"] == []


async def test_a_plan_of_nothing_is_a_decision_of_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    async with world(InMemory, tmp_path / "it", dice_of(request, "nothing"), OPEN) as it:
        plan = Plan(0, Decision(Trace("undone")), Mentioned(set(), set()), {}, Rewritten())
        (outcome,) = await it.do(Call(SPACE, "/undo", Request("undo", undo=Undo()), plan=plan))
        assert outcome.position == 1
        (refused,) = await it.do(Call(SPACE, "shop/web", Request("undo", undo=Undo())))
        assert refused.decision.error is not None
        assert source("web").input
