"""Connections to a database: a few for the path of answers, and others, so that neither waits for the other.

Nothing of an answer depends on a session: a transaction says all that it needs, and any pooler may stand between.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, TypeVar

import asyncpg

from oneself.errors import StoreError, StoreUnavailable
from oneself.store.postgres.errors import URL_IS_WRONG, Address, is_lost, is_passing, plain_errors
from oneself.store.postgres.hosts import CONNECT_SECONDS, Hosts

__all__ = ["BEGIN", "ONE_MOMENT", "Connection", "Database", "Record", "Snapshot", "pause"]

T = TypeVar("T")
Connection = Any
"""A connection of the driver, which has no types."""
Record = Any

ONE_MOMENT: Final = "ISOLATION LEVEL REPEATABLE READ, READ ONLY"
"""The mode of a transaction whose statements all see the same moment."""

PATH_CONNECTIONS: Final = 4
"""For the path of answers: one group commits, and some read."""

OTHER_CONNECTIONS: Final = 8
"""For everything else."""

ACQUIRE_SECONDS: Final = 2.0
"""So long a look-up waits for a connection."""

STATEMENT_SECONDS: Final = 30.0
"""So long what is done on a connection may take."""

PATH_SECONDS: Final = 10.0
"""So long, where an answer waits for it."""

PROOF_SECONDS: Final = 5.0
"""So long a proof that the database takes writes may take."""

RETRY_SECONDS: Final = 1.5
"""So long what failed for a passing reason is tried again before somebody is told."""

# Nothing that is right depends on these, and an engine that has no such settings does without.
# - Statements are for many keys at once and their plans do not depend on how many, so planning them anew for each
#   call, and compiling those plans, is wasted.
# - A statement that waits for a lock gives up by itself, before its server gives it up: so there never are many that
#   wait for nobody.
# - What a server holds that has gone, or stands still, is soon let go.
# - A commit is never cancelled: it could then be there and not yet be on the standby that it is waiting for.
# - An answer means that the data is on disk, whatever is usual in this database.
_TUNING: Final = (
    "SET jit = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET default_transaction_isolation = 'read committed'",
    "SET lock_timeout = '5s'",
    "SET client_connection_check_interval = '2s'",
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    "SET statement_timeout = 0",
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
)
_UNKNOWN_SETTING: Final = frozenset({"42704", "0A000", "22023", "42501"})

# A server that stands still, or is cut off, must not hold the others up for longer than this.
_IDLE: Final = "SET LOCAL idle_in_transaction_session_timeout = '5s'"
BEGIN: Final = f"BEGIN ISOLATION LEVEL READ COMMITTED; {_IDLE}"


class Parsing(asyncpg.Connection):  # type: ignore[misc]
    """A connection that knows which statements it had ``parsed``; all that it ran are kept so."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parsed: set[str] = set()


