"""Batches for tests below HTTP: the calls that take them in, and everything that a store must tell of them.

``Known`` folds a journal and its batches plainly. It shares one thing with the code it judges:
``oneself.profiles.update``, which says what one batch makes of a profile's rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec

from oneself.engine import Call, delivery, misfit
from oneself.identity import Create, Decision, Link, Request, Trace
from oneself.journal import BatchRecord, Entry
from oneself.profiles import Batch, BatchError, Device, Parts, Person, Source, WorkspaceProfile, shown_of, update
from oneself.store import REQUESTS, EmbeddedStore, KnownUser, Reading, Store, Wanted, event_keys, rows_touched
from oneself.store.contract import Activity, QuarantinedBatch
from oneself.store.keys import batch_key, event_key, request_key
from profile_world import NOW_MS, source
from store_factories import SPACE, Backend

SCOPE = "acme"
SERVER = source("server")
WEB = source("web")
PAGE = 3
"""So many rows are asked for at a time …"""
CHUNK = 500
"""… and so many batches."""

Kept = tuple[Entry, BatchRecord | None]


def taken(document: Any, by: Source = SERVER, received_ms: int = NOW_MS, *, scope: str = SCOPE, **how: Any) -> Call:
    """Return the call that takes a document in, or sets it aside where it is no batch."""
    try:
        return delivery(document, by, received_ms, scope=scope, **how)
    except BatchError as error:
        return misfit(document, by, error, scope=scope)


async def user_of(store: Store, mpid: int, workspace: str) -> KnownUser | None:
    """Return what a workspace knows of a profile, having asserted that it is what the workspace shows."""
    user, seen = await store.user(mpid, workspace), await store.shown(mpid, workspace)
    if user is None:
        assert seen is None
        return None
    assert seen is not None
    assert (seen.space, seen.created, seen.person) == (user.profile.space, user.profile.created, user.person)
    assert sorted(seen.identities) == sorted((type_, value) for type_, value, _ in user.profile.identities)
    expected = None if user.workspace is None else shown_of(user.workspace)
    assert msgspec.json.encode(seen.workspace) == msgspec.json.encode(expected)
    return user


def of(customer: str = "c1", *events: Any, **more: Any) -> dict[str, Any]:
    """Return a batch of a customer."""
    return {"user_identities": {"customer_id": customer}, "events": list(events), **more}


def event(name: str = "Clicked", id_: Any = None, at_ms: int | None = NOW_MS, **data: Any) -> dict[str, Any]:
    """Return a custom event, with an id where one is given."""
    common = {"event_name": name, "custom_event_type": "navigation", "timestamp_unixtime_ms": at_ms}
    return {"event_type": "custom_event", "data": common | ({} if id_ is None else {"source_message_id": id_}) | data}


def bad(id_: Any = None) -> dict[str, Any]:
    """Return an event that is set aside."""
    return {"event_type": "custom_event", "data": {"source_message_id": id_}}


# -- made-up decisions, for stores without an engine ----------------------------------------------------------------


def kept(mpid: int | None, record: BatchRecord | None, *, changes: Iterable[Any] = (), space: str = SPACE) -> Kept:
    """Return the entry of a batch that was decided to be a profile's, and what is kept of it."""
    batch = record.batch if record is not None else None
    request_id = batch.request_id if batch is not None else ""
    by = batch.source.input if batch is not None else SERVER.input
    decision = Decision(Trace("matched"), mpid, changes=list(changes))
    return Entry(NOW_MS, space, by, 1, Request("batch", mpid=mpid), decision, request_id), record


async def put(backend: Backend, *group: Kept) -> list[int]:
    """Commit a group of made-up decisions on batches; return their positions."""
    reading = await reading_of(backend.store, *group)
    await backend.store.commit(reading)
    await backend.settle()
    return [position for position, _ in reading.effects.entries]


