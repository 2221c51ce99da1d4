"""``state.db``: the tables that are derived from the journal, and every statement on them.

Each statement takes its keys or rows as one JSON array: one call for a whole group, during which other
threads of the server run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from oneself.identity import AliasRow, Profile
from oneself.profiles import Device, Parts, Person, WorkspaceProfile
from oneself.store.crowds import Crowds, mpids_of
from oneself.store.embedded.files import DatabaseFile, plain_errors
from oneself.store.embedded.pending import Generation, UserRows
from oneself.store.embedded.schema import MIGRATIONS
from oneself.store.reading import Activity, History, QuarantinedBatch, Touched, events_of

__all__ = ["StateFile"]

END_MS = 1 << 62
"""Later than any time."""

_LAST_KEY = b"\xff" * 16

_EVENTS = events_of("")

_ROWS_A_PIECE = 200
_PIECES = 200

_json = msgspec.json.Encoder()
_holders = msgspec.json.Decoder(list[tuple[int, list[tuple[int, int]]]])
_profiles = msgspec.json.Decoder(list[tuple[int, str, int, dict[str, dict[str, int]], dict[str, int]]])
_requests = msgspec.json.Decoder(list[tuple[int, int]])
_parts = msgspec.json.Decoder(list[tuple[int, Person | None, WorkspaceProfile | None, Device | None]])
_person = msgspec.json.Decoder(Person)
_workspace = msgspec.json.Decoder(WorkspaceProfile)
_device = msgspec.json.Decoder(Device)
_held = msgspec.json.Decoder(dict[str, dict[str, int]])
_more = msgspec.json.Decoder(dict[str, int])

# Each of these answers with one row, put together as JSON: the interpreter is let go and taken back for every row.
_HOLDERS = """
    SELECT group_concat('[' || wanted.key || ',[' || coalesce((
        SELECT group_concat('[' || position || ',' || mpid || ']', ',') FROM (
            SELECT position, mpid FROM holder WHERE key = unhex(wanted.value) ORDER BY position DESC LIMIT ?2)
        ), '') || ']]', ',') FROM json_each(?1) AS wanted
"""
_PROFILES = """
    SELECT group_concat(
        '[' || p.mpid || ',' || json_quote(p.space) || ',' || p.created || ',' || p.held || ',' || p.more || ']', ',')
    FROM json_each(?1) AS wanted CROSS JOIN profile AS p ON p.mpid = wanted.value
"""
_REQUESTS = """
    SELECT group_concat('[' || wanted.key || ',' || r.position || ']', ',')
    FROM json_each(?1) AS wanted CROSS JOIN request AS r ON r.key = unhex(wanted.value)
"""
_PARTS = """
    SELECT group_concat('[' || wanted.key || ',' || coalesce(p.body, 'null') || ',' || coalesce(w.body, 'null') || ','
        || coalesce(d.body, 'null') || ']', ',')
    FROM json_each(?1) AS wanted
    LEFT JOIN person AS p ON p.mpid = wanted.value ->> 0
    LEFT JOIN workspace_profile AS w ON w.mpid = wanted.value ->> 0 AND w.workspace = wanted.value ->> 1
    LEFT JOIN device AS d
        ON d.mpid = wanted.value ->> 0 AND d.workspace = wanted.value ->> 1 AND d.name = wanted.value ->> 2
"""
_USER = """
    SELECT p.space, p.created, p.held, p.more, person.body, w.body
    FROM (SELECT ?1 AS mpid) AS asked
    LEFT JOIN profile AS p ON p.mpid = asked.mpid
    LEFT JOIN person ON person.mpid = asked.mpid
    LEFT JOIN workspace_profile AS w ON w.mpid = asked.mpid AND w.workspace = ?2
"""
_FURTHER = """
    SELECT f.mpid, f.type, f.value, f.position FROM json_each(?1) AS wanted CROSS JOIN further_identity AS f
    ON f.mpid = wanted.value ->> 0 AND f.type = wanted.value ->> 1 AND f.value = wanted.value ->> 2
"""

_LOST = """
    SELECT h.* FROM identity_history AS h CROSS JOIN profile AS p ON p.mpid = h.mpid
    WHERE h.type = ? AND h.value = ? AND p.space = ? ORDER BY h.ended DESC LIMIT ?
"""
_CROWDED_VALUES = """
    SELECT key, count(*), max(position) FROM holder WHERE key BETWEEN ? AND ? GROUP BY key HAVING count(*) >= ?
