"""The rejects file: the rows that could not be used, each with its place and the reason."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from oneself.bulk.model import BulkError, Rejected

__all__ = ["Rejects"]

_encoder = msgspec.json.Encoder(decimal_format="number")


class Rejects:
    """JSON lines with ``file``, ``line``, ``reason`` and ``row``; there is no file while there are none."""

    def __init__(self, path: Path, kept: int = 0) -> None:
        """Prepare to write after the first ``kept`` bytes of a file; the rest of it goes."""
        self.path = path
        self.bytes = kept
        self._unsynced = False
        try:
            if kept and path.exists():
                os.truncate(path, min(kept, path.stat().st_size))
                self.bytes = path.stat().st_size
            else:
                path.unlink(missing_ok=True)
                self.bytes = 0
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, label: str, rejected: Iterable[Rejected]) -> None:
        """Add rows of one part; raise ``BulkError`` where they cannot be written."""
        lines = [
            _encoder.encode({"file": label, "line": bad.number, "reason": bad.reason, "row": bad.row}) + b"\n"
            for bad in rejected
        ]
        if not lines:
            return
        try:
            with self.path.open("ab") as file:
                file.writelines(lines)
        except OSError as error:
            raise self._unwritable(error) from error
        self.bytes += sum(map(len, lines))
        self._unsynced = True

    def sync(self) -> None:
        """Bring what was written to the disk."""
        if self._unsynced:
            with suppress(FileNotFoundError), self.path.open("rb") as file:
                os.fsync(file.fileno())
            self._unsynced = False

    def _unwritable(self, error: OSError) -> BulkError:
        return BulkError(f"{self.path} cannot be written: {error.strerror or error}. Name another with --rejects.")
