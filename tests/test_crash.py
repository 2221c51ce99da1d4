"""Whatever was answered is kept: through kills and power cuts, at any moment, again and again.

``ONESELF_CRASH_ROUNDS`` sets how often the server is killed; 15 times unless it is given.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crash_worker import __file__ as WORKER
from disk import disk
from histories import SCOPES, Caller, counted, in_bursts
from journal_fold import assert_consistent, assert_store_is, fold_of, replay
from load import Sent, Traffic, assert_answers_hold, customers_of, end, launch, send_again, send_all
from oneself.engine import Engine, Outcome, adopt_policies
from oneself.store import EmbeddedStore
from serving import Server, shop
from store_factories import embedded

ROUNDS = int(os.environ.get("ONESELF_CRASH_ROUNDS", "15"))
ASKED_AGAIN = 150


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """The seed of this run, which is printed."""
    seed = str(request.config.getoption("--hypothesis-seed"))
    print(f"repeat with: --hypothesis-seed={seed}")
    return seed


def test_what_a_killed_server_had_answered_holds(tmp_path: Path, seed: str) -> None:
    dice = random.Random(seed)
    account: list[Sent] = []
    for round_ in range(ROUNDS):
        server = launch(shop(), tmp_path)
        try:
            account = _ask_again(server, account, dice)
            account += asyncio.run(
                _load_until_killed(server, Traffic(f"round {round_}", seed), dice.uniform(0.05, 0.5))
            )
        finally:
            end(server)
        assert any(sent.status == 200 for sent in account)
        customers_of(account)
        if round_ % 4 == 0:
            assert_answers_hold(account, assert_consistent(tmp_path / "data", ask_store=False))
    server = launch(shop(), tmp_path)
    try:
        _ask_again(server, account, dice)
        for customer, mpid in customers_of(account).items():
            assert server.look({"customerid": customer})["mpid"] == mpid
        assert server.stop() == 0
    finally:
        end(server)
    fold = assert_consistent(tmp_path / "data")
    assert_answers_hold(account, fold)
    assert asyncio.run(_replay(tmp_path / "data")) == fold.position


async def _load_until_killed(server: Server, traffic: Traffic, seconds: float) -> list[Sent]:
    sending = asyncio.create_task(send_all(server.port, traffic))
    await asyncio.sleep(seconds)
    server.process.kill()
    return await sending


def _ask_again(server: Server, account: list[Sent], dice: random.Random) -> list[Sent]:
    """Repeat requests: the answered ones get the same answer, the others one now."""
    answered = [sent for sent in account if sent.status == 200]
    some = dice.sample(answered, min(len(answered), ASKED_AGAIN))
    for sent, again in zip(some, asyncio.run(send_again(server.port, some)), strict=True):
        assert (again.status, again.mpid) == (200, sent.mpid), sent
    lost = asyncio.run(send_again(server.port, [sent for sent in account if sent.status == 0]))
    assert {sent.status for sent in lost} <= {200}
    return answered + lost


async def _replay(folder: Path) -> int:
    store = EmbeddedStore(folder, read_only=True)
    await store.open()
    try:
        return await replay(store)
    finally:
        await store.close()


def test_a_process_killed_while_it_writes_its_tables_loses_nothing(tmp_path: Path, seed: str) -> None:
    dice, data, answered = random.Random(seed), tmp_path / "data", dict[tuple[str, str], str]()
    for round_ in range(ROUNDS):
        name = f"{seed}-{round_}"
        with (tmp_path / "answers").open("wb") as answers:
            worker = subprocess.Popen([sys.executable, WORKER, str(data), name], stdout=answers)
            _wait_for_answers(tmp_path / "answers", worker)
            time.sleep(dice.uniform(0, 0.3))
            worker.kill()
            assert worker.wait() == -9
        for line in (tmp_path / "answers").read_text().splitlines():
            input_, request_id, mpid = line.split()
            answered[input_, request_id] = mpid
        fold = assert_consistent(data, ask_store=round_ % 5 == 4 or round_ == ROUNDS - 1)
        for asked, mpid in answered.items():
            assert str(fold.answers[fold.requests[asked]]) == mpid
    assert asyncio.run(_replay(data)) == fold.position


def _wait_for_answers(answers: Path, worker: subprocess.Popen[bytes]) -> None:
    while not answers.stat().st_size:
        assert worker.poll() is None
        time.sleep(0.01)


def test_only_what_was_synced_survives_a_power_cut_and_that_is_all_that_was_answered(
    tmp_path: Path, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "FLUSH_ROWS", 60)
    monkeypatch.setattr(embedded, "FLUSH_SECONDS", 0.005)
    for round_ in range(3):
        folder = tmp_path / str(round_)
        folder.mkdir()
        assert asyncio.run(_cut_the_power(folder, f"{seed} {round_}")) > 5


async def _cut_the_power(folder: Path, seed: str) -> int:
    """Run a history, look at what power cuts in it would have left, and return how many there were."""
    dice, moments = random.Random(seed), random.Random(f"{seed} moments")
    cuts: list[tuple[Path, int]] = []
    answered = 0
    with disk() as below:

        def perhaps(what: str, name: str) -> None:
            if moments.random() < 0.02:
                cuts.append((folder / f"cut {len(cuts)}", answered))
                below.power_cut(folder / "data", cuts[-1][0], moments)

        store = EmbeddedStore(folder / "data")
        await store.open()
        below.fault = perhaps
        engine = Engine(store, await adopt_policies(store, SCOPES, lambda: 0), mpids=counted())
        await engine.start()
        caller = Caller(dice)
        for _ in range(50):
            calls = [caller.call() for _ in range(1 + int(dice.expovariate(0.2)))]
            for asked, outcome in zip(calls, await in_bursts(engine, dice, calls), strict=True):
                assert isinstance(outcome, Outcome), repr(outcome)
                caller.learn(asked, outcome.decision.mpid)
                answered = max(answered, outcome.position)
            await asyncio.sleep(dice.choice((0, 0, 0.004)))
        await engine.stop()
        await store.close()
    for left, before in cuts:
        store = EmbeddedStore(left)
        await store.open()
        fold = await fold_of(store)
        assert fold.position >= before
        await assert_store_is(store, fold)
        await store.close()
    return len(cuts)
