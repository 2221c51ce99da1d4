"""Parquet files become batches by the names and types of their columns, piece by piece."""

from __future__ import annotations

import builtins
import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bulk_files import parquet, parquet_of, read, reasons, written
from oneself.bulk import BulkError, arrow
from oneself.bulk.model import CHUNK_ROWS
from oneself.config.model import DEFAULT_BATCH_BYTES as MAX_BATCH_BYTES

DAY = datetime.datetime(2026, 11, 21, 10, 15, 0, 5000, tzinfo=datetime.UTC)


def test_plain_names_are_identities_fields_or_attributes(tmp_path: Path) -> None:
    path = parquet_of(
        tmp_path / "a.parquet",
        [
            ("MPID", [2**63 - 1, None]),
            ("Customer_ID", ["C-1", "C-2"]),
            ("IOS_IDFV", ["F-1", None]),
            ("mp_deviceid", [None, "D-1"]),
            ("Environment", ["development", None]),
            ("First Name", ["Ana", None]),
            ("user_attributes.plan.v2", [None, "gold"]),
            ("LTV", [12, 7]),
        ],
    )
    assert read(path) == (
        [
            (
                1,
                {
                    "mpid": 2**63 - 1,
                    "user_identities": {"Customer_ID".lower(): "C-1"},
                    "device_info": {"ios_idfv": "F-1"},
                    "environment": "development",
                    "user_attributes": {"First Name": "Ana", "LTV": 12},
                },
            ),
            (
                2,
                {
                    "user_identities": {"customer_id": "C-2"},
                    "mp_deviceid": "D-1",
                    "user_attributes": {"plan.v2": "gold", "LTV": 7},
                },
            ),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("values", "read_as"),
    [
        (pa.array([1, None], pa.int8()), 1),
        (pa.array([True, None]), True),
        (pa.array([1.5, float("nan")]), 1.5),
        (pa.array([Decimal("1.50"), None]), "1.50"),
        (pa.array(["x", None], pa.large_string()), "x"),
        (pa.array(["x", None], pa.string_view()), "x"),
        (pa.array(["x", None]).dictionary_encode(), "x"),
        (pa.array([b"x", None], pa.binary()), "x"),
        (pa.array([b"x", None]).dictionary_encode(), "x"),
        (pa.array([DAY, None], pa.timestamp("ns", "Europe/Berlin")), "2026-11-21T10:15:00.005000Z"),
        (pa.array([DAY.replace(tzinfo=None), None], pa.timestamp("ms")), "2026-11-21T10:15:00.005000"),
        (pa.array([DAY.date(), None]), "2026-11-21"),
        (pa.array([DAY.time(), None], pa.time64("ns")), "10:15:00.005000"),
        (pa.array([["a", None], None]), ["a", None]),
        (pa.array([b"\0" * 15 + b"\1", None], pa.uuid()), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_value_keeps_its_type_as_far_as_json_has_it(tmp_path: Path, values: Any, read_as: Any) -> None:
    path = parquet(tmp_path / "a.parquet", mpid=[1, 2], a=values)
    [(_, first), (_, second)], rejected = read(path)
    assert first["user_attributes"] == {"a": read_as}
    assert type(first["user_attributes"]["a"]) is type(read_as)
    assert second == {"mpid": 2}
    assert not rejected


def test_an_empty_text_is_a_value_and_null_says_nothing(tmp_path: Path) -> None:
    rows, _ = read(parquet(tmp_path / "a.parquet", mpid=[1, 1], a=["", None], b=pa.nulls(2)))
    assert rows == [(1, {"mpid": 1, "user_attributes": {"a": ""}}), (2, {"mpid": 1})]


def test_times_of_batches_and_events_are_milliseconds(tmp_path: Path) -> None:
    ms = round(DAY.timestamp() * 1000)
    types = [pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.timestamp("s"), pa.int64(), pa.date32()]
    for number, type_ in enumerate(types):
        value = ms if type_ == pa.int64() else DAY.replace(tzinfo=None)
        path = parquet(
            tmp_path / f"{number}-screen_view.parquet",
            mpid=[1],
            **{"events.data.timestamp_unixtime_ms": pa.array([value], type_), "timestamp_unixtime_ms": [str(ms)]},
        )
        [(_, document)], _ = read(path)
        unit = {pa.timestamp("s"): 1_000, pa.date32(): 86_400_000}.get(type_, 1)
        assert document["events"][0]["data"]["timestamp_unixtime_ms"] == ms // unit * unit
        assert document["timestamp_unixtime_ms"] == ms


def test_nested_columns_are_objects_and_arrays(tmp_path: Path) -> None:
    data = {"event_name": "Bought", "custom_event_type": "other", "price": Decimal("2.5"), "empty": None, "on": DAY}
    path = parquet(
        tmp_path / "a.parquet",
        user_identities=[{"email": "a@b.c", "customer_id": None}],
        user_attributes=pa.array([[("tag", None), ("plan", "gold")]], pa.map_(pa.string(), pa.string())),
        deleted_user_attributes=[["old", "older"]],
        events=[[{"event_type": "custom_event", "data": data}]],
        consent_state=['{"gdpr": {"ads": {"consented": true}}}'],
    )
    [(_, document)], rejected = read(path)
    assert document == {
        "user_identities": {"email": "a@b.c"},
        "user_attributes": {"tag": None, "plan": "gold"},
        "deleted_user_attributes": ["old", "older"],
        "events": [
            {
                "event_type": "custom_event",
                "data": {
                    "event_name": "Bought",
                    "custom_event_type": "other",
                    "price": 2.5,
                    "on": "2026-11-21T10:15:00.005000Z",
                },
            }
        ],
        "consent_state": {"gdpr": {"ads": {"consented": True}}},
    }
    assert not rejected


def test_whole_numbers_stand_for_true_and_false_where_a_field_is_that(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        mpid=[1, 2, 3],
        **{"device_info.is_tablet": [1, 0, 2], "device_info.is_dst": [True, None, False]},
    )
    rows, rejected = read(path)
    assert [document["device_info"] for _, document in rows] == [
        {"is_tablet": True, "is_dst": True},
        {"is_tablet": False},
    ]
    assert reasons(rejected) == [(3, "device_info.is_tablet: '2' is neither true nor false")]


def test_bad_rows_are_told_by_their_numbers_and_the_rest_goes_on(tmp_path: Path) -> None:
    over = "x" * MAX_BATCH_BYTES
    path = parquet(
        tmp_path / "a.parquet",
        mpid=range(1, 8),
        a=["ok", "x\0", over, over[:-60], '"' * (MAX_BATCH_BYTES * 3 // 4), "ok", "ok"],
        raw=[b"", b"", b"", b"", b"", b"\xff", b""],
        deleted_user_attributes=[None, None, None, None, None, None, '["a"'],
    )
    rows, rejected = read(path)
    assert [number for number, _ in rows] == [1, 4]
    assert [(number, reason[:30]) for number, reason in reasons(rejected)] == [
        (2, "it has a NUL character"),
        (3, "it is longer than 131072 bytes"),
        (5, "it is longer than 131072 bytes"),
        (6, "user_attributes.raw: it is no "),
        (7, "deleted_user_attributes: it is"),
    ]
    assert rejected[3].row["mpid"] == 6


def test_a_nul_in_a_nested_value_rejects_its_row(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", mpid=[1, 2], tags=[["a"], ["b", "c\0"]])
    rows, rejected = read(path)
    assert [number for number, _ in rows] == [1]
    assert reasons(rejected) == [(2, "it has a NUL character")]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([("mpid", [1.0])], "does not hold an id exactly"),
        ([("customer_id", [1.0])], "does not hold an id exactly"),
        ([("ios_idfv", [1.0])], "does not hold an id exactly"),
        ([("mpid", [1]), ("a", [{"b": 1}])], "column 'a', as user_attributes.a, cannot be of type struct"),
        ([("mpid", [1]), ("a", [datetime.timedelta(1)])], "cannot be of type duration"),
        ([("mpid", [1]), ("user_attributes", [1])], "column 'user_attributes' cannot be of type int64"),
        ([("mpid", [1]), ("events.data.event_name", ["a"])], "does not say of which type"),
        ([("mpid", [1]), ("device_info.what", ["a"])], "'device_info.what' is no field"),
        ([("a", [1])], "no column says whose the rows are"),
    ],
)
def test_a_file_whose_columns_cannot_be_is_refused(tmp_path: Path, columns: Any, said: str) -> None:
    with pytest.raises(BulkError, match=said):
        read(parquet_of(tmp_path / "a.parquet", columns))


def test_of_columns_with_the_same_name_the_last_counts(tmp_path: Path) -> None:
    path = parquet_of(
        tmp_path / "a.parquet", [("mpid", [1]), ("a", ["x"]), ("a", ["y"]), ("EMAIL", ["u"]), ("email", ["v"])]
    )
    assert read(path)[0] == [(1, {"mpid": 1, "user_attributes": {"a": "y"}, "user_identities": {"email": "v"}})]


def test_there_may_be_more_columns_than_in_csv(tmp_path: Path) -> None:
    rows, _ = read(parquet(tmp_path / "a.parquet", mpid=[1], **{f"a{n}": ["x"] for n in range(99)}))
    assert len(rows[0][1]["user_attributes"]) == 99


def test_reading_can_begin_after_any_row_across_row_groups(tmp_path: Path) -> None:
    count = 2 * CHUNK_ROWS + 10
    path = parquet(tmp_path / "a.parquet", rows=700, mpid=range(1, count + 1))
    for after in (0, 1, 699, 700, 701, CHUNK_ROWS, count - 1, count, count + 1):
        rows, _ = read(path, after)
        assert rows == [(number, {"mpid": number}) for number in range(after + 1, count + 1)]


def test_what_is_no_parquet_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BulkError, match=r"a\.parquet is damaged, or no Parquet file"):
        read(written(tmp_path / "a.parquet", "mpid\n1\n"))
    with pytest.raises(BulkError, match=r"b\.parquet cannot be read: No such file"):
        read(tmp_path / "b.parquet")
    path = parquet(tmp_path / "c.parquet", rows=1_000, mpid=range(10_000), a=[f"{n**5}" for n in range(10_000)])
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = b"\xa5" * (len(content) // 2 - len(content) // 3)
    path.write_bytes(content)
    with pytest.raises(BulkError, match=r"c\.parquet is damaged"):
        read(path)


def test_without_pyarrow_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "a.parquet", mpid=[1])
    imported = builtins.__import__

    def absent(name: str, *more: Any, **rest: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(f"No module named {name!r}")
        return imported(name, *more, **rest)

    arrow.arrow.cache_clear()
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(BulkError, match=r"pip install 'oneself\[parquet\]'"):
        read(path)
    monkeypatch.undo()
    arrow.arrow.cache_clear()
    assert read(path)[0] == [(1, {"mpid": 1})]
