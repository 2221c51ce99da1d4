"""What recorded decisions count for now: which undo said so last (docs/undo.md, "What stays")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from oneself.explain import STANDINGS
from oneself.identity import touched_by
from oneself.journal import Entry
from oneself.store import UNDONE, Store

__all__ = ["standings"]

LOOKED_AT: Final = 2_000
"""Of the decisions on a user since, so many of the latest are looked through for undos."""

_CHUNK: Final = 200
_UNDOING: Final = frozenset({"undo", "split"})


async def standings(store: Store, entries: Mapping[int, Entry]) -> dict[int, str]:
    """Return, of some decisions, in words what the last undo or split made of those that count for something else."""
    last = await store.swept(UNDONE)
    found = {}
    undos: dict[int, Entry] = {}
    looked: set[int] = set()
    for position, entry in entries.items():
        if position < last:
            mpids = touched_by(entry.decision.changes).mpids | {entry.decision.mpid or 0}
            for mpid in mpids - looked - {0}:
                looked.add(mpid)
                undos |= await _undos(store, mpid)
    for at in sorted(undos):
        for row in undos[at].decision.revised:
            if row.position in entries:
                answer = "nobody" if row.mpid is None else f"MPID {row.mpid}"
                found[row.position] = f"since decision {at} it {STANDINGS[row.standing].format(answer=answer)}"
    return found


async def _undos(store: Store, mpid: int) -> dict[int, Entry]:
    profile = await store.profile(mpid)
    latest = profile.decisions[-LOOKED_AT:] if profile is not None else []
    found: dict[int, Entry] = {}
    for start in range(0, len(latest), _CHUNK):
        entries = await store.entries_at(latest[start : start + _CHUNK])
        found |= {at: entry for at, entry in entries.items() if entry.request.kind in _UNDOING}
    return found
