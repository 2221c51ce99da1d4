"""``state.db``: the tables that are derived from the journal, and the statements that read them.

Each statement takes its keys or rows as one array: one call for a whole group, during which other threads of the
server run.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from oneself.identity import AliasRow, Profile
from oneself.profiles import (
    AttributeValue,
    Attribution,
    Consent,
    Device,
    Parts,
    Person,
    Shown,
    WorkspaceProfile,
    WorkspaceRow,
    shown_of,
    together,
)
from oneself.store.contract import ShownUser
from oneself.store.crowds import Crowds, mpids_of
from oneself.store.embedded.files import DatabaseFile, plain_errors
from oneself.store.embedded.schema import MIGRATIONS
from oneself.store.embedded.writing import Piece, statements
from oneself.store.reading import Activity, History, QuarantinedBatch, Touched

__all__ = ["StateFile"]

END_MS = 1 << 62
"""Later than any time."""

_LAST_KEY = b"\xff" * 16
_NO_MORE = "{}"

_json = msgspec.json.Encoder()


class _ShownRow(msgspec.Struct):
    """What is shown of a workspace profile besides the values of its attributes."""

    stored_ms: int
    consent: dict[str, dict[str, Consent]] = {}
    attribution: Attribution | None = None


_holders = msgspec.json.Decoder(list[tuple[int, list[tuple[int, int]]]])
_profiles = msgspec.json.Decoder(list[tuple[int, str, int, dict[str, dict[str, int]], dict[str, int]]])
_requests = msgspec.json.Decoder(list[tuple[int, int]])
_Values = dict[str, AttributeValue]
_parts = msgspec.json.Decoder(list[tuple[int, Person | None, _Values | None, WorkspaceRow | None, Device | None]])
_person = msgspec.json.Decoder(Person)
_values = msgspec.json.Decoder(_Values)
_workspace = msgspec.json.Decoder(WorkspaceRow)
_shown = msgspec.json.Decoder(_ShownRow)
_device = msgspec.json.Decoder(Device)
_held = msgspec.json.Decoder(dict[str, dict[str, int]])
_more = msgspec.json.Decoder(dict[str, int])

# Each of these answers with one row, put together as JSON: the interpreter is let go and taken back for every row.
# What is wanted they take as an array of C, since JSON would cost them as much as what they look up.
_HOLDERS = """
    SELECT group_concat('[' || wanted.rowid || ',[' || coalesce((
        SELECT group_concat('[' || position || ',' || mpid || ']', ',') FROM (
            SELECT position, mpid FROM holder WHERE key = wanted.value ORDER BY position DESC LIMIT ?2)
        ), '') || ']]', ',') FROM carray(?1) AS wanted
"""
_PROFILES = """
    SELECT group_concat(
        '[' || p.mpid || ',' || json_quote(p.space) || ',' || p.created || ',' || p.held || ',' || p.more || ']', ',')
    FROM carray(?1) AS wanted CROSS JOIN profile AS p ON p.mpid = wanted.value
"""
_REQUESTS = """
    SELECT group_concat('[' || wanted.rowid || ',' || r.position || ']', ',')
    FROM carray(?1) AS wanted CROSS JOIN request AS r ON r.key = wanted.value
"""
_PARTS = """
    SELECT group_concat('[' || wanted.key || ',' || coalesce(p.person, 'null') || ','
        || coalesce(nullif(w.shown, ''), 'null') || ',' || coalesce(w.body, 'null') || ','
        || coalesce(d.body, 'null') || ']', ',')
    FROM json_each(?1) AS wanted
    LEFT JOIN profile AS p ON p.mpid = wanted.value ->> 0
    LEFT JOIN workspace_profile AS w ON w.mpid = wanted.value ->> 0 AND w.workspace = wanted.value ->> 1
    LEFT JOIN device AS d
        ON d.mpid = wanted.value ->> 0 AND d.workspace = wanted.value ->> 1 AND d.name = wanted.value ->> 2
"""
_USER = """
    SELECT p.space, p.created, p.held, p.more, p.person, w.shown, w.body
    FROM profile AS p
    LEFT JOIN workspace_profile AS w ON w.mpid = p.mpid AND w.workspace = ?2 WHERE p.mpid = ?1
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


def _ready(values: str, known: str) -> Shown:
    """Return what is shown of a row; one of before has no values beside it."""
    if not values:
        return shown_of(together(None, _workspace.decode(known)))
    row = _shown.decode(known)
    return Shown(row.stored_ms, msgspec.Raw(values), row.consent, row.attribution)


