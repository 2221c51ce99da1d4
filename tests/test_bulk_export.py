"""What is exported is what is stored, and imported again it makes the same profiles."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from msgspec.structs import replace

from bulk_files import json_lines, written
from bulk_world import Desk
from engines import flushed, store_at
from oneself.bulk import BulkError, Exported, Selection, batches, profiles
from oneself.bulk.shapes import batch_document
from oneself.bulk.writers import BATCHES, PROFILES, Columns
from oneself.bulk.writers import json_lines as lines_writer
from oneself.bulk.writers import parquet as parquet_writer
from oneself.engine import Call
from oneself.engine.engine import clock_ms
from oneself.identity import Request
from oneself.profiles import Source, read_batch
from oneself.store import Store
from profile_world import NOW_MS, STAMP, change, custom, web_batch
from test_profiles_convergence import DOCUMENTS, SOURCES

BOTH_ENGINES = True

Walk = Callable[[Store, Selection], AsyncIterator[Exported]]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk at an empty folder."""
    return Desk(tmp_path / "first")


def walked(desk: Desk, walk: Walk, **selected: Any) -> list[dict[str, Any]]:
    """Return the documents of a walk through a folder, as JSON has them."""
    return [one.document for one in asyncio.run(_walked(desk, walk, **selected))]


async def _walked(desk: Desk, walk: Walk, **selected: Any) -> list[Exported]:
    selected.setdefault("now_ms", clock_ms())
    store = store_at(desk.folder / "data", read_only=True)
    await store.open()
    try:
        selection = Selection(workspace=desk.config.workspaces[0], **selected)
        return [one async for one in walk(store, selection)]
    finally:
        await store.close()


def server_batches() -> list[dict[str, Any]]:
    """Return batches that together have all that a batch can have, of three users in an order that matters."""
    consent = {"gdpr": {"ads": {"consented": True, "timestamp_unixtime_ms": NOW_MS - 5, "document": "v3"}}}
    return [
        {
            "user_identities": {"customer_id": "C-1", "email": "a@example.com", "other_id_2": "o"},
            "user_attributes": {"plan": "free", "$City": "Rome", "tags": ["a", "b"], "member": None, "size": 4},
            "consent_state": consent | {"ccpa": {"data_sale_opt_out": {"consented": False}}},
            "device_info": {
                "platform": "iOS",
                "ios_idfv": "0F0A-1",
                "ios_advertising_id": "00000000-0000-0000-0000-000000000000",
                "screen_width": 320,
                "att_authorization_status": "denied",
                "att_timestamp_unixtime_ms": NOW_MS - 60_000,
            },
            "ip": "192.0.2.7",
            "events": [
                custom("Seen", NOW_MS - 500, source_message_id="m-1"),
                custom("Undated", None),
                {"event_type": "opt_out", "data": {"is_opted_out": True, "timestamp_unixtime_ms": NOW_MS}},
                {"event_type": "push_registration", "data": {"register": True, "registration_token": "t-1"}},
            ],
        },
        {
            "source_request_id": "r-1",
            "user_identities": {"customer_id": "C-2"},
            "user_attributes": {"plan": "pro"},
            "attribution_info": {"publisher": "P", "campaign": "C", "service_provider": "S"},
            "application_info": {"install_referrer": "ref", "application_version": "7"},
            "context": {"data_plan": {"plan_id": "p"}},
            "integration_attributes": {"44": {"a": "b"}},
            "mp_deviceid": STAMP,
            "events": [{"event_type": "first_run", "data": {"timestamp_unixtime_ms": NOW_MS - 9}}],
            "environment": "development",
        },
        {"user_identities": {"customer_id": "C-1"}, "user_attributes": {"plan": "gold"}},
        {
            "user_identities": {"customer_id": "C-1"},
            "deleted_user_attributes": ["tags", "absent"],
            "user_attributes": {"plan": "gone"},
        },
        {
            "user_identities": {"email": "b@example.com"},
            "timestamp_unixtime_ms": NOW_MS,
            "device_info": {"amp_id": "0"},
        },
        {
            "user_identities": {"email": "b@example.com"},
            "events": [{"event_type": "what"}, custom("Late", NOW_MS - 90_000_000)],
        },
    ]


def web_batches() -> list[dict[str, Any]]:
    """Return batches of a web page, whose attributes are written by change events."""
    first = web_batch()
    del first["mpid"]
    first["user_identities"] = {"customer_id": "C-1"}
    later = {
        "source_request_id": "r-9",
        "user_identities": {"customer_id": "C-1"},
        "ip": "192.0.2.9",
        "environment": "development",
        "events": [change("plan", "web", NOW_MS), change("plan", None, NOW_MS + 1, deleted=True)],
    }
    return [first, later]


def filled(desk: Desk, folder: Path) -> None:
    """Import batches by a server's input and by a web page's."""
    desk.take(written(folder / "server.jsonl", json_lines(server_batches())))
    desk.take(written(folder / "web.jsonl", json_lines(web_batches())), input="shop/web")


