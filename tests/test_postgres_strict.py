"""Several server processes on one PostgreSQL: what they answer to clients that fight is one history.

``ONESELF_FAULT_ROUNDS`` (1 unless it is given) sets how long they fight: some seconds a round.
"""

from __future__ import annotations

import asyncio
import math
import os
from pathlib import Path

import pytest

from contention import Fight
from database_servers import Servers
from one_history import assert_one_history
from postgres_server import own_schema
from strict_order import Read, Write, misplaced_reads, misplaced_writes, windows

ROUNDS = int(os.environ.get("ONESELF_FAULT_ROUNDS", "1"))
SECONDS = 5.0


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """The seed of this run, which is printed."""
    seed = str(request.config.getoption("--hypothesis-seed"))
    print(f"repeat with: --hypothesis-seed={seed}")
    return seed


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_what_servers_answer_to_clients_that_fight_is_one_history_in_real_times_order(
    tmp_path: Path, seed: str
) -> None:
    for round_ in range(ROUNDS):
        url, folder = own_schema(), tmp_path / str(round_)
        fight = asyncio.run(_fight(url, folder, f"round {round_} {seed}"))
        assert 0 not in fight.refused, "there was no fault, and no connection was to be lost"
        assert fight.refused.total() < len(fight.account) / 20, "where servers are in each other's way, few give up"
        assert all(sent.answered is not None for sent in fight.account)
        length = assert_one_history(url, fight.account, folder / "again")
        print(f"{len(fight.account)} answers, {length} decisions")


async def _fight(url: str, folder: Path, seed: str) -> Fight:
    async with Servers(url, folder, 3) as servers:
        async with Fight(servers.ports, "f", seed) as fight:
            await asyncio.sleep(SECONDS)
        servers.stop()
        servers.assert_logs_are_good()
    return fight


# -- the judge itself -----------------------------------------------------------------------------------------------


def test_writes_that_overlap_may_stand_in_either_order() -> None:
    for first, second in ((1, 2), (2, 1)):
        assert misplaced_writes([Write("a", first, 0.0, 2.0), Write("b", second, 1.0, 3.0)]) == []


def test_a_write_that_was_sent_after_the_answer_to_another_must_stand_after_it() -> None:
    early, late = Write("a", 2, 0.0, 1.0), Write("b", 1, 1.5, 2.0)
    assert misplaced_writes([late, early]) == [(early, late)]
    assert misplaced_writes([early._replace(position=1), late._replace(position=2)]) == []


def test_what_was_never_answered_binds_nobody_after_it() -> None:
    lost, late = Write("a", 2, 0.0, math.inf), Write("b", 1, 1.5, 2.0)
    assert misplaced_writes([lost, late]) == []
    assert misplaced_writes([Write("c", 3, 0.0, 1.0), lost._replace(sent=2.0)]) != []


def test_a_read_sees_what_was_answered_before_it_and_nothing_that_was_sent_after_it() -> None:
    writes = [Write("a", 1, 0.0, 1.0), Write("b", 2, 2.0, 5.0), Write("c", 3, 6.0, 7.0)]
    reads = [Read("r", 3.0, 4.0), Read("s", 5.5, 5.6), Read("t", 8.0, 9.0)]
    assert windows(reads, writes, 3) == [(1, 2), (2, 2), (3, 3)]


def test_a_read_may_not_see_less_than_one_that_was_answered_before_it() -> None:
    reads = [Read("r", 0.0, 1.0), Read("s", 2.0, 3.0)]
    assert misplaced_reads(reads, [[2], [1]]) == [reads[1]]
    assert misplaced_reads(reads, [[1, 2], [1]]) == []
    overlapping = [reads[0], Read("s", 0.5, 3.0)]
    assert misplaced_reads(overlapping, [[2], [1]]) == []


def test_a_read_without_a_place_is_misplaced() -> None:
    read = Read("r", 0.0, 1.0)
    assert misplaced_reads([read], [[]]) == [read]
