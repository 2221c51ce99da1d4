"""Servers that start on databases that are empty, away, full, of another version or not theirs; and what they say."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from contention import CONFIG, Connection
from database_servers import SECRET, Servers, with_secret
from load import clean_environ
from oneself.errors import OneselfError, StoreError, StoreUnavailable, StoreVersion
from oneself.identity import Create
from oneself.store import Reading, Wanted
from oneself.store.place import Place
from oneself.store.postgres import PostgresStore
from oneself.store.postgres.database import OTHER_CONNECTIONS
from oneself.store.postgres.hosts import Hosts
from oneself.store.postgres.schema import VERSION
from own_database import Breakable, breakable
from postgres_server import asked, own_schema
from serving import free_port
from store_factories import SPACE, draft, entry_of

SECONDS = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[Breakable]:
    """A cluster of few connections that these tests may break."""
    with breakable(options="-c max_connections=30 -c superuser_reserved_connections=3") as made:
        yield made


def refused(url: str, folder: Path) -> str:
    """Start a server that must refuse to, with exit code 1 and one message; return that."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "oneself.toml"
    config.write_text(f'database = "{url}"\n{CONFIG}')
    command = [sys.executable, "-m", "oneself", "serve", "--config", str(config), "--port", str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=clean_environ(), cwd=folder)
    assert ended.returncode == 1, ended.stderr
    assert SECRET not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
    [message] = [line for line in ended.stderr.splitlines() if line]
    return message


def failure(url: str) -> OneselfError:
    """Open a store that cannot be opened; return why."""

    async def go() -> OneselfError:
        store = PostgresStore(url)
        try:
            await store.open()
        except OneselfError as error:
            return error
        await store.close()
        raise AssertionError(f"{url} was opened")

    return asyncio.run(go())


async def log_in(port: int, request_id: str = "") -> tuple[int, dict[str, Any], dict[str, str]]:
    """Send a login of a customer; return the status, the body and the headers of the answer."""
    body = {"environment": "production", "known_identities": {"customerid": "c1"}, "request_id": request_id or None}
    connection = Connection(port)
    answer = await connection.post("/v1/login", body)
    connection.close()
    return answer


# -- databases that are there ---------------------------------------------------------------------------------------


def test_servers_that_start_at_once_make_an_empty_database_together(cluster: Breakable, tmp_path: Path) -> None:
    async def go() -> None:
        async with Servers(cluster.database(), tmp_path, 3) as servers:
            found = set()
            for number, port in enumerate(servers.ports):
                status, answer, _ = await log_in(port, f"r{number}")
                assert status == 200
                found.add(answer["mpid"])
            assert len(found) == 1
            servers.stop()
            servers.assert_logs_are_good()
            assert sum('"schema upgraded"' in line for line in servers.log_lines()) == 1

    asyncio.run(go())


def test_many_stores_that_open_at_once_make_an_empty_schema_together() -> None:
    async def go(url: str) -> None:
        stores = [PostgresStore(url) for _ in range(6)]
        await asyncio.gather(*[store.open() for store in stores])
        for store in stores:
            await store.close()

    for _ in range(3):
        asyncio.run(go(own_schema()))


def test_a_database_of_a_newer_version_is_refused_and_one_that_becomes_so_is_left_alone(
    cluster: Breakable, tmp_path: Path
) -> None:
    async def go() -> None:
        url = cluster.database()
        async with Servers(url, tmp_path, 1) as servers:
            newer = f"UPDATE journal_head SET version = {VERSION + 1}"
            await asyncio.to_thread(asked, newer, url=url)
            status, answer, headers = await log_in(servers.ports[0])
            assert status == 503
            assert int(headers["retry-after"]) >= 1
            assert "newer version of Oneself" in answer["errors"][0]["message"]
            await servers.until(0, ready=False)
            message = await asyncio.to_thread(refused, with_secret(url), tmp_path / "late")
            assert "Upgrade Oneself" in message
            assert await asyncio.to_thread(asked, "SELECT count(*) FROM entry", url=url) == [(0,)]
            servers.stop()
            servers.assert_logs_are_good()

    asyncio.run(go())


def test_an_older_schema_is_told_to_those_who_may_not_upgrade_it(cluster: Breakable) -> None:
    async def go() -> None:
        url = cluster.database()
        store = PostgresStore(url)
        await store.open()
        await store.close()
        await asyncio.to_thread(asked, "UPDATE journal_head SET version = 0", url=url)
        reader = PostgresStore(url, read_only=True)
        with pytest.raises(StoreVersion, match="schema 0; start `oneself serve` once to upgrade it"):
            await reader.open()

    asyncio.run(go())


