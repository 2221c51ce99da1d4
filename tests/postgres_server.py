"""The PostgreSQL that tests run on: one on 127.0.0.1:5432, or one of their own from the machine's binaries.

``ONESELF_TEST_POSTGRES`` names another (a URL whose user may create schemas). Each test gets schemas of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import asyncpg

T = TypeVar("T")

RUNNING = "postgresql://postgres@127.0.0.1:5432/postgres"
_BINARIES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/bin")

_free: list[str] = []
_lent: list[str] = []
_own: list[str] = []


@cache
def server() -> str:
    """Return the URL of a database that tests may make schemas in; start a server where none runs."""
    named = os.environ.get("ONESELF_TEST_POSTGRES")
    if named:
        return named
    if _answers(RUNNING):
        return RUNNING
    return Cluster(Path(tempfile.mkdtemp(prefix="oneself-postgres-")), remove=True).start()


def _answers(url: str) -> bool:
    try:
        return bool(asked("SELECT has_database_privilege(current_database(), 'CREATE')", url=url)[0][0])
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Cluster:
    """A PostgreSQL server of the tests' own, in a folder; it ends with the tests at the latest."""

    def __init__(self, folder: Path, *, remove: bool = False, options: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self._remove = remove
        self._options = options
        self._bin = binaries()
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> str:
        """Make the cluster where it is not there yet, start it, and return its URL once it answers."""
        data = self.folder / "data"
        if not data.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._as:
                shutil.chown(self.folder, "postgres")
            self.run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D", str(data))
            atexit.register(self._end)
        listen = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        options, log = f"{listen} {self._options}", str(self.folder / "log")
        self.run("pg_ctl", "-D", str(data), "-w", "-l", log, "-o", options, "start")
        end = time.monotonic() + 30
        while not _answers(self.url):
            assert time.monotonic() < end, Path(log).read_text()
            time.sleep(0.1)
        return self.url

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: ``fast`` ends its connections, ``immediate`` is a crash."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as a user that it allows."""
        command = [*self._as, str(self._bin / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, timeout=120, check=False)
        assert done.returncode == 0, f"{program}: {done.stderr or done.stdout}"

    def _end(self) -> None:
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        if self._remove:
            shutil.rmtree(self.folder, ignore_errors=True)


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs on this machine."""
    found = [folder for pattern in _BINARIES for folder in sorted(Path("/").glob(pattern[1:]), reverse=True)]
    for folder in found:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    raise AssertionError(
        "These tests need PostgreSQL: start one on 127.0.0.1:5432 (user postgres, no password), name one in "
        "ONESELF_TEST_POSTGRES, or install its programs (Debian: apt-get install postgresql)."
    )


def fresh_schema() -> str:
    """Return the URL of an empty schema, which goes back after the test; its tables may be there already."""
    name = _free.pop() if _free else _create()
    _lent.append(name)
    return in_schema(name)


def own_schema() -> str:
    """Return the URL of a new schema that the test may do anything to; it is dropped after the test."""
    name = _create()
    _own.append(name)
    return in_schema(name)


def _create() -> str:
    name = f"test_{uuid4().hex[:16]}"
    asked(f'CREATE SCHEMA "{name}"')
    return name


def in_schema(name: str) -> str:
    """Return the URL whose tables are in a schema."""
    url = server()
    return f"{url}{'&' if '?' in url else '?'}search_path={quote(name)}"


def lent() -> tuple[int, int]:
    """Return how many schemas are in use by now: some that go back, and some that are dropped."""
    return len(_lent), len(_own)


def take_back(but: tuple[int, int] = (0, 0)) -> None:
    """Empty the schemas that a test has used, and drop its own, ``but`` so many that were in use before."""
    while len(_lent) > but[0]:
        name = _lent.pop()
        tables_there = f"information_schema.tables WHERE table_schema = '{name}' AND table_type = 'BASE TABLE'"
        rows = asked(f"SELECT table_name FROM {tables_there}")
        tables = {row[0] for row in rows} - {"journal_head"}
        if tables:
            emptied = [f'DELETE FROM "{name}"."{table}"' for table in sorted(tables)]
            asked("; ".join([*emptied, f'UPDATE "{name}".journal_head SET position = 0']), simple=True)
        _free.append(name)
    while len(_own) > but[1]:
        asked(f'DROP SCHEMA "{_own.pop()}" CASCADE')


def drop_schemas() -> None:
    """Drop every schema."""
    _own.extend(_free)
    _free.clear()
    take_back()


def asked(statement: str, *, url: str = "", simple: bool = False) -> list[Any]:
    """Run a statement, or ``simple`` ones with ``;`` between, from any thread and loop; return the rows."""

    async def run(connection: Any) -> list[Any]:
        if simple:
            await connection.execute(statement)
            return []
        rows: list[Any] = await connection.fetch(statement)
        return rows

    return connected(run, url=url)


@contextmanager
def held(statement: str, *, url: str = "") -> Iterator[None]:
    """Keep the locks that a statement takes while the block runs."""
    holds, over = threading.Event(), threading.Event()

    async def hold(connection: Any) -> None:
        async with connection.transaction():
            await connection.execute(statement)
            holds.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=connected, args=(hold,), kwargs={"url": url})
    thread.start()
    try:
        assert holds.wait(20)
        yield
    finally:
        over.set()
        thread.join()


def connected(work: Callable[[Any], Awaitable[T]], *, url: str = "") -> T:
    """Do some work on a connection of its own, on a loop of its own."""

    async def connect() -> T:
        connection = await asyncpg.connect(url or server(), timeout=10)
        try:
            return await work(connection)
        finally:
            await connection.close()

    done: list[T] = []
    failed: list[BaseException] = []

    def go() -> None:
        try:
            done.append(asyncio.run(connect()))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=go)  # a loop may run in this one
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