class Database:
    """A database that is open between ``open`` and ``close``."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._path: Any = None
        self._others: Any = None
        self._kept: list[Connection] = []  # out of the pool of the path, and at rest: to take one costs nothing
        self._generation = 0  # of connections; those of an earlier one are not kept
        self._asking = 0  # so many wait for one of the path

    async def open(self) -> None:
        """Connect; raise ``StoreUnavailable`` or ``StoreError`` where that cannot be."""
        try:
            hosts = Hosts(self.address.url)
            self._path = await self._pool(hosts, PATH_CONNECTIONS)
            self._others = await self._pool(hosts, OTHER_CONNECTIONS)
            with plain_errors(self.address):
                async with self.connection(in_path=True):
                    pass
        except ValueError:  # whose words may quote the URL
            raise StoreError(URL_IS_WRONG.format(self.address.name)) from None

    async def close(self) -> None:
        """Close every connection."""
        await self._put_back()
        pools, self._path, self._others = (self._path, self._others), None, None
        for pool in pools:
            if pool is not None:
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await pool.close()
                except (TimeoutError, OSError, asyncpg.InterfaceError):
                    pool.terminate()

    async def _pool(self, hosts: Hosts, most: int) -> Any:
        return await asyncpg.create_pool(
            connect=hosts.connect, min_size=0, max_size=most, init=_tune, reset=_leave,
            connection_class=Parsing, max_cached_statement_lifetime=0, statement_cache_size=1_000,
        )  # fmt: skip

    # -- statements --------------------------------------------------------------------------------------------

    async def fetch(self, sql: str, *arguments: object, in_path: bool = False) -> list[Record]:
        """Return the rows of a look-up, which is tried again where the connection is lost."""
        return await self.retried(lambda: self._fetch(sql, arguments, in_path))

    async def execute(self, sql: str, *arguments: object) -> None:
        """Run a statement that may be run twice."""
        await self.retried(lambda: self._fetch(sql, arguments, False))

    async def _fetch(self, sql: str, arguments: tuple[object, ...], in_path: bool) -> list[Record]:
        async with self.connection(in_path=in_path) as connection:
            rows: list[Record] = await connection.fetch(sql, *arguments)
            return rows

    async def prove(self, sql: str) -> None:
        """Run a statement in a transaction that is committed, once; raise errors of ours."""
        with plain_errors(self.address):
            async with self.transaction("ISOLATION LEVEL READ COMMITTED", in_path=True, seconds=PROOF_SECONDS) as one:
                await one.execute(sql)

    @asynccontextmanager
    async def connection(self, *, in_path: bool = False, seconds: float | None = None) -> AsyncIterator[Connection]:
        """Lend a connection for some seconds; one whose use ended with an error is closed, whatever state it is in.

        When they are over it is let go: what it was at fails with ``TimeoutError``, and is not cancelled.
        """
        pool = self._path if in_path else self._others
        if pool is None:
            raise StoreUnavailable("The store is not open.", 1)
        generation = self._generation
        connection = await self._taken(pool, in_path=in_path)
        try:
            with _within(connection, seconds or (PATH_SECONDS if in_path else STATEMENT_SECONDS)):
                yield connection
        except BaseException as error:
            await _abandon(connection, error)
            raise
        finally:
            fresh = generation == self._generation and pool is self._path
            if fresh and not self._asking and not _is_gone(connection):
                self._kept.append(connection)
            else:
                await pool.release(connection)

    async def _taken(self, pool: Any, *, in_path: bool) -> Connection:
        """Return a connection that is kept, else one out of a pool."""
        while in_path and self._kept:
            connection = self._kept.pop()
            if not _is_gone(connection):
                return connection
            await pool.release(connection)
        self._asking += in_path
        try:
            return await pool.acquire(timeout=CONNECT_SECONDS if in_path else ACQUIRE_SECONDS)
        except TimeoutError:
            busy = pool.get_size() >= pool.get_max_size() and not pool.get_idle_size()
            what = "all connections to it are busy" if busy else "it does not answer in time"
            raise StoreUnavailable(f"The database {self.address.name} cannot serve now: {what}.", 1) from None
        finally:
            self._asking -= in_path

    async def _put_back(self) -> None:
        """Give the connections that are kept back to their pool."""
        self._generation += 1
        kept, self._kept = self._kept, []
        for connection in kept:
            await self._path.release(connection)

    @asynccontextmanager
    async def transaction(
        self, mode: str, *, in_path: bool = False, seconds: float | None = None
    ) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction of a mode, as ``ISOLATION LEVEL READ COMMITTED``; commit at the end."""
        async with self.connection(in_path=in_path, seconds=seconds) as connection:
            await connection.execute(f"BEGIN {mode}; {_IDLE}")
            yield connection
            await connection.execute("COMMIT")

    async def retried(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do some work that may be done twice, again while it fails for a passing reason; raise errors of ours."""
        end = time.monotonic() + RETRY_SECONDS
        tries = 0
        while True:
            with plain_errors(self.address):
                try:
                    return await work()
                except Exception as error:
                    if not is_passing(error) or time.monotonic() > end:
                        raise
                    if is_lost(error):
                        await self.refresh()
            tries += 1
            await pause(tries)

    async def refresh(self) -> None:
        """Let connections be replaced at their next use: after one was lost the others are not to be trusted."""
        await self._put_back()
        for pool in (self._path, self._others):
            if pool is not None:
                await pool.expire_connections()


class Snapshot(Database):
    """A database as it was at one moment: one connection, in one transaction that only reads.

    Look-ups wait for one another. Where the connection is lost, so is the moment: every look-up then fails.
    """

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._lock = asyncio.Lock()
        self._connection: Connection = None

    async def open(self) -> None:
        """Connect; the moment is that of the first look-up."""
        with plain_errors(self.address):
            self._connection = await Hosts(self.address.url, writes=False).connect()
            await _tune(self._connection)
            await self._connection.execute(f"BEGIN {ONE_MOMENT}")

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    @asynccontextmanager
    async def connection(
        self,
        *,
        in_path: bool = False,  # noqa: ARG002
        seconds: float | None = None,  # noqa: ARG002
    ) -> AsyncIterator[Connection]:
        """Lend the connection."""
        async with self._lock:
            if self._connection is None:
                raise StoreUnavailable("The store is not open.", 1)
            yield self._connection

    @asynccontextmanager
    async def transaction(
        self,
        mode: str,
        *,
        in_path: bool = False,
        seconds: float | None = None,  # noqa: ARG002
    ) -> AsyncIterator[Connection]:
        """Lend the connection, which is in a transaction of the mode ``ONE_MOMENT``."""
        assert mode == ONE_MOMENT, "a store that is read only commits nothing"
        async with self.connection(in_path=in_path) as connection:
            yield connection

    async def retried(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do some work; there is no second moment to try it again in."""
        with plain_errors(self.address):
            return await work()


async def pause(tries: int) -> None:
    """Wait a random time that grows with the tries, so that those who are in each other's way part."""
    await asyncio.sleep(random.uniform(0.5, 1.5) * min(0.2, 0.002 * 2**tries))


async def _tune(connection: Connection) -> None:
    try:
        await connection.execute("; ".join(_TUNING))
    except asyncpg.PostgresError as error:
        if error.sqlstate not in _UNKNOWN_SETTING:
            raise
    else:
        return
    for statement in _TUNING:
        try:
            await connection.execute(statement)
        except asyncpg.PostgresError as error:
            if error.sqlstate not in _UNKNOWN_SETTING:
                raise


@contextmanager
def _within(connection: Connection, seconds: float) -> Iterator[None]:
    """Let a connection go after some seconds; what it was at then fails with ``TimeoutError``."""
    late = False

    def let_go() -> None:
        nonlocal late
        late = True
        _terminate(connection)

    timer = asyncio.get_running_loop().call_later(seconds, let_go)
    try:
        yield
    except Exception as error:
        if late:
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


async def _abandon(connection: Connection, error: BaseException) -> None:
    """End what a connection is at; where that is not sure to be quick, end the connection."""
    if isinstance(error, Exception) and not is_lost(error) and not connection.is_closed():
        if not connection.is_in_transaction():
            return
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await connection.execute("ROLLBACK", timeout=CONNECT_SECONDS)
            return
    _terminate(connection)


def _is_gone(connection: Connection) -> bool:
    """Tell whether a connection that was lent cannot be used any more."""
    try:
        gone: bool = connection.is_closed()
    except asyncpg.InterfaceError:  # it was lost, and is back in its pool already
        return True
    return gone


def _terminate(connection: Connection) -> None:
    with suppress(asyncpg.InterfaceError):  # one that was lost is back in its pool already, and not to be touched
        connection.terminate()


async def _leave(connection: Connection) -> None:
    """Leave a connection as it is: transactions end with their block, and there is no other state."""