def test_what_is_usual_in_a_database_does_not_make_answers_less_durable_or_commits_cancelled(
    cluster: Breakable,
) -> None:
    async def go() -> None:
        url = cluster.database()
        name = url.rpartition("/")[2]
        usual = {
            "synchronous_commit": "off",
            "statement_timeout": "10ms",
            "default_transaction_isolation": "serializable",
        }
        for setting, value in usual.items():
            await asyncio.to_thread(asked, f"ALTER DATABASE {name} SET {setting} = '{value}'", url=url)
        store = PostgresStore(url)
        await store.open()
        try:
            async with store.database.connection(in_path=True) as connection:
                found = {setting: await connection.fetchval(f"SHOW {setting}") for setting in usual}
        finally:
            await store.close()
        assert found == {
            "synchronous_commit": "on",
            "statement_timeout": "0",
            "default_transaction_isolation": "read committed",
        }

    asyncio.run(go())


# -- databases that are not ------------------------------------------------------------------------------------------


def test_a_database_that_is_down_is_told_at_once(tmp_path: Path) -> None:
    message = refused(f"postgresql://oneself:{SECRET}@127.0.0.1:{free_port()}/shop", tmp_path)
    assert message.startswith("Error: The database 127.0.0.1:")
    assert message.endswith("/shop cannot be reached: Connection refused.")


def test_a_wrong_password_is_told_without_it(cluster: Breakable, tmp_path: Path) -> None:
    asked("CREATE ROLE guest LOGIN PASSWORD 'right'", url=cluster.url)
    rules = cluster.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"host all guest all scram-sha-256\n{before}")
    asked("SELECT pg_reload_conf()", url=cluster.url)
    try:
        url = f"postgresql://guest:{SECRET}@127.0.0.1:{cluster.port}/postgres"
        assert refused(url, tmp_path).endswith("cannot be used: it refuses the password.")
    finally:
        rules.write_text(before)
        asked("SELECT pg_reload_conf()", url=cluster.url)


def test_a_database_without_a_connection_left_is_told_and_served_when_there_is_one(
    cluster: Breakable, tmp_path: Path
) -> None:
    url = cluster.database()
    asked("CREATE ROLE shop LOGIN", url=url)
    asked("GRANT ALL ON SCHEMA public TO shop", url=url)
    url = url.replace("postgres@", "shop@")  # those of its superuser are reserved

    async def go() -> None:
        async with Servers(url, tmp_path, 1) as servers:
            taken = await _all_connections(url)
            refusal = await asyncio.to_thread(failure, url)
            assert isinstance(refusal, StoreUnavailable)
            assert "raise max_connections" in str(refusal)
            await asyncio.to_thread(cluster.terminate_all)  # the server's, too: now it has to find room again
            for connection in taken:
                connection.terminate()
            await servers.all_ready()
            servers.stop()
            servers.assert_logs_are_good()

    asyncio.run(go())


async def _all_connections(url: str) -> list[Any]:
    taken: list[Any] = []
    with suppress(asyncpg.TooManyConnectionsError):
        for _ in range(100):
            taken.append(await asyncpg.connect(url))  # noqa: PERF401
    return taken


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://oneself:open-sesame@host:port/shop",
        "postgresql://oneself:open/sesame@host/shop",
        "postgresql://oneself:open-sesame@host,[::1/shop",
        "postgresql://oneself:open-sesame@host/shop?open-sesame",
        "postgresql://oneself:open-sesame@127.0.0.1/shop?sslmode=open-sesame",
    ],
)
def test_a_url_that_nobody_understands_is_told_without_its_secrets(url: str) -> None:
    error = failure(url)
    assert isinstance(error, StoreError)
    assert str(error).endswith("its URL is not one that PostgreSQL's clients know.")
    for told in (str(error), str(Place(Path(), url)), repr(Place(Path(), url))):
        assert "sesame" not in told


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me:secret@one:5432/shop", "one:5432/shop"),
        ("postgresql://me:secret@one:5432,two:5433/shop?target_session_attrs=any", "one:5432,two:5433/shop"),
        ("postgresql:///shop?host=/run/postgresql&password=secret", "/shop"),
        ("postgresql://one/shop?password=sec@ret", "one/shop"),
        ("postgresql://me:sec?ret@one/shop", "of an unreadable URL"),
        ("postgresql://me:sec@ret@one/shop", "one/shop"),
        ("postgresql://", "of the environment"),
    ],
)
def test_the_name_of_a_database_tells_no_secret(url: str, name: str) -> None:
    assert str(Place(Path(), url)) == f"the database {name}"