"""
_COUNTED = """
    SELECT h.key, count(*), max(h.position) FROM json_each(?) AS wanted
    CROSS JOIN holder AS h ON h.key = unhex(wanted.value) GROUP BY h.key
"""
_CROWDED = """
    SELECT mpid, type, count(*) FROM further_identity WHERE mpid BETWEEN ? AND ? GROUP BY mpid, type
    HAVING count(*) >= ? OR mpid IN (SELECT value FROM json_each(?))
"""
_REPLACED = """
    SELECT mpid, type, count(*) FROM identity_history WHERE mpid BETWEEN ? AND ? AND why = 'replaced'
    GROUP BY mpid, type HAVING count(*) >= ? OR mpid IN (SELECT value FROM json_each(?))
"""

_ACTIVITY = """
    SELECT mpid, at_ms, position, first_ms, workspace, input, device, events FROM activity
    WHERE mpid = ? AND workspace = ? AND at_ms BETWEEN ? AND ? AND (? = '' OR device = ?) AND position > ?
    AND (at_ms, position) < (?, ?) ORDER BY at_ms DESC, position DESC LIMIT ?
"""
_BEYOND = """
    SELECT mpid, ?, position, first_ms, workspace, input, device, events FROM activity
    WHERE mpid = ? AND workspace = ? AND at_ms > ? AND first_ms <= ? AND (? = '' OR device = ?) AND position > ?
    AND (?, position) < (?, ?) ORDER BY position DESC LIMIT ?
"""

_STORED = """
    SELECT w.mpid, w.workspace, w.body ->> '$.stored_ms' FROM json_each(?1) AS wanted
    CROSS JOIN workspace_profile AS w ON w.mpid = wanted.value
"""
_ALIAS = (
    "SELECT space, position, source, destination, start_ms, end_ms, due_ms, scope, device, outcome, why, processed"
)
_ALIASES_OF = f"""
    SELECT * FROM ({_ALIAS} FROM alias WHERE source = ?1 AND position < ?2 ORDER BY position DESC LIMIT ?3)
    UNION SELECT * FROM ({_ALIAS} FROM alias WHERE destination = ?1 AND position < ?2 ORDER BY position DESC LIMIT ?3)
    ORDER BY position DESC LIMIT ?3
"""
_ALIASES_DUE = f"""
    {_ALIAS} FROM alias WHERE outcome = 'waiting' AND due_ms <= ?1
    AND (?2 IS NULL OR space IN (SELECT value FROM json_each(?2))) ORDER BY due_ms, position LIMIT ?3
"""
# Applied windows of one source do not overlap: those that begin last before the end of another are next to it.
_ALIASES_FROM = f"""
    {_ALIAS} FROM alias WHERE outcome = 'applied' AND source = ? AND start_ms <= ?
    ORDER BY start_ms DESC, position DESC LIMIT ?
"""
_ALIASES_TO = f"""
    {_ALIAS} FROM alias WHERE outcome = 'applied' AND destination = ? AND (end_ms, position) < (?, ?)
    ORDER BY end_ms DESC, position DESC LIMIT ?
"""
_ALIASES_TO_OLDEST = f"""
    {_ALIAS} FROM alias WHERE outcome = 'applied' AND destination = ? AND (end_ms, position) > (?, ?)
    ORDER BY end_ms, position LIMIT ?