def comparable(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return exported profiles without what differs between two stores: the MPID, and when data arrived there."""
    made = []
    for document in documents:
        one = {name: value for name, value in document.items() if name not in ("mpid", "last_stored_timestamp_ms")}
        if one["workspace"] is not None:
            one["workspace"] = {name: value for name, value in one["workspace"].items() if name != "stored_ms"}
        made.append(one)
    return sorted(made, key=lambda one: json.dumps(one["user_identities"]) + one["environment"])


def again(desk: Desk, folder: Path, format_: str) -> Desk:
    """Export the events of a folder, input by input, and import them into another."""
    other = Desk(folder / "second")
    by_input = {name: walked(desk, batches, input=name) for name in ("shop/server", "shop/web")}
    for name, documents in by_input.items():
        path = folder / f"{name.partition('/')[2]}-again.{format_}"
        write(path, documents, BATCHES)
        counts = other.take(path, input=name)
        assert (counts.taken, counts.rejected, counts.set_aside) == (len(documents), 0, 0)
    return other


def write(path: Path, documents: list[dict[str, Any]], columns: Columns) -> None:
    """Write documents as the format that a name ends in."""
    with parquet_writer(path, columns) if path.suffix == ".parquet" else lines_writer(path) as writer:
        for document in documents:
            writer.write(document)


@pytest.mark.parametrize("format_", ["jsonl", "jsonl.gz", "parquet"])
def test_what_is_exported_and_imported_again_makes_the_same_profiles(
    desk: Desk, tmp_path: Path, format_: str
) -> None:
    filled(desk, tmp_path)
    other = again(desk, tmp_path, format_)
    before, after = comparable(walked(desk, profiles)), comparable(walked(other, profiles))
    assert len(before) == 4
    assert after == before
    assert all(document["workspace"] for document in before)


def test_a_second_round_changes_nothing_any_more(desk: Desk, tmp_path: Path) -> None:
    filled(desk, tmp_path)
    other = again(desk, tmp_path, "jsonl")

    def bare(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        own = ("origin_mpid", "source_request_id", "batch_id")
        return [{name: value for name, value in one.items() if name not in own} for one in documents]

    for name in ("shop/server", "shop/web"):
        assert bare(walked(other, batches, input=name)) == bare(walked(desk, batches, input=name))


def test_events_that_have_an_id_are_not_doubled_where_they_came_from(desk: Desk, tmp_path: Path) -> None:
    desk.take(written(tmp_path / "a.jsonl", json_lines(server_batches())))
    before = walked(desk, batches)
    path = tmp_path / "exported.jsonl"
    write(path, before, BATCHES)
    counts = desk.take(path)
    assert (counts.taken, counts.repeated) == (6, 6)
    assert walked(desk, batches) == before


def test_a_profile_has_what_the_profile_api_gives_and_what_the_workspace_knows(desk: Desk, tmp_path: Path) -> None:
    filled(desk, tmp_path)
    [one] = [
        one
        for one in walked(desk, profiles)
        if {"type": "email", "encoding": "none", "value": "a@example.com"} in one["user_identities"]
    ]
    assert type(one["mpid"]) is int
    assert one["environment"] == "production"
    assert one["user_attributes"] == {"$city": "Rome", "plan": "gone", "member": None, "size": "4"}
    assert one["is_opted_out"]
    assert one["limit_ad_tracking"] is True
    assert one["ip"] == "192.0.2.7"
    assert one["consent_state"]["gdpr"]["ads"] == {
        "consented": True,
        "timestamp_unixtime_ms": NOW_MS - 5,
        "document": "v3",
    }
    assert one["workspace"]["inputs"].keys() == {"shop/server"}
    [device] = one["devices"]
    assert device["info"]["ios_idfv"] == "0F0A-1"
    assert "ios_advertising_id" not in device["info"]
    assert device["att"] == {"status": "denied", "at_ms": NOW_MS - 60_000}
    assert device["push_tokens"] == {"t-1": True}


def test_parquet_has_the_same_with_json_for_what_is_nested(desk: Desk, tmp_path: Path) -> None:
    filled(desk, tmp_path)
    for walk, columns in ((profiles, PROFILES), (batches, BATCHES)):
        documents = walked(desk, walk)
        path = tmp_path / "out.parquet"
        write(path, [dict(document) for document in documents], columns)
        rows = pq.read_table(path).to_pylist()
        assert len(rows) == len(documents)
        for row, document in zip(rows, documents, strict=True):
            for name, kind in columns.items():
                value = row[name] if kind != "json" or row[name] is None else json.loads(row[name])
                assert value == json.loads(json.dumps(document.get(name))), name
            assert document.keys() - columns.keys() <= {"account_userattributes"}


def test_what_is_selected_by_time_environment_and_input(desk: Desk, tmp_path: Path) -> None:
    filled(desk, tmp_path)
    every = walked(desk, batches)
    assert [one["batch_id"] for one in every] == list(range(1, 9))
    times = sorted(one["timestamp_unixtime_ms"] for one in every)
    cut = times[4]
    early = walked(desk, batches, to_ms=cut)
    late = walked(desk, batches, from_ms=cut)
    assert early
    assert late
    assert sorted(one["batch_id"] for one in early + late) == list(range(1, 9))
    assert max(one["timestamp_unixtime_ms"] for one in early) < cut
    assert {one["environment"] for one in walked(desk, batches, environments=("development",))} == {"development"}
    assert [one["batch_id"] for one in walked(desk, batches, input="shop/web")] == [7, 8]
    assert [one["environment"] for one in walked(desk, profiles, environments=("development",))] == [
        "development"
    ] * 2
    seen = [one["last_seen_ms"] for one in walked(desk, profiles)]
    assert len(walked(desk, profiles, from_ms=max(seen))) == seen.count(max(seen))
    assert walked(desk, profiles, to_ms=min(seen)) == []


def test_what_is_kept_no_longer_is_not_exported(desk: Desk, tmp_path: Path) -> None:
    filled(desk, tmp_path)
    workspace = desk.config.workspaces[0]
    for now_ms, count in ((clock_ms(), 4), (clock_ms() + workspace.profile_lifetime_ms + 60_000, 0)):
        assert len(walked(desk, profiles, now_ms=now_ms)) == count
    for now_ms, count in ((clock_ms(), 8), (clock_ms() + workspace.data_retention_ms + 60_000, 0)):
        assert len(walked(desk, batches, now_ms=now_ms)) == count


def test_profiles_without_batches_are_exported_too(desk: Desk) -> None:
    async def identify() -> None:
        async with desk.engine() as engine:
            for number in range(2_500):
                request = Request("identify", {"customerid": f"C-{number}"})
                if number % 500 == 0:
                    await flushed(engine.store)
                await engine.submit(Call("shop/production", "shop/server", request))

    asyncio.run(identify())
    found = walked(desk, profiles)
    values = {identity["value"] for one in found for identity in one["user_identities"]}
    assert values == {f"C-{number}" for number in range(2_500)}
    mpids = [one["mpid"] for one in found]
    assert mpids == sorted(set(mpids))
    assert {one["workspace"] for one in found} == {None}
    assert all(one["created_timestamp_ms"] == one["last_seen_ms"] > NOW_MS for one in found)
    shares = [one.share for one in asyncio.run(_walked(desk, profiles))]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1


def test_a_profile_with_many_identities_and_devices_is_exported_whole(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy="max_values_per_profile = 0\n")
    rows = [
        {"user_identities": {"customer_id": "C-1"}, "device_info": {"ios_idfv": f"F-{n}", "platform": "iOS"}}
        for n in range(1_200)
    ]
    desk.take(written(tmp_path / "a.jsonl", json_lines(rows)))
    [one] = walked(desk, profiles)
    assert {device["info"]["ios_idfv"] for device in one["devices"]} == {f"F-{n}" for n in range(1_200)}
    assert len(one["devices"]) == 1_200
    assert len({identity["value"] for identity in one["device_identities"]}) > 8


def test_the_read_only_store_sees_what_its_tables_lack(desk: Desk, tmp_path: Path) -> None:
    async def look() -> tuple[list[Exported], list[Exported]]:
        async with desk.engine():  # the folder is being served
            return await _walked(desk, profiles), await _walked(desk, batches)

    filled(desk, tmp_path)
    found, sent = asyncio.run(look())
    assert (len(found), len(sent)) == (4, 8)


@given(DOCUMENTS, SOURCES)
def test_a_batch_that_is_sent_again_reads_as_it_did(document: dict[str, Any], source: Source) -> None:
    ip = document["ip"] if source.platform else ""
    batch, _ = read_batch(document, source, NOW_MS, ip=ip)
    made = batch_document(7, 5, batch)
    sent = json.loads(json.dumps(made))
    assert (sent.pop("origin_mpid"), sent.pop("batch_id")) == (5, 7)
    again, quarantined = read_batch(
        sent, source, NOW_MS + 9_000_000, ip=sent.get("ip", "") if source.platform else ""
    )
    assert not quarantined
    assert replace(again, received_ms=NOW_MS, ignored=()) == replace(batch, ignored=())


# -- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_file_is_there_when_all_is_written_or_not_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("before")
    with pytest.raises(TypeError):
        write(path, [{"mpid": 1}, {"mpid": 2, "devices": [object()]}], PROFILES)
    assert path.read_text() == "before"
    write(path, [{"mpid": 1}], PROFILES)
    assert sorted(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600
    match path.suffix:
        case ".gz":
            assert gzip.decompress(path.read_bytes()) == b'{"mpid":1}\n'
        case ".jsonl":
            assert path.read_bytes() == b'{"mpid":1}\n'
        case _:
            assert pq.read_table(path, columns=["mpid"]).to_pylist() == [{"mpid": 1}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(BulkError, match=r"cannot be written: No such file"):
        write(tmp_path / "absent" / name, [], PROFILES)
