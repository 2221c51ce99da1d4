"""Aliases at work: what a destination shows, in every state that a store can be in (docs/alias.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batches import event
from oneself.engine import Call
from oneself.identity import AliasRow, Request
from oneself.profiles import Attribution
from oneself.store import KnownUser, is_expired, merged_user, timeline
from profile_world import NOW_MS
from rebuilding import assert_backend_rebuilds
from store_factories import BACKENDS, SPACE, Backend
from upkeep_world import DAY_MS, FOREVER_SERVER, LAB_SERVER, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.__name__)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    backend: Backend = request.param(tmp_path)
    await backend.start()
    yield World(backend)
    await backend.stop()


async def sends(world: World, customer: str, *names_at: tuple[str, int], **more: Any) -> int:
    """Let a user send one batch of named events, each some ms before now; return the MPID."""
    events = [event(name, at_ms=world.now_ms - before) for name, before in names_at]
    return await world.user(customer, events=events, **more)


async def known(world: World, mpid: int, workspace: str = "shop") -> KnownUser:
    user = await merged_user(world.store, mpid, workspace)
    assert user is not None
    return user


# -- from request to outcome ----------------------------------------------------------------------------------------


async def test_an_alias_waits_is_applied_when_due_and_can_be_undone(world: World) -> None:
    visitor, ana = await world.user("visitor"), await world.user("ana")
    position = await world.alias(visitor, ana, NOW_MS - 1000, NOW_MS)
    asked = AliasRow(position, visitor, ana, NOW_MS - 1000, NOW_MS, NOW_MS + DAY_MS)
    assert await world.store.alias(position) == (SPACE, asked)
    assert await world.store.due_aliases(world.now_ms) == []
    world.later(1)
    assert await world.store.due_aliases(world.now_ms) == [(SPACE, asked)]
    await world.aliases_due()
    assert await world.store.due_aliases(world.now_ms) == []
    (applied,) = await world.store.aliases(ana)
    assert (applied.outcome, applied.why) == ("applied", "")
    assert await world.store.aliases(visitor) == await world.store.sources(ana) == [applied]
    assert (await world.undo(position)).decision.error is None
    assert [row.outcome for row in await world.store.aliases(visitor)] == ["undone"]
    assert await world.store.sources(ana) == []
    refused = (await world.undo(position)).decision.error
    assert refused is not None
    assert refused.code == "NOT_APPLIED"
    assert world.counts.done == {"alias_applied": 1}


async def test_an_alias_is_judged_by_what_is_in_effect_when_it_is_due(world: World) -> None:
    a, b, c = [await world.user(name) for name in "abc"]
    first = await world.alias(a, b)
    second = await world.alias(b, c)
    third = await world.alias(c, a)
    world.later(1)
    await world.aliases_due()
    outcomes = {row.position: (row.outcome, row.why) for mpid in (a, b, c) for row in await world.store.aliases(mpid)}
    assert outcomes == {
        first: ("applied", ""),
        second: ("dropped", "source_was_destination"),
        third: ("dropped", "destination_was_source"),
    }
    await world.undo(first)
    again = await world.alias(b, c)
    world.later(1)
    await world.aliases_due()
    assert (await world.store.alias(again))[1].outcome == "applied"
    assert world.counts.done == {"alias_applied": 2, "alias_dropped": 2}


async def test_many_aliases_of_one_source_are_told_page_by_page(world: World) -> None:
    visitor, ana = await world.user("visitor"), await world.user("ana")
    positions = [await world.alias(visitor, ana, NOW_MS - 100 * n - 50, NOW_MS - 100 * n) for n in range(5)]
    told = await world.store.aliases(visitor, limit=2)
    told += await world.store.aliases(visitor, before=told[-1].position, limit=9)
    assert [row.position for row in told] == positions[::-1]
    world.later(1)
    assert [row.position for _, row in await world.store.due_aliases(world.now_ms, 2)] == positions[:2]
    assert await world.store.due_aliases(world.now_ms, spaces=["acme/development"]) == []
    await world.aliases_due()
    ends = [row.end_ms for row in await world.store.sources(ana)]
    assert ends == [NOW_MS - 100 * n for n in range(5)]
    first = await world.store.sources(ana, limit=2)
    rest = await world.store.sources(ana, after=(first[-1].end_ms, first[-1].position))
    assert [row.end_ms for row in (*first, *rest)] == ends
    oldest = await world.store.sources(ana, limit=2, oldest=True)
    rest = await world.store.sources(ana, after=(oldest[-1].end_ms, oldest[-1].position), oldest=True)
    assert [row.end_ms for row in (*oldest, *rest)] == ends[::-1]


async def test_what_is_undone_in_the_same_group_uncovers_what_stands_behind_it(world: World) -> None:
    first, second, middle, ana = [await world.user(name) for name in ("first", "second", "middle", "ana")]
    behind = await world.alias(first, middle, NOW_MS - 9000, NOW_MS - 8000)
    nearest = await world.alias(second, middle, NOW_MS - 9000, NOW_MS)
    world.later(1)
    await world.aliases_due()
    await world.backend_flushed()
    asked = await world.alias(middle, ana)
    world.later(1)
    await world.decide(
        Call(SPACE, "shop/admin", Request("alias_undo", position=nearest)),
        Call(SPACE, "/alias", Request("alias_process", position=asked)),
    )
    (dropped,) = await world.store.aliases(ana)
    assert (dropped.outcome, dropped.why) == ("dropped", "source_was_destination")
    outcome = (await world.store.entry(dropped.processed)).decision.changes[0]
    assert outcome.other == behind


async def test_sources_are_told_behind_one_that_was_just_undone(world: World) -> None:
    users = [await world.user(name) for name in ("first", "second", "ana")]
    early = await world.alias(users[0], users[2], NOW_MS - 9000, NOW_MS - 8000)
    late = await world.alias(users[1], users[2], NOW_MS - 9000, NOW_MS)
    world.later(1)
    await world.aliases_due()
    await world.backend_flushed()
    await world.undo(late)
    assert [row.position for row in await world.store.sources(users[2], limit=1)] == [early]
    assert [row.position for row in await world.store.aliases(users[2], limit=1)] == [late]


# -- the timeline ---------------------------------------------------------------------------------------------------


async def test_a_destination_shows_the_events_of_the_window_and_no_other(world: World) -> None:
    visitor = await sends(world, "visitor", ("early", 9000), ("first", 8000))
    await sends(world, "visitor", ("last", 5000), ("late", 4000))
    await sends(world, "visitor", ("inside", 6000))
    await sends(world, "visitor", ("beyond", 3000))
    await sends(world, "visitor", ("before", 10_000), ("after", 2000))
    ana = await sends(world, "ana", ("own", 7000))
    await world.alias(visitor, ana, NOW_MS - 8000, NOW_MS - 5000)
    assert await world.events(ana) == [(NOW_MS - 7000, "own")]
    world.later(1)
    await world.aliases_due()
    assert [name for _, name in await world.events(ana)] == ["last", "inside", "own", "first"]
    assert [name for _, name in await world.events(ana, page=1)] == ["last", "inside", "own", "first"]
    assert len(await world.events(visitor)) == 8
    (row,) = await world.store.sources(ana)
    await world.undo(row.position)
    assert await world.events(ana) == [(NOW_MS - 7000, "own")]


async def test_what_arrives_late_is_shown_too(world: World) -> None:
    visitor, ana = await world.user("visitor"), await world.user("ana")
    await world.alias(visitor, ana, NOW_MS - 8000, NOW_MS - 5000)
    world.later(1)
    await world.aliases_due()
    await sends(world, "visitor", ("late", DAY_MS + 6000))
    assert (NOW_MS - 6000, "late") in await world.events(ana)


async def test_an_alias_may_show_the_events_of_one_device_only(world: World) -> None:
    visitor = await sends(world, "visitor", ("phone", 3000), mp_deviceid="P")
    await sends(world, "visitor", ("kiosk", 2000), mp_deviceid="k")
    ana = await sends(world, "ana", ("own", 1000))
    await world.alias(visitor, ana, device="P")
    world.later(1)
    await world.aliases_due()
    assert [name for _, name in await world.events(ana)] == ["own", "phone"]


async def test_a_link_does_not_lead_on(world: World) -> None:
    a = await sends(world, "a", ("of-a", 1000))
    b = await sends(world, "b", ("of-b", 1000))
    c = await sends(world, "c", ("of-c", 1000))
    await world.alias(a, b)
    await world.alias(c, b)
    await world.alias(b, c)
    world.later(1)
    await world.aliases_due()
    assert {name for _, name in await world.events(b)} == {"of-a", "of-b", "of-c"}
    assert {name for _, name in await world.events(c)} == {"of-c"}


async def test_a_timeline_can_be_narrowed_to_a_time_and_a_device(world: World) -> None:
    visitor = await sends(world, "visitor", ("one", 3000), mp_deviceid="d1")
    await sends(world, "visitor", ("two", 2000), mp_deviceid="d2")
    ana = await sends(world, "ana", ("three", 1000), ("four", 500), mp_deviceid="d1")
    await world.alias(visitor, ana)
    world.later(1)
    await world.aliases_due()

    async def shown(**filters: Any) -> list[tuple[int, int]]:
        rows = await timeline(world.store, ana, "shop", **filters)
        return [(NOW_MS - row.activity.at_ms, row.activity.mpid) for row in rows]

    assert await shown() == [(500, ana), (2000, visitor), (3000, visitor)]
    assert await shown(device="d1") == [(500, ana), (3000, visitor)]
    assert await shown(window=(NOW_MS - 3000, NOW_MS - 2000)) == [(2000, visitor), (3000, visitor)]
    assert await shown(window=(NOW_MS - 1500, NOW_MS - 900)) == [(900, ana)]
    assert await shown(window=(NOW_MS - 2500, NOW_MS - 900), device="d2") == [(2000, visitor)]


async def test_another_workspace_shows_what_was_sent_to_it(world: World) -> None:
    visitor, ana = await world.user("visitor"), await world.user("ana")
    document = {"mpid": visitor, "events": [event("lab", at_ms=NOW_MS - 1000)]}
    await world.take(document, LAB_SERVER)
    await world.alias(visitor, ana)
    world.later(1)
    await world.aliases_due()
    assert await world.events(ana, "lab") == [(NOW_MS - 1000, "lab")]
    assert await world.events(ana, "forever") == []


# -- first seen and attribution -------------------------------------------------------------------------------------


async def test_a_destination_was_first_seen_when_its_source_was(world: World) -> None:
    visitor = await sends(world, "visitor", ("one", 9000))
    ana = await sends(world, "ana", ("own", 1000))
    before = await known(world, ana)
    position = await world.alias(visitor, ana, NOW_MS - 5000, NOW_MS)
    assert await known(world, ana) == before
    world.later(1)
    await world.aliases_due()
    after = await known(world, ana)
    assert after.person is not None
    assert after.workspace is not None
    assert (after.person.first_seen_ms, after.workspace.first_seen_ms) == (NOW_MS - 9000, NOW_MS - 9000)
    assert after.workspace.last_seen_ms == NOW_MS - 1000
    assert await world.store.user(ana, "shop") == KnownUser(after.profile, before.person, before.workspace)
    await world.undo(position)
    undone = await known(world, ana)
    assert (undone.person, undone.workspace) == (before.person, before.workspace)


async def test_an_install_attribution_carries_over_where_there_is_none(world: World) -> None:
    first = {"publisher": "north", "campaign": "spring"}
    second = {"publisher": "south", "campaign": "summer"}
    visitor = await sends(world, "visitor", ("one", 3000), attribution_info=first)
    stranger = await sends(world, "stranger", ("one", 2000), attribution_info=second)
    ana, ben = (
        await sends(world, "ana", ("own", 1000)),
        await sends(world, "ben", ("own", 500), attribution_info=first),
    )
    for source in (visitor, stranger):
        await world.alias(source, ana)
    await world.alias(await sends(world, "third", ("one", 100), attribution_info=second), ben)
    world.later(1)
    await world.aliases_due()
    user = await known(world, ana)
    assert user.workspace is not None
    at = user.workspace.attribution
    assert at is not None
    assert at == Attribution(NOW_MS - 2000, "south", "summer", position=at.position)
    other = await known(world, ben)
    assert other.workspace is not None
    assert other.workspace.attribution is not None
    assert other.workspace.attribution.publisher == "north"


async def test_of_a_source_on_one_device_only_that_device_counts(world: World) -> None:
    north = {"publisher": "north", "campaign": "spring"}
    visitor = await sends(world, "visitor", ("one", 9000), mp_deviceid="d1", attribution_info=north)
    await sends(world, "visitor", ("two", 4000), mp_deviceid="d2")
    ana = await sends(world, "ana", ("own", 1000))
    await world.alias(visitor, ana, device="d2")
    world.later(1)
    await world.aliases_due()
    user = await known(world, ana)
    assert user.person is not None
    assert user.workspace is not None
    assert (user.person.first_seen_ms, user.workspace.first_seen_ms) == (NOW_MS - 4000, NOW_MS - 4000)
    assert user.workspace.attribution is None


async def test_what_expired_is_left_out_whether_it_was_removed_or_not(world: World) -> None:
    visitor = await sends(world, "visitor", ("one", 9000))
    world.later(10)
    ana = await sends(world, "ana", ("own", 1000))
    await world.alias(visitor, ana)
    world.later(1)
    await world.aliases_due()
    first_ms = NOW_MS + 10 * DAY_MS - 1000

    async def seen(lifetime_days: float) -> Any:
        lifetime = int(lifetime_days * DAY_MS)
        user = await merged_user(world.store, ana, "shop", lifetime_ms=lifetime, now_ms=world.now_ms)
        assert user is not None
        return user.workspace and user.workspace.first_seen_ms

    assert await seen(0) == await seen(11) == NOW_MS - 9000
    assert await seen(10.9) == await seen(1) == first_ms
    assert await seen(0.9) is None
    user = await known(world, ana)
    assert not is_expired(user.workspace, DAY_MS, world.now_ms)
    assert is_expired(user.workspace, DAY_MS - 1, world.now_ms)
    assert not is_expired(None, 1, world.now_ms)


async def test_who_is_nobody_or_sent_nothing_stays_so(world: World) -> None:
    assert await merged_user(world.store, 404, "shop") is None
    visitor, ana = await world.user("visitor"), await world.user("ana")
    await world.alias(visitor, ana)
    world.later(1)
    await world.aliases_due()
    user = await known(world, ana, "forever")
    assert user.workspace is None
    await world.take({"mpid": ana}, FOREVER_SERVER)
    assert (await known(world, ana, "forever")).workspace is not None


async def test_aliases_are_there_when_the_tables_are_made_again(world: World, tmp_path: Path) -> None:
    users = [await world.user(name) for name in "abcd"]
    positions = [await world.alias(a, b) for a, b in pairwise(users)]
    world.later(1)
    await world.aliases_due()
    await world.undo(positions[0])
    await world.alias(users[0], users[3])
    await world.backend.stop()
    await assert_backend_rebuilds(world.backend, tmp_path / "rebuilt")
    await world.backend.start()
