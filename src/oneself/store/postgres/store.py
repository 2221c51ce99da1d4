"""The store in a PostgreSQL database, for any number of servers at once (docs/storage.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from oneself.errors import OneselfError, StoreUnavailable, StoreVersion
from oneself.store.policies import CONFIGURED, PolicyOrigin, PolicyVersion, next_version
from oneself.store.postgres.aliases import Aliases
from oneself.store.postgres.commit import Committer, Group
from oneself.store.postgres.database import Database, Snapshot
from oneself.store.postgres.errors import Address
from oneself.store.postgres.health import Health
from oneself.store.postgres.identities import Identities
from oneself.store.postgres.lookups import POLICIES, Lookups, policy_of
from oneself.store.postgres.migrate import check_version, migrate, outdated
from oneself.store.postgres.rows import text
from oneself.store.postgres.schema import VERSION
from oneself.store.postgres.servers import Servers
from oneself.store.postgres.sweeps import Sweeps
from oneself.store.postgres.under_way import UnderWay
from oneself.store.postgres.views import Asked, Seen, read_parts, read_view
from oneself.store.reading import Reading, Touched, Wanted

__all__ = ["PostgresStore"]

_POLICIES_OF: Final = f"{POLICIES} WHERE scope = $1 ORDER BY version"
_ADD_POLICY: Final = """
    INSERT INTO policy(scope, version, at_ms, position, settings, origin, author, note, restores)
    VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""


