"""Committing a group: into the journal's order, its reads proven unchanged, all of it or nothing (docs/storage.md).

Every commit moves the one row of ``journal_head``, and holds it until it is durable. So all groups of all servers are
in one order, which is the journal's; under that lock a statement that begins to see only then looks whether an entry
after those that the group saw has changed anything that it looked at, and writes it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Final

import structlog

from oneself.errors import Conflict, StoreDamaged, StoreUnavailable, StoreVersion
from oneself.store.postgres.database import BEGIN, PATH_SECONDS, Connection, Database, Record, pause
from oneself.store.postgres.errors import is_lost, is_passing, is_taken, is_unknown, plain_errors
from oneself.store.postgres.migrate import outdated
from oneself.store.postgres.rows import Bodies, rows_of, takes_rows_away, text
from oneself.store.postgres.schema import VERSION
from oneself.store.postgres.statements import (
    AFTER,
    BEFORE,
    NOTHING,
    PARAMETERS,
    Rows,
    commit_of,
    inserts_of,
    next_of,
)
from oneself.store.postgres.views import HEAD_IS_LOST, Seen
from oneself.store.reading import REQUESTS
from oneself.store.renumber import names_alias_within, renumbered

__all__ = ["Committer", "Group"]

_log = structlog.get_logger("oneself.store")

RETRY_SECONDS: Final = 3.0
"""So long a commit is tried again that failed for a passing reason …"""

ROWS_A_SECOND: Final = 500
"""A group has the time of all that an answer waits for, and more where it has more rows than these."""

UNKNOWN_SECONDS: Final = 10.0
"""… and so long it is asked what became of one whose answer was lost."""

_FENCE: Final = "UPDATE journal_head SET epoch = epoch + 1 WHERE id = 1"
_FIND: Final = "SELECT position FROM entry WHERE position > $1 AND commit_id = $2"
_EMPTY: Final[dict[str, Any]] = {name: [] if type_.endswith("[]") else 0 for name, type_ in PARAMETERS.items()}


class Committer:
    """Makes groups durable, one at a time.

    ``conflicts`` counts, by what had changed, the groups that were to be decided again. ``suspect`` is called where
    a connection is lost.
    """

    def __init__(self, database: Database, suspect: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._suspect = suspect
        self._alone = True  # as far as the last commit told, nobody else commits
        self.conflicts: Counter[str] = Counter()

    async def commit(self, group: Group) -> None:
        """Make a group durable, or raise with nothing of it done; ``moved`` tells how much later it came to stand.

        Raises ``Conflict`` where what the group saw has changed, ``StoreUnavailable``, or ``StoreVersion``.
        """
        after = group.reading.after
        if after is not None and after.failed and after.names:
            raise self._conflict("names")  # some were taken for known, and are not
        end = time.monotonic() + RETRY_SECONDS
        tries = 0
        while True:
            with plain_errors(self._database.address):
                try:
                    if await self._try(group):
                        return
                except Exception as error:
                    if is_taken(error, "profile_pkey"):
                        raise self._conflict("mpids") from error
                    if is_lost(error):
                        self._suspect()
                        await self._database.refresh()
                    if is_unknown(error) and group.sent and await self._became_durable(group):
                        return
                    if not is_passing(error) or time.monotonic() > end:
                        raise
            tries += 1
            await pause(tries)

    async def _try(self, group: Group) -> bool:
        """Commit a group; return False where it may be tried again."""
        group.sent = False
        async with self._database.connection(in_path=True, seconds=group.seconds) as connection:
            if takes_rows_away(group.reading.effects):
                return await self._commit_in_steps(connection, group)
            reading = group.reading
            if self._alone and reading.expected >= 0:
                rows = group.rows_from(0)
                next_ = next_of(inserts_of(rows), reading.request_part)
                group.sent = True
                if self._moved_to(group, await connection.fetchval(next_, *group.next(rows, reading.expected))):
                    return True
            if names_alias_within(reading.effects):
                raise self._conflict("positions")
            rows = group.rows_from(-1 - group.last)
            inserts = inserts_of(rows)
            both = [_lock(inserts), group.proven(rows)]
            group.sent = True
            row = (await connection.fetchmany(commit_of(inserts, reading.request_part), both))[-1]
            self._look_at(row)
            return self._moved_to(group, row["last"])

    async def _commit_in_steps(self, connection: Connection, group: Group) -> bool:
        """Commit a group that takes rows away, which must be before or after it puts rows in."""
        rows = group.rows_from(0)
        part = group.reading.request_part
        await _parse(connection, rows, part)
        await connection.execute(BEGIN)
        proof = _lock(()), group.proven({}, count=0)
        seen = (await connection.fetchmany(commit_of((), part), proof))[-1]
        self._look_at(seen)
        by = seen["position"] + 1 - group.first
        if by and names_alias_within(group.reading.effects):
            raise self._conflict("positions")
        if by:
            rows = group.rows_from(by)
        for name, sql in BEFORE.items():
            if name in rows:
                await connection.fetch(sql, *rows[name])
        next_ = next_of(inserts_of(rows), part)
        if not self._moved_to(group, await connection.fetchval(next_, *group.next(rows, seen["position"]))):
            raise StoreUnavailable(f"The database {self._database.address.name} did not hold its lock.", 1)
        for name, sql in AFTER.items():
            if name in rows:
                await connection.fetch(sql, *rows[name])
        group.sent = True
        await connection.execute("COMMIT")
        return True

    def _look_at(self, row: Record | None) -> None:
        """Raise what a proof failed by."""
        if row is None:
            raise StoreDamaged(HEAD_IS_LOST)
        if row["version"] != VERSION:
            raise StoreVersion(outdated(self._database.address, row["version"]))
        if row["changed"]:
            raise self._conflict(row["changed"])

    def _moved_to(self, group: Group, last: int | None) -> bool:
        """Tell whether a commit did all of it, given where it ended, and then how much later that is."""
        if last is None:
            self._alone = False
            return False
        group.reading.moved = last - group.last
        self._alone = group.reading.moved == 0
        return True

    def _conflict(self, what: str) -> Conflict:
        self.conflicts[what] += 1
        return Conflict(what)

    async def _became_durable(self, group: Group) -> bool:
        """Tell whether a group is durable whose commit was sent, and its answer lost.

        The next epoch begins: so it is not durable later, either, if it is not yet (as one that is still on its way,
        or waits for the journal's head, could be). And what this writes is behind all that was written before: where
        commits wait for a standby, what is found is there, too, when this is.
        """
        end = time.monotonic() + UNKNOWN_SECONDS
        tries = 0
        while True:
            try:
                async with self._database.connection(in_path=True) as connection:
                    commit = group.reading.read_at, group.commit_id
                    await connection.fetchval(_FIND, *commit)  # too early to believe; now it is parsed
                    await connection.execute(f"{BEGIN}; {_FENCE}")
                    first = await connection.fetchval(_FIND, *commit)
                    await connection.execute("COMMIT")
            except Exception as error:
                passing = is_passing(error) or isinstance(error, StoreUnavailable)
                if not passing or time.monotonic() > end:
                    _log.error("it is not known whether a group is durable", entries=group.count)
                    raise StoreUnavailable(
                        f"The database {self._database.address.name} cannot be reached, and whether what was under "
                        "way is kept is not known: ask again, with the same request id.",
                        1,
                    ) from error
                await self._database.refresh()
            else:
                if first is None:
                    return False
                group.reading.moved = first - group.first
                return True
            tries += 1
            await pause(tries)


async def _parse(connection: Connection, rows: Rows, part: int) -> None:
    """Have all statements parsed that will be run under the lock, by running them with nothing to do.

    The driver asks for that apart from running them, and waits for the answer. A server that stood still just then
    would keep the lock: the database does not see the transaction as idle.
    """
    for name, sql in (BEFORE | AFTER).items():
        if name in rows and sql not in connection.parsed:
            await connection.fetch(sql, *([] for _ in rows[name]))
            connection.parsed.add(sql)
    inserts = inserts_of(rows)
    nowhere = [*_nothing(inserts), 0, VERSION, -1, 0]
    for sql, told in ((commit_of((), part), _lock(())), (next_of(inserts, part), nowhere)):
        if sql not in connection.parsed:
            await connection.fetchrow(sql, *told)
            connection.parsed.add(sql)


def _lock(inserts: tuple[str, ...]) -> list[object]:
    """Return what lets a commit's statement only lock the journal's head."""
    return [*_nothing(inserts), *(_EMPTY | {"version": VERSION}).values()]


def _nothing(inserts: tuple[str, ...]) -> list[object]:
    return [column for name in inserts for column in NOTHING[name]]


def _columns(rows: Rows) -> list[object]:
    return [column for name in inserts_of(rows) for column in rows.get(name) or NOTHING[name]]


class Group:
    """A group on its way: its rows, and what it proves; ``inputs`` are those of it that were never heard before.

    What cannot be encoded of it is raised here, before anything is on its way.
    """

    def __init__(self, reading: Seen, inputs: Collection[str]) -> None:
        self.reading = reading
        self.count = len(reading.effects.entries)
        self.first = reading.effects.entries[0][0]
        self.last = reading.effects.entries[-1][0]
        self.commit_id = os.urandom(16)
        self.sent = False  # what makes it durable, or not
        self._inputs = inputs
        self._bodies = Bodies(reading.effects)
        self._evidence: dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        """How long it may take."""
        effects = self.reading.effects
        parts = effects.entries, effects.linked, effects.unlinked, effects.people, effects.activity, effects.rewrites
        return PATH_SECONDS + sum(map(len, parts)) / ROWS_A_SECOND

    def rows_from(self, by: int) -> Rows:
        """Return the group's rows with its positions later by a number."""
        effects = self.reading.effects
        made = renumbered(effects, by) if by else effects
        reading = self.reading
        return rows_of(made, self._bodies, self.commit_id, self._inputs, reading.created, reading.forgotten)

    def next(self, rows: Rows, expected: int) -> list[object]:
        """Return what a commit of some rows takes where the journal's head is expected at a position."""
        return [*_columns(rows), self.count, VERSION, expected, self.reading.epoch]

    def proven(self, rows: Rows, *, count: int | None = None) -> list[object]:
        """Return what a commit of some rows takes that proves what the group saw."""
        self._evidence = self._evidence or self._looked_at()
        given = {"count": self.count if count is None else count, "version": VERSION}
        return [*(_columns(rows) if rows else ()), *(_EMPTY | self._evidence | given).values()]

    def _looked_at(self) -> dict[str, Any]:
        """Return what the group looked at."""
        reading, effects = self.reading, self.reading.effects
        inputs = {entry.input for at, entry in effects.entries if at in effects.batches}
        swept = {*effects.swept, *([REQUESTS] if reading.request_keys else ())}
        return {
            "read_at": reading.read_at,
            "epoch": reading.epoch,
            "keys": reading.holder_keys,
            "mpids": list(reading.mpids),
            "requests": reading.request_keys,
            "people": list(reading.touched),
            "people_at": reading.people_at,
            "swept": [text(what) for what in swept],
            "workspaces": [text(workspace) for workspace in {name.partition("/")[0] for name in inputs}],
            "alias_mpids": list(reading.alias_mpids),
            "alias_positions": list(reading.alias_positions),
        }
