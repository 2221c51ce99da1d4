"""Writing documents to files: JSON lines, plain or compressed, and Parquet (docs/import-export.md, "Export")."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from oneself.bulk.arrow import arrow
from oneself.bulk.model import BulkError

__all__ = ["BATCHES", "PROFILES", "Columns", "Writer", "json_lines", "parquet"]

_ROWS: Final = 10_000
"""Rows of a Parquet row group."""

Columns = Mapping[str, str]
"""Columns of a Parquet file and what they hold: ``integer``, ``boolean``, ``text``, or ``json`` as text."""

PROFILES: Final[Columns] = {
    "mpid": "integer",
    "environment": "text",
    "created_timestamp_ms": "integer",
    "last_stored_timestamp_ms": "integer",
    "last_seen_ms": "integer",
    "is_opted_out": "boolean",
    "limit_ad_tracking": "boolean",
    "ip": "text",
    "user_identities": "json",
    "device_identities": "json",
    "user_attributes": "json",
    "audience_memberships": "json",
    "attribution": "json",
    "consent_state": "json",
    "workspace": "json",
    "devices": "json",
}

BATCHES: Final[Columns] = {
    "origin_mpid": "integer",
    "mpid": "integer",
    "environment": "text",
    "batch_id": "integer",
    "source_request_id": "text",
    "timestamp_unixtime_ms": "integer",
    "ip": "text",
    "mp_deviceid": "text",
    "user_identities": "json",
    "user_attributes": "json",
    "deleted_user_attributes": "json",
    "device_info": "json",
    "application_info": "json",
    "context": "json",
    "consent_state": "json",
    "integration_attributes": "json",
    "partner_identities": "json",
    "attribution_info": "json",
    "sdk_version": "text",
    "events": "json",
    "source_info": "json",
}

_encode = msgspec.json.Encoder().encode


class Writer(Protocol):
    """Writes documents, one after another."""

    def write(self, document: dict[str, Any]) -> None:
        """Add a document."""


@contextmanager
def json_lines(path: Path | None) -> Iterator[Writer]:
    """Write JSON lines to a file, compressed where its name ends in ``.gz``, or to standard output.

    The file is there when all is written, or not at all. Raises ``BulkError`` where it cannot be written.
    """
    if path is None:
        yield _JsonLines(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with _new(path) as unfinished, unfinished.open("wb") as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6) as compressed:
                yield _JsonLines(compressed)
        else:
            yield _JsonLines(file)


class _JsonLines:
    def __init__(self, file: BinaryIO | gzip.GzipFile) -> None:
        self._file = file

    def write(self, document: dict[str, Any]) -> None:
        self._file.write(_encode(document) + b"\n")


@contextmanager
def parquet(path: Path, columns: Columns) -> Iterator[Writer]:
    """Write a Parquet file with some columns.

    It is there when all is written, or not at all. Raises ``BulkError`` where it cannot be written, or where
    pyarrow is not installed.
    """
    pyarrow, module = arrow()
    types = {
        "integer": pyarrow.int64(),
        "boolean": pyarrow.bool_(),
        "text": pyarrow.string(),
        "json": pyarrow.string(),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    with _new(path) as unfinished, module.ParquetWriter(str(unfinished), schema, compression="zstd") as file:
        writer = _Parquet(file, pyarrow, schema, columns)
        yield writer
        writer.flush()


class _Parquet:
    def __init__(self, file: Any, pyarrow: Any, schema: Any, columns: Columns) -> None:
        self._file = file
        self._pyarrow = pyarrow
        self._schema = schema
        self._json = [name for name, kind in columns.items() if kind == "json"]
        self._rows: list[dict[str, Any]] = []

    def write(self, document: dict[str, Any]) -> None:
        for name in self._json:
            value = document.get(name)
            if value is not None:
                document[name] = _encode(value).decode()
        self._rows.append(document)
        if len(self._rows) == _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write a row group of what waits."""
        if self._rows:
            self._file.write_table(self._pyarrow.Table.from_pylist(self._rows, self._schema))
            self._rows = []


@contextmanager
def _new(path: Path) -> Iterator[Path]:
    """Give a place to write a file at, readable by its owner only, and put it in its own when all went well."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # it will hold personal data
        try:
            yield unfinished
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BulkError(f"{path} cannot be written: {error.strerror or error}.") from error
