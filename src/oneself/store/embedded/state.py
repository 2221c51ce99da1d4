"""``state.db``: the tables that are derived from the journal, and every statement on them.

Each statement takes its keys or rows as one JSON array: one call for a whole group, during which other
threads of the server run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from oneself.identity import Profile
from oneself.store.contract import History
from oneself.store.embedded.files import DatabaseFile, plain_errors
from oneself.store.embedded.pending import Generation

__all__ = ["StateFile"]

_MIGRATIONS = (
    """
    CREATE TABLE progress(                 -- one row: the tables have every entry through this position
        id INTEGER PRIMARY KEY CHECK (id = 1),
        position INTEGER NOT NULL
    ) STRICT;
    INSERT INTO progress VALUES(1, 0);
    CREATE TABLE profile(
        mpid    INTEGER PRIMARY KEY,
        space   TEXT NOT NULL,             -- SCOPE/ENVIRONMENT
        created INTEGER NOT NULL,          -- position of the decision that made it
        held    TEXT NOT NULL,             -- JSON: {type: {value: position linked}}, the first few a type
        more    TEXT NOT NULL              -- JSON: {type: how many further values}
    ) STRICT;
    CREATE TABLE further_identity(         -- the values of a profile that its row has no room for
        mpid     INTEGER NOT NULL,
        type     TEXT NOT NULL,
        value    TEXT NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (mpid, type, value)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE holder(                   -- who holds an identity, by the digest of space, type and value
        key      BLOB NOT NULL,
        position INTEGER NOT NULL,
        mpid     INTEGER NOT NULL,
        PRIMARY KEY (key, position, mpid)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE identity_history(         -- identities that left a profile
        mpid     INTEGER NOT NULL,
        ended    INTEGER NOT NULL,
        type     TEXT NOT NULL,
        value    TEXT NOT NULL,
        linked   INTEGER NOT NULL,
        why      TEXT NOT NULL,
        moved_to INTEGER NOT NULL,
        PRIMARY KEY (mpid, ended, type, value)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE request(                  -- which decision answered a request, by the digest of input and id
        key      BLOB PRIMARY KEY,
        position INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE profile_decision(         -- what concerned a profile after it was made
        mpid     INTEGER NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (mpid, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE guarded_value(
        key      BLOB PRIMARY KEY,
        space    TEXT NOT NULL,
        type     TEXT NOT NULL,
        value    TEXT NOT NULL,
        why      TEXT NOT NULL,
        position INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE alias(
        position       INTEGER NOT NULL,
        space          TEXT NOT NULL,
        source         INTEGER NOT NULL,
        destination    INTEGER NOT NULL,
        start_ms       INTEGER NOT NULL,
        end_ms         INTEGER NOT NULL,
        due_ms         INTEGER NOT NULL,
        scope          TEXT NOT NULL,
        device         TEXT NOT NULL,
        PRIMARY KEY (position, source, destination)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE input(name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;   -- every input that was ever heard
    """,
)

_ROWS_A_PIECE = 200
_PIECES = 200

_json = msgspec.json.Encoder()
_holders = msgspec.json.Decoder(list[tuple[int, list[tuple[int, int]]]])
_profiles = msgspec.json.Decoder(list[tuple[int, str, int, dict[str, dict[str, int]], dict[str, int]]])
_requests = msgspec.json.Decoder(list[tuple[int, int]])

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
_FURTHER = """
    SELECT f.mpid, f.type, f.value, f.position FROM json_each(?1) AS wanted CROSS JOIN further_identity AS f
    ON f.mpid = wanted.value ->> 0 AND f.type = wanted.value ->> 1 AND f.value = wanted.value ->> 2
"""

_WRITE = {
    "profile": """INSERT INTO profile SELECT value ->> 0, value ->> 1, value ->> 2, value -> 3, value -> 4
        FROM json_each(?) WHERE true ORDER BY 1
        ON CONFLICT (mpid) DO UPDATE SET held = excluded.held, more = excluded.more""",
    "unlinked": """DELETE FROM holder WHERE (key, position, mpid) IN
        (SELECT unhex(value ->> 0), value ->> 1, value ->> 2 FROM json_each(?))""",
    "linked": """INSERT OR IGNORE INTO holder
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2 FROM json_each(?) ORDER BY 1, 2""",
    "further_gone": """DELETE FROM further_identity WHERE (mpid, type, value) IN
        (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?))""",
    "further": """INSERT OR REPLACE INTO further_identity
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)""",
    "history": """INSERT OR IGNORE INTO identity_history
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
        FROM json_each(?)""",
    "request": "INSERT OR IGNORE INTO request SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?) ORDER BY 1",
    "concerned": """INSERT OR IGNORE INTO profile_decision
        SELECT value ->> 0, value ->> 1 FROM json_each(?) ORDER BY 1, 2""",
    "released": "DELETE FROM guarded_value WHERE key IN (SELECT unhex(value) FROM json_each(?))",
    "guarded": """INSERT OR REPLACE INTO guarded_value SELECT unhex(value ->> 0), value ->> 1, value ->> 2,
        value ->> 3, value ->> 4, value ->> 5 FROM json_each(?)""",
    "alias": """INSERT OR IGNORE INTO alias SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3,
        value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8 FROM json_each(?)""",
    "input": "INSERT OR IGNORE INTO input SELECT value FROM json_each(?)",
}


class StateFile(DatabaseFile):
    """The derived tables of one data folder: read by one thread, written by one other.

    ``progress`` is the position through which they had every entry when they were opened.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.progress = 0
        super().__init__(path, _MIGRATIONS, read_only=read_only)

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

    def further_of(self, mpid: int) -> list[tuple[str, str, int]]:
        """Return every ``(type, value, position)`` that a profile holds beyond its row."""
        return self._fetch("SELECT type, value, position FROM further_identity WHERE mpid = ?", mpid)

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

    def inputs(self) -> list[str]:
        """Return the name of every input that was ever heard."""
        return [name for (name,) in self._fetch("SELECT name FROM input")]

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
    yield "history", (msgspec.structs.astuple(row) for of in rows.history.values() for row in of)
    yield "request", ((key.hex(), at) for key, at in rows.requests.items())
    yield "concerned", ((mpid, at) for mpid, of in rows.concerned.items() for at in of)
    yield "released", (key.hex() for key, guard in rows.guarded.items() if guard is None)
    yield "guarded", ((key.hex(), *guard) for key, guard in rows.guarded.items() if guard is not None)
    yield "alias", ((at, space, *msgspec.structs.astuple(alias)) for at, space, alias in rows.aliases)
    yield "input", iter(rows.inputs)


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