class PostgresStore(Lookups, Aliases, Sweeps, Servers, Identities):
    """One database, for any number of servers; ``url`` is ``postgresql://USER@HOST/NAME``, as libpq has it.

    Opened ``read_only`` it is one snapshot of a database that servers may be writing to.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self.database = (Snapshot if read_only else Database)(Address(url))
        self._health = Health(self.database.address.name, self._look, self._prove, self._tell_trouble)
        self.committer = Committer(self.database, self._health.suspect)
        self.url = url
        self._read_only = read_only
        self._position = 0
        self._under_way: UnderWay | None = None
        self._inputs: set[str] = set()
        self._event_names: dict[str, set[str]] = {}
        self._names_at = 0
        self._request_parts: Sequence[int] = (0,)

    async def open(self) -> None:
        """Connect, and bring the schema to the newest version."""
        try:
            await self.database.open()
            await (check_version if self._read_only else migrate)(self.database)
            self._inputs = {name.decode() for (name,) in await self.database.fetch("SELECT name FROM input")}
            self._event_names, self._names_at = {}, 0
            await self._look()
        except BaseException:
            await self.database.close()
            raise
        if not self._read_only:
            self._health.start()

    def beside(self) -> PostgresStore:
        """Return a read only store on the same database, not yet open."""
        return PostgresStore(self.url, read_only=True)

    async def close(self) -> None:
        """End the commit under way and the connections."""
        await self._health.stop()
        if self._under_way is not None:
            await self._under_way.wait()
        await self.database.close()

    async def _look(self) -> None:
        """Learn how far the journal goes."""
        self._take(await self._view(Asked({}, names_since=self._names_at, request_parts=self._request_parts)))

    async def _prove(self) -> None:
        """Raise what a commit would raise that has nothing to write."""
        await self._look()
        await self.database.prove("SELECT position FROM journal_head WHERE id = 1 FOR UPDATE")

    @property
    def trouble(self) -> OneselfError | None:
        """Why the database cannot be used now, as far as is known."""
        return self._health.trouble

    def _tell_trouble(self, error: OneselfError) -> None:
        self.on_trouble(error)

    # -- the path of an answer ---------------------------------------------------------------------------------

    @property
    def conflicts(self) -> Mapping[str, int]:
        """How many groups were decided again since another server changed what they saw, by what that was."""
        return self.committer.conflicts

    @property
    def position(self) -> int:
        """The position of the last durable entry that this server knows of."""
        return self._position

    async def read(self, wanted: Mapping[str, Wanted], requests: Sequence[bytes] = (), *, margin: int = 0) -> Reading:
        """Return views of the wanted parts of each space, and which request keys were answered.

        A commit under way that changes any of it is waited for.
        """
        before = self._under_way
        known = self._names_at, self._request_parts
        asked = Asked(wanted, requests, margin=margin, names_since=known[0], request_parts=known[1])
        reading = await self._view(asked)
        if before is not None and before.touches(reading):
            await before.wait()
            reading = await self._view(asked)
        elif before is not None and not before.failed:
            reading.go_after(before)
        self._take(reading)
        return reading

    async def _view(self, asked: Asked) -> Seen:
        try:
            reading = await self.database.retried(lambda: read_view(self.database, asked))
            if reading.version != VERSION:
                raise StoreVersion(outdated(self.database.address, reading.version))
        except OneselfError:
            self._health.suspect()
            raise
        self._health.hear()
        return reading

    def _take(self, reading: Seen) -> None:
        """Learn from a reading how far the journal goes, which names of events came, and where request ids stand."""
        self._request_parts = reading.request_parts
        self._position = max(self._position, reading.read_at)
        self._add_event_names(reading.new_names)
        self._names_at = max(self._names_at, reading.read_at)

    async def read_parts(self, reading: Reading, wanted: Iterable[Touched]) -> None:
        """Put the rows that batches touch into a reading; a commit under way that changes any of it is waited for."""
        rows = list(dict.fromkeys(wanted))
        if self._under_way is not None and self._under_way.touches_people(row.mpid for row in rows):
            await self._under_way.wait()
        await read_parts(self.database, reading, rows)

    def begin(self, reading: Reading) -> Awaitable[None]:
        """Begin to make what a reading collected durable as one; later readings that touch it wait for the end."""
        if not reading.effects.entries:
            return asyncio.sleep(0)
        assert isinstance(reading, Seen)
        assert self._under_way is None, "one commit at a time"
        if self._read_only:
            raise StoreUnavailable("This store was opened to be read only.")
        made = Group(reading, reading.effects.inputs - self._inputs)
        group = self._under_way = UnderWay(reading)
        known = self._event_names
        group.names = [(of, name) for of, name in reading.effects.event_names if name not in known.get(of, ())]
        self._add_event_names(group.names)
        group.future = asyncio.ensure_future(self._commit(made, group))
        return group.future

    async def _commit(self, made: Group, group: UnderWay) -> None:
        """Make a group durable; where that fails, the names that it brings are not known any more."""
        try:
            await self.committer.commit(made)
        except BaseException:
            group.failed = True
            for workspace, name in group.names:
                self._event_names[workspace].discard(name)
            raise
        else:
            group.moved = made.reading.moved
            self._position = max(self._position, group.last + group.moved)
            self._inputs |= made.reading.effects.inputs
        finally:
            group.ended = True
            self._under_way = None

    def _add_event_names(self, names: Iterable[tuple[str, str]]) -> None:
        for workspace, name in names:
            self._event_names.setdefault(workspace, set()).add(name)

    async def event_names(self, workspace: str) -> set[str]:
        """Return the names of events and screens that a workspace has seen, also in a commit that is under way.

        The set grows as names come, and with each ``read`` by those that other servers took in.
        """
        return self._event_names.setdefault(workspace, set())

    # -- policies ----------------------------------------------------------------------------------------------

    async def add_policy(
        self, scope: str, at_ms: int, settings: str, made: PolicyOrigin = CONFIGURED
    ) -> PolicyVersion:
        """Keep new settings of a scope as its next version; where another server just did, return that."""

        async def add() -> PolicyVersion:
            async with self.database.transaction("ISOLATION LEVEL READ COMMITTED") as connection:
                head = await connection.fetchval("SELECT position FROM journal_head WHERE id = 1 FOR UPDATE")
                versions = [policy_of(row) for row in await connection.fetch(_POLICIES_OF, text(scope))]
                policy = next_version(versions, scope, at_ms, head + 1, settings, made)
                if policy.version > len(versions):
                    columns = (text(one) if isinstance(one, str) else one for one in msgspec.structs.astuple(policy))
                    await connection.fetch(_ADD_POLICY, *columns)
                return policy

        return await self.database.retried(add)
