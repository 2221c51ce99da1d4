"""The journal tells it all: what was answered, what the store knows, and how each decision came about."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import get_args

import pytest

from engine_at_work import logout, running, working
from histories import SCOPES, Caller, counted, in_bursts
from journal_fold import assert_store_is, assert_unique, fold_of, replay
from oneself.engine import Call, Engine, Outcome
from oneself.identity import PolicySettings, build
from oneself.identity.policy import Strategy
from store_factories import BACKENDS, Backend, Mixed

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def play(backend: Backend, caller: Caller, engine: Engine, groups: int) -> list[tuple[Call, Outcome]]:
    """Submit a random history in groups of random sizes; return what each call came to."""
    dice = caller.dice
    made: list[tuple[Call, Outcome]] = []
    for _ in range(groups):
        calls = [caller.call() for _ in range(1 + int(dice.expovariate(0.3)))]
        for asked, outcome in zip(calls, await in_bursts(engine, dice, calls), strict=True):
            assert isinstance(outcome, Outcome), repr(outcome)
            made.append((asked, outcome))
            caller.learn(asked, outcome.decision.mpid)
        await backend.settle()
        engine.store = backend.store
    return made


@pytest.mark.parametrize("kind", [Mixed, *BACKENDS], ids=lambda kind: kind.__name__)
async def test_a_store_comes_to_what_its_journal_says_and_the_journal_to_what_was_answered(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest, small_generations: None
) -> None:
    for round_ in range(4 if kind is Mixed else 1):
        dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} {kind.__name__} {round_}")
        backend = kind(tmp_path / str(round_))
        if isinstance(backend, Mixed):
            backend.dice = dice
        await backend.start()
        async with running(backend.store) as engine:
            made = await play(backend, Caller(dice), engine, 80)
        fold = await fold_of(backend.store)
        await assert_store_is(backend.store, fold, margin=dice.randrange(3))
        for scope, settings in SCOPES.items():
            assert_unique(fold, scope, build(settings))
        assert await replay(backend.store) == fold.position
        assert fold.position > 100
        for asked, outcome in made:
            if outcome.position:
                entry = await backend.store.entry(outcome.position)
                assert entry is not None
                assert (entry.decision, entry.request) == (outcome.decision, outcome.request)
                assert outcome.repeated or entry.request == asked.request
        await backend.reopen()
        await assert_store_is(backend.store, fold)
        await backend.stop()


async def test_a_journal_of_changing_rules_is_decided_again_each_entry_by_its_own(
    tmp_path: Path, request: pytest.FixtureRequest, small_generations: None
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} changing rules")
    backend, caller, mpids = Mixed(tmp_path), Caller(dice), counted()
    backend.dice = dice
    await backend.start()
    for _ in range(6):
        strategies = dice.choices(get_args(Strategy), k=len(SCOPES))
        scopes = {
            scope: PolicySettings(strategy, max_known_profiles_per_value=dice.choice((0, 2, 20)), alias_delay=0)
            for scope, strategy in zip(SCOPES, strategies, strict=True)
        }
        async with running(backend.store, scopes, mpids=mpids) as engine:
            await play(backend, caller, engine, 20)
    fold = await fold_of(backend.store)
    await assert_store_is(backend.store, fold)
    assert await replay(backend.store) == fold.position
    await backend.stop()


@pytest.fixture
def small_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the embedded engine write its tables after every few rows, not only when a test says so."""
    monkeypatch.setattr("oneself.store.embedded.store.FLUSH_ROWS", 150)


async def test_the_order_of_the_journal_is_that_of_the_answers(tmp_path: Path) -> None:
    """Concurrent callers: an answer's position is past every position answered before the call was made."""
    dice = random.Random(5)
    caller = Caller(dice)
    async with working(tmp_path) as (engine, store):

        async def client(number: int) -> None:
            last = 0
            for step in range(12):
                outcome = await engine.submit(caller.call() if dice.random() < 0.7 else logout(f"c{number} {step}"))
                if outcome.position and not outcome.repeated:
                    assert outcome.position > last
                    last = outcome.position
                if dice.random() < 0.5:
                    await asyncio.sleep(0)

        await asyncio.gather(*[client(number) for number in range(20)])
        assert await replay(store) == store.position
        assert max(store.groups) > 1
        await assert_store_is(store, await fold_of(store))
