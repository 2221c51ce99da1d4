"""Walking through a store: all profiles that a workspace sees, all batches that it keeps (docs/import-export.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any, Final, NamedTuple

import msgspec

from oneself.bulk.shapes import batch_document, profile_document
from oneself.config import Workspace
from oneself.engine import ENVIRONMENTS
from oneself.errors import StoreDamaged
from oneself.identity import Profile
from oneself.journal import Entry
from oneself.profiles import Device, Parts, Person
from oneself.store import Store, Touched, Wanted, owner_of

__all__ = ["Exported", "Selection", "batches", "profiles"]

_PAGE: Final = 1_000
_ALL_MPIDS: Final = 2**64


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What to export of a workspace: by environment, by time (unix ms, the end not in it), and batches by input.

    A profile's time is that of its latest data, a batch's that of its latest event.
    """

    workspace: Workspace
    now_ms: int
    environments: Collection[str] = ENVIRONMENTS
    from_ms: int | None = None
    to_ms: int | None = None
    input: str | None = None

    def has(self, at_ms: int) -> bool:
        """Tell whether a time is selected."""
        return (self.from_ms is None or at_ms >= self.from_ms) and (self.to_ms is None or at_ms < self.to_ms)

    def kept(self, stored_ms: int, kept_ms: int) -> bool:
        """Tell whether what was stored at a time is kept still; 0 is for ever."""
        return not kept_ms or stored_ms >= self.now_ms - kept_ms


class Exported(NamedTuple):
    """One document, and which share of the store was looked through before it."""

    document: dict[str, Any]
    share: float


async def profiles(store: Store, selection: Selection) -> AsyncIterator[Exported]:
    """Yield the profiles that a workspace sees, by MPID."""
    workspace = selection.workspace
    spaces = {f"{workspace.scope}/{environment}": environment for environment in selection.environments}
    after: int | None = None
    while mpids := await store.mpids(spaces, after=after, limit=_PAGE):
        after = mpids[-1]
        views = (await store.read({space: Wanted(mpids=mpids) for space in spaces})).views
        parts = await store.parts([Touched(mpid, workspace.name, "") for mpid in mpids])
        for mpid, part in zip(mpids, parts, strict=True):
            space = next(space for space, view in views.items() if mpid in view.profiles)
            profile = views[space].profiles[mpid]
            person = part.person or await _unheard(store, profile)
            if not _is_selected(selection, person, part):
                continue
            document = profile_document(
                mpid,
                spaces[space],
                person,
                part.workspace,
                await _identities(store, profile),
                [row async for row in _devices(store, mpid, workspace.name)] if part.workspace is not None else (),
            )
            yield Exported(document, (mpid + _ALL_MPIDS // 2) / _ALL_MPIDS)


def _is_selected(selection: Selection, person: Person, part: Parts) -> bool:
    known = part.workspace or person
    return selection.has(known.last_seen_ms) and selection.kept(
        known.stored_ms, selection.workspace.profile_lifetime_ms
    )


async def _unheard(store: Store, profile: Profile) -> Person:
    """Return what there is to say of a profile of which no batch was seen: when it was made."""
    entry = await store.entry(profile.created)
    if entry is None:
        raise StoreDamaged(f"The journal has no entry {profile.created}, which made a profile.")
    return Person(entry.at_ms, entry.at_ms, entry.at_ms)


async def _identities(store: Store, profile: Profile) -> list[tuple[str, str]]:
    if profile.more:  # its row does not have them all
        stored = await store.profile(profile.mpid)
        assert stored is not None
        return [(type_, value) for type_, value, _ in stored.identities]
    return [(type_, value) for type_, values in profile.held.items() for value in values]


async def _devices(store: Store, mpid: int, workspace: str) -> AsyncIterator[tuple[str, Device]]:
    after = ""
    while rows := await store.devices(mpid, workspace, after=after, limit=_PAGE):
        for row in rows:
            yield row
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


async def batches(store: Store, selection: Selection) -> AsyncIterator[Exported]:
    """Yield the batches that came to a workspace and are kept, in the order in which they came."""
    last = store.position
    page: dict[int, Entry] = {}
    async for position, entry in store.entries():
        if _is_wanted(selection, entry):
            page[position] = entry
        if len(page) == _PAGE:
            async for document in _batches(store, selection, page):
                yield Exported(document, position / last)
            page = {}
    async for document in _batches(store, selection, page):
        yield Exported(document, 1.0)


def _is_wanted(selection: Selection, entry: Entry) -> bool:
    if entry.request.kind != "batch":
        return False
    if selection.input is not None:
        of_workspace = entry.input == selection.input
    else:
        of_workspace = entry.input.partition("/")[0] == selection.workspace.name
    return (
        of_workspace
        and entry.space.rpartition("/")[2] in selection.environments
        and selection.kept(entry.at_ms, selection.workspace.data_retention_ms)
    )


async def _batches(store: Store, selection: Selection, page: dict[int, Entry]) -> AsyncIterator[dict[str, Any]]:
    records = await store.batches(list(page))
    for position, entry in page.items():
        record = records.get(position)
        if record is None or record.batch is None or record.trimmed or not selection.has(record.batch.at_ms):
            continue
        if record.moved_to != 0:  # else its decision is undone
            yield batch_document(position, owner_of(record, entry.decision.mpid), record.batch)
