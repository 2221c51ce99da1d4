"""Rows of made-up users, copied from those of one: a pattern user's rows with another user's values put in.

The pattern user's rows are made by the code that the server runs, so that copies are what that code would make, at a
fraction of the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final
from zlib import crc32

__all__ = ["TIME", "Column", "Keys", "Pattern", "row_columns"]

TIME: Final = 44_444_444_444_444
"""The pattern user's time, unix ms; what is within a day of it is a time of theirs."""

_DAY: Final = 86_400_000
_PIECE: Final = re.compile(r'"[^"\\]*"|(?<![\w.+-])-?\d+(?![\w.+-])')

Column = Callable[[Sequence[Any]], Any]
"""Makes a column of a user's row from the user's values."""

Keys = dict[bytes, tuple[int, Callable[[Any], bytes]]]
"""The pattern user's digests: of which value each is, by its place, and what makes a digest of such a value."""


class Pattern:
    """The values that a user's rows are made of, in a fixed order; ``values`` are the pattern user's, all different.

    Whole numbers and texts may be among them, times may not: ``offsets`` gathers how far each time in the rows lies
    from ``TIME``. A user's values are in the same order, and then the user's time plus each offset.
    """

    def __init__(self, values: Sequence[int | str], keys: Keys) -> None:
        self.offsets: list[int] = []
        self._places: dict[int | str, int] = {value: place for place, value in enumerate(values)}
        self._first_offset = len(values)
        self._keys = keys
        if len(self._places) != len(values):
            raise ValueError("two values of the pattern user are the same")

    def is_key(self, value: Any) -> bool:
        """Tell whether a value of a row is one of the pattern user's digests."""
        return isinstance(value, bytes) and value in self._keys

    def column(self, value: Any) -> Column | None:
        """Return what makes a column from a user's values; None where it is the same for everybody."""
        if isinstance(value, bytes):
            if value not in self._keys:
                raise ValueError("a row of the pattern user has a digest of something unknown")
            place, digest = self._keys[value]
            return lambda values: digest(values[place])
        found = self._place(value)
        if found is not None:
            return itemgetter(found)
        return self._text(value) if isinstance(value, str) else None

    def _place(self, value: Any) -> int | None:
        place = self._places.get(value)
        if place is None and isinstance(value, int) and abs(value - TIME) < _DAY:
            offset = value - TIME
            if offset not in self.offsets:
                self.offsets.append(offset)
            place = self._first_offset + self.offsets.index(offset)
        return place

    def _text(self, text: str) -> Column | None:
        """Return what makes a JSON text like the pattern user's; None where no value of theirs stands in it."""
        parts: list[str] = []
        places: list[int] = []
        end = 0
        for match in _PIECE.finditer(text):
            piece = match[0]
            quoted = piece[0] == '"'
            place = self._place(piece[1:-1] if quoted else int(piece))
            if place is None:
                continue
            parts.append(text[end : match.start() + quoted].replace("%", "%%"))
            places.append(place)
            end = match.end() - quoted
        if not places:
            return None
        form = "%s".join([*parts, text[end:].replace("%", "%%")])
        if len(places) == 1:
            (only,) = places
            return lambda values: form % values[only]
        chosen = itemgetter(*places)
        return lambda values: form % chosen(values)


def row_columns(pattern: Pattern, names: Sequence[str], row: Sequence[Any]) -> list[Column] | None:
    """Return what makes a row from a user's values; None where nothing of the row is the pattern user's own.

    A column named ``checksum`` is the CRC-32 of the one named ``body``.
    """
    made = [
        None if name == "checksum" else pattern.column(value) for name, value in zip(names, row, strict=True)
    ]  # fmt: skip
    if not any(made):
        return None
    columns: list[Column] = [
        column if column is not None else _same(value) for column, value in zip(made, row, strict=True)
    ]
    if "checksum" in names:
        body = columns[names.index("body")]
        columns[names.index("checksum")] = lambda values: crc32(body(values).encode())
    return columns


def _same(value: Any) -> Column:
    return lambda _: value
