"""What a bulk file is read as: parts, chunks of rows, and rows that cannot be used (docs/import-export.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from oneself.config.model import DEFAULT_BATCH_BYTES
from oneself.errors import OneselfError

__all__ = ["CHUNK_ROWS", "MAX_ROW_BYTES", "BulkError", "Chunk", "Manifest", "Part", "Rejected",
           "Settings"]  # fmt: skip

CHUNK_ROWS: Final = 1_000
"""A chunk ends at this many rows."""

MAX_ROW_BYTES: Final = 80 * 1024
"""A longer row of a table is rejected."""


class BulkError(OneselfError):
    """A file that cannot be read or written; the message names it and says what to do."""


class Rejected(NamedTuple):
    """A row that cannot be used: its number, why, and what is left of it."""

    number: int
    reason: str
    row: Any


class Chunk(NamedTuple):
    """Rows that follow each other, ``(number, document)`` each, and those between them that cannot be used.

    ``last`` is the number of the last row of both kinds; ``read`` is how many bytes of the part were read by then.
    """

    rows: list[tuple[int, dict[str, Any]]]
    rejected: list[Rejected]
    last: int
    read: int


class Part(Protocol):
    """A file of rows, or one of several files in a zip file.

    ``label`` names it; ``size`` is how many bytes there are to read. A row is numbered by the line it begins in, or
    counted, from 1. ``tabular`` tells that rows are made of columns, and have at most one event.
    """

    label: str
    size: int
    tabular: bool

    def chunks(self, after: int = 0) -> Iterator[Chunk]:
        """Yield the rows after a number; raise ``BulkError`` where the file cannot be read on."""


class ManifestColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"name": "column"}):
    """What to do with one column; ``field`` is where it belongs in a batch, its own name where it is empty."""

    action: Literal["keep", "ignore"] = "keep"
    name: str | None = None
    field: str = ""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A manifest file: which columns of a table count, and as what."""

    columns: tuple[ManifestColumn, ...]
    has_header: bool = msgspec.field(default=True, name="hasHeaderRow")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How files are read: what tables call their events where they do not say, a manifest, and the longest batch."""

    event_name: str | None = None
    event_type: str | None = None
    manifest: Manifest | None = None
    max_batch_bytes: int = DEFAULT_BATCH_BYTES
