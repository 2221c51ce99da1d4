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
from oneself.store.postgres.errors import is_lost, is_passing, is_unknown, plain_errors
from oneself.store.postgres.migrate import outdated
from oneself.store.postgres.rows import Bodies, rows_of, takes_rows_away, text
from oneself.store.postgres.schema import VERSION
from oneself.store.postgres.statements import AFTER, BEFORE, NOTHING, PARAMETERS, Rows, commit_of, tables_of
from oneself.store.postgres.views import HEAD_IS_LOST, Seen
from oneself.store.reading import REQUESTS
from oneself.store.renumber import names_alias_within, renumbered

__all__ = ["Committer"]

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

    async def commit(self, reading: Seen, inputs: Collection[str]) -> None:
        """Make a group durable, or raise with nothing of it done; ``moved`` tells how much later it came to stand.

        ``inputs`` are those of the group that were never heard before. Raises ``Conflict`` where what the group saw
        has changed, ``StoreUnavailable``, or ``StoreVersion``.
        """
        if reading.after is not None and reading.after.failed and reading.after.names:
            raise self._conflict("names")  # some were taken for known, and are not
        group = _Group(reading, inputs)
        end = time.monotonic() + RETRY_SECONDS
        tries = 0
        while True:
            with plain_errors(self._database.address):
                try:
                    if await self._try(group):
                        return
                except Exception as error:
                    if is_lost(error):
                        self._suspect()
                        await self._database.refresh()
                    if is_unknown(error) and group.sent and await self._became_durable(group):
                        return
                    if not is_passing(error) or time.monotonic() > end:
                        raise
            tries += 1
            await pause(tries)

    async def _try(self, group: _Group) -> bool:
        """Commit a group; return False where it may be tried again."""
        group.sent = False
        async with self._database.connection(in_path=True, seconds=group.seconds) as connection:
            if takes_rows_away(group.reading.effects):
                return await self._commit_in_steps(connection, group)
            expected = group.reading.expected
            if self._alone and expected >= 0:
                rows = group.rows_from(0)
                told = group.told(rows, expected=expected)
                group.sent = True
                if self._ended(group, await connection.fetchrow(commit_of(tables_of(rows)), *told)):
                    return True
            if names_alias_within(group.reading.effects):
                raise self._conflict("positions")
            rows = group.rows_from(-1 - group.last)
            tables = tables_of(rows)
            both = [_lock(tables), group.told(rows)]
            group.sent = True
            return self._ended(group, (await connection.fetchmany(commit_of(tables), both))[-1])

    async def _commit_in_steps(self, connection: Connection, group: _Group) -> bool:
        """Commit a group that takes rows away, which must be before or after it puts rows in."""
        rows = group.rows_from(0)
        await _parse(connection, rows)
        await connection.execute(BEGIN)
        proof = _lock(()), group.told({}, count=0)
        seen = (await connection.fetchmany(commit_of(()), proof))[-1]
        self._ended(group, seen)
        by = seen["position"] + 1 - group.first
        if by and names_alias_within(group.reading.effects):
            raise self._conflict("positions")
        if by:
            rows = group.rows_from(by)
        for name, sql in BEFORE.items():
            if name in rows:
                await connection.fetch(sql, *rows[name])
        told = group.told(rows, expected=seen["position"])
        if not self._ended(group, await connection.fetchrow(commit_of(tables_of(rows)), *told)):
            raise StoreUnavailable(f"The database {self._database.address.name} did not hold its lock.", 1)
        for name, sql in AFTER.items():
            if name in rows:
                await connection.fetch(sql, *rows[name])
        group.sent = True
        await connection.execute("COMMIT")
        return True

    def _ended(self, group: _Group, row: Record | None) -> bool:
        """Tell whether a commit did all of it, and then how much later it ended; raise what else it ended by."""
        if row is None:
            raise StoreDamaged(HEAD_IS_LOST)
        if row["version"] != VERSION:
            raise StoreVersion(outdated(self._database.address, row["version"]))
        if row["changed"] not in ("", "position"):
            raise self._conflict(row["changed"])
        if row["last"] is None:
            self._alone = False
            return False
        group.reading.moved = row["last"] - group.last
        self._alone = group.reading.moved == 0
        return True

    def _conflict(self, what: str) -> Conflict:
        self.conflicts[what] += 1
        return Conflict(what)

    async def _became_durable(self, group: _Group) -> bool:
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


async def _parse(connection: Connection, rows: Rows) -> None:
    """Have all statements parsed that will be run under the lock, by running them with nothing to do.

    The driver asks for that apart from running them, and waits for the answer. A server that stood still just then
    would keep the lock: the database does not see the transaction as idle.
    """
    for name, sql in (BEFORE | AFTER).items():
        if name in rows and sql not in connection.parsed:
            await connection.fetch(sql, *([] for _ in rows[name]))
            connection.parsed.add(sql)
    for tables in ((), tables_of(rows)):
        sql = commit_of(tables)
        if sql not in connection.parsed:
            await connection.fetchrow(sql, *_lock(tables))
            connection.parsed.add(sql)


def _lock(tables: tuple[str, ...]) -> list[object]:
    """Return what lets a commit's statement only lock the journal's head."""
    columns: list[object] = [column for table in tables for column in NOTHING[table]]
    return columns + list((_EMPTY | {"version": VERSION, "expected": -1}).values())


class _Group:
    """A group on its way: its rows, and what it proves."""

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
        return rows_of(made, self._bodies, self.commit_id, self._inputs)

    def told(self, rows: Rows, *, count: int | None = None, expected: int = -1) -> list[object]:
        """Return what a commit of some rows takes, where the journal's head is expected at a position, -1 for any."""
        columns: list[object] = []
        for table in tables_of(rows) if rows else ():
            columns += rows.get(table) or NOTHING[table]
        self._evidence = self._evidence or self._proven()
        given = {"count": self.count if count is None else count, "version": VERSION, "expected": expected}
        return columns + list((_EMPTY | self._evidence | given).values())

    def _proven(self) -> dict[str, Any]:
        """Return what the group looked at."""
        reading, effects = self.reading, self.reading.effects
        inputs = {entry.input for at, entry in effects.entries if at in effects.batches}
        swept = {*effects.swept, *([REQUESTS] if reading.request_keys else ())}
        return {
            "read_at": reading.read_at,
            "epoch": reading.epoch,
            "created": list(reading.created),
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
