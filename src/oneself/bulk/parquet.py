"""Parquet files, read piece by piece with pyarrow (docs/import-export.md, "Parquet")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from oneself.bulk.arrow import Reader, arrow, reader
from oneself.bulk.columns import Columns, event_type_of, warehouse_field
from oneself.bulk.documents import unfit
from oneself.bulk.lines import opened
from oneself.bulk.manifest import manifest_fields
from oneself.bulk.model import CHUNK_ROWS, BulkError, Chunk, Rejected, Settings

__all__ = ["ParquetTable"]


class ParquetTable:
    """One Parquet file of rows; its columns are known to make batches."""

    tabular = True

    def __init__(self, path: Path, stem: str, settings: Settings) -> None:
        """Read the schema; raise ``BulkError`` where the file or its columns cannot be used."""
        self.label = str(path)
        self._path = path
        self._most = settings.max_batch_bytes
        if settings.manifest is not None and not settings.manifest.has_header:
            raise BulkError(f"{path}: a Parquet file names its columns; the manifest must have hasHeaderRow true.")
        with self._opened() as file:
            schema = file.schema_arrow
            self._rows = file.metadata.num_rows
        self.size = path.stat().st_size
        fields = manifest_fields(self.label, schema.names, settings.manifest, warehouse_field)
        self._columns = Columns(self.label, fields, event_type=event_type_of(stem), settings=settings)
        self._names = schema.names
        self._kept = sorted(self._columns.fields.values())
        by_place = {place: field for field, place in self._columns.fields.items()}
        self._readers: list[Reader | None] = [
            reader(self.label, schema.field(place), by_place[place]) if place in by_place else None
            for place in range(len(fields))
        ]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        pyarrow, parquet = arrow()
        with opened(self._path):
            try:
                with parquet.ParquetFile(self._path) as file:
                    yield file
            except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
                if getattr(error, "errno", None):
                    raise
                raise BulkError(f"{self.label} is damaged, or no Parquet file: {error}.") from error

    def chunks(self, after: int = 0) -> Iterator[Chunk]:
        """Yield the batches of the rows after a number; raise ``BulkError`` where the file cannot be read on."""
        with self._opened() as file:
            sizes = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
            number, first = 0, 0
            while first < len(sizes) and number + sizes[first] <= after:
                number, first = number + sizes[first], first + 1
            for batch in file.iter_batches(CHUNK_ROWS, row_groups=range(first, len(sizes))):
                count = batch.num_rows
                skipped = min(max(after - number, 0), count)
                if skipped < count:
                    yield self._chunk(batch.slice(skipped), number + skipped)
                number += count

    def _chunk(self, batch: Any, before: int) -> Chunk:
        """Return the rows of a piece, of which the first has the number after ``before``."""
        count = batch.num_rows
        bad: dict[int, str] = {}
        nothing = [None] * count
        columns: list[Sequence[Any]] = [
            nothing if read is None else read(batch.column(place), bad) for place, read in enumerate(self._readers)
        ]
        self._check(batch, columns, bad)
        build = self._columns.document
        rows = [(before + at, build(cells)) for at, cells in enumerate(zip(*columns, strict=True), 1)]
        rejected = []
        if bad:
            for at, reason in sorted(bad.items()):
                row = {name: column[at] for name, column in zip(self._names, columns, strict=True)}
                rejected.append(Rejected(before + at + 1, reason, row))
            rows = [row for at, row in enumerate(rows) if at not in bad]
        return Chunk(rows, rejected, before + count, self.size * (before + count) // self._rows)

    def _check(self, batch: Any, columns: Sequence[Sequence[Any]], bad: dict[int, str]) -> None:
        """Add to ``bad`` the rows that are too long or have a NUL character; rarely does one need a closer look."""
        pyarrow, _ = arrow()
        compute = pyarrow.compute
        suspects: set[int] = set()
        if batch.nbytes > self._most:
            suspects.update(self._long(batch, compute))
        for place in self._kept:
            column, type_ = batch.column(place), batch.schema.field(place).type
            if pyarrow.types.is_string(type_) or pyarrow.types.is_large_string(type_):
                found = compute.match_substring(column, "\0")
                if compute.any(found).as_py():
                    suspects.update(at for at, has in enumerate(found.to_pylist()) if has)
            elif not pyarrow.types.is_primitive(type_):
                suspects.update(range(batch.num_rows))
        for at in suspects - bad.keys():
            cells = [column[at] for column in columns]
            reason = unfit(cells)
            if reason:
                bad[at] = f"it {reason}"
            elif len(msgspec.json.encode(cells)) > self._most:
                bad[at] = f"it is longer than {self._most} bytes, the most that a batch may have"

    def _long(self, batch: Any, compute: Any) -> Iterator[int]:
        """Yield rows that may be too long, going by their texts."""
        pyarrow, _ = arrow()
        total = pyarrow.array([0] * batch.num_rows, pyarrow.int64())
        for place in self._kept:
            type_ = batch.schema.field(place).type
            if pyarrow.types.is_string(type_) or pyarrow.types.is_large_string(type_):
                lengths = compute.fill_null(compute.binary_length(batch.column(place)), 0)
                total = compute.add(total, lengths.cast(pyarrow.int64()))
        long = self._most // 8  # what is escaped in JSON is up to six times as long
        return (at for at, length in enumerate(total.to_pylist()) if length > long)
