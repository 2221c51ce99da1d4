"""Folding the journal's tail into what the tables have, as it was folded when it was decided (docs/storage.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from oneself.identity import (
    Alias,
    AliasOutcome,
    Discard,
    Guard,
    Link,
    Move,
    Past,
    Reguard,
    Release,
    Remove,
    Restore,
    Revive,
    Trim,
    Unlink,
    Withdraw,
)
from oneself.journal import BatchRecord, Entry
from oneself.store.embedded.journal import JournalFile
from oneself.store.embedded.views import Views
from oneself.store.moving import Moving
from oneself.store.reading import Reading, Wanted, event_keys, rows_touched
from oneself.store.revising import owner_of

__all__ = ["Recovery"]

Chunk = Sequence[tuple[int, Entry]]


class Recovery(Views):
    """The part of the embedded store that brings it up to its journal when it is opened."""

    async def _refold(self, progress: int) -> AsyncIterator[Reading]:
        """Yield readings that have what the journal has after ``progress``, each over what the one before it did.

        ``progress`` is the position through which the tables have everything.
        """
        for chunk in self._journal.entries(progress):
            reading = self._read(_wanted(chunk), (), len(chunk))
            for position, entry in chunk:
                reading.position = position
                reading.keep(entry)
                for change in entry.decision.changes:
                    if isinstance(change, Trim | Discard):
                        _trim_again(reading, self._journal, change, progress)
            records = self._journal.batches_between(chunk[0][0], chunk[-1][0])
            entries = [(position, entry, records[position]) for position, entry in chunk if position in records]
            if entries:
                await self.read_parts(reading, rows_touched(entries))
            for position, entry, record in entries:
                if record.batch is not None:
                    reading.claim_events(event_keys(record.batch), position)
                reading.keep_batch(position, entry, record)
            moves = [
                change
                for _, entry in chunk
                for change in entry.decision.changes
                if isinstance(change, Move) and min(change.positions) <= progress
            ]
            if moves:
                await self._move_again(reading, moves, entries, progress)
            yield reading

    async def _move_again(
        self, reading: Reading, moves: list[Move], came: list[tuple[int, Entry, BatchRecord]], progress: int
    ) -> None:
        """Move those batches that the tables have; what came after them is read as whose it is by now anyway."""
        moving = Moving()
        for mpid in {mpid for move in moves for mpid in (move.source, move.target) if mpid}:
            new = [at for at, entry, record in came if owner_of(record, entry.decision.mpid) == mpid]
            expired, gone = await self.expiries(mpid)
            expired |= {of: at for (its, of), at in reading.effects.expired.items() if its == mpid}
            moving.own(mpid, [*self._made_of(mpid), *new], expired, reading.effects.gone.get(mpid, gone))
        for move in moves:
            moving.move(move.source, move.target, [at for at in move.positions if at <= progress])
        reading.rewrite(moving.rewritten(self._journal.batches(moving.needed), rewrites=False))


def _wanted(chunk: Chunk) -> dict[str, Wanted]:
    """Return what the changes of a run of entries must see."""
    spaces: dict[str, Wanted] = {}
    for _, entry in chunk:
        wanted = spaces.setdefault(entry.space, Wanted())
        for change in entry.decision.changes:
            if isinstance(change, Link | Unlink | Guard | Release | Restore | Withdraw | Reguard):
                wanted.identities.add((change.type, change.value))
            if isinstance(change, Alias):
                wanted.mpids |= {change.source, change.destination}
            elif isinstance(change, AliasOutcome):
                wanted.aliases.add(change.position)
            elif isinstance(change, Link | Unlink | Restore | Withdraw | Remove | Revive | Past):
                wanted.mpids.add(change.mpid)
            elif isinstance(change, Move):
                wanted.mpids |= {change.source, change.target} - {0}
    return spaces


def _trim_again(reading: Reading, journal: JournalFile, change: Trim | Discard, progress: int) -> None:
    """Take batches off the timelines that the tables have; what came after them is read without its events anyway."""
    if isinstance(change, Discard):
        reading.effects.trimmed += journal.owners(at for at in change.positions if at <= progress)
    elif change.batches and change.after < progress:
        rows = journal.trimmed_between(change.after, min(change.through, progress), change.workspaces)
        reading.effects.trimmed += rows
        reading.effects.remainders += [(row.mpid, row.position) for row in rows]
