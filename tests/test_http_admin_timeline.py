"""A timeline shows what a user did, the latest first, as far as it is asked for, and looks at so much at a time."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from admin_world import NOW_MS, World, admin, event
from engines import flushed
from http_edge import BASIC
from oneself.http.admin import timeline as limits

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000
DAY_MS = 86_400_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def names(page: Any) -> list[list[str]]:
    """Return the names of the events of each batch."""
    return [[one["name"] for one in batch["events"]] for batch in page["batches"]]


async def every_page(world: World, mpid: str, **query: Any) -> list[Any]:
    """Return the pages of a timeline, from the first to the last."""
    pages = [await world.get(f"/users/{mpid}/timeline", **query)]
    while pages[-1]["next"] is not None:
        assert len(pages) < 500, "a timeline has an end"
        pages.append(await world.get(f"/users/{mpid}/timeline", **query | {"before": pages[-1]["next"]}))
    return pages


async def test_batches_come_latest_first_and_the_events_in_them_too(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        mpid = await world.identify(customerid="c-1")
        late = [event(name, NOW_MS - ago * MINUTE_MS) for name, ago in (("b", 2), ("c", 1), ("a", 3))]
        second = await world.take({"mpid": mpid, "events": late, "mp_deviceid": "d-1"})
        first = await world.take({"mpid": mpid, "events": [event("z", NOW_MS - DAY_MS)]})
        page = await world.get(f"/users/{mpid}/timeline")
        assert [batch["position"] for batch in page["batches"]] == [second, first]
        assert names(page) == [["c", "b", "a"], ["z"]]
        assert page["next"] is None
        batch = page["batches"][0]
        assert (batch["input"], batch["kind"], batch["device"]) == ("shop/server", "server", "d-1")
        assert batch["mpid"] == mpid
        assert (batch["at_ms"], batch["first_ms"]) == (NOW_MS - MINUTE_MS, NOW_MS - 3 * MINUTE_MS)
        assert (batch["received_ms"], batch["event_count"]) == (NOW_MS, 3)
        assert [one["index"] for one in batch["events"]] == [1, 0, 2]


async def test_the_raw_json_of_events_is_what_was_sent(tmp_path: Path) -> None:
    sent = event("Bought", source_message_id="m-1", custom_attributes={"n": 2**63 - 1, "x": 1.5, "t": None})
    purchase = {
        "event_type": "commerce_event",
        "data": {"product_action": {"action": "purchase", "total_amount": 9.5, "products": [{"name": "Hat"}]},
                 "timestamp_unixtime_ms": NOW_MS - 5},
    }  # fmt: skip
    document = {
        "user_identities": {"customerid": "c-1"}, "environment": "development", "ip": "192.0.2.7",
        "user_attributes": {"a": 1, "l": ["x"]}, "deleted_user_attributes": ["old"], "sdk_version": "1.2",
        "application_info": {"application_version": "3"}, "context": {"k": "v"}, "source_request_id": "r-1",
        "consent_state": {"gdpr": {"ads": {"consented": False, "timestamp_unixtime_ms": NOW_MS}}}, "odd": 1,
        "events": [sent, purchase, {"event_type": "nonsense"}],
    }  # fmt: skip
    async with admin(tmp_path) as world:
        position = await world.take(document)
        (batch,) = (await world.get(f"/users/{await world.mpid_of(position)}/timeline"))["batches"]
        assert [one["event"] for one in batch["events"]] == [purchase, sent]
        assert [(one["type"], one["name"], one["id"]) for one in batch["events"]] == [
            ("commerce_event", "purchase", ""), ("custom_event", "Bought", "m-1"),
        ]  # fmt: skip
        assert batch["quarantined"] == [
            {"index": 2, "reason": "event_type is not one that is known", "event": {"event_type": "nonsense"}}
        ]
        told = {name: batch[name] for name in ("environment", "ip", "sdk_version", "request_id", "identities")}
        assert told == {
            "environment": "development", "ip": "192.0.2.7", "sdk_version": "1.2", "request_id": "r-1",
            "identities": {"customerid": "c-1"},
        }  # fmt: skip
        assert (batch["user_attributes"], batch["deleted_user_attributes"]) == ({"a": "1", "l": ["x"]}, ["old"])
        assert (batch["application_info"], batch["context"]) == ({"application_version": "3"}, {"k": "v"})
        assert (batch["consent"][0]["purpose"], batch["consent"][0]["consented"]) == ("ads", False)
        assert batch["ignored"] == [{"field": "odd", "why": "unknown"}]


async def test_filters_leave_what_they_name(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        mpid = await world.identify(customerid="c-1")
        screen = {"event_type": "screen_view", "data": {"screen_name": "Home", "timestamp_unixtime_ms": NOW_MS - 1}}
        await world.take({"mpid": mpid, "mp_deviceid": "d-1", "events": [event("a", NOW_MS - 5 * DAY_MS)]})
        await world.page({"mpid": mpid, "mp_deviceid": "d-2", "events": [event("b", NOW_MS - 3 * DAY_MS), screen]})
        await world.take({"mpid": mpid, "user_attributes": {"a": "b"}, "timestamp_unixtime_ms": NOW_MS - DAY_MS})
        await world.take({"mpid": mpid, "events": [event("elsewhere")]}, "till")

        async def shown(**query: Any) -> list[list[str]]:
            return names(await world.get(f"/users/{mpid}/timeline", **query))

        assert await shown() == [["Home", "b"], [], ["a"]]
        assert await shown(input="web") == await shown(input="shop/web") == [["Home", "b"]]
        assert await shown(input="outlet/till") == await shown(input="nobody") == []
        assert await shown(device="d-1") == [["a"]]
        assert await shown(type="screen_view") == [["Home"]]
        assert await shown(type="commerce_event") == []
        assert await shown(name="a") == [["a"]]
        assert await shown(name="a", type="screen_view") == []
        assert await shown(from_=NOW_MS - 3 * DAY_MS) == [["Home", "b"], []]
        assert await shown(from_=NOW_MS - 3 * DAY_MS + 1) == [["Home"], []]
        assert await shown(to=NOW_MS - 3 * DAY_MS) == [["b"], ["a"]]
        assert await shown(from_=NOW_MS - 3 * DAY_MS, to=NOW_MS - 3 * DAY_MS) == [["b"]]
        outlet = await world.answer("GET", f"/users/{mpid}/timeline", workspace="outlet")
        assert names(outlet.json) == [["elsewhere"]]


async def test_times_are_dates_iso_times_or_unix_ms_in_utc(tmp_path: Path) -> None:
    noon = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
    async with admin(tmp_path) as world:
        mpid = await world.identify(customerid="c-1")
        await world.take({"mpid": mpid, "events": [event("noon", noon)]})
        for start, end, there in (
            ("2026-11-20", "2026-11-20", True),
            ("2026-11-21", "2026-11-22", False),
            ("2026-11-18", "2026-11-19", False),
            ("2026-11-20T12:00", "2026-11-20T12:00:00Z", True),
            ("2026-11-20T12:00:00.001", "2026-11-20T13:00", False),
            ("2026-11-20T13:00:00+01:00", "2026-11-20T07:00:00-05:00", True),
            ("2026-11-20T13:00:00.001+01:00", "2026-11-21", False),
            (str(noon), str(noon), True),
            (str(noon + 1), str(noon + 9), False),
        ):
            page = await world.get(f"/users/{mpid}/timeline", from_=start, to=end)
            assert bool(page["batches"]) is there, (start, end)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"from": "yesterday"}, "from (in the query): it must be a date"),
        ({"from": "99999999999999999999"}, "from (in the query): it must be a date"),
        ({"to": "2026-13-01"}, "to (in the query): it must be a date"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, "from (in the query): it is after to"),
        ({"type": "party"}, "type (in the query): it must be one of application_state_transition"),
        ({"limit": "101"}, "limit (in the query): it must be a whole number from 1 to 100"),
        ({"limit": "ten"}, "limit (in the query): it must be a whole number"),
        ({"before": "!"}, "before (in the query): it must be the next"),
        ({"before": "W10"}, "before (in the query): it must be the next"),
        ({"before": "WzEsMTAwMDAwMDAwMDAwMDAwMDAwMDBd"}, "before (in the query): it must be the next"),
        ({"before": "é"}, "before (in the query): it must be the next"),
        ({"form": "2026-01-01"}, "form (in the query): no such parameter is known here; there are: from, to"),
    ],
)
async def test_a_bad_parameter_is_named(tmp_path: Path, query: dict[str, str], told: str) -> None:
    async with admin(tmp_path) as world:
        mpid = await world.identify(customerid="c-1")
        answer = await world.answer("GET", f"/users/{mpid}/timeline", query=query)
        assert (answer.status, answer.message[: len(told)]) == (400, told)


async def test_pages_have_every_batch_once_whatever_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(limits, "_READ_AT_ONCE", 3)
    monkeypatch.setattr(limits, "MOST_ROWS", 40)
    monkeypatch.setattr(limits, "MOST_READ", 11)
    monkeypatch.setattr(limits, "MOST_EVENTS", 13)
    dice = random.Random(20_261_121)
    async with admin(tmp_path) as world:
        mpid = await world.identify(customerid="c-1")
        sent: dict[int, list[tuple[int, str]]] = {}
        for number in range(90):
            at_ms = NOW_MS - dice.randrange(20) * MINUTE_MS
            events = [
                (at_ms - dice.randrange(3) * MINUTE_MS, dice.choice("abc" if dice.random() < 0.9 else "r"))
                for _ in range(dice.randrange(4))
            ]
            document: dict[str, Any] = {"mpid": mpid, "events": [event(name, at) for at, name in events]}
            document |= {} if events else {"timestamp_unixtime_ms": at_ms, "user_attributes": {"n": number}}
            sent[await world.take(document)] = events
            if number == 45:
                await flushed(world.store)
        for query in ({}, {"name": "r"}, {"name": "a"}, {"type": "screen_view"}, {"from_": NOW_MS - 8 * MINUTE_MS},
                      {"to": NOW_MS - 8 * MINUTE_MS, "name": "b"}, {"input": "web"}):  # fmt: skip
            pages = await every_page(world, mpid, limit=dice.randrange(1, 9), **query)
            shown = [batch for page in pages for batch in page["batches"]]
            low, high = query.get("from_", 0), query.get("to", NOW_MS)
            wanted = {
                position: sorted(
                    (at, name) for at, name in events if low <= at <= high and query.get("name", name) == name
                )
                for position, events in sent.items()
                if "input" not in query and "type" not in query
            }
            eventless = set() if {"name", "type", "input"} & query.keys() else {at for at in sent if not sent[at]}
            got = {one["position"]: sorted((e["at_ms"], e["name"]) for e in one["events"]) for one in shown}
            assert len(got) == len(shown), "no batch twice"
            assert {at: events for at, events in got.items() if events} == {
                at: events for at, events in wanted.items() if events
            }
            assert {at for at, events in got.items() if not events} <= eventless
            places = [(one["at_ms"], one["position"]) for one in shown]
            assert places == sorted(places, reverse=True)
            if not query:
                assert {at for at, events in got.items() if not events} == eventless


async def test_one_request_looks_at_so_much_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with admin(tmp_path) as world:
        mpid = await world.identify(customerid="c-1")
        rare = await world.take({"mpid": mpid, "events": [event("rare", NOW_MS - DAY_MS)]})
        body = [{"mpid": mpid, "events": [event("common", NOW_MS - n)]} for n in range(100)]
        for _ in range(60):
            assert (await world.ask("POST", "/v2/bulkevents", body, dict(BASIC))).status == 202
        looked: list[int] = []
        read: list[int] = []
        activity, batches = world.store.activity, world.store.batches

        async def counted_activity(*args: Any, **named: Any) -> Any:
            rows = await activity(*args, **named)
            looked.append(len(rows))
            return rows

        async def counted_batches(positions: Any) -> Any:
            read.append(len(positions))
            return await batches(positions)

        monkeypatch.setattr(world.store, "activity", counted_activity)
        monkeypatch.setattr(world.store, "batches", counted_batches)
        pages = []
        query: dict[str, Any] = {"name": "rare"}
        while not pages or pages[-1]["next"] is not None:
            looked.clear()
            read.clear()
            pages.append(await world.get(f"/users/{mpid}/timeline", **query))
            assert sum(looked) <= limits.MOST_ROWS + 250
            assert sum(read) <= limits.MOST_READ + 25
            query["before"] = pages[-1]["next"]
        assert len(pages) > 10
        assert [batch["position"] for page in pages for batch in page["batches"]] == [rare]
        looked.clear()
        read.clear()
        page = await world.get(f"/users/{mpid}/timeline", to=NOW_MS - DAY_MS)
        assert [batch["position"] for batch in page["batches"]] == [rare]
        assert (sum(read), sum(looked)) == (1, 1), "a time is found without looking at what came after it"