"""

_WRITE = {
    "profile": """INSERT INTO profile SELECT value ->> 0, value ->> 1, value ->> 2, value -> 3, value -> 4
        FROM json_each(?) WHERE true ORDER BY 1
        ON CONFLICT (mpid) DO UPDATE SET space = excluded.space, held = excluded.held, more = excluded.more""",
    "unlinked": """DELETE FROM holder WHERE (key, position, mpid) IN
        (SELECT unhex(value ->> 0), value ->> 1, value ->> 2 FROM json_each(?))""",
    "linked": """INSERT OR IGNORE INTO holder
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2 FROM json_each(?) ORDER BY 1, 2""",
    "further_gone": """DELETE FROM further_identity WHERE (mpid, type, value) IN
        (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?))""",
    "further": """INSERT OR REPLACE INTO further_identity
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)""",
    "history_gone": """DELETE FROM identity_history WHERE (mpid, ended, type, value) IN
        (SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?))""",
    "history": """INSERT OR IGNORE INTO identity_history
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
        FROM json_each(?)""",
    "request": """INSERT INTO request SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?) WHERE true ORDER BY 1
        ON CONFLICT (key) DO UPDATE SET position = excluded.position""",
    "concerned": """INSERT OR IGNORE INTO profile_decision
        SELECT value ->> 0, value ->> 1 FROM json_each(?) ORDER BY 1, 2""",
    "released": "DELETE FROM guarded_value WHERE key IN (SELECT unhex(value) FROM json_each(?))",
    "guarded": """INSERT OR REPLACE INTO guarded_value SELECT unhex(value ->> 0), value ->> 1, value ->> 2,
        value ->> 3, value ->> 4, value ->> 5 FROM json_each(?)""",
    "guarding": "INSERT OR IGNORE INTO guard_decision SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?)",
    "alias": """INSERT OR REPLACE INTO alias SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3,
        value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11
        FROM json_each(?)""",
    "input": "INSERT OR IGNORE INTO input SELECT value FROM json_each(?)",
    "person": "INSERT OR REPLACE INTO person SELECT value ->> 0, value -> 1 FROM json_each(?) ORDER BY 1",
    "workspace_profile": """INSERT INTO workspace_profile
        SELECT value ->> 0, value ->> 1, value -> 2 FROM json_each(?) WHERE true ORDER BY 1
        ON CONFLICT (mpid, workspace) DO UPDATE SET body = excluded.body""",
    "device": """INSERT INTO device
        SELECT value ->> 0, value ->> 1, value ->> 2, value -> 3 FROM json_each(?) WHERE true ORDER BY 1
        ON CONFLICT (mpid, workspace, name) DO UPDATE SET body = excluded.body""",
    "activity": """INSERT OR IGNORE INTO activity SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3,
        value ->> 4, value ->> 5, value ->> 6, value ->> 7 FROM json_each(?) ORDER BY 1, 2, 3""",
    "quarantined": """INSERT OR IGNORE INTO quarantined SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3,
        value ->> 4, value ->> 5 FROM json_each(?)""",
    "event_name": "INSERT OR IGNORE INTO event_name SELECT value ->> 0, value ->> 1 FROM json_each(?)",
    "expired_workspace": """DELETE FROM workspace_profile WHERE (mpid, workspace) IN
        (SELECT value ->> 0, value ->> 1 FROM json_each(?))""",
    "expired_devices": """DELETE FROM device WHERE (mpid, workspace) IN
        (SELECT value ->> 0, value ->> 1 FROM json_each(?))""",
    "gone_person": "DELETE FROM person WHERE mpid IN (SELECT value FROM json_each(?))",
    "trimmed": """DELETE FROM activity WHERE (mpid, workspace, at_ms, position) IN
        (SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?))""",
    "trimmed_some_time": """DELETE FROM activity WHERE (mpid, workspace, at_ms, position) IN
        (SELECT a.mpid, a.workspace, a.at_ms, a.position FROM json_each(?) AS gone CROSS JOIN activity AS a
        ON a.mpid = gone.value ->> 0 AND a.workspace = gone.value ->> 1 AND a.position = gone.value ->> 2)""",
    "cleared": """DELETE FROM quarantined WHERE (workspace, position) IN (SELECT q.workspace, q.position
        FROM json_each(?) AS swept CROSS JOIN quarantined AS q
        ON q.workspace = swept.value ->> 0 AND q.position <= swept.value ->> 1)""",
    "trimmed_loose": "UPDATE loose SET trimmed = 1 WHERE position IN (SELECT value ->> 1 FROM json_each(?))",
    "remainder": """INSERT OR IGNORE INTO remainder SELECT value ->> 0, value ->> 1 FROM json_each(?)
        WHERE value ->> 1 NOT IN (SELECT position FROM loose) ORDER BY 1, 2""",
    "loosened": """INSERT OR IGNORE INTO loose SELECT r.position, 1 FROM json_each(?) AS gone
        CROSS JOIN remainder AS r ON r.mpid = gone.value ->> 0 AND r.position < gone.value ->> 1""",
    "gone_remainder": """DELETE FROM remainder WHERE (mpid, position) IN (SELECT r.mpid, r.position
        FROM json_each(?) AS gone CROSS JOIN remainder AS r
        ON r.mpid = gone.value ->> 0 AND r.position < gone.value ->> 1)""",
    "loosened_whole": """INSERT OR IGNORE INTO loose SELECT a.position, 0 FROM json_each(?) AS gone
        CROSS JOIN activity AS a ON a.mpid = gone.value ->> 0 AND a.position < gone.value ->> 1""",
    "remainder_left": """DELETE FROM remainder WHERE (mpid, position) IN
        (SELECT value ->> 0, value ->> 1 FROM json_each(?))""",
    "discarded": "DELETE FROM loose WHERE position IN (SELECT value FROM json_each(?))",
    "swept": "INSERT OR REPLACE INTO swept SELECT value ->> 0, value ->> 1 FROM json_each(?)",
}


class StateFile(DatabaseFile):
    """The derived tables of one data folder: read by one thread, written by one other.

    ``progress`` is the position through which they had every entry when they were opened.
    """

    MARK = "progress"

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.progress = 0
        super().__init__(path, MIGRATIONS, read_only=read_only)

    def _prepare(self, read_only: bool) -> None:
        if not read_only:
            self._writer.pragma("synchronous", "normal")  # consistent after a crash; the journal has the rest
            self._writer.pragma("cache_size", -32_768)
        self._reader.pragma("cache_size", -65_536)
        self.progress = int(self._fetch("SELECT position FROM progress")[0][0])

    def holders(self, keys: Sequence[bytes], limit: int) -> list[list[tuple[int, int]]]:
        """Return ``(position, mpid)`` of each key's holders, most recently linked first, at most ``limit``."""
        found: list[list[tuple[int, int]]] = [[]] * len(keys)
        for index, rows in _holders.decode(self._array(_HOLDERS, [key.hex() for key in keys], limit)):
            rows.sort(reverse=True)  # they are, but for a promise
            found[index] = rows
        return found

    def profiles(self, mpids: Iterable[int]) -> list[tuple[str, Profile]]:
        """Return ``(space, profile)`` of those MPIDs that exist."""
        rows = _profiles.decode(self._array(_PROFILES, list(mpids)))
        return [(space, Profile(mpid, created, held, more)) for mpid, space, created, held, more in rows]

    def requests(self, keys: Sequence[bytes]) -> list[tuple[int, int]]:
        """Return ``(index into keys, position)`` of the requests that were answered."""
        return _requests.decode(self._array(_REQUESTS, [key.hex() for key in keys]))

    def further(self, wanted: Sequence[tuple[int, str, str]]) -> list[tuple[int, str, str, int]]:
        """Return ``(mpid, type, value, position)`` of those identities that profiles hold beyond their row."""
        return self._all(_FURTHER, list(wanted))

    def mpids(self, spaces: Collection[str], first: int, limit: int) -> list[int]:
        """Return the MPIDs of profiles in some spaces, in their order, from one on."""
        sql = """SELECT mpid FROM profile WHERE mpid >= ? AND space IN (SELECT value FROM json_each(?))
            ORDER BY mpid LIMIT ?"""
        rows = self._fetch(sql, first, _json.encode(list(spaces)).decode(), limit)
        return [mpid for (mpid,) in rows]

    def further_of(self, mpid: int) -> list[tuple[str, str, int]]:
        """Return every ``(type, value, position)`` that a profile holds beyond its row."""
        return self._fetch("SELECT type, value, position FROM further_identity WHERE mpid = ?", mpid)

    def made_of(self, mpid: int) -> list[int]:
        """Return the positions of the batches that a profile is made of."""
        sql = "SELECT position FROM activity WHERE mpid = ? UNION SELECT position FROM remainder WHERE mpid = ?"
        return [position for (position,) in self._fetch(sql, mpid, mpid)]

    def history_of(self, mpid: int) -> list[History]:
        """Return the identities that left a profile, oldest first."""
        rows = self._fetch("SELECT * FROM identity_history WHERE mpid = ? ORDER BY ended", mpid)
        return [History(*row) for row in rows]

    def decisions_of(self, mpid: int) -> list[int]:
        """Return the positions of the decisions that concern a profile, but for its first."""
        rows = self._fetch("SELECT position FROM profile_decision WHERE mpid = ? ORDER BY position", mpid)
        return [position for (position,) in rows]

    def guarded(self) -> dict[bytes, tuple[str, str, str, str, int]]:
        """Return every guarded value: key to ``(space, type, value, why, position)``."""
        rows = self._fetch("SELECT key, space, type, value, why, position FROM guarded_value")
        return {key: (space, type_, value, why, at) for key, space, type_, value, why, at in rows}

    def identity_past(
        self, space: str, type_: str, value: str, key: bytes, limit: int
    ) -> tuple[list[History], list[int]]:
        """Return who lost an identity in a space, latest first, and which decisions guarded or released it."""
        lost = self._fetch(_LOST, type_, value, space, limit)
        guards = self._fetch("SELECT position FROM guard_decision WHERE key = ?", key)
        return [History(*row) for row in lost], [position for (position,) in guards]

    def crowds(self, part: int, holders: int, values: int, keys: Iterable[bytes], mpids: Collection[int]) -> Crowds:
        """Return what a part of the tables has in crowds; what some keys and profiles have is counted in any case."""
        counted = self._fetch(_CROWDED_VALUES, bytes([part]), bytes([part]) + _LAST_KEY, holders)
        counted += self._all(_COUNTED, [key.hex() for key in keys])
        bindings = (*mpids_of(part), values, _json.encode(list(mpids)).decode())
        further, replaced = self._fetch(_CROWDED, *bindings), self._fetch(_REPLACED, *bindings)
        return Crowds(
            {key: (count, position) for key, count, position in counted},
            {(mpid, type_): count for mpid, type_, count in further},
            {(mpid, type_): count for mpid, type_, count in replaced},
        )

    def parts(
        self, wanted: Sequence[Touched]
    ) -> list[tuple[int, Person | None, WorkspaceProfile | None, Device | None]]:
        """Return ``(index into wanted, person, workspace profile, device)`` of rows that batches touch."""
        return _parts.decode(self._array(_PARTS, wanted))

    def person(self, mpid: int) -> Person | None:
        """Return what is known of a profile over all workspaces."""
        rows = self._fetch("SELECT body FROM person WHERE mpid = ?", mpid)
        return _person.decode(rows[0][0]) if rows else None

    def workspace_profile(self, mpid: int, workspace: str) -> WorkspaceProfile | None:
        """Return what is known of a profile in a workspace."""
        sql = "SELECT body FROM workspace_profile WHERE mpid = ? AND workspace = ?"
        rows = self._fetch(sql, mpid, workspace)
        return _workspace.decode(rows[0][0]) if rows else None

    def user(self, mpid: int, workspace: str) -> tuple[tuple[str, Profile] | None, Parts]:
        """Return ``(space, profile)`` of an MPID, None where there is none, and what a workspace knows of it."""
        space, created, held, more, person, known = self._fetch(_USER, mpid, workspace)[0]
        profile = None if space is None else (space, Profile(mpid, created, _held.decode(held), _more.decode(more)))
        return profile, Parts(
            None if person is None else _person.decode(person), None if known is None else _workspace.decode(known)
        )

    def devices(self, mpid: int, workspace: str, after: str, limit: int) -> list[tuple[str, Device]]:
        """Return devices of a profile by name, from the first after ``after`` on."""
        sql = "SELECT name, body FROM device WHERE mpid = ? AND workspace = ? AND name > ? ORDER BY name LIMIT ?"
        return [(name, _device.decode(body)) for name, body in self._fetch(sql, mpid, workspace, after, limit)]

    def activity(
        self,
        mpid: int,
        workspace: str,
        window: tuple[int, int],
        device: str,
        before: tuple[int, int],
        after: int,
        limit: int,
    ) -> list[Activity]:
        """Return batches of a profile after a position of which an event may be in a window, latest first.

        Those that reach beyond its end come with that end as their time, and all are before a ``(at_ms, position)``.
        """
        start_ms, end_ms = window
        latest_ms = min(end_ms, before[0])  # or a late page would look at all before it
        rows = self._fetch(_ACTIVITY, mpid, workspace, start_ms, latest_ms, device, device, after, *before, limit)
        if end_ms < END_MS and (end_ms, 0) < before:
            bindings = (end_ms, mpid, workspace, end_ms, end_ms, device, device, after, end_ms, *before, limit)
            rows = [*self._fetch(_BEYOND, *bindings), *rows]
            rows.sort(key=lambda row: row[1:3], reverse=True)
        return [Activity(*row) for row in rows[:limit]]

    def quarantined(self, workspace: str, after: int, before: int, limit: int) -> list[QuarantinedBatch]:
        """Return what was set aside in a workspace, latest first, after a position and before another."""
        sql = """SELECT position, workspace, input, at_ms, events, reason FROM quarantined
            WHERE workspace = ? AND position > ? AND position < ? ORDER BY position DESC LIMIT ?"""
        return [QuarantinedBatch(*row) for row in self._fetch(sql, workspace, after, before, limit)]

    def event_names(self) -> set[tuple[str, str]]:
        """Return ``(workspace, name)`` of every event and screen that was seen."""
        return set(self._fetch("SELECT workspace, name FROM event_name"))

    def inputs(self) -> list[str]:
        """Return the name of every input that was ever heard."""
        return [name for (name,) in self._fetch("SELECT name FROM input")]

    def alias(self, position: int) -> tuple[str, AliasRow] | None:
        """Return the space and the row of the alias that was accepted at a position."""
        rows = self._aliases(f"{_ALIAS} FROM alias WHERE position = ?", position)
        return rows[0] if rows else None

    def aliases_of(self, mpid: int, before: int, limit: int) -> list[tuple[str, AliasRow]]:
        """Return aliases from or to a profile, latest request first, before a position."""
        return self._aliases(_ALIASES_OF, mpid, before, limit)

    def due_aliases(self, now_ms: int, spaces: Collection[str] | None, limit: int) -> list[tuple[str, AliasRow]]:
        """Return aliases that wait and are due, longest due first, of some spaces or of all."""
        array = None if spaces is None else _json.encode(list(spaces)).decode()
        return self._aliases(_ALIASES_DUE, now_ms, array, limit)

    def aliases_from(self, mpid: int, end_ms: int, limit: int) -> list[tuple[str, AliasRow]]:
        """Return applied aliases from a profile that begin by a time, latest first."""
        return self._aliases(_ALIASES_FROM, mpid, end_ms, limit)

    def aliases_to(
        self, mpid: int, after: tuple[int, int], limit: int, *, oldest: bool
    ) -> list[tuple[str, AliasRow]]:
        """Return applied aliases to a profile by ``(end_ms, position)``, after one, latest or oldest first."""
        return self._aliases(_ALIASES_TO_OLDEST if oldest else _ALIASES_TO, mpid, *after, limit)

    def _aliases(self, sql: str, *bindings: object) -> list[tuple[str, AliasRow]]:
        return [(space, AliasRow(*row)) for space, *row in self._fetch(sql, *bindings)]

    def stored(self, mpids: Collection[int]) -> list[tuple[int, str, int]]:
        """Return ``(mpid, workspace, unix ms)`` of when the latest batch of some profiles came to each workspace."""
        return self._all(_STORED, list(mpids))

    def swept(self) -> dict[str, int]:
        """Return what is swept, and through which position."""
        return dict(self._fetch("SELECT what, through FROM swept"))

    def discardable(self, after: int, limit: int) -> list[int]:
        """Return positions of batches without events of which no profile is made any more."""
        sql = "SELECT position FROM loose WHERE trimmed AND position > ? ORDER BY position LIMIT ?"
        return [position for (position,) in self._fetch(sql, after, limit)]

    def drop_forgotten(self, after: bytes, through: int, limit: int) -> bytes | None:
        """Delete requests through a position among the next keys after one; return the last key, None at the end."""
        with plain_errors(self.path):
            keys = "SELECT key FROM request WHERE key > ? ORDER BY key LIMIT 1 OFFSET ?"
            last = self._writer.execute(keys, (after, limit - 1)).get
            gone = "DELETE FROM request WHERE key > ? AND key <= ? AND position <= ?"
            self._writer.execute(gone, (after, _LAST_KEY if last is None else last, through))
        return None if last is None else bytes(last)

    def write(self, rows: Generation) -> None:
        """Write a generation in one transaction."""
        with plain_errors(self.path):
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                for name, values in _statements(rows):
                    for array in _arrays(values):
                        self._writer.execute(_WRITE[name], (array,))
                self._writer.execute("UPDATE progress SET position = ?", (rows.position,))
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _array(self, sql: str, wanted: object, *more: int) -> str:
        """Return the JSON array whose items a statement answers with, without brackets, in its only row."""
        return f"[{self._all(sql, wanted, *more)[0][0] or ''}]"

    def _all(self, sql: str, array: object, *more: int) -> list[Any]:
        return self._fetch(sql, _json.encode(array).decode(), *more)


