"""The statements that write a generation of rows into ``state.db``; each takes its rows as one JSON array.

Rows are encoded in pieces, since nothing else of the server runs during a call of the encoder, and joined where they
are written: SQLite sorts those of one statement as the table is, since neighbours then share a page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import msgspec

from oneself.profiles import apart
from oneself.store.embedded.pending import Generation, UserRows
from oneself.store.reading import events_of

__all__ = ["Piece", "pieces_of", "statements"]

Piece = tuple[str, bytes]
"""What its rows are for, and some rows as JSON, without the brackets around them."""

_EVENTS = events_of("")

_ROWS_A_PIECE = 100
_PIECES = 50

_json = msgspec.json.Encoder()

_WRITE = {
    "profile": """INSERT INTO profile(mpid, space, created, held, more)
        SELECT value ->> 0, value ->> 1, value ->> 2, value -> 3, value -> 4
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
    "history": """INSERT OR REPLACE INTO identity_history
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
    "person": """UPDATE profile SET person = known.body
        FROM (SELECT value ->> 0 AS mpid, value -> 1 AS body FROM json_each(?) ORDER BY 1) AS known
        WHERE profile.mpid = known.mpid""",
    "workspace_profile": """INSERT INTO workspace_profile(mpid, workspace, shown, body)
        SELECT value ->> 0, value ->> 1, value -> 2, value -> 3 FROM json_each(?) WHERE true ORDER BY 1
        ON CONFLICT (mpid, workspace) DO UPDATE SET shown = excluded.shown, body = excluded.body""",
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
    "gone_person": "UPDATE profile SET person = NULL WHERE mpid IN (SELECT value FROM json_each(?))",
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


def pieces_of(rows: Generation) -> Iterator[Piece]:
    """Yield the rows of a generation in the order that they are to be written in."""
    for name, values in _written(rows):
        while piece := list(islice(values, _ROWS_A_PIECE)):
            yield name, _json.encode(piece)[1:-1]


def statements(pieces: Iterable[Piece]) -> Iterator[tuple[str, str]]:
    """Yield the statements that write some pieces, each with the JSON array of its rows."""
    for name, run in groupby(pieces, itemgetter(0)):
        while some := [rows for _, rows in islice(run, _PIECES)]:
            yield _WRITE[name], f"[{b','.join(some).decode()}]"


def _written(rows: Generation) -> Iterator[tuple[str, Iterator[Any]]]:
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
    yield (
        "workspace_profile",
        (
            (mpid, workspace, *apart(known))
            for mpid, user in users.items()
            for workspace, known in user.workspaces.items()
        ),
    )
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
