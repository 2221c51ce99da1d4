"""Looking identities up in a data folder: who lost one, and what is in crowds."""

from __future__ import annotations

from collections import Counter

from oneself.identity import Identity
from oneself.store.crowds import Crowds, IdentityPast, mpids_of
from oneself.store.embedded.base import Files
from oneself.store.keys import holder_key

__all__ = ["Identities"]


class Identities(Files):
    """The part of the embedded store that begins with an identity, not with a profile."""

    async def identity_past(self, space: str, identity: Identity, *, limit: int = 100) -> IdentityPast:
        """Return who held an identity in a space and lost it, and which decisions guarded or released it."""
        key = holder_key(space, *identity)
        lost, guards = self._state.identity_past(space, *identity, key, limit)
        for rows in self._generations():
            guards += [position for of, position in rows.guarding if of == key]
            lost += [
                row
                for mpid, of in rows.history.items()
                if rows.profiles[mpid][0] == space
                for row in of
                if (row.type, row.value) == identity
            ]
        found = {(row.ended, row.mpid): row for row in lost}
        return IdentityPast([found[place] for place in sorted(found, reverse=True)][:limit], sorted(set(guards)))

    async def crowds(self, part: int, *, holders: int, values: int) -> Crowds:
        """Return what a part of the tables has in crowds, with what is in memory."""
        first, last = mpids_of(part)
        linked: dict[bytes, tuple[int, int]] = {}
        further: Counter[tuple[int, str]] = Counter()
        replaced: Counter[tuple[int, str]] = Counter()
        for rows in self._generations():
            for key, of in rows.linked.items():
                if key[0] == part and of:
                    linked[key] = linked.get(key, (0, 0))[0] + len(of), of[-1][0]
            for mpid, held in rows.further.items():
                if first <= mpid <= last:
                    further.update((mpid, type_) for (type_, _), at in held.items() if at is not None)
            for mpid, lost in rows.history.items():
                if first <= mpid <= last:
                    replaced.update((mpid, row.type) for row in lost if row.why == "replaced")
        stored = self._state.crowds(part, holders, values, linked, {mpid for mpid, _ in further | replaced})
        for key, (count, position) in stored.values.items():
            more, latest = linked.get(key, (0, position))
            linked[key] = count + more, latest
        further.update(stored.further)
        replaced.update(stored.replaced)
        return Crowds(
            {key: found for key, found in linked.items() if found[0] >= holders},
            {place: count for place, count in further.items() if count >= values},
            {place: count for place, count in replaced.items() if count >= values},
        )