def _statements(rows: Generation) -> Iterable[tuple[str, Iterator[Any]]]:
    """Yield each statement's name and its rows."""
    yield "profile", ((mpid, of, p.created, p.held, p.more) for mpid, (of, p) in rows.profiles.items())
    yield "unlinked", ((key.hex(), at, mpid) for key, gone in rows.unlinked.items() for at, mpid in gone)
    yield "linked", ((key.hex(), at, mpid) for key, new in rows.linked.items() for at, mpid in new)
    further = [(mpid, *identity, at) for mpid, of in rows.further.items() for identity, at in of.items()]
    yield "further_gone", (row[:3] for row in further if row[3] is None)
    yield "further", (row for row in further if row[3] is not None)
    yield "history_gone", iter(rows.history_gone)
    yield "history", (msgspec.structs.astuple(row) for of in rows.history.values() for row in of)
    yield "request", ((key.hex(), at) for key, at in rows.requests.items())
    yield "concerned", ((mpid, at) for mpid, of in rows.concerned.items() for at in of)
    yield "released", (key.hex() for key, guard in rows.guarded.items() if guard is None)
    yield "guarded", ((key.hex(), *guard) for key, guard in rows.guarded.items() if guard is not None)
    yield "guarding", ((key.hex(), at) for key, at in rows.guarding)
    yield "alias", ((at, space, *msgspec.structs.astuple(row)[1:]) for at, (space, row) in rows.aliases.items())
    yield "input", iter(rows.inputs)
    places = rows.expired.keys() | rows.cleared
    yield "expired_workspace", iter(places)
    yield "expired_devices", iter(places)
    yield "gone_person", iter(rows.gone.keys() | rows.nobody)
    if rows.cleared:
        left = ((mpid, *row) for mpid, user in rows.users.items() for row in user.left)
        yield "trimmed", left
        yield "remainder_left", iter(rows.remainders_left)
    yield from _users(rows.users)
    yield (
        "quarantined",
        ((row.workspace, row.position, row.input, row.at_ms, row.events, row.reason) for row in rows.quarantined),
    )
    yield "event_name", iter(rows.event_names)
    if rows.swept or rows.remainders or rows.gone or rows.discarded or rows.trimmed:
        yield from _upkeep(rows)


