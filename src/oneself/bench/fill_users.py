"""Filling a data folder with users, as if all their batches had been taken in one by one (docs/benchmarks.md).

One user's batches are taken in by the code that the server runs; every other user's rows are copies of theirs
(``oneself.bench.pattern``), written in the order of their MPIDs, which is that of most tables. The rows of the tables
whose keys are digests are sorted on disk first. So nothing jumps about, and memory does not grow with the users.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import apsw

from oneself.bench.batches import Sender, message_id, request_id, session, stored_batch
from oneself.bench.fill import SCOPE, SPACE, begin
from oneself.bench.pattern import TIME, Column, Keys, Pattern, row_columns
from oneself.bench.population import customer_id, email
from oneself.bench.spool import PARTS, Spool
from oneself.bench.users import Users, stamp
from oneself.engine import delivery
from oneself.identity import PolicySettings, View, build, decide, prepare
from oneself.journal import BatchRecord, Entry
from oneself.profiles import Source, rank_of
from oneself.store import Reading, event_keys
from oneself.store.embedded.journal import JournalFile, group_of
from oneself.store.embedded.pending import Generation
from oneself.store.embedded.state import StateFile
from oneself.store.embedded.writing import pieces_of
from oneself.store.keys import batch_key, event_key, holder_key

__all__ = ["INPUT", "NUMBERS", "SPAN_MS", "NoRoom", "fill_users", "source"]

INPUT: Final = "default/server"
"""Who sent what is stored."""

NUMBERS: Final = 1 << 40
"""Batches are numbered from here, apart from those of a load."""

SPAN_MS: Final = 30 * 86_400_000
"""The batches came within this time before now."""

_FILES: Final = ("journal.db", "state.db")
_NOT_OF_USERS: Final = frozenset({"progress", "policy", "setting"})
_GROUP = 1_000  # users a transaction
_ROOM = 2.0  # bytes of disk for a byte of rows
_PATTERN, _CHECK = (1 << 45) + 17, (1 << 45) + 35  # users that are not stored
_FIRST, _CHECK_FIRST = 5_555_555_555_555, 6_666_666_666_666  # their first batches' positions


class NoRoom(Exception):
    """A fill that the disk has no room for; the message says how much it needs."""


def fill_users(folder: Path, users: Users, step: Callable[[int], None] = lambda _: None) -> None:
    """Make a data folder that holds the ordinary users; ``step`` is told how many batches were put there.

    The folder must be new; it must not be used if this raises. Raises ``NoRoom`` before anything is written.
    """
    asyncio.run(begin(folder))
    with ExitStack() as stack:
        tables = _tables(folder, users, stack)
        _check_room(folder, users, tables.bytes)
        files = {name: stack.enter_context(closing(_opened(folder / name))) for name in _FILES}
        end_ms = time.time_ns() // 1_000_000
        for first in range(0, users.profiles, _GROUP):
            last = min(first + _GROUP, users.profiles)
            group = [_valued(tables.offsets, users, number, end_ms) for number in range(first, last)]
            tables.write(files, group)
            step(len(group) * users.devices)
        tables.finish(files)
        with files["state.db"] as state:
            state.execute("UPDATE progress SET position = ?", (users.profiles * users.devices,))
        for file in files.values():
            file.pragma("journal_mode", "wal")


def _check_room(folder: Path, users: Users, row_bytes: int) -> None:
    """Raise ``NoRoom`` where users with so many bytes of rows each would not fit."""
    needed, free = users.profiles * row_bytes * _ROOM, shutil.disk_usage(folder).free
    if needed > free:
        raise NoRoom(
            f"{users.profiles:,} such profiles need about {needed / 1e9:,.1f} GB, and the disk of {folder} has "
            f"{free / 1e9:,.1f} GB free. Name a place with more by --folder, or give fewer by --stored, --devices or "
            "--attributes."
        )


def source() -> Source:
    """Return the input that sent what is stored."""
    return Source(INPUT, "default", "server", rank_of("server"), platform=False)


def _opened(path: Path) -> apsw.Connection:
    """Open a database to be filled: nothing is lost that could not be made again."""
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "off")
    connection.pragma("synchronous", "off")
    return connection


# -- a user's values and rows ---------------------------------------------------------------------------------------


def _values(users: Users, number: int, first: int) -> list[int | str]:
    """Return what a user's rows are made of, but for times; ``first`` is the position of their first batch."""
    positions = range(first, first + users.devices)
    values: list[int | str] = [users.mpid(number), customer_id(number), email(number), session(number), *positions]
    values += [stamp(number, place) for place in range(users.devices)]
    for position in positions:
        values.append(request_id(NUMBERS + position))
        values += [message_id(NUMBERS + position, place) for place in range(users.events)]
    for value in users.values(number).values():
        values += [value] if isinstance(value, str) else value
    return values


def _valued(offsets: Sequence[int], users: Users, number: int, end_ms: int) -> list[int | str]:
    """Return a stored user's values, times included."""
    first = number * users.devices + 1
    at_ms = end_ms - SPAN_MS + number * SPAN_MS // users.profiles
    return _values(users, number, first) + [at_ms + offset for offset in offsets]


def _keys(values: Sequence[int | str]) -> Keys:
    """Return the digests of a user's values."""
    makers: list[Callable[[Any], bytes]] = [
        lambda value: holder_key(SPACE, "customerid", value),
        lambda value: holder_key(SPACE, "email", value),
        lambda value: holder_key(SPACE, "device_application_stamp", value),
        lambda value: batch_key(INPUT, value),
        lambda value: event_key(INPUT, value),
    ]
    return {make(value): (place, make) for place, value in enumerate(values) for make in makers}


