"""The report of guards: sentinels that fused people are found, and what was held off is counted (docs/guards.md)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches import taken
from engine_at_work import SPACE, running
from oneself.engine import Call, Engine
from oneself.history import GuardsSeen, guards_seen, guards_text, scan_steps, span_of
from oneself.history.guards.heavy import Heavy
from oneself.identity import PolicySettings, Request
from profile_world import NOW_MS, source
from recorded_histories import Player
from store_factories import Backend, InMemory, InTables, Postgres

pytestmark = pytest.mark.anyio

OFF = {"max_known_profiles_per_value": 0, "max_values_per_profile": 0}
USERS = 1_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=(InMemory, InTables, Postgres), ids=lambda kind: kind.__name__)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made: Backend = request.param(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def seen(backend: Backend, first: str = "", last: str = "", **how: int) -> GuardsSeen:
    await backend.settle()
    span = await span_of(backend.store, first, last)
    steps: list[int] = []
    report = await guards_seen(backend.store, span, progress=steps.append, **how)
    assert sum(steps) == scan_steps(span)
    return report


async def all_of(engine: Engine, *requests: Request, input: str = "shop/web") -> list[int | None]:
    outcomes = await asyncio.gather(*(engine.submit(Call(SPACE, input, request)) for request in requests))
    return [outcome.decision.mpid for outcome in outcomes]


def people(**shared: str) -> list[Request]:
    """Return the logins of many people, each with a device of their own, who share some values."""
    return [Request("login", {**shared, "device_application_stamp": f"d-{number}"}) for number in range(USERS)]


# -- sentinels ------------------------------------------------------------------------------------------------------


async def test_a_customer_id_that_fused_many_devices_is_found(backend: Backend) -> None:
    async with running(backend.store, {"acme": PolicySettings(**OFF)}) as engine:
        await all_of(engine, *(Request("login", {"customerid": f"c-{n}", "other": f"o-{n}"}) for n in range(50)))
        (mpid,) = set(await all_of(engine, *people(customerid="test-user")))
        await all_of(engine, *(Request("login", {"customerid": f"c-{n}", "other2": "x"}) for n in range(50)))
    report = await seen(backend)
    (profile,) = report.profiles
    assert profile.mpid == str(mpid)
    assert [(one.type, one.held, one.replaced) for one in profile.types] == [("device_application_stamp", USERS, 0)]
    assert (profile.guard, profile.limit) == (False, 100)
    assert profile.deciding == [("customerid", "test-user", USERS - 1)]
    (value,) = report.deciding
    assert (value.type, value.value, value.mpid) == ("customerid", "test-user", str(mpid))
    assert (value.requests.count, value.requests.inputs) == (USERS - 1, {"shop/web": USERS - 1})
    assert any("oneself undo --identity customerid=test-user" in line for line in profile.advice)
    (shared,) = report.shared
    assert (shared.type, shared.value, shared.known, shared.guard) == ("other2", "x", 50, False)


async def test_a_value_that_fused_people_of_whom_only_the_latest_mail_is_left_is_found(backend: Backend) -> None:
    async with running(backend.store, {"acme": PolicySettings("profile_link", **OFF)}) as engine:
        logins = [Request("login", {"customerid": "0000", "email": f"{n}@x.org"}) for n in range(USERS)]
        (mpid,) = set(await all_of(engine, *logins))
    report = await seen(backend)
    (profile,) = report.profiles
    assert profile.mpid == str(mpid)
    assert [(one.type, one.held, one.replaced) for one in profile.types] == [("email", 1, USERS - 1)]
    assert profile.deciding[0][:2] == report_value(report) == ("customerid", "0000")


def report_value(report: GuardsSeen) -> tuple[str, str]:
    return report.deciding[0].type, report.deciding[0].value


async def test_a_shared_value_that_fused_people_without_logins_is_found(backend: Backend) -> None:
    async with running(backend.store, {"acme": PolicySettings("best_match", **OFF)}) as engine:
        requests = [Request("identify", {"other": "kiosk", "ios_idfv": f"v-{n}"}) for n in range(USERS)]
        assert len(set(await all_of(engine, *requests))) == 1
    report = await seen(backend)
    assert report_value(report) == ("other", "kiosk")
    assert report.profiles[0].deciding == [("other", "kiosk", USERS - 1)]
    assert "oneself undo --identity other=kiosk" in guards_text(report)


async def test_a_value_near_its_limit_is_told_before_it_is_guarded(backend: Backend) -> None:
    async with running(backend.store, {"acme": PolicySettings(max_known_profiles_per_value=10)}) as engine:
        for device, users in (("near", 8), ("far", 7)):
            await all_of(engine, *(
                Request("login", {"customerid": f"{device}-{n}", "device_application_stamp": device})
                for n in range(users)
            ))  # fmt: skip
    (value,) = (await seen(backend)).shared
    assert (value.value, value.known, value.holders, value.limit, value.guard) == ("near", 8, 8, 10, True)


# -- what was held off ----------------------------------------------------------------------------------------------


async def test_what_guards_and_rules_held_off_is_counted_with_its_inputs(backend: Backend) -> None:
    scopes = {"acme": PolicySettings("profile_link", max_known_profiles_per_value=2)}
    async with running(backend.store, scopes) as engine:
        for number in range(4):
            await all_of(engine, Request("login", {"customerid": f"c-{number}", "other": "kiosk"}))
        await all_of(engine, Request("identify", {"other": "null", "other2": "x"}), input="shop/server")
        await all_of(engine, Request("identify", {"other": "NULL", "other2": "x"}), input="shop/server")
        await all_of(engine, Request("login", {"customerid": "c-0", "email": "a@x.org"}))
        await all_of(engine, Request("login", {"customerid": "c-1", "email": "a@x.org"}))
        await all_of(engine, Request("login", {"customerid": "c-9", "email": "a@x.org"}))
        aside = [{"events": [{"event_type": "odd"}]}, {"events": "none"}]
        for number, document in enumerate(aside):
            await engine.submit(taken(document, source("web"), NOW_MS + number, scope="acme"))
    report = await seen(backend)
    (guarded,) = report.guarded
    assert (guarded.type, guarded.value, guarded.since, guarded.known) == ("other", "kiosk", 3, 2)
    assert guarded.held_off is not None
    assert (guarded.held_off.count, guarded.held_off.first) == (1, 4)
    assert "oneself guards release other=kiosk --scope acme" in guarded.advice[0]
    told = {(one.what, one.type, one.why): one for one in report.held_off}
    assert set(told) == {
        ("dropped", "other", "guarded"), ("dropped", "other", "junk"), ("refused", "email", "unique"),
        ("refused", "other", "max_known_profiles_per_value"), ("contradicted", "email", "customerid"),
    }  # fmt: skip
    contradicted = told["contradicted", "email", "customerid"]
    assert [(one.value, one.count) for one in contradicted.values] == [("a@x.org", 1)]
    junk = told["dropped", "other", "junk"]
    assert (junk.counting.count, junk.counting.inputs) == (2, {"shop/server": 2})
    assert {(one.value, one.count, one.more) for one in junk.values} == {("null", 1, False), ("NULL", 1, False)}
    refused = told["refused", "email", "unique"]
    assert (refused.counting.first, [one.value for one in refused.values]) == (8, ["a@x.org"])
    assert sum(one.counting.count for one in report.quarantine) == 2
    words = guards_text(report)
    for section in ("Guarded values", "Held off", "Set aside"):
        assert section in words


async def test_a_span_counts_only_what_was_held_off_in_it(backend: Backend) -> None:
    async with running(backend.store, {"acme": PolicySettings()}) as engine:
        for _ in range(6):
            await all_of(engine, Request("identify", {"other": "null", "other2": "x"}))
    report = await seen(backend, "2", "4")
    (junk,) = report.held_off
    assert (junk.counting.count, junk.counting.first, junk.counting.last) == (3, 2, 4)


async def test_only_the_scopes_that_are_asked_for_are_told(backend: Backend) -> None:
    player = Player(random.Random(3))
    async with running(backend.store) as engine:
        await player.play(engine, 300)
    span = await span_of(backend.store, "", "")
    for scope in ("acme", "solo"):
        report = await guards_seen(backend.store, span, [scope])
        spaces = [one.space for part in (report.guarded, report.shared, report.held_off) for one in part]
        assert spaces
        assert {space.partition("/")[0] for space in spaces} == {scope}
    whole = await guards_seen(backend.store, span)
    assert whole.guarded_total == sum(
        [(await guards_seen(backend.store, span, [s])).guarded_total for s in ("acme", "solo")]
    )


# -- counting in bounded memory -------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40)), st.integers(1, 5))
def test_what_comes_most_often_is_counted_in_bounded_memory(things: list[int], capacity: int) -> None:
    heavy: Heavy[int] = Heavy(capacity)
    for position, thing in enumerate(things, 1):
        heavy.add(thing, position, position * 10, "shop/web")
        assert len(heavy.counts) <= 2 * capacity
    true = Counter(things)
    for thing, count in true.items():
        known = heavy.counts.get(thing)
        assert count <= heavy.missed if known is None else known.count <= count <= known.count + heavy.missed
    for thing, known in heavy.counts.items():
        assert known.last == max(at for at, one in enumerate(things, 1) if one == thing)
        assert sum(known.inputs.values()) == known.count
    counts = [known.count for _, known in heavy.most(3)]
    assert counts == sorted(counts, reverse=True)