async def reading_of(store: Store, *group: Kept) -> Reading:
    """Return a reading that keeps a group of made-up decisions on batches, not yet committed."""
    spaces: dict[str, Wanted] = {}
    for entry, _ in group:
        wanted = spaces.setdefault(entry.space, Wanted())
        for change in entry.decision.changes:
            if isinstance(change, Create | Link):
                wanted.mpids.add(change.mpid)
            if isinstance(change, Link):
                wanted.identities.add((change.type, change.value))
    reading = await store.read(spaces, margin=len(group))
    placed = []
    for entry, record in group:
        position = reading.keep(entry)
        if record is not None:
            placed.append((position, entry, record))
            if record.batch is not None:
                reading.claim_events(event_keys(record.batch), position)
    await store.read_parts(reading, rows_touched(placed))
    for position, entry, record in placed:
        reading.keep_batch(position, entry, record)
    return reading


# -- what a store must tell -----------------------------------------------------------------------------------------


class Known:
    """What a journal's batches come to, kept as plainly as can be."""

    def __init__(self) -> None:
        self.people: dict[int, Person] = {}
        self.workspaces: dict[tuple[int, str], WorkspaceProfile] = {}
        self.devices: defaultdict[tuple[int, str], dict[str, Device]] = defaultdict(dict)
        self.activity: defaultdict[tuple[int, str], list[Activity]] = defaultdict(list)
        self.quarantined: defaultdict[str, list[QuarantinedBatch]] = defaultdict(list)
        self.names: defaultdict[str, set[str]] = defaultdict(set)
        self.keys: dict[bytes, int] = {}
        self.batches: dict[int, BatchRecord] = {}
        self.found: defaultdict[str, list[int]] = defaultdict(list)

    def take(self, position: int, entry: Entry, record: BatchRecord | None) -> None:
        """Fold one entry and what is kept of its batch in."""
        if entry.request_id:
            key = (batch_key if entry.request.kind == "batch" else request_key)(entry.input, entry.request_id)
            assert key not in self.keys, f"{entry.input} {entry.request_id} was decided twice"
            self.keys[key] = position
            self.found[entry.request_id].append(position)
        if record is None:
            return
        self.batches[position] = record
        workspace, _, _ = entry.input.partition("/")
        if record.reason or record.quarantined:
            reason = record.reason or record.quarantined[0].reason
            self.quarantined[workspace].append(
                QuarantinedBatch(position, workspace, entry.input, entry.at_ms, len(record.quarantined), reason)
            )
        batch = record.batch
        if batch is None:
            return
        for one in batch.events:
            if one.id:
                key = event_key(entry.input, one.id)
                assert key not in self.keys, f"{entry.input} event {one.id} was taken in twice"
                self.keys[key] = position
            if one.type in ("custom_event", "screen_view"):
                self.names[workspace].add(one.name)
        if entry.decision.mpid is not None:
            self._update(entry.decision.mpid, workspace, batch, position, trimmed=record.trimmed)

    def _update(self, mpid: int, workspace: str, batch: Batch, position: int, *, trimmed: bool) -> None:
        place, devices = (mpid, workspace), self.devices[mpid, workspace]
        before = Parts(self.people.get(mpid), self.workspaces.get(place), devices.get(batch.device))
        after = update(before, batch, position).parts
        assert after.person is not None
        assert after.workspace is not None
        self.people[mpid], self.workspaces[place] = after.person, after.workspace
        if after.device is not None:
            devices[batch.device] = after.device
        if not trimmed:
            self.activity[place].append(
                Activity(
                    mpid, batch.at_ms, position, batch.first_ms, workspace, batch.source.input, batch.device,
                    len(batch.events),
                )
            )  # fmt: skip


async def known_of(store: Store) -> Known:
    """Return what a store's whole journal comes to."""
    known = Known()
    entries = [row async for row in store.entries()]
    for begin in range(0, len(entries), CHUNK):
        chunk = entries[begin : begin + CHUNK]
        records = await store.batches([position for position, _ in chunk])
        for position, entry in chunk:
            known.take(position, entry, records.get(position))
    return known


