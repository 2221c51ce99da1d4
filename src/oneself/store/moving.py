"""Moving batches from profile to profile: every row that comes, goes, or is made anew (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from oneself.journal import BatchRecord, encode_batch
from oneself.profiles import Batch
from oneself.store.reading import Activity, Rewritten, activity_of
from oneself.store.revising import rebuilt

__all__ = ["Moving"]


class Moving:
    """Batches on their way between profiles; ``needed`` are the positions of those whose records must be known."""

    def __init__(self) -> None:
        self._owned: dict[int, set[int]] = {}
        self._expired: dict[int, tuple[Mapping[str, int], int]] = {}
        self._was: dict[int, int] = {}
        self._is: dict[int, int] = {}

    def own(self, mpid: int, positions: Iterable[int], expired: Mapping[str, int], gone: int) -> None:
        """Tell which batches a profile is made of, and at which positions workspaces and all forgot it."""
        self._owned[mpid] = set(positions)
        self._expired[mpid] = expired, gone

    def move(self, source: int, target: int, positions: Iterable[int]) -> None:
        """Move batches; 0 stands for nobody. The profiles were told before."""
        for position in positions:
            self._was.setdefault(position, source)
            self._is[position] = target
            if source:
                self._owned[source].discard(position)
            if target:
                self._owned[target].add(position)

    @property
    def needed(self) -> set[int]:
        """The positions of all batches that move, or of which a profile is made."""
        return self._is.keys() | {position for owned in self._owned.values() for position in owned}

    def rewritten(self, records: Mapping[int, BatchRecord], *, rewrites: bool = True) -> Rewritten:
        """Return every row that is different now; batches without a record are not kept any more.

        ``rewrites`` are the records of those that move, unless they are so already.
        """
        encoded: dict[int, bytes] = {}
        left: list[Activity] = []
        came: list[Activity] = []
        remainders: list[tuple[int, int]] = []
        remainders_left: list[tuple[int, int]] = []
        places: set[tuple[int, str]] = set()
        for position, target in self._is.items():
            record, source = records.get(position), self._was[position]
            if record is None or record.batch is None or source == target:
                continue
            if rewrites:
                encoded[position] = encode_batch(replace(record, moved_to=target))
            for mpid, rows, rests in ((source, left, remainders_left), (target, came, remainders)):
                if mpid and record.trimmed:
                    rests.append((mpid, position))
                elif mpid:
                    rows.append(activity_of(mpid, position, record.batch))
                places.add((mpid, record.batch.source.workspace))
        profiles = {}
        for mpid, owned in self._owned.items():
            made = [(at, batch) for at in sorted(owned) if (batch := _batch(records, at)) is not None]
            profiles[mpid] = rebuilt(made, *self._expired[mpid])
            places |= {(mpid, batch.source.workspace) for _, batch in made}
        return Rewritten(
            encoded,
            tuple(left),
            tuple(came),
            tuple(remainders),
            tuple(remainders_left),
            profiles,
            tuple(sorted(place for place in places if place[0])),
        )


def _batch(records: Mapping[int, BatchRecord], position: int) -> Batch | None:
    record = records.get(position)
    return None if record is None else record.batch
