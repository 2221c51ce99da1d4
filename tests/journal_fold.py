"""The journal folded plainly, and everything that a store derives from it compared with that.

``Fold`` shares one thing with the code it judges: ``oneself.identity.apply``, which says what a change does.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec

from oneself.identity import (
    HOLDERS_READ,
    Alias,
    AliasOutcome,
    AliasRow,
    Create,
    Expire,
    Guard,
    Identity,
    Link,
    Policy,
    PolicySettings,
    Release,
    Unlink,
    View,
    apply,
    build,
    decide,
    prepare,
)
from oneself.journal import Entry
from oneself.store import EmbeddedStore, History, Store, Wanted
from oneself.store.embedded.files import FolderLock
from oneself.store.keys import holder_key, request_key

CHUNK = 500


class Left(NamedTuple):
    """An identity left a profile at a position."""

    mpid: int
    ended: int
    type: str
    value: str
    linked: int
    why: str
    moved_to: int


class Fold:
    """The state after some entries, each space in one view that has all of it."""

    def __init__(self) -> None:
        self.position = 0
        self.spaces: defaultdict[str, View] = defaultdict(View)
        self.space_of: dict[int, str] = {}
        self.requests: dict[tuple[str, str], int] = {}
        self.history: list[Left] = []
        self.concerned: defaultdict[int, set[int]] = defaultdict(set)
        self.guards: dict[tuple[str, str, str], tuple[str, int]] = {}
        self.aliases: dict[int, tuple[str, AliasRow]] = {}
        self.inputs: set[str] = set()
        self.answers: dict[int, int | None] = {}

    def take(self, position: int, entry: Entry) -> None:
        """Fold one entry in."""
        assert position == self.position + 1, f"the journal has a gap before position {position}"
        self.position = position
        view, space = self.spaces[entry.space], entry.space
        self.inputs.add(entry.input)
        self.answers[position] = entry.decision.mpid
        if entry.request_id:
            asked = (entry.input, entry.request_id)
            assert asked not in self.requests, f"{asked} was decided twice: {self.requests[asked]} and {position}"
            self.requests[asked] = position
        for change in entry.decision.changes:
            if isinstance(change, Create):
                assert change.mpid not in self.space_of, f"the MPID {change.mpid} was given twice"
                self.space_of[change.mpid] = space
            if isinstance(change, Create | Link | Unlink):
                self.concerned[change.mpid].add(position)
            if isinstance(change, Unlink):
                linked = linked_at(view, change.mpid, (change.type, change.value))
                if linked != position:  # what comes and goes within one decision was never held
                    self.history.append(
                        Left(change.mpid, position, change.type, change.value, linked, *change_end(change))
                    )
            if isinstance(change, Guard):
                self.guards[space, change.type, change.value] = (change.why, position)
            if isinstance(change, Release):
                self.guards.pop((space, change.type, change.value), None)
            if isinstance(change, Alias):
                self.aliases[position] = space, AliasRow(position, *msgspec.structs.astuple(change))
            if isinstance(change, AliasOutcome):
                of, row = self.aliases[change.position]
                assert of == space
                ended = msgspec.structs.replace(row, outcome=change.outcome, why=change.why, processed=position)
                self.aliases[change.position] = space, ended
            if isinstance(change, Alias | AliasOutcome):
                self.concerned[change.source].add(position)
                self.concerned[change.destination].add(position)
            if isinstance(change, Expire):
                self.concerned[change.mpid].add(position)
            apply(view, change, position)
        if entry.decision.trace.refused and entry.decision.mpid is not None:
            self.concerned[entry.decision.mpid].add(position)

    def identities(self) -> dict[int, list[tuple[str, str, int]]]:
        """Return ``(type, value, position)`` of what each profile holds."""
        found: dict[int, list[tuple[str, str, int]]] = {mpid: [] for mpid in self.space_of}
        for view in self.spaces.values():
            for mpid, profile in view.profiles.items():
                for type_, values in profile.held.items():
                    found[mpid] += [(type_, value, at) for value, at in values.items()]
            for (mpid, identity), at in view.further.items():
                found[mpid].append((*identity, at))
        return found


def change_end(change: Unlink) -> tuple[str, int]:
    """Return why an identity left a profile, and where it went."""
    return change.why, change.moved_to


def linked_at(view: View, mpid: int, identity: Identity) -> int:
    """Return the position at which a profile was linked to an identity that it holds."""
    at = view.profiles[mpid].held[identity[0]].get(identity[1])
    return view.further[mpid, identity] if at is None else at


async def fold_of(store: Store) -> Fold:
    """Return the fold of a store's whole journal."""
    fold = Fold()
    async for position, entry in store.entries():
        fold.take(position, entry)
    return fold


