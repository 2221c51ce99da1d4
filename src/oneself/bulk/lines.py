"""JSON lines: one batch a line (docs/import-export.md, "JSON lines")."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from oneself.bulk.documents import Unfit, decoded
from oneself.bulk.model import CHUNK_ROWS, BulkError, Chunk, Rejected, Settings

__all__ = ["JsonLines", "opened", "plain_errors"]

_BOM: Final = b"\xef\xbb\xbf"
_SHOWN_BYTES: Final = 1_000


class JsonLines:
    """A file of JSON lines, plain or compressed by gzip."""

    tabular = False

    def __init__(self, path: Path, settings: Settings) -> None:
        """Prepare to read a file; raise ``BulkError`` where it cannot be."""
        self.label = str(path)
        self._most = settings.max_batch_bytes
        self._path = path
        with opened(path):
            self.size = path.stat().st_size

    def chunks(self, after: int = 0) -> Iterator[Chunk]:
        """Yield the batches of the lines after a number; raise ``BulkError`` where the file cannot be read on."""
        number, most = 0, self._most
        with opened(self._path) as (lines, raw):
            rows: list[tuple[int, dict[str, Any]]] = []
            rejected: list[Rejected] = []
            while line := lines.readline(most + 2):
                number += 1
                whole = line
                while not line.endswith(b"\n") and len(line) > most:
                    line = lines.readline(most + 2)
                if number <= after:
                    continue
                if number == 1:
                    whole = whole.removeprefix(_BOM)
                whole = whole.strip()
                if not whole:
                    continue
                document, reason = _batch(whole, most)
                if reason:
                    rejected.append(Rejected(number, reason, _readable(whole) if document is None else document))
                else:
                    rows.append((number, document))
                if len(rows) + len(rejected) >= CHUNK_ROWS:
                    yield Chunk(rows, rejected, number, raw.tell())
                    rows, rejected = [], []
            if rows or rejected:
                yield Chunk(rows, rejected, number, raw.tell())


def _batch(line: bytes, most: int) -> tuple[Any, str]:
    """Return the document of a line, None where it cannot be read, and why it is no batch, or an empty string."""
    if len(line) > most:
        return None, f"it is longer than {most} bytes, the most that a batch may have"
    try:
        document = decoded(line)
    except Unfit as error:
        return None, f"it {error}"
    return document, "" if type(document) is dict else "a batch must be an object"


def _readable(line: bytes) -> str:
    """Return the beginning of a line that is no JSON, as text."""
    return line[:_SHOWN_BYTES].decode(errors="replace")


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a file; give its bytes, decompressed where its name ends in ``.gz``, and the file itself, for its place.

    Whatever is wrong with the file, also later on, becomes a ``BulkError``.
    """
    with plain_errors(str(path)), path.open("rb") as raw:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=raw) as lines:
                yield cast(BinaryIO, lines), raw
        else:
            yield raw, raw


@contextmanager
def plain_errors(label: str) -> Iterator[None]:
    """Turn what can be wrong with a file of bytes into ``BulkError``."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BulkError(f"{label} is damaged or cut short: {error}. Get it again.") from error
    except OSError as error:
        raise BulkError(f"{label} cannot be read: {error.strerror or error}.") from error