class StateFile(DatabaseFile):
    """The derived tables of one data folder: read by one thread, written by one other.

    ``progress`` is the position through which they had every entry when they were opened.
    """

    MARK = "progress"

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.progress = 0
        self._holds = False
        self._writes = 0
        super().__init__(path, MIGRATIONS, read_only=read_only)

    def _prepare(self, read_only: bool) -> None:
        if not read_only:
            self._writer.pragma("synchronous", "normal")  # consistent after a crash; the journal has the rest
            self._writer.pragma("cache_size", -32_768)
        self._reader.pragma("cache_size", -196_608)  # all but the leaves of some million profiles' tables
        self.progress = int(self._fetch("SELECT position FROM progress")[0][0])

    def hold(self) -> None:
        """See one moment of the tables between two writes of them, which makes each look a third cheaper."""
        self._holds = True
        self._begin()

    @contextmanager
    def being_written(self) -> Iterator[None]:
        """See the newest at each look while tables are written: who held a moment would keep their log growing."""
        self._writes += 1
        if self._reader.in_transaction:
            self._reader.execute("COMMIT")
        try:
            yield
        finally:
            self._writes -= 1
            self._begin()

    def _begin(self) -> None:
        if self._holds and not self._writes and not self._reader.in_transaction:
            self._reader.execute("BEGIN")

    def holders(self, keys: Sequence[bytes], limit: int) -> list[list[tuple[int, int]]]:
        """Return ``(position, mpid)`` of each key's holders, most recently linked first, at most ``limit``."""
        found: list[list[tuple[int, int]]] = [[]] * len(keys)
        for number, rows in _holders.decode(self._joined(_HOLDERS, apsw.carray(tuple(keys)), limit)):
            rows.sort(reverse=True)  # they are, but for a promise
            found[number - 1] = rows
        return found

    def profiles(self, mpids: Iterable[int]) -> list[tuple[str, Profile]]:
        """Return ``(space, profile)`` of those MPIDs that exist."""
        wanted = array("q", mpids)
        rows = _profiles.decode(self._joined(_PROFILES, apsw.carray(wanted))) if wanted else ()
        return [(space, Profile(mpid, created, held, more)) for mpid, space, created, held, more in rows]

    def requests(self, keys: Sequence[bytes]) -> list[tuple[int, int]]:
        """Return ``(number among keys, from 1, position)`` of the requests that were answered."""
        return _requests.decode(self._joined(_REQUESTS, apsw.carray(tuple(keys))))

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
        found = _parts.decode(self._joined(_PARTS, _json.encode(wanted).decode()))
        return [
            (index, person, None if row is None else together(values, row), device)
            for index, person, values, row, device in found
        ]

    def user(self, mpid: int, workspace: str) -> tuple[tuple[str, Profile] | None, Parts]:
        """Return ``(space, profile)`` of an MPID, None where there is none, and what a workspace knows of it."""
        rows = self._fetch(_USER, mpid, workspace)
        if not rows:
            return None, Parts()
        space, created, held, more, person, values, known = rows[0]
        return (space, Profile(mpid, created, _held.decode(held), _more.decode(more))), Parts(
            None if person is None else _person.decode(person),
            None if known is None else together(_values.decode(values) if values else None, _workspace.decode(known)),
        )

    def shown(self, mpid: int, workspace: str) -> ShownUser | None:
        """Return what a workspace shows of a profile, removed or not; None where there is none."""
        rows = self._fetch(_USER, mpid, workspace)
        if not rows:
            return None
        space, created, held, more, person, values, known = rows[0]
        identities = [(type_, value) for type_, of in _held.decode(held).items() for value in of]
        if more != _NO_MORE:
            identities += [(type_, value) for type_, value, _ in self.further_of(mpid)]
        return ShownUser(
            space,
            created,
            identities,
            None if person is None else _person.decode(person),
            None if known is None else _ready(values, known),
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

    def through(self) -> int:
        """Return the position through which the tables have everything now."""
        with plain_errors(self.path):
            return int(self._writer.execute("SELECT position FROM progress").get)

    def write(self, position: int, pieces: Iterable[Piece]) -> None:
        """Write rows in one transaction, after which the tables have everything through a position."""
        with plain_errors(self.path):
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                for sql, array in statements(pieces):
                    self._writer.execute(sql, (array,))
                self._writer.execute("UPDATE progress SET position = ?", (position,))
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _joined(self, sql: str, *bindings: object) -> str:
        """Return the JSON array whose items a statement answers with, without brackets, in its only row."""
        return f"[{self._fetch(sql, *bindings)[0][0] or ''}]"

    def _all(self, sql: str, array: object, *more: int) -> list[Any]:
        return self._fetch(sql, _json.encode(array).decode(), *more)
