"""The journal's rows: entries that were decided together share one, compressed (docs/storage.md)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from oneself.journal import Entry

__all__ = ["Pack", "entries_of", "packed"]

_MOST: Final = 8
"""So many entries share a row: it is small enough to stand with others on a page of the table, not beside it."""

_LEVEL: Final = 1
"""Entries are much alike, so the fastest level makes a fifth of them, and the best one no less than a sixth."""


class Pack(NamedTuple):
    """One row: the position and time of its first entry, their bodies, and how many they are."""

    position: int
    at_ms: int
    body: bytes
    entries: int


def packed(entries: Sequence[tuple[int, Entry]], bodies: Sequence[bytes]) -> Iterator[Pack]:
    """Yield the rows of entries that follow one another, given the JSON of each; those of one time may share one."""
    for at_ms, same in groupby(zip(entries, bodies, strict=True), key=lambda item: item[0][1].at_ms):
        together = list(same)
        for start in range(0, len(together), _MOST):
            part = together[start : start + _MOST]
            lines = [body for _, body in part]
            body = lines[0] if len(part) == 1 else zlib.compress(b"\n".join(lines), _LEVEL)
            yield Pack(part[0][0][0], at_ms, body, len(part))


def entries_of(position: int, count: int, body: bytes) -> list[tuple[int, bytes]]:
    """Return the entries of a row, each with its position, as JSON; raise ``ValueError`` where they are not there."""
    if count == 1:
        return [(position, body)]
    try:
        lines = zlib.decompress(body).split(b"\n")
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(lines) != count:
        raise ValueError(f"{len(lines)} entries in the place of {count}")
    return list(enumerate(lines, position))
