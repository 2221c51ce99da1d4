"""Running jobs: by themselves, again after a failure, after the calls that wait, and stopped between two steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from engine_at_work import Faulty, working
from oneself.engine import Call, Engine
from oneself.errors import Overloaded, StoreDamaged, StoreUnavailable
from oneself.identity import AliasRequest, Request
from oneself.jobs import AliasJob, ExpiryJob, Job, Jobs, RetentionJob
from oneself.jobs import runner as running_jobs
from profile_world import NOW_MS
from store_factories import SPACE
from upkeep_world import CONFIG, DAY_MS

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def jobs_at(folder: Path, *made: type[Job], now_ms: int = NOW_MS) -> AsyncIterator[tuple[Jobs, Engine, Faulty]]:
    """Jobs that run, those given or all, without a rest between rounds."""
    async with working(folder, scopes=dict(CONFIG.scopes), clock=lambda: now_ms) as (engine, store):
        jobs = Jobs(engine, CONFIG, lambda: now_ms)
        if made:
            jobs.jobs = [kind(jobs.jobs[0].work) for kind in made]
        for job in jobs.jobs:
            job.pause_seconds, job.rest_seconds = 0.0, 0.001
        await jobs.start()
        try:
            yield jobs, engine, store
        finally:
            async with asyncio.timeout(20):
                await jobs.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens by itself."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


class Endless(Job):
    """A job whose round never ends."""

    name = "endless"
    steps: ClassVar[int] = 0

    async def round(self) -> AsyncGenerator[None]:
        while True:
            Endless.steps += 1
            yield
            await asyncio.sleep(0)


class Troubled(Job):
    """A job whose rounds fail as a test says, and then don't."""

    name = "troubled"
    errors: ClassVar[list[Exception]] = []
    rounds: ClassVar[int] = 0

    async def round(self) -> AsyncGenerator[None]:
        Troubled.rounds += 1
        if self.errors:
            raise self.errors.pop(0)
        yield


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no job remember another test, and each be tried again at once."""
    monkeypatch.setattr(running_jobs, "RETRY_SECONDS", 0.001)
    Endless.steps, Troubled.rounds = 0, 0
    Troubled.errors = []


async def two_users(engine: Engine) -> tuple[int, int]:
    """Make two profiles."""
    made = [Call(SPACE, "shop/web", Request("login", {"customerid": name})) for name in ("a", "b")]
    first, second = await asyncio.gather(*map(engine.submit, made))
    assert first.decision.mpid is not None
    assert second.decision.mpid is not None
    return first.decision.mpid, second.decision.mpid


def alias(source: int, destination: int) -> Call:
    return Call(SPACE, "shop/web", Request("alias", alias=AliasRequest(source, destination)))


def metric(jobs: Jobs, name: str) -> float | None:
    """Return a number as Prometheus gets it."""
    registry = CollectorRegistry()
    registry.register(jobs)
    for line in generate_latest(registry).decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return None


async def test_a_server_has_every_job_at_work(tmp_path: Path) -> None:
    async with jobs_at(tmp_path) as (jobs, _, _):
        assert [type(job) for job in jobs.jobs] == [AliasJob, RetentionJob, ExpiryJob]


async def test_aliases_take_effect_by_themselves_and_are_counted(tmp_path: Path) -> None:
    scopes = {name: msgspec.structs.replace(settings, alias_delay=0) for name, settings in CONFIG.scopes.items()}
    async with working(tmp_path, scopes=scopes, clock=lambda: NOW_MS) as (engine, store):
        jobs = Jobs(engine, CONFIG, lambda: NOW_MS)
        jobs.jobs[0].rest_seconds = 0.001
        await jobs.start()
        a, b = await two_users(engine)
        await engine.submit(alias(a, b))
        await engine.submit(alias(b, a))
        await until(lambda: sum(jobs.counts.done.values()) == 2)
        await jobs.stop()
        assert [row.outcome for row in await store.aliases(a)] == ["dropped", "applied"]
        assert metric(jobs, 'oneself_upkeep_total{what="alias_applied"}') == 1
        assert metric(jobs, 'oneself_upkeep_total{what="alias_dropped"}') == 1


async def test_a_job_that_fails_is_tried_again_and_told(tmp_path: Path) -> None:
    Troubled.errors = [
        Overloaded(0), StoreUnavailable("The disk is full.", 0), StoreUnavailable("The disk is full.", 0),
        StoreDamaged("batch 7 does not match its checksum"), ZeroDivisionError("a fault of ours"),
    ]  # fmt: skip
    with capture_logs() as logs:
        async with jobs_at(tmp_path, Troubled, Endless) as (jobs, _, _):
            await until(lambda: Troubled.rounds >= 8)
            assert jobs.counts.failures == {"troubled": 5}
            assert metric(jobs, 'oneself_job_failures_total{job="troubled"}') == 5
    told = [(line["log_level"], line["event"]) for line in logs if line.get("job") == "troubled"]
    assert told == [
        ("warning", "a job has to wait"), ("error", "a job cannot go on"), ("error", "a job failed"),
    ]  # fmt: skip
    assert Endless.steps > 1


async def test_a_job_whose_commits_fail_does_its_work_when_they_succeed(tmp_path: Path) -> None:
    async with jobs_at(tmp_path, AliasJob, now_ms=NOW_MS + 2 * DAY_MS) as (jobs, engine, store):
        a, b = await two_users(engine)
        engine._clock = lambda: NOW_MS
        position = (await engine.submit(alias(a, b))).position
        engine._clock = lambda: NOW_MS + 2 * DAY_MS
        store.fault = StoreUnavailable("The disk is full.", 0)
        failures = jobs.counts.failures["aliases"]
        await until(lambda: jobs.counts.failures["aliases"] > failures)
        store.fault = None
        await until(lambda: bool(jobs.counts.done))
        found = await store.alias(position)
        assert found is not None
        assert found[1].outcome == "applied"


async def test_a_job_is_stopped_between_two_steps(tmp_path: Path) -> None:
    async with jobs_at(tmp_path, Endless, Troubled) as (jobs, _, _):
        await until(lambda: Endless.steps > 3)
        async with asyncio.timeout(20):
            await jobs.stop()
        steps = Endless.steps
        await asyncio.sleep(0.01)
        assert Endless.steps == steps
        await jobs.start()
        await until(lambda: Endless.steps > steps)


async def test_a_job_lets_the_calls_go_first_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with jobs_at(tmp_path, Endless) as (_, _, _):
        await until(lambda: Endless.steps > 3)
        monkeypatch.setattr(Engine, "waiting", property(lambda _: running_jobs.BUSY + 1))
        await asyncio.sleep(0.02)
        steps = Endless.steps
        await asyncio.sleep(0.02)
        assert Endless.steps == steps
        monkeypatch.undo()
        await until(lambda: Endless.steps > steps)


async def test_an_alias_of_a_scope_that_is_not_configured_any_more_waits(tmp_path: Path) -> None:
    scopes: dict[str, Any] = {**CONFIG.scopes, "old": CONFIG.scopes["acme"]}
    async with working(tmp_path, scopes=scopes, clock=lambda: NOW_MS) as (engine, store):
        a, b = await two_users(engine)
        old = [
            (await engine.submit(Call("old/production", "shop/web", Request("login", {"customerid": name})))).decision
            for name in "ab"
        ]
        asked = AliasRequest(old[0].mpid or 0, old[1].mpid or 0)
        waits = (await engine.submit(Call("old/production", "x/y", Request("alias", alias=asked)))).position
        position = (await engine.submit(alias(a, b))).position
        later = Jobs(engine, CONFIG, lambda: NOW_MS + DAY_MS)
        engine._clock = lambda: NOW_MS + DAY_MS
        async for _ in later.jobs[0].round():
            pass
        outcomes = [await store.alias(at) for at in (waits, position)]
        assert [of[1].outcome for of in outcomes if of is not None] == ["waiting", "applied"]