async def assert_knows(store: Store, known: Known) -> None:
    """Assert that everything that a store tells of batches is what they come to."""
    for (mpid, workspace), row in known.workspaces.items():
        user = await store.user(mpid, workspace)
        assert user is not None
        assert (user.profile.mpid, user.person, user.workspace) == (mpid, known.people[mpid], row)
        stranger = await store.user(mpid, "no workspace")
        assert stranger is not None
        assert (stranger.person, stranger.workspace) == (known.people[mpid], None)
        assert await all_devices(store, mpid, workspace) == sorted(known.devices[mpid, workspace].items())
        rows = sorted(known.activity[mpid, workspace], key=lambda row: (row.at_ms, row.position), reverse=True)
        assert await all_activity(store, mpid, workspace) == rows
    for workspace in {*known.quarantined, *known.names, *(at[1] for at in known.workspaces)}:
        assert await all_quarantined(store, workspace) == known.quarantined[workspace][::-1]
        assert await store.event_names(workspace) == known.names[workspace]
    assert await store.batches([*known.batches, store.position + 1]) == known.batches
    unknown = event_key(SERVER.input, "never sent")
    assert (await store.read({}, [*known.keys, unknown])).answered == known.keys
    for request_id, positions in known.found.items():
        assert await store.find_request(request_id) == positions


async def assert_consistent(store: Store) -> Known:
    """Assert that a store tells just what its journal comes to; return that."""
    known = await known_of(store)
    await assert_knows(store, known)
    return known


async def all_devices(store: Store, mpid: int, workspace: str) -> list[tuple[str, Device]]:
    """Return all devices, read page by page."""
    rows: list[tuple[str, Device]] = []
    while page := await store.devices(mpid, workspace, after=rows[-1][0] if rows else "", limit=PAGE):
        assert len(page) <= PAGE
        rows += page
    return rows


async def all_activity(store: Store, mpid: int, workspace: str) -> list[Activity]:
    """Return all of a timeline, read page by page."""
    rows: list[Activity] = []
    before = None
    while page := await store.activity(mpid, workspace, before=before, limit=PAGE):
        assert len(page) <= PAGE
        rows += page
        before = page[-1].at_ms, page[-1].position
    return rows


async def all_quarantined(store: Store, workspace: str) -> list[QuarantinedBatch]:
    """Return all that was set aside, read page by page."""
    rows: list[QuarantinedBatch] = []
    while page := await store.quarantined(workspace, before=rows[-1].position if rows else 0, limit=PAGE):
        assert len(page) <= PAGE
        rows += page
    return rows


# -- the files ------------------------------------------------------------------------------------------------------


def tables_of(path: Path) -> dict[str, list[Any]]:
    """Return every row of every table of a database."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as file:
        names = [
            name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        ]
        return {name: sorted(file.execute(f"SELECT * FROM {name}"), key=repr) for name in names}


async def assert_rebuilds(folder: Path, elsewhere: Path) -> None:
    """Assert that ``state.db``, rebuilt from ``journal.db`` alone, is the one that a closed folder has.

    Of requests that are forgotten either may have rows still.
    """
    elsewhere.mkdir()
    with (
        closing(apsw.Connection(str(folder / "journal.db"))) as live_journal,
        closing(apsw.Connection(str(elsewhere / "journal.db"))) as copy,
        copy.backup("main", live_journal, "main") as backup,
    ):
        backup.step()
    store = EmbeddedStore(elsewhere)
    await store.open()
    await store.close()
    live, rebuilt = tables_of(folder / "state.db"), tables_of(elsewhere / "state.db")
    assert live.keys() == rebuilt.keys()
    forgotten = dict(live["swept"]).get(REQUESTS, 0)
    for tables in (live, rebuilt):
        tables["request"] = [row for row in tables["request"] if row[1] > forgotten]
    for table, rows in live.items():
        assert rebuilt[table] == rows, table