# -- databases that go away ------------------------------------------------------------------------------------------


def test_readiness_follows_the_database_though_nobody_asks_for_anything_else(
    cluster: Breakable, tmp_path: Path
) -> None:
    async def go() -> None:
        async with Servers(cluster.database(), tmp_path, 1) as servers:
            assert (await log_in(servers.ports[0], "before"))[0] == 200
            await asyncio.to_thread(cluster.stop)
            try:
                await servers.until(0, ready=False)
                answers = await asyncio.gather(*[log_in(servers.ports[0], f"r{number}") for number in range(100)])
                for status, answer, headers in answers:
                    assert status == 503
                    assert int(headers["retry-after"]) >= 1
                    assert "cannot be reached" in answer["errors"][0]["message"]
            finally:
                await asyncio.to_thread(cluster.start)
            await servers.until(0, ready=True)
            assert (await log_in(servers.ports[0], "r0"))[0] == 200
            servers.stop()
            servers.assert_logs_are_good()
            said = "\n".join(servers.log_lines())
            assert said.index("the database cannot serve") < said.index("the database serves again")

    asyncio.run(go())


def test_look_ups_beyond_the_connections_are_refused_early_and_answers_go_on(cluster: Breakable) -> None:
    async def go() -> None:
        url = cluster.database()
        store = PostgresStore(url)
        await store.open()
        blocking = await asyncpg.connect(url)
        await blocking.execute("BEGIN; LOCK TABLE identity_history")
        try:
            await store.commit(_with_profile(await store.read({SPACE: Wanted()})))
            asked_for = [asyncio.ensure_future(store.profile(7)) for _ in range(OTHER_CONNECTIONS + 4)]
            done, waiting = await asyncio.wait(asked_for, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 4:
                more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            assert {str(one.exception()).rpartition(": ")[2] for one in done} == {"all connections to it are busy."}
            assert store.trouble is None
            assert (await store.read({SPACE: Wanted(mpids=[7])})).views[SPACE].profiles.keys() == {7}
            await blocking.execute("ROLLBACK")
            assert all(found is not None for found in await asyncio.gather(*waiting))
        finally:
            await blocking.close()
            await store.close()

    asyncio.run(go())


def _with_profile(reading: Reading) -> Reading:
    reading.keep(entry_of(draft(Create(7))))
    return reading


# -- several hosts ---------------------------------------------------------------------------------------------------


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a host that takes connections and never says a word, as one behind a broken network."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_host_that_never_answers_does_not_keep_the_next_from_being_asked(cluster: Breakable, deaf: int) -> None:
    async def go() -> None:
        hosts = Hosts(f"postgresql://postgres@127.0.0.1:{deaf},127.0.0.1:{cluster.port}/postgres")
        for _ in range(2):  # the second time the one that served is asked first
            connection = await hosts.connect()
            assert connection._addr == ("127.0.0.1", cluster.port)
            await connection.close()

    asyncio.run(go())


def test_of_several_hosts_the_one_that_takes_writes_is_taken(cluster: Breakable) -> None:
    """A standby before it in the list is not, unless the URL asks for one."""

    async def go() -> None:
        standby = await asyncio.to_thread(cluster.standby)
        try:
            listed = f"127.0.0.1:{standby.port},127.0.0.1:{cluster.port}"
            for writes in (True, False):
                connection = await Hosts(f"postgresql://postgres@{listed}/postgres", writes=writes).connect()
                assert connection._addr == ("127.0.0.1", cluster.port)
                await connection.close()
            asking = f"postgresql://postgres@{listed}/postgres?target_session_attrs=standby"
            connection = await Hosts(asking).connect()
            assert connection._addr == ("127.0.0.1", standby.port)
            await connection.close()
            error = await asyncio.to_thread(failure, standby.url)
            assert isinstance(error, StoreUnavailable)
            assert "no host of it takes writes" in str(error)
            connection = await Hosts(standby.url, writes=False).connect()
            await connection.close()
        finally:
            await asyncio.to_thread(asked, "ALTER SYSTEM RESET synchronous_standby_names", url=cluster.url)
            await asyncio.to_thread(asked, "SELECT pg_reload_conf()", url=cluster.url)
            standby.end()

    asyncio.run(go())
