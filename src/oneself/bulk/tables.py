"""CSV files by RFC 4180: plain, compressed by gzip, or several in a zip file (docs/import-export.md, "CSV")."""

from __future__ import annotations

import csv
import re
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, NamedTuple, cast

from oneself.bulk.columns import Columns, convert_cells, event_type_of
from oneself.bulk.fields import BadCell
from oneself.bulk.lines import opened, plain_errors
from oneself.bulk.manifest import manifest_fields
from oneself.bulk.model import CHUNK_ROWS, MAX_ROW_BYTES, BulkError, Chunk, Rejected, Settings

__all__ = ["CsvTable", "csv_file", "zip_file"]

_MAX_COLUMNS: Final = 49
_SHOWN: Final = 1_000

Open = Callable[[], AbstractContextManager[tuple[BinaryIO, BinaryIO]]]


class _Record(NamedTuple):
    """One record of a file: its first line's number, and its cells, or why it is none and how it begins."""

    number: int
    cells: list[str]
    reason: str = ""
    text: str = ""


class _Unreadable(Exception):
    """A line that is no text of a table; the message says why."""


class _Records:
    """The records of a file, with the numbers of the lines that they begin in.

    A record that cannot be read is told, and the next one is looked for in the line after its first: a quote that
    is never closed spoils one line, not the rest of the file.
    """

    def __init__(self, lines: BinaryIO) -> None:
        self._lines = lines
        self._again: deque[bytes] = deque()
        self._taken: list[bytes] = []
        self._bytes = 0
        self._number = 0
        self._reader = csv.reader(self, strict=True)

    def __iter__(self) -> Iterator[str]:
        """Return the lines that make up records, for the parser."""
        return self

    def __next__(self) -> str:
        """Give the parser the next line of a record."""
        line = self._again.popleft() if self._again else self._line()
        if not line:
            raise StopIteration
        self._taken.append(line)
        self._bytes += len(line)
        if self._bytes > MAX_ROW_BYTES:
            if len(self._taken) > 1:
                raise _Unreadable(f"a quoted cell does not end within {MAX_ROW_BYTES} bytes")
            raise _Unreadable(f"it is longer than {MAX_ROW_BYTES} bytes, the most that a row may have")
        if b"\0" in line:
            raise _Unreadable("it has a NUL character")
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise _Unreadable(f"it is no UTF-8 (byte {error.start + 1} of the line)") from None

    def _line(self) -> bytes:
        line = rest = self._lines.readline(MAX_ROW_BYTES + 1)
        while len(rest) > MAX_ROW_BYTES and not rest.endswith(b"\n"):
            rest = self._lines.readline(MAX_ROW_BYTES + 1)
        if self._number == 0 and not self._taken:
            line = line.removeprefix(b"\xef\xbb\xbf")
        return line

    def next(self) -> _Record | None:
        """Return the next record that is not blank; None at the end."""
        while True:
            self._taken, self._bytes = [], 0
            reason = ""
            cells: list[str] = []
            try:
                cells = next(self._reader)
            except StopIteration:
                return None
            except _Unreadable as error:
                reason = str(error)
            except csv.Error as error:
                ended = "unexpected end" in str(error)
                reason = "a quoted cell does not end" if ended else f"it is no CSV by RFC 4180: {error}"
            first = self._number + 1
            if reason:
                self._again.extendleft(reversed(self._taken[1:]))
                self._number = first
                return _Record(first, [], reason, self._taken[0][:_SHOWN].decode(errors="replace"))
            self._number += len(self._taken)
            if cells:
                return _Record(first, cells)