Rows = dict[tuple[str, str], tuple[list[str], list[tuple[Any, ...]]]]
"""By file and table, the names of the columns, and rows."""


def _made(folder: Path, users: Users, number: int, first: int, at_ms: int) -> Rows:
    """Return the rows of a user whose batches stand at positions from ``first`` on, made as the engine does it."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        journal, state = JournalFile(Path(name) / "journal.db"), StateFile(Path(name) / "state.db")
        with closing(journal), closing(state):
            reading = _taken(users, number, first, at_ms)
            position = first + users.devices - 1
            journal.append(group_of(reading.effects.entries, reading.effects.batches))
            journal.sync()
            generation = Generation(position)
            generation.take(reading.effects, position)
            state.write(position, pieces_of(generation))
        return {(file, table): rows for file in _FILES for table, rows in _rows_of(Path(name) / file)}


def _taken(users: Users, number: int, first: int, at_ms: int) -> Reading:
    """Take the batches of a user in."""
    policy = build(PolicySettings())
    reading = Reading(first)
    view = reading.views[SPACE] = View()
    for place in range(users.devices):
        sender = Sender(number, place, 0, known=True)
        document = stored_batch(users, sender, NUMBERS + reading.position, at_ms)
        call = delivery(document, source(), at_ms, scope=SCOPE)
        assert call.delivery is not None
        batch = call.delivery.batch
        assert batch is not None
        prepared = prepare(policy, call.request)
        for identity in prepared.identities:
            view.holders.setdefault(identity, [])
        decision = decide(prepared, view, at_ms, users.mpid(number))
        entry = Entry(at_ms, SPACE, INPUT, 1, call.request, decision, call.request_id)
        position = reading.keep(entry)
        reading.claim_events(event_keys(batch), position)
        reading.keep_batch(position, entry, BatchRecord(batch))
    return reading


def _rows_of(path: Path) -> Iterator[tuple[str, tuple[list[str], list[tuple[Any, ...]]]]]:
    file = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    with closing(file):
        tables = [name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            if table not in _NOT_OF_USERS:
                names = [row[1] for row in file.execute(f"PRAGMA table_info({table})")]
                yield table, (names, [tuple(row) for row in file.execute(f"SELECT * FROM {table}")])


# -- the tables -----------------------------------------------------------------------------------------------------


class _Tables:
    """How the rows of every table come from a user's values.

    ``straight`` are the rows of tables that are in the order of MPIDs or positions, ``spooled`` those of the others,
    ``same`` those that are the same for everybody. ``bytes`` is how long the rows of a user are.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        self.offsets = offsets
        self.bytes = 0
        self.straight: dict[tuple[str, str], list[list[Column]]] = {}
        self.spooled: dict[tuple[str, str], tuple[Spool, list[list[Column]]]] = {}
        self.same: dict[tuple[str, str], list[tuple[Any, ...]]] = {}

    def write(self, files: dict[str, apsw.Connection], group: Sequence[Sequence[int | str]]) -> None:
        """Write the rows of some users, and keep those that have to be sorted."""
        for (name, table), rows in self.straight.items():
            made = [tuple([column(values) for column in row]) for values in group for row in rows]
            with files[name]:
                files[name].executemany(_insert(table, len(rows[0])), made)
        for spool, rows in self.spooled.values():
            for values in group:
                for row in rows:
                    spool.add(*[column(values) for column in row])

    def finish(self, files: dict[str, apsw.Connection]) -> None:
        """Write the rows that had to be sorted, and those of everybody."""
        for (name, table), (spool, rows) in self.spooled.items():
            for part in range(PARTS):
                with files[name]:
                    files[name].executemany(_insert(table, len(rows[0])), sorted(spool.part(part)))
        for (name, table), same in self.same.items():
            with files[name]:
                files[name].executemany(_insert(table, len(same[0])), same)


def _insert(table: str, columns: int) -> str:
    return f"INSERT INTO {table} VALUES({','.join('?' * columns)})"


def _tables(folder: Path, users: Users, stack: ExitStack) -> _Tables:
    """Return how rows come from values, learnt from one user's rows and checked with another's."""
    values = _values(users, _PATTERN, _FIRST)
    pattern = Pattern(values, _keys(values))
    tables = _Tables(pattern.offsets)
    for at, (names, rows) in _made(folder, users, _PATTERN, _FIRST, TIME).items():
        made = [row_columns(pattern, names, row) for row in rows]
        own = [columns for columns in made if columns is not None]
        same = [row for row, columns in zip(rows, made, strict=True) if columns is None]
        if same:
            tables.same[at] = same
        tables.bytes += sum(len(value) if isinstance(value, str | bytes) else 8 for row in rows for value in row)
        if own and pattern.is_key(rows[0][0]):
            spool = Spool(folder, f"<16s{'q' * (len(names) - 1)}")
            tables.spooled[at] = stack.enter_context(closing(spool)), own
        elif own:
            tables.straight[at] = own
    _check(folder, users, tables)
    return tables


def _check(folder: Path, users: Users, tables: _Tables) -> None:
    """Raise ``ValueError`` unless another user's rows come out as the engine makes them."""
    at_ms = TIME // 3
    values = _values(users, _CHECK, _CHECK_FIRST) + [at_ms + offset for offset in tables.offsets]
    for at, (_, rows) in _made(folder, users, _CHECK, _CHECK_FIRST, at_ms).items():
        own = tables.spooled[at][1] if at in tables.spooled else tables.straight.get(at, [])
        copied = [tuple([column(values) for column in row]) for row in own] + tables.same.get(at, [])
        if sorted(copied, key=repr) != sorted(rows, key=repr):
            raise ValueError(f"the rows of {at[1]} cannot be copied from one user to another")
