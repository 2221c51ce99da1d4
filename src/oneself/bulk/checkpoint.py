"""How far an import is: a small file that lets the next run of the same import skip what is done."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from oneself.bulk.model import BulkError

__all__ = ["Checkpoint", "Counts"]


class Counts(msgspec.Struct):
    """What became of the rows so far.

    Of the ``taken`` ones ``repeated`` had been taken in before. ``unknown`` were dropped, since the input may only
    update and they found nobody. ``set_aside`` are single events of batches that were taken.
    """

    taken: int = 0
    repeated: int = 0
    unknown: int = 0
    rejected: int = 0
    set_aside: int = 0

    @property
    def rows(self) -> int:
        """How many rows are done."""
        return self.taken + self.unknown + self.rejected


class Checkpoint(msgspec.Struct):
    """All rows of the pieces before ``piece`` are done, and of that piece those through the number ``row``.

    ``position`` is the journal's at that time, 0 where it is not known; ``rejects_bytes`` is how long the rejects
    file was.
    """

    job: str
    piece: int = 0
    row: int = 0
    position: int = 0
    rejects_bytes: int = 0
    counts: Counts = msgspec.field(default_factory=Counts)

    @classmethod
    def read(cls, path: Path, job: str, position: int) -> Checkpoint:
        """Return how far a job is: at its beginning where that is not known.

        So it is where the journal, now at ``position``, was put back to an older state: the ids of the rows then
        tell which of them it has.
        """
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.DecodeError):
            return cls(job)
        except OSError as error:
            raise BulkError(f"{path} cannot be read: {error.strerror or error}.") from error
        return found if found.job == job and found.position <= position else cls(job)

    def write(self, path: Path) -> None:
        """Put the checkpoint in the place of the one before it; raise ``BulkError`` where that is not possible."""
        new = _unfinished(path)
        try:
            with new.open("wb") as file:
                file.write(msgspec.json.encode(self))
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            raise BulkError(f"{path} cannot be written: {error.strerror or error}.") from error

    @staticmethod
    def remove(path: Path) -> None:
        """Remove the checkpoint of a job that is done."""
        path.unlink(missing_ok=True)
        _unfinished(path).unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    return path.with_suffix(".new")
