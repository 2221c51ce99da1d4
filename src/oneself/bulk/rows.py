"""Which reader a file needs, by its name (docs/import-export.md, "Files")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from oneself.bulk.lines import JsonLines
from oneself.bulk.model import BulkError, Part, Settings
from oneself.bulk.parquet import ParquetTable
from oneself.bulk.tables import csv_file, zip_file

__all__ = ["parts_of"]

_JSON_LINES: Final = re.compile(r"\.(jsonl|ndjson)(\.gz)?$", re.IGNORECASE)
_CSV: Final = re.compile(r"\.csv(\.gz)?$", re.IGNORECASE)
_PARQUET: Final = re.compile(r"\.(parquet|pq)$", re.IGNORECASE)


def parts_of(path: Path, settings: Settings) -> Sequence[Part]:
    """Return the parts of a file, each known to be readable as far as it tells before its rows.

    Raises ``BulkError`` where the file is of no known kind, or cannot be used.
    """
    name = path.name
    if _JSON_LINES.search(name):
        if settings.manifest is not None:
            raise BulkError(f"{path}: a manifest is for tables; JSON lines are batches already.")
        return [JsonLines(path, settings)]
    if _CSV.search(name):
        return [csv_file(path, _CSV.sub("", name), settings)]
    if _PARQUET.search(name):
        return [ParquetTable(path, _PARQUET.sub("", name), settings)]
    if name.lower().endswith(".zip"):
        return zip_file(path, settings)
    if name.lower().endswith((".gpg", ".pgp")):
        raise BulkError(f"{path} is encrypted. Decrypt it first.")
    raise BulkError(f"{path}: its name must end in .jsonl, .jsonl.gz, .csv, .csv.gz, .zip or .parquet.")
