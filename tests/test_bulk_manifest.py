"""A manifest says which columns of a table count, and as what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bulk_files import parquet, read, written
from oneself.bulk import BulkError, Manifest, Settings, parts_of, read_manifest


def manifest(path: Path, *columns: dict[str, Any], header: bool | None = None) -> Manifest:
    """Write a manifest and read it."""
    said = {} if header is None else {"hasHeaderRow": header}
    return read_manifest(written(path / "manifest.json", json.dumps({**said, "columns": columns})))


def test_columns_are_renamed_and_ignored_and_the_others_stay(tmp_path: Path) -> None:
    said = manifest(
        tmp_path,
        {"column": "Email", "action": "keep", "field": "user_identities.email"},
        {"column": "Note", "action": "ignore"},
        {"column": "mpid"},
        header=True,
    )
    path = written(tmp_path / "a.csv", "Note,Email,mpid,environment\nx,a@b.c,5,development\n")
    assert read(path, manifest=said) == (
        [(2, {"user_identities": {"email": "a@b.c"}, "mpid": "5", "environment": "development"})],
        [],
    )


def test_without_a_header_the_order_decides(tmp_path: Path) -> None:
    said = manifest(
        tmp_path,
        {"action": "keep", "field": "user_identities.email"},
        {"action": "ignore"},
        {"field": "user_attributes.a"},
        header=False,
    )
    path = written(tmp_path / "a.csv", "\ufeffa@b.c,x,1\nd@e.f,y\nd@e.f,y,2\n")
    rows, rejected = read(path, manifest=said)
    assert rows == [
        (1, {"user_identities": {"email": "a@b.c"}, "user_attributes": {"a": "1"}}),
        (3, {"user_identities": {"email": "d@e.f"}, "user_attributes": {"a": "2"}}),
    ]
    assert [bad.number for bad in rejected] == [2]


def test_ignored_columns_do_not_count_as_columns(tmp_path: Path) -> None:
    ignored = [{"column": f"c{n}", "action": "ignore"} for n in range(60)]
    head = "mpid," + ",".join(f"c{n}" for n in range(60))
    path = written(tmp_path / "a.csv", f"{head}\n5{',x' * 60}\n")
    assert read(path, manifest=manifest(tmp_path, *ignored))[0] == [(2, {"mpid": "5"})]


def test_a_manifest_names_columns_of_parquet_too(tmp_path: Path) -> None:
    said = manifest(
        tmp_path, {"column": "who", "field": "user_identities.other"}, {"column": "secret", "action": "ignore"}
    )
    path = parquet(tmp_path / "a.parquet", who=["x"], secret=[{"a": 1}], size=["L"])
    assert read(path, manifest=said)[0] == [
        (1, {"user_identities": {"other": "x"}, "user_attributes": {"size": "L"}}),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no manifest"),
        ("[]", "is no manifest"),
        ('{"hasHeaderRow": true}', "is no manifest.*columns"),
        ('{"columns": [{"column": "a", "action": "drop"}]}', "is no manifest.*action|is no manifest.*drop"),
        ('{"columns": [{"column": "a", "to": "mpid"}]}', "is no manifest.*to"),
        ('{"columns": [{"field": "mpid"}]}', "needs the name of the column"),
        ('{"columns": [{"column": "a"}, {"column": "a"}]}', "names a column twice"),
        ('{"hasHeaderRow": false, "columns": [{"column": "a", "field": "mpid"}]}', "the order decides"),
        ('{"hasHeaderRow": false, "columns": [{"action": "keep"}]}', "needs a field"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(BulkError, match=said):
        read_manifest(written(tmp_path / "manifest.json", content))


def test_a_manifest_must_fit_its_file(tmp_path: Path) -> None:
    with pytest.raises(BulkError, match=r"cannot be read"):
        read_manifest(tmp_path / "absent.json")
    absent = manifest(tmp_path, {"column": "b", "field": "mpid"})
    with pytest.raises(BulkError, match="names a column 'b' that the file does not have"):
        read(written(tmp_path / "a.csv", "mpid\n1\n"), manifest=absent)
    headless = manifest(tmp_path, {"field": "mpid"}, header=False)
    with pytest.raises(BulkError, match="hasHeaderRow true"):
        read(parquet(tmp_path / "a.parquet", mpid=[1]), manifest=headless)
    with pytest.raises(BulkError, match="JSON lines are batches already"):
        parts_of(written(tmp_path / "a.jsonl", ""), Settings(manifest=absent))
