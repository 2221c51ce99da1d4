"""Servers, connections and databases that die under load: what was answered holds, and is there once.

Each fault strikes ``ONESELF_FAULT_ROUNDS`` times (2 unless it is given), and after each time all of it is checked.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contention import Fight
from database_servers import Servers, watched
from one_history import assert_one_history, wait_for_aliases
from own_database import Breakable, breakable
from tcp_proxy import Proxy, proxied

ROUNDS = int(os.environ.get("ONESELF_FAULT_ROUNDS", "2"))

pytestmark = pytest.mark.timeout(300 + 60 * ROUNDS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Breakable]:
    """A cluster that these tests may break."""
    with breakable() as made:
        yield made


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Dice with the seed of this run, which is printed."""
    seed = request.config.getoption("--hypothesis-seed")
    print(f"repeat with: --hypothesis-seed={seed}")
    return random.Random(f"{seed} {request.node.name}")


class Scene(NamedTuple):
    """Where a fault strikes; ``fights`` are all that were fought, and will be checked."""

    servers: Servers
    dice: random.Random
    fights: list[Fight]

    def fight(self, ports: Sequence[int] = (), **options: Any) -> Fight:
        """Return a new fight, on all servers or on some."""
        made = Fight(ports or self.servers.ports, f"f{len(self.fights)}", self.dice.random(), **options)
        self.fights.append(made)
        return made


Fault = Callable[[Scene], Awaitable[None]]


async def strike(scene: Scene, fault: Fault, url: str, folder: Path) -> None:
    """Let a fault strike servers under load, again and again; each time they must come back by themselves."""
    for round_ in range(ROUNDS):
        async with scene.fight() as fight:
            await fight.answers(scene.dice.randrange(100, 300))
            await fault(scene)
            await scene.servers.all_ready()
            await fight.answers(100)
        account = [sent for fight in scene.fights for sent in fight.account]
        assert not any(fight.refusals_without_retry_after for fight in scene.fights)
        assert all(sent.answered is not None for sent in account), "a request was never answered"
        await asyncio.to_thread(wait_for_aliases, url)
        await asyncio.to_thread(assert_one_history, url, account, folder / f"again {round_}")
    await asyncio.to_thread(scene.servers.stop)
    scene.servers.assert_logs_are_good()
    print(f"answered and refused: {[(len(fight.account), dict(fight.refused)) for fight in scene.fights]}")


def run(url: str, folder: Path, fault: Fault, dice: random.Random) -> None:
    """Run servers on a database, and let a fault strike them."""

    async def go() -> None:
        async with Servers(url, folder) as servers:
            await strike(Scene(servers, dice, []), fault, url, folder)

    asyncio.run(go())


# -- servers --------------------------------------------------------------------------------------------------------


def test_a_server_is_killed_and_the_others_go_on(cluster: Breakable, tmp_path: Path, dice: random.Random) -> None:
    async def kill(scene: Scene) -> None:
        servers, number = scene.servers, scene.dice.randrange(2)
        servers.kill(number)
        async with scene.fight([servers.ports[1 - number]], clients=4) as fight:
            await fight.answers(40)
        assert not fight.refused
        servers.start(number)

    run(cluster.database(), tmp_path, kill, dice)


def test_a_server_that_stands_still_holds_nobody_up(cluster: Breakable, tmp_path: Path, dice: random.Random) -> None:
    async def freeze(scene: Scene) -> None:
        servers, dice = scene.servers, scene.dice
        for _ in range(5):
            number = dice.randrange(2)
            servers.signal(number, signal.SIGSTOP)
            try:
                async with scene.fight([servers.ports[1 - number]], clients=4) as fight:
                    await fight.answers(40)
            finally:
                servers.signal(number, signal.SIGCONT)
            await asyncio.sleep(dice.uniform(0, 0.1))

    run(cluster.database(), tmp_path, freeze, dice)


# -- the database ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_database_is_restarted(cluster: Breakable, tmp_path: Path, dice: random.Random, mode: str) -> None:
    async def restart(scene: Scene) -> None:
        servers = scene.servers
        async with watched(servers, 0) as said:
            await asyncio.to_thread(cluster.stop, mode)
            try:
                for number in range(2):
                    await servers.until(number, ready=False)
                await asyncio.sleep(scene.dice.uniform(0, 2))
            finally:
                await asyncio.to_thread(cluster.start)
            await servers.all_ready()
            assert False in said()

    run(cluster.database(), tmp_path, restart, dice)


# -- connections ----------------------------------------------------------------------------------------------------


def test_all_connections_are_cut_by_the_database(cluster: Breakable, tmp_path: Path, dice: random.Random) -> None:
    async def cut(scene: Scene) -> None:
        for _ in range(12):
            await asyncio.to_thread(cluster.terminate_all)
            await asyncio.sleep(scene.dice.uniform(0, 0.2))

    run(cluster.database(), tmp_path, cut, dice)


def test_connections_are_cut_in_the_middle_of_answers(
    cluster: Breakable, tmp_path: Path, dice: random.Random
) -> None:
    """Whether what was under way is durable, the servers have to find out by themselves."""
    url = cluster.database()

    async def go() -> None:
        async with proxied(cluster.port, dice) as proxy:

            async def swallow(_: Scene) -> None:
                for _ in range(6):
                    proxy.swallow = dice.choice((0.02, 0.1, 0.3))
                    await asyncio.sleep(dice.uniform(0.1, 0.4))
                    proxy.swallow = 0.0
                    proxy.cut()
                    await asyncio.sleep(dice.uniform(0, 0.2))
                assert proxy.swallowed

            async with Servers(_through(url, cluster, proxy), tmp_path) as servers:
                await strike(Scene(servers, dice, []), swallow, url, tmp_path)

    asyncio.run(go())


def _through(url: str, cluster: Breakable, proxy: Proxy) -> str:
    return url.replace(f":{cluster.port}/", f":{proxy.port}/")
