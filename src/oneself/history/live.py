"""The live state against the fold of the journal: everything that the store tells of identities (docs/replay.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from oneself.history.difference import Findings
from oneself.history.fold import Fold, FoldedSpace
from oneself.history.whatif.trials import Progress
from oneself.identity import AliasRow, Identity, Profile
from oneself.store import History, Store, Wanted

__all__ = ["compare"]

T = TypeVar("T")

_CHUNK = 500


async def compare(fold: Fold, store: Store, findings: Findings, progress: Progress) -> tuple[int, int]:
    """Add everything in which a store differs from a fold; return how many profiles and identities were compared.

    ``progress`` counts the fold's entries, as if each had a like share of the work.
    """
    findings.compare("journal", "the last position", fold.position, store.position)
    left = fold.position
    total = sum(len(space.world) for space in fold.spaces.values()) or 1
    profiles = identities = 0
    for name, space in sorted(fold.spaces.items()):
        live = _Live(name, space, store, findings)
        await live.guards()
        await live.strangers()
        await live.aliases()
        for some in _chunks(profile.mpid for profile in space.world.profiles()):
            await live.profiles(some)
            profiles += len(some)
            step = min(left, len(some) * fold.position // total)
            left -= step
            progress(step)
        for identity_chunk in _chunks({*space.world.identities(), *space.once_held}):
            await live.holders(identity_chunk)
            identities += len(identity_chunk)
    progress(left)
    return profiles, identities


class _Live:
    """Compares what a store tells of one space."""

    def __init__(self, name: str, space: FoldedSpace, store: Store, findings: Findings) -> None:
        self.name = name
        self.space = space
        self.world = space.world
        self.store = store
        self.findings = findings
        self._further: dict[int, list[tuple[str, str, int]]] = {}  # what profiles hold beyond their record
        for (mpid, identity), at in space.world.further.items():
            self._further.setdefault(mpid, []).append((*identity, at))

    async def guards(self) -> None:
        """Compare the guarded values."""
        told = {(type_, value): (why, at) for type_, value, why, at in await self.store.guarded(self.name)}
        for identity in sorted({*told, *self.space.guards}):
            what = f"{self.findings.identity(identity)} in {self.name}"
            journal, found = self.space.guards.get(identity), told.get(identity)
            self.findings.compare("guarded", what, _guard(journal), _guard(found))

    async def strangers(self) -> None:
        """Look for profiles that nobody made."""
        after: int | None = None
        while mpids := await self.store.mpids([self.name], after=after):
            for mpid in mpids:
                if mpid not in self.world:
                    self.findings.add("profile", f"MPID {mpid}", "nobody made it", f"a profile in {self.name}")
            after = mpids[-1]

    async def aliases(self) -> None:
        """Compare the aliases of every profile that has some."""
        rows = self.world.aliases
        by_mpid: dict[int, list[AliasRow]] = {}
        for row in rows.values():
            for mpid in {row.source, row.destination}:
                by_mpid.setdefault(mpid, []).append(row)
        for mpid, journal in by_mpid.items():
            found = await self.store.aliases(mpid, limit=len(journal) + 1)
            journal.sort(key=lambda row: row.position, reverse=True)
            self.findings.rows("aliases", f"MPID {mpid}", journal, found)

    async def profiles(self, mpids: list[int]) -> None:
        """Compare some profiles with all they hold and held."""
        for mpid in mpids:
            told = await self.store.profile(mpid)
            profile = self.world.profile(mpid)
            assert profile is not None
            what = f"MPID {mpid}"
            if told is None:
                self.findings.add("profile", what, f"a profile in {self.name}", "there is none")
                continue
            journal, found = (self.name, profile.created), (told.space, told.created)
            self.findings.compare("profile", what, journal, found)
            held = sorted(self._held(profile))
            if held != sorted(told.identities):
                self._tell_held(what, held, sorted(told.identities))
            history = sorted(self.space.history.get(mpid, ()), key=_ended)
            if history != sorted(told.history, key=_ended):
                self.findings.rows("history", what, self._told(history), self._told(told.history))
            decisions = sorted({profile.created, *self.space.decisions.get(mpid, ())})
            self.findings.rows("decisions", what, decisions, told.decisions)

    async def holders(self, identities: list[Identity]) -> None:
        """Compare who holds some identities, and what decisions see of those."""
        journal = {identity: self.world.holders(identity) for identity in identities}
        most = max(map(len, journal.values()), default=0)
        reading = await self.store.read({self.name: Wanted(identities)}, margin=most + 1)
        view = reading.views[self.name]
        for identity in identities:
            found, rows = view.holders[identity], journal[identity]
            if found != rows:
                self.findings.rows("holders", f"{self.findings.identity(identity)} in {self.name}", rows, found)
            guarded = identity in self.space.guards
            if guarded != (identity in view.guarded):
                self.findings.compare("guarded", self.findings.identity(identity), guarded, not guarded)
        for mpid, profile in view.profiles.items():
            expected = self.world.profile(mpid)
            if expected is not None and expected != profile:
                self.findings.add("identities", f"MPID {mpid} in decisions", _counts(expected), _counts(profile))

    def _held(self, profile: Profile) -> Iterator[tuple[str, str, int]]:
        """Yield ``(type, value, position)`` of what a profile holds."""
        for type_, values in profile.held.items():
            for value, at in values.items():
                yield type_, value, at
        yield from self._further.get(profile.mpid, ())

    def _tell_held(self, what: str, journal: list[tuple[str, str, int]], found: list[tuple[str, str, int]]) -> None:
        told = [
            [f"{self.findings.identity((type_, value))} since {at}" for type_, value, at in rows]
            for rows in (journal, found)
        ]
        self.findings.rows("identities", what, *told)

    def _told(self, rows: Iterable[History]) -> list[str]:
        return [
            f"{self.findings.identity((row.type, row.value))} from {row.linked} to {row.ended} ({row.why}"
            f"{f', to MPID {row.moved_to}' if row.moved_to else ''})"
            for row in rows
        ]


def _guard(guard: tuple[str, int] | None) -> str:
    return "not guarded" if guard is None else f"guarded since decision {guard[1]} ({guard[0]})"


def _ended(row: History) -> tuple[int, str, str]:
    return row.ended, row.type, row.value


def _counts(profile: Profile) -> str:
    counts = ", ".join(f"{type_} {profile.count(type_)}" for type_ in sorted(profile.held))
    return f"made by decision {profile.created}, {counts or 'no identity'}"


def _chunks(things: Iterable[T]) -> Iterator[list[T]]:
    chunk: list[T] = []
    for thing in list(things):
        chunk.append(thing)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
