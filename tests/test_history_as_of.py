"""Where the data of an old MPID was at any time (docs/replay.md, "As of")."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine_at_work import SPACE
from oneself.engine import Call, Engine
from oneself.errors import OneselfError
from oneself.history.as_of import Held, Left, as_of
from oneself.history.recorded import position_of, span_of, unix_ms
from oneself.identity import AliasRequest, IdentityChange, PolicySettings, Request
from recorded_histories import at_work

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio

SCOPES = {"acme": PolicySettings("profile_link", alias_delay=0)}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with at_work(tmp_path / "data", SCOPES) as engine:
        yield engine


async def made(engine: Engine, **identities: str) -> int:
    outcome = await engine.submit(Call(SPACE, "shop/web", Request("identify", {**identities})))
    assert outcome.decision.mpid is not None
    return outcome.decision.mpid


async def modified(engine: Engine, mpid: int, type_: str, old: str | None, new: str | None) -> int:
    changes = (IdentityChange(type_, old, new),)
    outcome = await engine.submit(Call(SPACE, "shop/web", Request("modify", mpid=mpid, changes=changes)))
    assert outcome.decision.error is None
    return outcome.position


async def test_an_identity_that_moves_is_followed_from_profile_to_profile(engine: Engine) -> None:
    first, second, third = [await made(engine, email=f"{name}@x.org") for name in "abc"]
    at_second = await modified(engine, second, "email", None, "a@x.org")
    at_third = await modified(engine, third, "email", None, "a@x.org")
    gone = await modified(engine, third, "email", "a@x.org", None)
    store = engine.store

    before = await as_of(store, first, at_second - 1)
    assert (before.state, before.leads_to, before.left) == ("known", [str(first)], [])
    assert before.holds == [Held("email", "a@x.org", 1)]

    moved = await as_of(store, first, at_second)
    assert (moved.state, moved.holds, moved.leads_to) == ("orphan", [], [str(second)])
    assert moved.left == [Left("email", "a@x.org", 1, at_second, "moved", str(second), str(second))]

    again = await as_of(store, first, at_third)
    assert again.leads_to == [str(third)]
    assert again.left[0].moved_to == str(second)
    assert again.left[0].now_at == str(third)
    assert (await as_of(store, second, at_third)).leads_to == [str(third)]

    end = await as_of(store, first, gone)
    assert (end.leads_to, end.left[0].now_at) == ([], "")
    assert (await as_of(store, third, gone)).state == "orphan"
    assert (await as_of(store, first, at_second)) == moved, "the past stays as it was"


async def test_the_profiles_that_show_its_events_are_among_those_that_it_leads_to(engine: Engine) -> None:
    first, second = await made(engine, other="o1"), await made(engine, customerid="c1")
    asked = await engine.submit(Call(SPACE, "shop/web", Request("alias", alias=AliasRequest(first, second))))
    applied = await engine.submit(Call(SPACE, "/alias", Request("alias_process", position=asked.position)))
    undone = await engine.submit(Call(SPACE, "/alias", Request("alias_undo", position=asked.position)))
    store = engine.store
    waiting = await as_of(store, first, asked.position)
    assert (waiting.shown_in, waiting.leads_to) == ([], [str(first)])
    shown = await as_of(store, first, applied.position)
    assert shown.leads_to == [str(first), str(second)]
    assert [(row.destination, row.since) for row in shown.shown_in] == [(str(second), applied.position)]
    assert (await as_of(store, second, applied.position)).shows == shown.shown_in
    assert (await as_of(store, first, undone.position)).leads_to == [str(first)]


async def test_whether_it_was_known_is_judged_by_the_policy_of_its_time(tmp_path: Path) -> None:
    folder, numbers = tmp_path / "data", iter(range(1, 9))
    async with at_work(folder, SCOPES, mpids=numbers.__next__) as engine:
        mpid = await made(engine, email="a@x.org")
    async with at_work(folder, {"acme": PolicySettings("default")}, mpids=numbers.__next__) as engine:
        await made(engine, email="b@x.org")
        assert (await as_of(engine.store, mpid, 1)).state == "known"
        assert (await as_of(engine.store, mpid, 2)).state == "anonymous"


async def test_a_profile_of_more_values_than_its_row_has_room_for_is_told_whole(engine: Engine) -> None:
    mpid = await made(engine, other="o0")
    for number in range(1, 12):
        last = await modified(engine, mpid, "other", None, f"o{number}")
    last = await modified(engine, mpid, "other", "o11", None)
    found = await as_of(engine.store, mpid, last)
    assert [row.value for row in found.holds] == [f"o{number}" for number in range(11)]
    assert found.left == [Left("other", "o11", last - 1, last, "removed")]


async def test_what_was_not_there_yet_is_an_error(engine: Engine) -> None:
    mpid = await made(engine, email="a@x.org")
    later = await made(engine, email="b@x.org")
    with pytest.raises(OneselfError, match=f"No user had the MPID {later} at decision 1."):
        await as_of(engine.store, later, 1)
    with pytest.raises(OneselfError, match=f"No user had the MPID {mpid + 1}"):
        await as_of(engine.store, mpid + 1, 2)


async def test_a_moment_is_a_position_or_a_time(engine: Engine) -> None:
    for number in range(4):
        await made(engine, email=f"{number}@x.org")
    entries = [entry async for _, entry in engine.store.entries()]
    times = [entry.at_ms for entry in entries]
    store = engine.store
    assert await position_of(store, "3") == 3
    second = "2023-11-14T22:17:20"
    assert unix_ms(second) == unix_ms(f"{second}+00:00") == unix_ms("2023-11-15T00:17:20+02:00") == times[2]
    assert await position_of(store, second) == 3
    assert (await span_of(store, second, "")).first == 3
    assert (await span_of(store, "", second)).last == 3
    assert (await span_of(store, "2", "99")).last == 4
    with pytest.raises(OneselfError, match="Nothing was decided from 2050-01-01 to now"):
        await span_of(store, "2050-01-01", "")
    with pytest.raises(OneselfError, match="'yesterday' is no moment"):
        await position_of(store, "yesterday")
