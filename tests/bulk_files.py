"""Files to import, made by hand, and what readers make of them."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from oneself.bulk import Rejected, Settings, parts_of

Rows = list[tuple[int, Any]]


def written(path: Path, content: str | bytes) -> Path:
    """Write a file, compressed where its name ends in ``.gz``."""
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def zipped(path: Path, members: dict[str, str]) -> Path:
    """Write a zip file of members by name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def parquet(path: Path, rows: int | None = None, **columns: Any) -> Path:
    """Write a Parquet file of columns, ``rows`` in a row group."""
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def parquet_of(path: Path, columns: Iterable[tuple[str, Any]]) -> Path:
    """Write a Parquet file of columns whose names are no Python names, or stand twice."""
    names, arrays = zip(*columns, strict=True)
    made = [array if isinstance(array, pa.Array) else pa.array(array) for array in arrays]
    pq.write_table(pa.Table.from_arrays(made, names=list(names)), path)
    return path


def json_lines(documents: Iterable[Any]) -> str:
    """Return documents as JSON lines."""
    return "".join(json.dumps(document) + "\n" for document in documents)


def read(path: Path, after: int = 0, **settings: Any) -> tuple[Rows, list[Rejected]]:
    """Return the rows of all parts of a file, and those that are rejected."""
    rows: Rows = []
    rejected: list[Rejected] = []
    for part in parts_of(path, Settings(**settings)):
        for chunk in part.chunks(after):
            rows += chunk.rows
            rejected += chunk.rejected
            numbers = [number for number, _ in chunk.rows] + [bad.number for bad in chunk.rejected]
            assert chunk.last >= max(numbers)
            assert 0 <= chunk.read <= part.size
    return rows, rejected


def reasons(rejected: list[Rejected]) -> list[tuple[int, str]]:
    """Return the numbers and reasons of rows that were rejected."""
    return [(bad.number, bad.reason) for bad in rejected]
