"""Whether the tables of a store, whatever engine it is, are what its journal says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from batches import assert_rebuilds, tables_of
from oneself.journal import BatchRecord, Entry
from oneself.profiles import apart
from oneself.store import REQUESTS, EmbeddedStore
from oneself.store.embedded.journal import JournalFile, group_of
from oneself.store.postgres import PostgresStore
from oneself.store.postgres.bodies import device_of, person_of, profile_of, workspace_of
from postgres_server import asked
from store_factories import Backend, Postgres

_ROWS = {
    "activity": "mpid, workspace, at_ms, position, first_ms, input, device, events",
    "alias": "position, space, source, destination, start_ms, end_ms, due_ms, scope, device, outcome, why, processed",
    "device": "mpid, workspace, name, changed, body",
    "event_name": "workspace, name",
    "further_identity": "mpid, type, value, position",
    "guard_decision": "key, position",
    "guarded_value": "key, space, type, value, why, position",
    "holder": "key, position, mpid",
    "identity_history": "mpid, ended, type, value, linked, why, moved_to",
    "input": "name",
    "loose": "position, trimmed::int",
    "person": "mpid, changed, body",
    "profile": "mpid, space, created, changed, body",
    "profile_decision": "mpid, position",
    "quarantined": "workspace, position, input, at_ms, events, reason",
    "remainder": "mpid, position",
    "request": "key, position",
    "swept": "what, through",
    "workspace_profile": "mpid, workspace, changed, body",
}
"""What the tables of both engines have in common, in the order of the embedded engine's columns."""


def tables_now(backend: Backend) -> dict[str, list[Any]]:
    """Return every row of every derived table of a backend; text and JSON as they are kept by the embedded engine."""
    if not isinstance(backend, Postgres):
        return tables_of(backend.folder / "data" / "state.db")
    tables = {}
    for table, columns in _ROWS.items():
        where = " WHERE NOT released" if table == "guarded_value" else ""
        rows = asked(f"SELECT {columns} FROM {table}{where}", url=backend.url)
        tables[table] = sorted((_row(table, list(row)) for row in rows), key=repr)
    people = dict(tables.pop("person"))
    tables["profile"] = [(*row, people.get(row[0])) for row in tables["profile"]]
    return tables


_BODIES: dict[str, Callable[[int, bytes], Any]] = {
    "device": device_of,
    "person": person_of,
}


def _row(table: str, row: list[Any]) -> tuple[Any, ...]:
    key = [row.pop(0)] if table in ("guard_decision", "guarded_value", "holder", "request") else []
    end: list[str] = []
    if table == "profile":
        mpid, _, created, *settled = row
        profile = profile_of(mpid, created, *settled)
        end = [msgspec.json.encode(profile.held).decode(), msgspec.json.encode(profile.more).decode()]
        row = row[:3]
    elif table == "workspace_profile":
        *row, changed, body = row
        known = workspace_of(changed, body)
        assert known is not None
        values, beside = apart(known)
        end = [msgspec.json.encode(part).decode() for part in (beside, values)]
    elif table in _BODIES:
        *row, changed, body = row
        end = [msgspec.json.encode(_BODIES[table](changed, body)).decode()]
    return (*key, *(value.decode() if isinstance(value, bytes) else value for value in row), *end)


async def assert_backend_rebuilds(backend: Backend, elsewhere: Path) -> None:
    """Assert that the tables of a backend at rest are those that its journal alone comes to.

    Those of PostgreSQL are compared with what the embedded engine makes of the same journal.
    """
    if not isinstance(backend, Postgres):
        await assert_rebuilds(backend.folder / "data", elsewhere)
        return
    elsewhere.mkdir(parents=True)
    await _copy_journal(backend.url, elsewhere / "journal.db")
    store = EmbeddedStore(elsewhere)
    await store.open()
    await store.close()
    live, rebuilt = tables_now(backend), tables_of(elsewhere / "state.db")
    forgotten = dict(live["swept"]).get(REQUESTS, 0)
    for tables in (live, rebuilt):
        tables["request"] = [row for row in tables["request"] if row[1] > forgotten]
    assert live.keys() == rebuilt.keys() - {"progress"}
    for table, rows in live.items():
        assert rows == rebuilt[table], table


async def _copy_journal(url: str, path: Path) -> None:
    """Write the journal of a database, and the batches that it has, as a file of the embedded engine."""
    store = PostgresStore(url)
    await store.open()
    journal = JournalFile(path)
    entries: list[tuple[int, Entry]] = [row async for row in store.entries()]
    batches: dict[int, BatchRecord] = await store.batches([position for position, _ in entries])
    journal.append(group_of(entries, batches))
    journal.sync()
    journal.close()
    await store.close()
