"""An import: which files, read how, for which input; and what names its rows, so that none is applied twice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from oneself.bulk.lines import plain_errors
from oneself.bulk.model import BulkError, Part, Settings
from oneself.bulk.rows import parts_of

__all__ = ["Job", "Piece"]


class Piece(msgspec.Struct, frozen=True):
    """A part of a file, and what the ids of its rows begin with."""

    part: Part
    prefix: str


class Job(msgspec.Struct, frozen=True):
    """The pieces of an import in their order.

    ``name`` is the same for the same rows and the same destination. ``environment`` is that of rows that name none.
    """

    name: str
    pieces: tuple[Piece, ...]
    environment: str | None = None

    @classmethod
    def of(cls, paths: Sequence[Path], settings: Settings, destination: str, environment: str | None = None) -> Job:
        """Prepare to import files; raise ``BulkError`` where one cannot be used, before anything is applied.

        Rows are named by the content of their file, by how it is read, and by their numbers: the same file under
        another name has the same rows.
        """
        pieces: list[Piece] = []
        names: list[str] = []
        for path in paths:
            parts = parts_of(path, settings)
            name = _name(path, settings, environment)
            if name in names:
                raise BulkError(f"{path} has the same content as a file before it. Give it once.")
            names.append(name)
            for number, part in enumerate(parts, 1):
                pieces.append(Piece(part, f"import:{name}:{number}." if len(parts) > 1 else f"import:{name}:"))
        name = hashlib.blake2b("\0".join([destination, *names]).encode(), digest_size=8).hexdigest()
        return cls(name, tuple(pieces), environment)


def _name(path: Path, settings: Settings, environment: str | None) -> str:
    with plain_errors(str(path)), path.open("rb") as file:
        content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
    how = msgspec.json.encode([settings, environment], order="sorted")
    return hashlib.blake2b(content + how, digest_size=12).hexdigest()
