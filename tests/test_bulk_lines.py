"""JSON lines become batches, each with the number of its line; lines that cannot be are told and passed over."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from bulk_files import json_lines, read, reasons, written
from oneself.bulk import BulkError, Settings, parts_of
from oneself.bulk.model import CHUNK_ROWS
from oneself.config.model import DEFAULT_BATCH_BYTES as MAX_BATCH_BYTES


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "ROWS.JSONL", "rows.jsonl.gz"])
def test_a_line_is_a_batch_and_blank_lines_count_as_lines(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = '\ufeff{"mpid": 1}\r\n\n  \n{"mpid": 2}'.encode()
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert read(path) == ([(1, {"mpid": 1}), (4, {"mpid": 2})], [])


def test_integers_are_exact(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.jsonl",
        '{"mpid": -9223372036854775808, "n": 9007199254740993, "m": 123456789012345678901234567890}\n',
    )
    [(_, document)], _ = read(path)
    assert document == {"mpid": -(2**63), "n": 2**53 + 1, "m": 123456789012345678901234567890}


def test_what_is_no_batch_is_told_with_its_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [
        b'{"a": 1}',
        b'{"a": 1',
        b"[1]",
        b'{"a": "\xff"}',
        b'{"a": {"b": ["x\\u0000"]}}',
        b'{"\\u0000": 1}',
        b'{"a": "\\\\u0000"}',
        b"[" * 100_000,
        b'{"a": 1e400}',
        b"NaN",
        b'{"a": "\\ud800"}',
        b'{"a": ' * 65 + b"1" + b"}" * 65,
        b'{"a": ' * 64 + b"1" + b"}" * 64,
        b'{"a": 2}',
    ]
    rows, rejected = read(written(tmp_path / "a.jsonl", b"\n".join(lines)))
    deep = msgspec.json.decode(lines[-2])
    assert rows == [(1, {"a": 1}), (7, {"a": "\\u0000"}), (13, deep), (14, {"a": 2})]
    assert [bad.number for bad in rejected] == [2, 3, 4, 5, 6, 8, 9, 10, 11, 12]
    assert reasons(rejected)[1] == (3, "a batch must be an object")
    assert {bad.reason for bad in rejected[3:5]} == {"it has a NUL character"}
    assert rejected[0].row == '{"a": 1'
    assert rejected[1].row == [1]
    assert len(rejected[5].row) <= 1_000


def test_a_batch_may_have_128_kib_and_a_longer_line_is_passed_over_whole(tmp_path: Path) -> None:
    fits = '{"a":"' + "x" * (MAX_BATCH_BYTES - 8) + '"}'
    over = '{"a":"' + "x" * (MAX_BATCH_BYTES - 7) + '"}'
    far_over = '{"a":"' + "x" * (3 * MAX_BATCH_BYTES) + '"}'
    path = written(tmp_path / "a.jsonl", "\r\n".join([fits, over, far_over, '{"a":1}', over]))
    rows, rejected = read(path)
    assert [number for number, _ in rows] == [1, 4]
    assert [bad.number for bad in rejected] == [2, 3, 5]
    assert all("longer than 131072 bytes" in bad.reason for bad in rejected)


def test_the_limit_of_a_workspace_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"a": "xyz"}\n{"a": "xyza"}\n{"a": "xyz"}\n')
    rows, rejected = read(path, max_batch_bytes=12)
    assert [number for number, _ in rows] == [1, 3]
    assert reasons(rejected) == [(2, "it is longer than 12 bytes, the most that a batch may have")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_reading_can_begin_after_any_line(tmp_path: Path, name: str) -> None:
    count = 2 * CHUNK_ROWS + 10
    path = written(tmp_path / name, json_lines({"n": number} for number in range(1, count + 1)))
    for after in (0, 1, CHUNK_ROWS - 1, CHUNK_ROWS, count - 1, count, count + 5):
        rows, _ = read(path, after)
        assert rows == [(number, {"n": number}) for number in range(after + 1, count + 1)]


def test_a_file_that_is_cut_short_gives_what_it_has_and_then_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    content = gzip.compress(json_lines({"n": f"{number:x}" * 3} for number in range(50_000)).encode())
    path.write_bytes(content[: len(content) // 2])
    [part] = parts_of(path, Settings())
    chunks = part.chunks()
    assert len(next(chunks).rows) == CHUNK_ROWS
    with pytest.raises(BulkError, match=r"a\.jsonl\.gz is damaged or cut short"):
        list(chunks)


def test_a_file_that_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(BulkError, match=r"absent\.jsonl cannot be read: No such file"):
        parts_of(tmp_path / "absent.jsonl", Settings())
    path = written(tmp_path / "no.jsonl", "")
    path.rename(tmp_path / "no.jsonl.gz")
    written(tmp_path / "plain.jsonl", '{"a": 1}\n').rename(tmp_path / "plain.jsonl.gz")
    with pytest.raises(BulkError, match=r"plain\.jsonl\.gz is damaged"):
        read(tmp_path / "plain.jsonl.gz")
    assert read(written(tmp_path / "empty.jsonl", "")) == ([], [])


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.json", r"must end in \.jsonl"), ("a", r"must end in"), ("a.csv.gpg", "is encrypted. Decrypt it first")],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(BulkError, match=said):
        parts_of(written(tmp_path / name, "{}"), Settings())