def _users(users: Mapping[int, UserRows]) -> Iterator[tuple[str, Iterator[Any]]]:
    yield "person", ((mpid, user.person) for mpid, user in users.items() if user.person is not None)
    yield "workspace_profile", ((mpid, *row) for mpid, user in users.items() for row in user.workspaces.items())
    yield "device", ((mpid, *at, seen) for mpid, user in users.items() for at, seen in user.devices.items())
    yield (
        "activity",
        (
            (mpid, row.workspace, row.at_ms, row.position, row.first_ms, row.input, row.device, row.events)
            for mpid, user in users.items()
            for row in user.activity
        ),
    )


def _upkeep(rows: Generation) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield what becomes of data that grew old, when all that came is there.

    Whichever came first, the loss of its events or the end of its profile, a batch ends up in the same table.
    """
    timed = [row for row in rows.trimmed if row.at_ms is not None]
    yield "trimmed", iter(timed)
    yield "trimmed_some_time", ((r.mpid, r.workspace, r.position) for r in rows.trimmed if r.at_ms is None)
    names = {what: what.removeprefix(_EVENTS) for what in rows.swept if what.startswith(_EVENTS)}
    yield "cleared", ((workspace, rows.swept[what]) for what, workspace in names.items())
    yield "trimmed_loose", iter(rows.remainders)
    yield "remainder", iter(rows.remainders)
    gone = list(rows.gone.items())
    yield "loosened", iter(gone)
    yield "gone_remainder", iter(gone)
    yield "loosened_whole", iter(gone)
    yield "discarded", iter(rows.discarded)
    yield "swept", iter(rows.swept.items())


def _arrays(rows: Iterator[Any]) -> Iterator[str]:
    """Yield rows as JSON arrays for one statement each.

    They are encoded piece by piece, since nothing else of the server runs during a call of the encoder; SQLite
    sorts them as the table is, since neighbours then share a page.
    """
    while pieces := list(islice(_pieces(rows), _PIECES)):
        yield "[" + ",".join(pieces) + "]"


def _pieces(rows: Iterator[Any]) -> Iterator[str]:
    while piece := list(islice(rows, _ROWS_A_PIECE)):
        yield _json.encode(piece)[1:-1].decode()
