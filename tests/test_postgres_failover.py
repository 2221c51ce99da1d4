"""The database's machine dies under load and a synchronous standby takes over: nothing that was answered is lost.

``ONESELF_FAULT_ROUNDS`` (2 unless it is given) sets how often; every second time the machine says nothing any more,
as one that is cut off, rather than refuse connections.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from contention import Fight
from database_servers import Servers
from one_history import assert_one_history
from own_database import Breakable

ROUNDS = int(os.environ.get("ONESELF_FAULT_ROUNDS", "2"))

pytestmark = pytest.mark.timeout(300 + 60 * ROUNDS)


def test_a_primary_dies_and_its_synchronous_standby_is_promoted(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("--hypothesis-seed")
    print(f"repeat with: --hypothesis-seed={seed}")
    asyncio.run(_fail_over(tmp_path, random.Random(f"{seed} failover")))


async def _fail_over(folder: Path, dice: random.Random) -> None:
    clusters: list[Breakable] = []
    try:
        primary = Breakable()
        clusters.append(primary)
        await asyncio.to_thread(primary.start)
        name = primary.database().rpartition("/")[2]
        for round_ in range(ROUNDS):
            standby = await asyncio.to_thread(primary.standby)
            clusters.append(standby)
            hosts = [f"127.0.0.1:{cluster.port}" for cluster in (primary, standby)]
            dice.shuffle(hosts)
            said = "" if round_ % 2 else "?target_session_attrs=read-write"  # as it is where nothing is said
            url = f"postgresql://postgres@{','.join(hosts)}/{name}{said}"
            async with Servers(url, folder / str(round_)) as servers:
                strike = primary.freeze if round_ % 2 else primary.kill
                fight = await _lose(servers, strike, standby, f"f{round_}", dice)
                await asyncio.to_thread(servers.stop)
                servers.assert_logs_are_good()
            print(f"{len(fight.account)} answered, refused {dict(fight.refused)}")
            assert not fight.refusals_without_retry_after
            assert all(sent.answered is not None for sent in fight.account), "a request was never answered"
            await asyncio.to_thread(
                assert_one_history, f"{standby.url.removesuffix('/postgres')}/{name}", fight.account,
                folder / f"again {round_}",
            )  # fmt: skip
            primary.end()
            primary = standby
    finally:
        for cluster in clusters:
            cluster.end()


async def _lose(
    servers: Servers, strike: Callable[[], None], standby: Breakable, name: str, dice: random.Random
) -> Fight:
    async with Fight(servers.ports, name, dice.random()) as fight:
        await fight.answers(dice.randrange(100, 300))
        await asyncio.to_thread(strike)
        for number in range(2):
            await servers.until(number, ready=False)
        await asyncio.sleep(dice.uniform(0, 1))
        await asyncio.to_thread(standby.promote)
        await servers.all_ready()
        await fight.answers(100)
    return fight
