"""What holds of every what-if, whatever was recorded (docs/whatif.md)."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from histories import SCOPES, SPACES
from identity_histories import policies
from oneself.engine import Call, Engine
from oneself.engine.policies import Governing
from oneself.history import replay
from oneself.history.recorded import Span
from oneself.history.whatif.reporting import report_on, what_if
from oneself.history.whatif.trial import Trial
from oneself.history.whatif.trials import trials
from oneself.identity import Decision, Policy, PolicySettings, Request, build
from oneself.store import EmbeddedStore, Place, Store
from postgres_server import fresh_schema
from recorded_histories import Player, at_work, looking

SEEDS = st.integers(0, 2**32 - 1)
SAME = {scope: build(of) for scope, of in SCOPES.items()}
LENGTH = 90


class Asked(NamedTuple):
    """A request that a what-if decided again, as it was mapped, the MPID for a new profile, and the decision."""

    position: int
    space: str
    request: Request
    fresh: int
    decision: Decision


async def record(folder: Path | Place, seed: int, scopes: dict[str, PolicySettings] = SCOPES) -> None:
    async with at_work(folder, scopes) as engine:
        await Player(random.Random(seed)).play(engine, LENGTH)


@asynccontextmanager
async def decided_again(
    folder: Path | Place, other: dict[str, Policy], first: int = 1
) -> AsyncIterator[tuple[list[Trial], list[Asked]]]:
    """Run a what-if; give its trials and everything that it asked."""
    asked: list[Asked] = []
    watch = {
        space: lambda at, request, fresh, decision, space=space: asked.append(
            Asked(at, space, request, fresh, decision)
        )
        for space in SPACES
    }
    async with (
        looking(folder) as store,
        trials(store, other, Span(first, store.position), watch=watch) as (tried, left),
    ):
        assert not left
        yield tried, asked


@settings(max_examples=40)
@given(seed=SEEDS, first=st.integers(1, LENGTH // 2))
def test_under_the_policies_that_decided_nothing_is_different(seed: int, first: int) -> None:
    async def check(folder: Path) -> None:
        await record(folder, seed)
        async with looking(folder) as store:
            for begin in (1, first):
                report = await what_if(store, SAME, Span(begin, store.position))
                assert not report.differs
                assert (
                    sum(space.decided + space.folded for space in report.spaces) + left_out(report) == store.position
                )
        async with decided_again(folder, SAME) as (tried, asked), looking(folder) as store:
            for one in asked:
                entry = await store.entry(one.position)
                assert entry is not None
                assert (one.request, one.decision) == (entry.request, entry.decision)
            assert sum(trial.decided for trial in tried) == len(asked)

    in_folder(check)


@settings(max_examples=60)
@given(seed=SEEDS, acme=policies(), solo=policies())
def test_under_other_policies_it_is_as_if_a_fresh_server_had_got_the_requests(
    seed: int, acme: Policy, solo: Policy
) -> None:
    other = {"acme": acme, "solo": solo}

    async def check(folder: Path) -> None:
        await record(folder / "recorded", seed)
        async with decided_again(folder / "recorded", other) as (tried, asked):
            async with looking(folder / "recorded") as store:
                entries = {position: entry async for position, entry in store.entries()}
            fresh = EmbeddedStore(folder / "fresh")
            await fresh.open()
            await ask_again(fresh, other, asked, [entries[one.position].at_ms for one in asked])
            for trial in tried:
                await assert_is(trial, fresh)
            await fresh.close()

    in_folder(check)


@settings(max_examples=8)
@given(seed=SEEDS, acme=policies(), solo=policies())
def test_what_a_database_recorded_is_decided_again_as_a_folders_history_is(
    seed: int, acme: Policy, solo: Policy
) -> None:
    other = {"acme": acme, "solo": solo}

    async def check(folder: Path) -> None:
        recorded, fresh = Place(folder, fresh_schema()), Place(folder, fresh_schema()).store()
        await record(recorded, seed)
        async with looking(recorded) as store:
            assert (await replay(store)).differences == []
            report = await what_if(store, SAME, Span(1, store.position))
            assert not report.differs
            entries = {position: entry async for position, entry in store.entries()}
        async with decided_again(recorded, other) as (tried, asked):
            await fresh.open()
            await ask_again(fresh, other, asked, [entries[one.position].at_ms for one in asked])
            for trial in tried:
                await assert_is(trial, fresh)
            await fresh.close()

    in_folder(check)


@settings(max_examples=40)
@given(seed=SEEDS, acme=policies(), solo=policies(), first=st.integers(1, LENGTH // 2))
def test_a_report_counts_each_request_and_each_user_once(seed: int, acme: Policy, solo: Policy, first: int) -> None:
    other = {"acme": acme, "solo": solo}

    async def check(folder: Path) -> None:
        await record(folder, seed)
        async with decided_again(folder, other, first) as (tried, _), looking(folder) as store:
            report = await report_on(tried, [], store, Span(first, store.position))
            again = await what_if(store, other, Span(first, store.position))
            entries = [entry async for _, entry in store.entries()]
        for space, twin, trial in zip(report.spaces, again.spaces, tried, strict=True):
            assert space.users == twin.users
            assert space.after == twin.after
            mine = [entry for entry in entries if entry.space == space.space]
            users = [entry for entry in mine if entry.request.kind in USERS and entry.decision.mpid is not None]
            assert space.folded + space.decided + sum(space.left_out.values()) == len(mine)
            assert space.answered + space.unanswered == len(users)
            assert space.users.all == len({entry.decision.mpid for entry in users})
            both = space.users
            assert both.kept + both.split + both.fused - both.both + both.unanswered == both.all
            assert space.before.profiles.all == sum(
                change.__class__.__name__ == "Create" for entry in mine for change in entry.decision.changes
            )
            assert space.after.profiles.all == len(trial.world)
            for side in (space.before, space.after):
                counted = side.profiles
                assert counted.known + counted.anonymous + counted.orphans == counted.all
                assert sum(counted.by_identities) == counted.all
                assert counted.by_identities[0] == counted.orphans
            assert space.moved.requests <= space.answered
            assert space.moved.batches <= space.moved.requests
            assert space.gained.requests + space.lost.requests <= space.answered
            if both.kept == both.all:
                assert not space.moved.requests

    in_folder(check)


async def ask_again(store: Store, other: dict[str, Policy], asked: list[Asked], times: list[int]) -> None:
    """Ask a server everything again, one request after another; it decides as the what-if did."""
    now_ms, mpid = 0, 0
    governing = {scope: Governing(policy, 1) for scope, policy in other.items()}
    engine = Engine(store, governing, clock=lambda: now_ms, mpids=lambda: mpid)
    await engine.start()
    for one, at_ms in zip(asked, times, strict=True):
        while store.position + 1 < one.position:  # what was left out has a position, and aliases are named by theirs
            await engine.submit(Call(one.space, "test/filler", Request("release", {"other": "nobody's"})))
        now_ms, mpid = at_ms, one.fresh
        outcome = await engine.submit(Call(one.space, "test/again", one.request))
        assert outcome.decision == one.decision, one
    await engine.stop()


USERS = ("identify", "login", "logout", "modify", "batch")


def left_out(report: object) -> int:
    return sum(sum(space.left_out.values()) for space in report.spaces)  # type: ignore[attr-defined]


async def assert_is(trial: Trial, store: Store) -> None:
    """Assert that a server's space has the profiles, identities, guards and aliases that a trial came to."""
    world = trial.world
    mpids = sorted(profile.mpid for profile in world.profiles())
    assert await store.mpids([trial.space], limit=10_000) == mpids
    for mpid in mpids:
        told, profile = await store.profile(mpid), world.profile(mpid)
        assert told is not None
        assert profile is not None
        held = [(type_, value, at) for type_, values in profile.held.items() for value, at in values.items()]
        held += [(*identity, at) for (of, identity), at in world.further.items() if of == mpid]
        assert sorted(told.identities) == sorted(held)
        aliases = [row for row in world.aliases.values() if mpid in (row.source, row.destination)]
        assert await store.aliases(mpid) == sorted(aliases, key=lambda row: -row.position)
    guarded = {(type_, value) for type_, value, *_ in await store.guarded(trial.space)}
    assert guarded == world.guarded


def in_folder(check) -> None:  # type: ignore[no-untyped-def]
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))
