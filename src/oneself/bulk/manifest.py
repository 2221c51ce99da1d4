"""Manifests: which columns of a table count, and as what (docs/import-export.md, "Manifest")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from oneself.bulk.model import BulkError, Manifest

__all__ = ["manifest_fields", "read_manifest"]


def read_manifest(path: Path) -> Manifest:
    """Return what a manifest file says; raise ``BulkError`` where it is none."""
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise BulkError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BulkError(f"{path} is no manifest: {error}.") from None
    names = [column.name for column in manifest.columns if column.name is not None]
    if manifest.has_header and len(names) < len(manifest.columns):
        raise BulkError(f"{path}: with a header row each of its columns needs the name of the column.")
    if not manifest.has_header and names:
        raise BulkError(f"{path}: without a header row the order decides; leave out column {names[0]!r}'s name.")
    if len(set(names)) < len(names):
        raise BulkError(f"{path}: it names a column twice.")
    if not manifest.has_header and any(column.action == "keep" and not column.field for column in manifest.columns):
        raise BulkError(f"{path}: without a header row each column that is kept needs a field.")
    return manifest


def manifest_fields(
    label: str, names: Sequence[str] | None, manifest: Manifest | None, own: Callable[[str], str] = str
) -> list[str | None]:
    """Return each column's field, None where it is ignored.

    ``names`` is the header, None where there is none, and then the manifest's order counts. ``own`` tells the field
    of a column by its name alone, where the manifest does not say it. Raises ``BulkError`` where the two do not fit.
    """
    if names is None:
        columns = manifest.columns if manifest is not None else ()
        return [column.field if column.action == "keep" else None for column in columns]
    said: dict[str, str | None] = {}
    for column in manifest.columns if manifest is not None else ():
        if column.name is not None:
            said[column.name] = (column.field or own(column.name)) if column.action == "keep" else None
    absent = sorted(said.keys() - set(names))
    if absent:
        raise BulkError(f"{label}: the manifest names a column {absent[0]!r} that the file does not have.")
    return [said[name] if name in said else own(name) for name in names]
