"""CSV files become batches by the names of their columns; bad rows are told by their lines and passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulk_files import read, reasons, written, zipped
from oneself.bulk import BulkError
from oneself.bulk.model import CHUNK_ROWS, MAX_ROW_BYTES

ID = "user_identities.customerid"


def user(value: str, **attributes: str) -> dict[str, object]:
    """Return the batch of a user with attributes."""
    return {"user_identities": {"customerid": value}} | ({"user_attributes": attributes} if attributes else {})


@pytest.mark.parametrize("name", ["people.csv", "people-eventless.csv", "a.b-c-eventless.csv.gz", "PEOPLE.CSV"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_cells_are_text_and_an_empty_cell_says_nothing(tmp_path: Path, name: str, end: str, start: str) -> None:
    lines = [f"{ID},user_attributes.size,user_attributes.nick name", "007,1e3,", '8,"",Ben', ",,", "9,[1],true"]
    rows, rejected = read(written(tmp_path / name, start + end.join(lines) + end))
    assert rows == [
        (2, user("007", size="1e3")),
        (3, user("8", **{"nick name": "Ben"})),
        (4, {}),
        (5, user("9", size="[1]", **{"nick name": "true"})),
    ]
    assert not rejected


def test_quoted_cells_may_have_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    content = f'{ID},user_attributes.a\r\n1,"x,""y""\r\nz"\r\n\r\n2,5" pipe\r\n"3","a\rb"\r\n'
    rows, rejected = read(written(tmp_path / "a.csv", content))
    assert rows == [(2, user("1", a='x,"y"\r\nz')), (5, user("2", a='5" pipe')), (6, user("3", a="a\rb"))]
    assert not rejected


def test_bad_rows_are_told_by_their_lines_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [
        f"{ID},user_attributes.a".encode(),
        b"1,x",
        b"2",
        b"3,x,y",
        b'4,"x"y',
        b"5,\xe9",
        b"6,x\x00",
        b'"7,x',
        b"8,x",
        b"9," + b"x" * (MAX_ROW_BYTES - 3),
        b"10," + b"x" * MAX_ROW_BYTES,
        b"11,x",
    ]
    rows, rejected = read(written(tmp_path / "a.csv", b"\n".join(lines)))
    assert [number for number, _ in rows] == [2, 9, 10, 12]
    assert reasons(rejected) == [
        (3, "it has 1 cells, and there are 2 columns"),
        (4, "it has 3 cells, and there are 2 columns"),
        (5, "it is no CSV by RFC 4180: ',' expected after '\"'"),
        (6, "it is no UTF-8 (byte 3 of the line)"),
        (7, "it has a NUL character"),
        (8, "a quoted cell does not end within 81920 bytes"),
        (11, "it is longer than 81920 bytes, the most that a row may have"),
    ]
    assert [bad.row for bad in rejected[:3]] == [["2"], ["3", "x", "y"], '4,"x"y\n']


def test_a_quote_that_is_never_closed_spoils_one_line(tmp_path: Path) -> None:
    rows, rejected = read(written(tmp_path / "a.csv", f'{ID},user_attributes.a\n1,"x\n2,y\n3,z\n'))
    assert rows == [(3, user("2", a="y")), (4, user("3", a="z"))]
    assert reasons(rejected) == [(2, "a quoted cell does not end")]


def test_typed_cells_become_what_they_are(tmp_path: Path) -> None:
    columns = {
        "mpid": "-9223372036854775808",
        "environment": "development",
        "device_info.ios_idfv": "0F0A-1",
        "device_info.limit_ad_tracking": "TRUE",
        "device_info.screen_width": "320",
        "consent_state.gdpr.ads.v2.consented": "false",
        "consent_state.gdpr.ads.v2.timestamp_unixtime_ms": "1700000000000",
        "consent_state.ccpa.data_sale_opt_out.consented": "1",
        "user_attributes.a.b": "5",
        "user_attributes.price": "5",
        "context.data_plan.plan_version": "3",
        "deleted_user_attributes": "color",
        "integration_attributes.44.id": "7",
    }
    content = ",".join(columns) + "\n" + ",".join(columns.values()) + "\n"
    [(_, document)], _ = read(written(tmp_path / "a.csv", content))
    assert document == {
        "mpid": "-9223372036854775808",
        "environment": "development",
        "device_info": {"ios_idfv": "0F0A-1", "limit_ad_tracking": True, "screen_width": 320},
        "consent_state": {
            "gdpr": {"ads.v2": {"consented": False, "timestamp_unixtime_ms": 1_700_000_000_000}},
            "ccpa": {"data_sale_opt_out": {"consented": True}},
        },
        "user_attributes": {"a.b": "5", "price": "5"},
        "context": {"data_plan": {"plan_version": 3}},
        "deleted_user_attributes": ["color"],
        "integration_attributes": {"44": {"id": "7"}},
    }


def test_a_cell_that_is_not_what_its_field_is_rejects_its_row(tmp_path: Path) -> None:
    content = (
        "mpid,device_info.is_tablet,device_info.screen_width,device_info.timezone_offset,consent_state\n"
        '1,yes,1,1,{}\n1,1,1.5,1,{}\n1,1,1,one,{}\n1,1,1,1,{\n1,1,1,1,4\n1,1,1,-5.5,"{""gdpr"": {}}"\n'
    )
    rows, rejected = read(written(tmp_path / "a.csv", content))
    assert [number for number, _ in rows] == [7]
    assert [(number, reason.partition(":")[0]) for number, reason in reasons(rejected)] == [
        (2, "device_info.is_tablet"),
        (3, "device_info.screen_width"),
        (4, "device_info.timezone_offset"),
        (5, "consent_state"),
        (6, "consent_state"),
    ]
    assert rejected[0].row == {
        "mpid": "1",
        "device_info.is_tablet": "yes",
        "device_info.screen_width": "1",
        "device_info.timezone_offset": "1",
        "consent_state": "{}",
    }


def test_objects_and_arrays_are_json(tmp_path: Path) -> None:
    content = f'{ID},user_attributes,deleted_user_attributes\n1,"{{""a"": [""x""], ""b"": null}}","[""c"", ""d""]"\n'
    [(_, document)], _ = read(written(tmp_path / "a.csv", content))
    assert document == user("1", a=["x"], b=None) | {"deleted_user_attributes": ["c", "d"]}  # type: ignore[arg-type]


def test_the_name_of_the_file_says_the_type_of_its_events(tmp_path: Path) -> None:
    head = f"{ID},events.data.event_name,events.data.custom_event_type,events.data.custom_attributes.a b"
    content = head + ",events.data.timestamp_unixtime_ms\n1,Bought,other,x,1700000000000\n2,,,,\n"
    rows, _ = read(written(tmp_path / "x-custom_event.csv", content), event_name="Seen", event_type="navigation")
    bought = {
        "event_name": "Bought",
        "custom_event_type": "other",
        "custom_attributes": {"a b": "x"},
        "timestamp_unixtime_ms": 1_700_000_000_000,
    }
    seen = {"event_name": "Seen", "custom_event_type": "navigation"}
    assert [document["events"] for _, document in rows] == [
        [{"event_type": "custom_event", "data": bought}],
        [{"event_type": "custom_event", "data": seen}],
    ]
    rows, _ = read(written(tmp_path / "x-screen_view.csv.gz", f"{ID},events.data.screen_name\n1,Home\n2,\n"))
    assert [document["events"][0] for _, document in rows] == [
        {"event_type": "screen_view", "data": {"screen_name": "Home"}},
        {"event_type": "screen_view", "data": {}},
    ]


def test_a_commerce_event_has_one_product(tmp_path: Path) -> None:
    action = "events.data.product_action"
    head = f"{ID},{action}.action,{action}.total_amount,{action}.products.id,{action}.products.price"
    head += f",{action}.products.quantity,{action}.products.custom_attributes.fit"
    content = f"{head}\n1,purchase,20.5,SKU-1,10.25,2,slim\n2,checkout,,,,,\n"
    rows, _ = read(written(tmp_path / "x-commerce_event.csv", content))
    product = {"id": "SKU-1", "price": 10.25, "quantity": 2, "custom_attributes": {"fit": "slim"}}
    assert [document["events"][0]["data"]["product_action"] for _, document in rows] == [
        {"action": "purchase", "total_amount": 20.5, "products": [product]},
        {"action": "checkout"},
    ]


def test_a_column_of_event_types_may_stand_for_the_name(tmp_path: Path) -> None:
    content = f"{ID},events.event_type,events.data.screen_name\n1,screen_view,Home\n2,session_start,\n"
    rows, _ = read(written(tmp_path / "a.csv", content))
    assert [document["events"] for _, document in rows] == [
        [{"event_type": "screen_view", "data": {"screen_name": "Home"}}],
        [{"event_type": "session_start", "data": {}}],
    ]


def test_of_columns_with_the_same_name_the_last_counts(tmp_path: Path) -> None:
    rows, _ = read(written(tmp_path / "a.csv", f"{ID},user_attributes.a,user_attributes.a\n1,x,y\n2,x,\n"))
    assert rows == [(2, user("1", a="y")), (3, user("2"))]


def test_names_of_columns_are_case_sensitive(tmp_path: Path) -> None:
    rows, _ = read(written(tmp_path / "a.csv", f"{ID},user_attributes.a,user_attributes.A\n1,x,y\n"))
    assert rows == [(2, user("1", a="x", A="y"))]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\n", "is empty"),
        ("a.csv", f"{ID},\n", "column 2 has no name"),
        ("a.csv", f"{ID};user_attributes.a\n", "separated by commas"),
        ("a.csv", f'"{ID}\n', "its header cannot be read: a quoted cell does not end"),
        ("a.csv", f"{ID},user_attributes.a\r1,2\r".encode(), "ends its lines with CR alone"),
        ("a.csv", f"{ID}\n1\n".encode("utf-16"), "is UTF-16"),
        ("a.csv", b"user_attributes.\xe9\n", "its header cannot be read: it is no UTF-8"),
        ("a.csv", f"{ID},Mpid\n", "'Mpid' is no field of a batch; did you mean mpid"),
        ("a.csv", "email,mpid\n", "'email' is no field of a batch; it may be user_identities.email"),
        ("a.csv", f"{ID},user_identities.custid\n", "did you mean user_identities.customerid"),
        ("a.csv", f"{ID},device_info.android_id\n", "'device_info.android_id' is no field"),
        ("a.csv", f"{ID},consent_state.pdpa.ads.consented\n", "'consent_state.pdpa' is no field"),
        ("a.csv", f"{ID},mpid.x\n", "make no batch: mpid"),
        ("a.csv", "user_attributes.a\n", "no column says whose the rows are"),
        ("a.csv", f"{ID},user_attributes,user_attributes.a\n", "Keep one of the two"),
        ("a.csv", f"{ID},user_attributes.a,user_attributes\n", "Keep it or them"),
        ("a.csv", f"{ID},events.data.event_name\n", "does not say of which type its events are"),
        ("a-eventless.csv", f"{ID},events.data.event_name\n", "ends in -eventless"),
        ("a-screen_view.csv", f"{ID},events\n", "has whole events"),
        ("a.csv", ID + "".join(f",user_attributes.{n}" for n in range(49)) + "\n", "more than 49 columns"),
    ],
)
def test_a_file_that_cannot_be_is_refused_before_any_row(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(BulkError, match=said):
        read(written(tmp_path / name, content))


def test_forty_nine_columns_are_not_too_many(tmp_path: Path) -> None:
    head = ID + "".join(f",user_attributes.{n}" for n in range(48))
    rows, _ = read(written(tmp_path / "a.csv", f"{head}\n{'1' + ',x' * 48}\n"))
    assert len(rows[0][1]["user_attributes"]) == 48


def test_reading_can_begin_after_any_row(tmp_path: Path) -> None:
    count = 2 * CHUNK_ROWS + 7
    body = "".join(f'{n},"a\nb"\n' for n in range(count))
    path = written(tmp_path / "a.csv", f"{ID},user_attributes.a\n{body}")
    every, _ = read(path)
    assert [number for number, _ in every] == [2 + 2 * n for n in range(count)]
    for after in (2, 1 + 2 * CHUNK_ROWS, 2 * CHUNK_ROWS, every[-1][0]):
        rows, _ = read(path, after)
        assert rows == [row for row in every if row[0] > after]


def test_a_zip_file_has_several_tables(tmp_path: Path) -> None:
    members = {
        "a-eventless.csv": f"{ID}\n1\n",
        "in/b-screen_view.csv": f"{ID},events.data.screen_name\n2,Home\n",
        "__MACOSX/in/._b-screen_view.csv": "litter",
        "in/.DS_Store": "litter",
    }
    rows, _ = read(zipped(tmp_path / "a.zip", members))
    assert [document["user_identities"]["customerid"] for _, document in rows] == ["1", "2"]
    rows, _ = read(zipped(tmp_path / "b-screen_view.zip", {"b.csv": f"{ID}\n1\n"}))
    assert rows[0][1]["events"] == [{"event_type": "screen_view", "data": {}}]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "has no CSV file in it"),
        ({"a.txt": ""}, r"a\.zip/a\.txt: a zip file may hold CSV"),
        ({"a.csv": ""}, r"a\.zip/a\.csv is empty"),
    ],
)
def test_a_zip_file_of_something_else_is_refused(tmp_path: Path, members: dict[str, str], said: str) -> None:
    with pytest.raises(BulkError, match=said):
        read(zipped(tmp_path / "a.zip", members))


def test_a_damaged_zip_file_is_told(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": f"{ID}\n" + "".join(f"{n**3}\n" for n in range(10_000))})
    content = path.read_bytes()
    for damaged in (content[:200], content[:2_000] + b"oneself" + content[2_007:], b"PK"):
        path.write_bytes(damaged)
        with pytest.raises(BulkError, match=r"a\.zip(/a\.csv)? is damaged"):
            read(path)


def test_an_encrypted_member_is_told(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.csv": f"{ID}\n1\n"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(BulkError, match=r"a\.zip/a\.csv is encrypted. Decrypt it first"):
        read(path)