# -- a store against the fold ------------------------------------------------------------------------------------


async def assert_store_is(store: Store, fold: Fold, *, margin: int = 0) -> None:
    """Assert that everything a store tells is what the fold says."""
    assert store.position == fold.position
    for space, view in fold.spaces.items():
        await _assert_views(store, space, view, margin)
        guards = [(*name[1:], *rest) for name, rest in fold.guards.items() if name[0] == space]
        told = await store.guarded(space)
        assert sorted(told) == sorted(guards)
        assert [row[3] for row in told] == sorted(row[3] for row in guards)
    await _assert_profiles(store, fold)
    await _assert_aliases(store, fold)
    await _assert_requests(store, fold)
    strangers = [mpid + 1 for mpid in fold.space_of if mpid + 1 not in fold.space_of and mpid < 1 << 62]
    assert await store.existing([*fold.space_of, *strangers]) == set(fold.space_of)


async def _assert_views(store: Store, space: str, view: View, margin: int) -> None:
    names = sorted(view.holders)
    for some in _chunks(names):
        asked = Wanted(some, [mpid for mpid in view.profiles if mpid % 2])
        seen = (await store.read({space: asked}, margin=margin)).views[space]
        assert set(seen.holders) == set(some)
        for identity in some:
            rows, real = seen.holders[identity], view.holders[identity]
            assert rows == real[: len(rows)]
            assert len(rows) >= min(len(real), HOLDERS_READ + margin)
        present = {mpid for rows in seen.holders.values() for _, mpid in rows} | {m for m in view.profiles if m % 2}
        assert seen.profiles == {mpid: view.profiles[mpid] for mpid in present}
        assert seen.guarded == view.guarded & set(some)
        assert seen.further == {
            (mpid, identity): at
            for (mpid, identity), at in view.further.items()
            if mpid in present and identity in seen.holders
        }


async def _assert_profiles(store: Store, fold: Fold) -> None:
    held, history = fold.identities(), defaultdict(list)
    for row in fold.history:
        history[row.mpid].append(History(*row))
    for mpid, space in fold.space_of.items():
        told = await store.profile(mpid)
        assert told is not None
        assert (told.mpid, told.space, told.created) == (mpid, space, fold.spaces[space].profiles[mpid].created)
        assert sorted(told.identities) == sorted(held[mpid])
        assert [at for _, _, at in told.identities] == sorted(at for _, _, at in told.identities)
        assert sorted(told.history, key=_end) == sorted(history[mpid], key=_end)
        assert [row.ended for row in told.history] == sorted(row.ended for row in told.history)
        assert told.decisions == sorted(fold.concerned[mpid])


def _end(row: History) -> tuple[int, str, str]:
    return row.ended, row.type, row.value


async def _assert_aliases(store: Store, fold: Fold) -> None:
    rows = [row for _, row in fold.aliases.values()]
    for mpid in {mpid for row in rows for mpid in (row.source, row.destination)}:
        about = [row for row in rows if mpid in (row.source, row.destination)]
        assert await store.aliases(mpid, limit=len(rows)) == sorted(about, key=lambda row: row.position, reverse=True)
        into = [row for row in about if row.destination == mpid and row.outcome == "applied"]
        into.sort(key=lambda row: (row.end_ms, row.position))
        assert await store.sources(mpid, limit=len(rows), oldest=True) == into
        assert await store.sources(mpid, limit=len(rows)) == into[::-1]
    now_ms = max((row.due_ms for row in rows), default=0) - 1
    due = [of for of in fold.aliases.values() if of[1].outcome == "waiting" and of[1].due_ms <= now_ms]
    assert await store.due_aliases(now_ms, len(rows)) == sorted(due, key=lambda of: (of[1].due_ms, of[1].position))
    for position, of in fold.aliases.items():
        assert await store.alias(position) == of