class CsvTable:
    """One CSV file of rows; its columns are known to make batches."""

    tabular = True

    def __init__(self, label: str, stem: str, open_: Open, size: int, settings: Settings) -> None:
        """Read the header; raise ``BulkError`` where the file or its columns cannot be used.

        ``stem`` is the file's name without extensions. ``open_`` gives the bytes, and a file whose place among
        ``size`` bytes shows how much was read.
        """
        self.label = label
        self.size = size
        self._open = open_
        self._header = settings.manifest is None or settings.manifest.has_header
        names = self._read_header()
        fields = manifest_fields(label, names, settings.manifest)
        self._names: Sequence[str] = names or [field or f"column {at}" for at, field in enumerate(fields, 1)]
        if len(fields) - fields.count(None) > _MAX_COLUMNS:
            raise BulkError(f"{label}: it has more than {_MAX_COLUMNS} columns. Let a manifest ignore some.")
        self._columns = Columns(label, fields, event_type=event_type_of(stem), settings=settings)

    def _read_header(self) -> list[str] | None:
        with self._open() as (lines, _):
            start = lines.readline(MAX_ROW_BYTES)
            if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise BulkError(f"{self.label} is UTF-16. Save it as CSV in UTF-8.")
            if b"\r" in start.rstrip(b"\r\n") and not re.search(rb'["\n]', start):
                raise BulkError(f"{self.label} ends its lines with CR alone. Let them end with CRLF or LF.")
        if not self._header:
            return None
        with self._open() as (lines, _):
            header = _Records(lines).next()
        if header is None:
            raise BulkError(f"{self.label} is empty: it has no header.")
        if header.reason:
            raise BulkError(f"{self.label}: its header cannot be read: {header.reason}.")
        names = header.cells
        if "" in names:
            raise BulkError(f"{self.label}: column {names.index('') + 1} has no name.")
        if len(names) == 1 and re.search("[;\t|]", names[0]):
            raise BulkError(f"{self.label}: its columns must be separated by commas.")
        return names

    def chunks(self, after: int = 0) -> Iterator[Chunk]:
        """Yield the batches of the records after a line's number; raise ``BulkError`` where it cannot be read on."""
        with self._open() as (lines, raw):
            records = _Records(lines)
            if self._header:
                records.next()
            rows: list[tuple[int, dict[str, Any]]] = []
            rejected: list[Rejected] = []
            while record := records.next():
                if record.number <= after:
                    continue
                try:
                    rows.append((record.number, self._document(record)))
                except BadCell as bad:
                    rejected.append(Rejected(record.number, str(bad), self._shown(record)))
                if len(rows) + len(rejected) >= CHUNK_ROWS:
                    yield Chunk(rows, rejected, record.number, raw.tell())
                    rows, rejected = [], []
            if rows or rejected:
                last = max([*(number for number, _ in rows[-1:]), *(bad.number for bad in rejected[-1:])])
                yield Chunk(rows, rejected, last, raw.tell())

    def _document(self, record: _Record) -> dict[str, Any]:
        if record.reason:
            raise BadCell(record.reason)
        if len(record.cells) != len(self._names):
            raise BadCell(f"it has {len(record.cells)} cells, and there are {len(self._names)} columns")
        cells: list[Any] = [cell or None for cell in record.cells]  # an empty cell says nothing
        convert_cells(self._columns, cells)
        return self._columns.document(cells)

    def _shown(self, record: _Record) -> Any:
        """Return a row for the rejects file: its cells by the names of their columns, or its text."""
        if record.reason:
            return record.text
        if len(record.cells) != len(self._names):
            return record.cells
        return {name: cell for name, cell in zip(self._names, record.cells, strict=True) if cell}


def csv_file(path: Path, stem: str, settings: Settings) -> CsvTable:
    """Return the table in a CSV file, plain or compressed by gzip; raise ``BulkError`` where it cannot be used."""
    with opened(path):
        size = path.stat().st_size
    return CsvTable(str(path), stem, lambda: opened(path), size, settings)


def zip_file(path: Path, settings: Settings) -> list[CsvTable]:
    """Return the tables in a zip file, in its order; raise ``BulkError`` where it or one of them cannot be used."""
    tables = []
    with _zip(path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir() and not _is_litter(info.filename)]
    if not members:
        raise BulkError(f"{path} has no CSV file in it.")
    for info in members:
        name = PurePosixPath(info.filename).name
        label = f"{path}/{info.filename}"
        if not name.lower().endswith(".csv"):
            raise BulkError(f"{label}: a zip file may hold CSV files only.")
        if info.flag_bits & 1:
            raise BulkError(f"{label} is encrypted. Decrypt it first.")
        stem = name[: -len(".csv")]
        if event_type_of(stem) is None and event_type_of(path.stem) is not None:
            stem = path.stem
        tables.append(CsvTable(label, stem, _member(path, info.filename), info.file_size, settings))
    return tables


def _member(path: Path, name: str) -> Open:
    @contextmanager
    def open_() -> Iterator[tuple[BinaryIO, BinaryIO]]:
        with _zip(path) as archive, archive.open(name) as lines:
            yield cast(BinaryIO, lines), cast(BinaryIO, lines)

    return open_


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    with plain_errors(str(path)):
        try:
            with zipfile.ZipFile(path) as archive:
                yield archive
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise BulkError(f"{path} is damaged, or no zip file that can be read: {error}.") from error


def _is_litter(name: str) -> bool:
    """Tell whether a member is what systems put into zip files beside what they were told to."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1].startswith(".")
