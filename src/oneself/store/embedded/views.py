"""What a reading sees of a data folder: the tables, and over them the rows in memory, those staged too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from oneself.identity import HOLDERS_READ, Identity, Profile, View
from oneself.store.embedded.aliases import Aliases
from oneself.store.embedded.lookups import Lookups
from oneself.store.embedded.pending import Generation
from oneself.store.keys import holder_key
from oneself.store.reading import REQUESTS, Reading, Touched, Wanted

__all__ = ["Views"]


class Views(Lookups, Aliases):
    """The part of the embedded store that is in the path of an answer, before the decision."""

    async def read_parts(self, reading: Reading, wanted: Iterable[Touched]) -> None:
        """Put the rows that batches touch into a reading."""
        rows = list(dict.fromkeys(wanted))
        expired = reading.effects.expired
        for row, parts in zip(rows, self._parts(rows, self._seen(), reading.created), strict=True):
            mpid, place = row.mpid, (row.mpid, row.workspace)
            reading.people.setdefault(mpid, parts.person)
            reading.workspaces.setdefault(place, parts.workspace)
            is_new = place in expired or place in reading.effects.cleared
            reading.devices.setdefault(row, None if is_new else parts.device)

    def _read(self, wanted: Mapping[str, Wanted], requests: Sequence[bytes], margin: int) -> Reading:
        reading = Reading((self._staged.position if self._staged else self._journal.position) + 1)
        for space, want in wanted.items():
            view = reading.views[space] = View()
            if want.identities:
                self._read_holders(reading, space, want.identities, HOLDERS_READ + margin)
            mpids = want.mpids | {mpid for rows in view.holders.values() for _, mpid in rows}
            if want.aliases:
                named = self._named_aliases(space, want.aliases)
                self._read_aliases(view, named, 1 + margin)
                mpids.update(*((alias.source, alias.destination) for alias in named))
            if want.stored:
                self._read_stored(view, want.stored)
            if mpids:
                self._read_profiles(space, view, mpids)
            crowded = {mpid: profile for mpid, profile in view.profiles.items() if profile.more}
            if crowded:
                self._read_further(view, crowded, HOLDERS_READ + margin)
        if requests:
            self._read_requests(reading, requests, self._seen())
        return reading

    def _read_holders(self, reading: Reading, space: str, identities: Iterable[Identity], count: int) -> None:
        view = reading.views[space]
        identities = list(identities)
        keys = [holder_key(space, type_, value) for type_, value in identities]
        for (type_, value), key in zip(identities, keys, strict=True):
            reading.keys[space, type_, value] = key
        gone: dict[bytes, set[tuple[int, int]]] = {}
        generations = self._seen()
        for rows in generations:
            if rows.unlinked:
                for key in rows.unlinked.keys() & keys:
                    gone[key] = gone.get(key, set()) | rows.unlinked[key]
        limit = count + max(map(len, gone.values()), default=0)
        restored = set().union(*(rows.restored for rows in generations))
        for identity, key, holders in zip(identities, keys, self._state.holders(keys, limit), strict=True):
            if key in restored:
                holders = self._restored_holders(key, count)
            else:
                for rows in generations:
                    linked = rows.linked.get(key)
                    if linked:  # its rows may stand in the tables already, just written
                        newest = linked[: -limit - 1 : -1]
                        oldest = newest[-1][0]
                        holders = newest + [row for row in holders if row[0] < oldest]
                if key in gone:
                    left = gone[key]
                    holders = [row for row in holders if row not in left]
            view.holders[identity] = holders[:count]
            if key in self._guarded or (self._staged is not None and self._staged.guarded):
                self._read_guard(view, identity, key)

    def _read_guard(self, view: View, identity: Identity, key: bytes) -> None:
        """Tell whether an identity is guarded, by what is on its way to the disk or else by what is there."""
        staged = self._staged.guarded if self._staged is not None else {}
        if staged[key] is not None if key in staged else key in self._guarded:
            view.guarded.add(identity)

    def _restored_holders(self, key: bytes, count: int) -> list[tuple[int, int]]:
        """Return the holders of a key of which some came back to the places that they had before."""
        generations = self._seen()
        limit = count + sum(len(rows.unlinked.get(key, ())) for rows in generations)
        found = set(self._state.holders([key], limit)[0])
        for rows in generations:
            found -= rows.unlinked.get(key, set())
            found.update(rows.linked.get(key, ()))
        return sorted(found, reverse=True)

    def _read_profiles(self, space: str, view: View, mpids: set[int]) -> None:
        missing = []
        newest_first = [rows.profiles for rows in reversed(self._seen())]
        for mpid in mpids:
            for profiles in newest_first:
                found = profiles.get(mpid)
                if found is not None:
                    if found[0] == space:
                        view.profiles[mpid] = found[1]
                    break
            else:
                missing.append(mpid)
        if missing:
            for its_space, profile in self._state.profiles(missing):
                if its_space == space:
                    view.profiles[profile.mpid] = profile

    def _read_further(self, view: View, crowded: dict[int, Profile], count: int) -> None:
        """Tell which of the wanted identities those profiles hold that hold more than their row has room for.

        Whoever holds an identity is among its holders; only where ``count`` of them were read, and so perhaps
        not all, the rows of their own are asked for.
        """
        missing = []
        for identity, rows in view.holders.items():
            type_, value = identity
            for at, mpid in rows:
                profile = crowded.get(mpid)
                if profile is not None and type_ in profile.more and value not in profile.held[type_]:
                    view.further[mpid, identity] = at
            if len(rows) < count:
                continue
            read = {mpid for _, mpid in rows}
            for mpid, profile in crowded.items():
                if mpid not in read and type_ in profile.more and value not in profile.held[type_]:
                    missing.append((mpid, type_, value))
        for mpid, type_, value, at in self._state.further(missing) if missing else ():
            view.further[mpid, (type_, value)] = at
        for generation in self._seen() if missing else ():
            for mpid, type_, value in missing:
                last = generation.further.get(mpid, {}).get((type_, value), 0)
                if last is None:
                    view.further.pop((mpid, (type_, value)), None)
                elif last:
                    view.further[mpid, (type_, value)] = last

    def _read_stored(self, view: View, mpids: set[int]) -> None:
        """Tell when the latest batch of some profiles came to each workspace that knows them."""
        stored: dict[int, dict[str, int]] = {mpid: {} for mpid in mpids}
        for mpid, workspace, at_ms in self._state.stored(mpids):
            stored[mpid][workspace] = at_ms
        for rows in self._seen():
            for mpid in mpids & rows.users.keys():
                user = rows.users[mpid]
                kept = {name: at for name, at in stored[mpid].items() if name not in user.expired}
                stored[mpid] = kept | {name: known.stored_ms for name, known in user.workspaces.items()}
        view.stored.update(stored)

    def _read_requests(self, reading: Reading, keys: Sequence[bytes], generations: list[Generation]) -> None:
        wanted = set(keys)
        found: dict[bytes, int] = {}
        for rows in reversed(generations):
            for key in rows.requests.keys() & wanted:
                found[key] = rows.requests[key]
                wanted.discard(key)
        if wanted:
            missing = list(wanted)
            found |= {missing[number - 1]: at for number, at in self._state.requests(missing)}
        forgotten = self._swept.get(REQUESTS, 0)
        reading.answered |= {key: at for key, at in found.items() if at > forgotten}