async def _assert_requests(store: Store, fold: Fold) -> None:
    keys = {request_key(*asked): at for asked, at in fold.requests.items()}
    unknown = request_key("shop/web", "never sent")
    for some in _chunks(list(keys)):
        reading = await store.read({}, [*some, unknown])
        assert reading.answered == {key: keys[key] for key in some}
    ids: defaultdict[str, list[int]] = defaultdict(list)
    for (_, request_id), at in fold.requests.items():
        ids[request_id].append(at)
    for request_id in list(ids)[:: 1 + len(ids) // 200]:
        assert await store.find_request(request_id) == sorted(ids[request_id])


def _chunks(things: list[Any]) -> Iterator[list[Any]]:
    for begin in range(0, len(things), CHUNK):
        yield things[begin : begin + CHUNK]


# -- the journal against the rules --------------------------------------------------------------------------------


async def replay(store: Store) -> int:
    """Decide a journal again in its order from nothing, and assert every decision; return how many there were."""
    policies = {(version.scope, version.version): version for version in await store.policies()}
    built = {
        key: build(msgspec.json.decode(version.settings, type=PolicySettings)) for key, version in policies.items()
    }
    views: defaultdict[str, View] = defaultdict(View)
    count = 0
    async for position, entry in store.entries():
        scope = entry.space.rpartition("/")[0]
        prepared = prepare(built[scope, entry.policy], entry.request)
        view = views[entry.space]
        for identity in prepared.identities:
            view.holders.setdefault(identity, [])
        made = [change.mpid for change in entry.decision.changes if isinstance(change, Create)]
        again = decide(prepared, view, entry.at_ms, made[0] if made else 0)
        assert again == entry.decision, f"position {position}: {entry.request}"
        for change in again.changes:
            apply(view, change, position)
        count += 1
    return count


def assert_unique(fold: Fold, scope: str, policy: Policy) -> None:
    """Assert that no unique value stands on two profiles, and no profile holds two of a unique type."""
    for space, view in fold.spaces.items():
        if space.rpartition("/")[0] == scope:
            assert not [i for i, rows in view.holders.items() if i[0] in policy.unique and len(rows) > 1]
            assert all(profile.count(type_) <= 1 for profile in view.profiles.values() for type_ in policy.unique)


# -- the files of a data folder -------------------------------------------------------------------------------------


def assert_consistent(folder: Path, *, ask_store: bool = True) -> Fold:
    """Assert that a data folder at rest agrees with its journal, table by table; return the journal's fold.

    Unless ``ask_store`` is off, all that a store on the folder tells is compared, too.
    """
    return asyncio.run(_assert_consistent(folder, ask_store))


def come_to_rest(folder: Path) -> None:
    """Wait until a process that wrote for a server that was killed has ended, too."""
    lock = FolderLock(folder)
    lock.take()
    lock.release()


async def _assert_consistent(folder: Path, ask_store: bool) -> Fold:
    come_to_rest(folder)
    store = EmbeddedStore(folder, read_only=True)
    await store.open()
    try:
        fold, tables = Fold(), Tables(folder / "state.db")
        tables.assert_are(fold)
        async for position, entry in store.entries():
            fold.take(position, entry)
            tables.assert_are(fold)
        assert tables.position <= fold.position
        if ask_store:
            await assert_store_is(store, fold)
        for version in await store.policies():
            assert_unique(fold, version.scope, build(msgspec.json.decode(version.settings, type=PolicySettings)))
        return fold
    finally:
        await store.close()


class Tables:
    """The tables of ``state.db`` as they are on disk, and the position that they say they go to."""

    def __init__(self, path: Path) -> None:
        self._file = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        self.position = int(self._file.execute("SELECT position FROM progress").get)

    def assert_are(self, fold: Fold) -> None:
        """Assert, once the fold has come to their position, that the tables are just what it says."""
        if fold.position != self.position:
            return
        for table, rows in expected_tables(fold).items():
            found = [tuple(row) for row in self._file.execute(f"SELECT * FROM {table}")]
            if table == "profile":  # but for what batches say of them
                found = [(*row[:3], msgspec.json.decode(row[3]), msgspec.json.decode(row[4])) for row in found]
            assert sorted(found, key=repr) == sorted(rows, key=repr), table


def expected_tables(fold: Fold) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows that each table of ``state.db`` must have."""
    views = fold.spaces.items()
    created = {mpid: profile.created for _, view in views for mpid, profile in view.profiles.items()}
    return {
        "profile": [
            (p.mpid, space, p.created, p.held, p.more) for space, view in views for p in view.profiles.values()
        ],
        "further_identity": [(mpid, *identity, at) for _, v in views for (mpid, identity), at in v.further.items()],
        "holder": [
            (holder_key(space, *identity), *row)
            for space, view in views
            for identity, rows in view.holders.items()
            for row in rows
        ],
        "identity_history": [tuple(row) for row in fold.history],
        "request": [(request_key(*asked), at) for asked, at in fold.requests.items()],
        "profile_decision": [(m, at) for m, of in fold.concerned.items() for at in of if at != created[m]],
        "guarded_value": [(holder_key(*name), *name, *rest) for name, rest in fold.guards.items()],
        "alias": [(at, space, *msgspec.structs.astuple(row)[1:]) for at, (space, row) in fold.aliases.items()],
        "input": [(name,) for name in fold.inputs],
    }
