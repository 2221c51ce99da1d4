"""Rows on their way into a table whose keys look random: kept on disk, in parts of the key space."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

__all__ = ["PARTS", "Spool"]

PARTS: Final = 128
"""A power of two, at most 256."""


class Spool:
    """Rows of one form, which begins with a key of bytes. Its files, in ``folder``, are gone when it is closed."""

    def __init__(self, folder: Path, form: str) -> None:
        self._row = struct.Struct(form)
        self._files = ExitStack()
        self._parts = []
        for _ in range(PARTS):
            file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by ``close``
            self._parts.append(self._files.enter_context(file))

    def add(self, key: bytes, *values: int) -> None:
        """Keep a row."""
        self._parts[key[0] * PARTS >> 8].write(self._row.pack(key, *values))

    def part(self, number: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one part in the order in which they were kept; parts follow each other by their keys."""
        file = self._parts[number]
        file.seek(0)
        return self._row.iter_unpack(file.read())

    def close(self) -> None:
        """Remove the files."""
        self._files.close()
