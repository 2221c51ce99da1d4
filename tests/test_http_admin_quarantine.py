"""What was set aside can be read with its reasons and taken in again, and never twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from admin_world import INPUTS, NOW_MS, SHOP, World, admin, event
from http_edge import BASIC
from oneself.engine import Call
from oneself.http.admin import quarantine as limits
from oneself.identity import Request, Upkeep

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio

BAD = {"event_type": "custom_event", "data": {"event_name": "Bought", "custom_event_type": "other",
                                              "timestamp_unixtime_ms": "soon"}}  # fmt: skip
NAMELESS = {"event_type": "screen_view", "data": {"timestamp_unixtime_ms": NOW_MS - 5}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def replayed(world: World, position: int, document: Any = None) -> Any:
    answer = await world.answer("POST", f"/quarantine/{position}/replay", document)
    assert answer.status == 200, answer.body
    return answer.json


async def events_of(world: World, mpid: str) -> list[str]:
    page = await world.get(f"/users/{mpid}/timeline", limit=100)
    return [one["name"] for batch in page["batches"] for one in batch["events"]]


def mended(document: Any, *, at_ms: int = NOW_MS - 9) -> Any:
    """Return a document whose bad events are good."""
    for one in document["events"]:
        one["data"]["timestamp_unixtime_ms"] = at_ms
        if one["event_type"] == "screen_view":
            one["data"]["screen_name"] = "Home"
    return document


# -- reading ------------------------------------------------------------------------------------------------------


async def test_what_was_set_aside_is_listed_the_latest_first(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        known = {"user_identities": {"customerid": "c-1"}}
        some = await world.take(known | {"events": [event(), BAD, NAMELESS]})
        whole = await world.page({"environment": "nowhere"})
        nobody = await world.page({"mpid": "17"})
        await world.take(known | {"events": [BAD]}, "till")
        page = await world.get("/quarantine")
        assert page == {
            "rows": [
                {"position": nobody, "input": "shop/web", "at_ms": NOW_MS, "whole": True, "events": 0,
                 "reason": "mpid: no user has the MPID 17."},
                {"position": whole, "input": "shop/web", "at_ms": NOW_MS, "whole": True, "events": 0,
                 "reason": "environment: must be production or development"},
                {"position": some, "input": "shop/server", "at_ms": NOW_MS, "whole": False, "events": 2,
                 "reason": "data.timestamp_unixtime_ms is not a time in milliseconds"},
            ],
            "next": None,
        }  # fmt: skip
        assert [row["position"] for row in (await world.get("/quarantine", input="server"))["rows"]] == [some]
        outlet = await world.answer("GET", "/quarantine", workspace="outlet")
        assert len(outlet.json["rows"]) == 1
        assert (await world.answer("GET", f"/quarantine/{some}", workspace="outlet")).status == 404


async def test_pages_have_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_ROWS_AT_ONCE", 5)
    monkeypatch.setattr(limits, "MOST_LOOKED_AT", 10)
    async with admin(tmp_path) as world:
        positions: dict[str, list[int]] = {"web": [], "server": []}
        for number in range(40):
            if number % 13 == 0:
                body = {"user_identities": {"customerid": "c"}, "events": [BAD]}
                positions["server"].append(await world.take(body))
            else:
                positions["web"].append(await world.page({"environment": number}))
        everything = sorted(positions["web"] + positions["server"])
        for query, wanted in (({}, everything), *(({"input": name}, of) for name, of in positions.items())):
            for limit in (1, 3, 7, 100):
                seen: list[int] = []
                before: dict[str, int] = {}
                for _ in range(100):
                    page = await world.get("/quarantine", limit=limit, **query, **before)
                    seen += [row["position"] for row in page["rows"]]
                    if page["next"] is None:
                        break
                    before = {"before": page["next"]}
                assert seen == wanted[::-1], (query, limit)


async def test_an_item_has_its_events_and_the_document_that_a_replay_takes_in(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        document = {
            "environment": "development", "mp_deviceid": "d-1", "events": [event(), BAD, NAMELESS, 7],
            "user_identities": {"customerid": "c-1"}, "user_attributes": {"a": "b"}, "sdk_version": "1",
            "application_info": {"application_version": "3"}, "context": {"k": "v"}, "ip": "192.0.2.7",
        }  # fmt: skip
        position = await world.take(document)
        item = await world.get(f"/quarantine/{position}")
        mpid = await world.mpid_of(position)
        assert (item["input"], item["kind"], item["whole"], item["mpid"]) == ("shop/server", "server", False, mpid)
        assert item["events"] == [
            {"index": 1, "reason": "data.timestamp_unixtime_ms is not a time in milliseconds", "event": BAD},
            {"index": 2, "reason": "data.screen_name is missing", "event": NAMELESS},
            {"index": 3, "reason": "an event must be an object", "event": 7},
        ]
        assert item["document"] == {
            "environment": "development", "mp_deviceid": "d-1", "mpid": mpid, "events": [BAD, NAMELESS, 7],
            "sdk_version": "1", "application_info": {"application_version": "3"}, "context": {"k": "v"},
        }  # fmt: skip
        assert item["attempts"] == []
        whole = await world.page([{"n": 2**60}])
        item = await world.get(f"/quarantine/{whole}")
        assert (item["whole"], item["document"], item["events"]) == (True, [{"n": 2**60}], [])
        assert item["reason"] == "a batch must be an object"


async def test_what_was_not_set_aside_is_404(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        good = await world.take({"user_identities": {"customerid": "c-1"}, "events": [event()]})
        assert (await world.send({"mpid": "1"})).status == 400
        refused = world.store.position
        await world.identify(customerid="c-2")
        for position in (good, refused, world.store.position, 10**6, 2**53):
            for method, more in (("GET", ""), ("POST", "/replay")):
                assert (await world.answer(method, f"/quarantine/{position}{more}")).status == 404
        for position in ("0", "-1", "x", "1.0", str(2**53 + 1), "9" * 40):
            answer = await world.answer("GET", f"/quarantine/{position}")
            assert (answer.status, answer.message[:22]) == (400, "position (in the path)")


# -- taking in again ----------------------------------------------------------------------------------------------


async def test_mended_events_join_their_user_once(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        known = {"user_identities": {"customerid": "c-1"}, "mp_deviceid": "d-1"}
        position = await world.take(known | {"events": [event("a"), BAD, NAMELESS]})
        mpid = await world.mpid_of(position)
        item = await world.get(f"/quarantine/{position}")
        first = await replayed(world, position, mended(item["document"]))
        assert first == {
            "outcome": "accepted", "position": world.store.position, "mpid": mpid, "events": 2, "quarantined": [],
            "reason": "",
        }  # fmt: skip
        assert sorted(await events_of(world, mpid)) == ["Bought", "Home", "a"]
        (batch, *_) = (await world.get(f"/users/{mpid}/timeline"))["batches"]
        assert (batch["input"], batch["device"], batch["received_ms"]) == ("shop/server", "d-1", NOW_MS)
        before = world.store.position
        for body in (None, item["document"], mended(item["document"], at_ms=NOW_MS - 1)):
            again = await replayed(world, position, body)
            assert (again["outcome"], again["position"]) == ("already_replayed", first["position"])
        assert world.store.position == before
        assert sorted(await events_of(world, mpid)) == ["Bought", "Home", "a"]
        (attempt,) = (await world.get(f"/quarantine/{position}"))["attempts"]
        assert (attempt["position"], attempt["outcome"]) == (first["position"], "taken")


async def test_replays_at_once_apply_once(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        position = await world.take({"user_identities": {"customerid": "c-1"}, "events": [BAD]})
        document = mended((await world.get(f"/quarantine/{position}"))["document"])
        told = await asyncio.gather(*[replayed(world, position, document) for _ in range(8)])
        assert sorted(one["outcome"] for one in told) == ["accepted"] + ["already_replayed"] * 7
        assert len({one["position"] for one in told}) == 1
        assert await events_of(world, await world.mpid_of(position)) == ["Bought"]


async def test_what_still_cannot_be_used_stays_where_it_is(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        events = await world.take({"user_identities": {"customerid": "c-1"}, "events": [BAD, NAMELESS]})
        whole = await world.page({"environment": "nowhere"})
        listed = await world.get("/quarantine")
        told = await replayed(world, events)
        assert (told["outcome"], told["reason"]) == (
            "set_aside", "data.timestamp_unixtime_ms is not a time in milliseconds",
        )  # fmt: skip
        assert [one["index"] for one in told["quarantined"]] == [0, 1]
        told = await replayed(world, whole)
        assert (told["outcome"], told["reason"]) == ("set_aside", "environment: must be production or development")
        told = await replayed(world, whole, {"environment": "production", "mpid": "17"})
        assert (told["outcome"], told["reason"]) == ("set_aside", "mpid: no user has the MPID 17.")
        told = await replayed(world, whole, {"environment": "production"})
        assert (told["outcome"], told["reason"][:31]) == ("set_aside", "user_identities and device_info")
        assert await world.get("/quarantine") == listed
        attempts = (await world.get(f"/quarantine/{whole}"))["attempts"]
        assert [one["outcome"] for one in attempts] == ["refused", "refused"]
        mended_ = {"user_identities": {"customerid": "c-9"}}
        told = await replayed(world, whole, mended_)
        assert (told["outcome"], told["events"]) == ("accepted", 0)
        assert (await replayed(world, whole, mended_))["outcome"] == "already_replayed"


async def test_of_some_events_those_that_are_good_are_taken_and_the_others_set_aside_anew(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        position = await world.take({"user_identities": {"customerid": "c-1"}, "events": [BAD, NAMELESS]})
        document = (await world.get(f"/quarantine/{position}"))["document"]
        document["events"][0]["data"]["timestamp_unixtime_ms"] = NOW_MS - 1
        told = await replayed(world, position, document)
        assert (told["outcome"], told["events"]) == ("accepted", 1)
        assert [(one["index"], one["reason"]) for one in told["quarantined"]] == [(1, "data.screen_name is missing")]
        rest = mended((await world.get(f"/quarantine/{told['position']}"))["document"])
        assert (await replayed(world, told["position"], rest))["events"] == 1
        assert await events_of(world, await world.mpid_of(position)) == ["Bought", "Home"]


async def test_a_whole_document_is_taken_in_as_it_was_once_it_can_be(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        mpid = "7000000000001234567"
        document = {"mpid": mpid, "source_request_id": "r-1", "events": [event("a", source_message_id="m-1")],
                    "user_attributes": {"a": "b"}, "environment": "production"}  # fmt: skip
        position = await world.page(document)
        assert (await replayed(world, position))["outcome"] == "set_aside"
        made = await world.identify(customerid="c-1")
        told = await replayed(world, position, document | {"mpid": made})
        assert (told["outcome"], told["mpid"], told["events"]) == ("accepted", made, 1)
        assert await events_of(world, made) == ["a"]
        (batch,) = (await world.get(f"/users/{made}/timeline"))["batches"]
        assert (batch["input"], batch["request_id"]) == ("shop/web", f"replay:{position}:2")


async def test_the_inputs_present_settings_count(tmp_path: Path) -> None:
    trial = next(one for one in INPUTS if one.name == "trial")
    async with admin(tmp_path) as world:
        await world.identify(customerid="c-1")
        body = {"user_identities": {"customerid": "c-1"}, "mp_deviceid": "d-1", "events": [BAD]}
        position = await world.take(body, "trial")
        gone = await world.take(body, "feed")
        nobody = await world.page({"environment": "nowhere"})
    changed = [msgspec.structs.replace(trial, protection="create_and_update")]
    changed += [
        msgspec.structs.replace(one, protection="only_update") if one.name == "web" else one
        for one in INPUTS
        if one.name not in ("trial", "feed")
    ]
    async with admin(tmp_path, inputs=tuple(changed)) as world:
        item = await world.get(f"/quarantine/{position}")
        assert item["document"] == {
            "environment": "production", "user_identities": {"customerid": "c-1"}, "mp_deviceid": "d-1",
            "events": [BAD],
        }  # fmt: skip
        told = await replayed(world, position, mended(item["document"]))
        assert (told["outcome"], told["events"]) == ("accepted", 1)
        assert await events_of(world, told["mpid"]) == ["Bought"]
        told = await replayed(world, gone)
        assert (told["outcome"], told["reason"]) == ("set_aside", "the input shop/feed is no longer configured")
        for _ in range(2):
            told = await replayed(world, nobody, {"user_identities": {"customerid": "c-2"}})
            assert told["outcome"] == "dropped"
        await world.identify(customerid="c-2")
        assert (await replayed(world, nobody, {"user_identities": {"customerid": "c-2"}}))["outcome"] == "accepted"


async def test_events_whose_names_were_too_many_come_in_once_there_is_room(tmp_path: Path) -> None:
    few = msgspec.structs.replace(SHOP, max_event_names=1)
    async with admin(tmp_path, workspaces=(few,), inputs=INPUTS[:4]) as world:
        events = [event("a", source_message_id="m-1"), event("b", source_message_id="m-2")]
        position = await world.take({"user_identities": {"customerid": "c-1"}, "events": events})
        mpid = await world.mpid_of(position)
        assert (await replayed(world, position))["quarantined"][0]["reason"][:14] == "too_many_names"
        assert await events_of(world, mpid) == ["a"]
    more = msgspec.structs.replace(SHOP, max_event_names=2)
    async with admin(tmp_path, workspaces=(more,), inputs=INPUTS[:4]) as world:
        position = (await world.get("/quarantine"))["rows"][0]["position"]
        assert (await replayed(world, position))["outcome"] == "accepted"
        assert sorted(await events_of(world, mpid)) == ["a", "b"]


async def test_a_replay_is_the_same_after_a_restart(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        position = await world.take({"user_identities": {"customerid": "c-1"}, "events": [BAD]})
        document = mended((await world.get(f"/quarantine/{position}"))["document"])
        first = await replayed(world, position, document)
    async with admin(tmp_path) as world:
        again = await replayed(world, position, document)
        assert (again["outcome"], again["position"]) == ("already_replayed", first["position"])


async def test_a_batch_that_was_too_large_to_be_kept_has_to_be_sent_along(tmp_path: Path) -> None:
    small = msgspec.structs.replace(SHOP, max_batch_bytes=1024)
    async with admin(tmp_path, workspaces=(small,), inputs=INPUTS[:4]) as world:
        large = {"user_identities": {"customerid": "c-1"}, "user_attributes": {"a": "x" * 2000}}
        assert (await world.ask("POST", "/v2/bulkevents", [large], dict(BASIC))).status == 202
        position = world.store.position
        assert (await world.get(f"/quarantine/{position}"))["document"] is None
        told = await replayed(world, position)
        assert (told["outcome"], told["reason"][:20]) == ("set_aside", "it was too large to ")
        answer = await world.answer("POST", f"/quarantine/{position}/replay", large)
        assert answer.status == 413
        assert (await replayed(world, position, large | {"user_attributes": {"a": "x"}}))["outcome"] == "accepted"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "body: it is not JSON"),
        (b"[]", "a batch must be an object"),
        (json.dumps({"environment": "nowhere"}).encode(), "environment: must be production or development"),
        (b"null", "a batch must be an object"),
        (json.dumps({"user_identities": {"email": "a\0"}}).encode(), "user_identities.email: it has a NUL"),
    ],
)
async def test_a_body_that_is_no_batch_is_refused(tmp_path: Path, body: bytes, told: str) -> None:
    async with admin(tmp_path) as world:
        position = await world.page({"environment": "nowhere"})
        answer = await world.answer("POST", f"/quarantine/{position}/replay", body)
        assert (answer.status, answer.message[: len(told)]) == (400, told)
        assert (await world.get(f"/quarantine/{position}"))["attempts"] == []


async def test_so_many_attempts_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_ATTEMPTS", 3)
    async with admin(tmp_path) as world:
        position = await world.page({"environment": "nowhere"})
        for _ in range(3):
            assert (await replayed(world, position, {"mpid": "17"}))["reason"] == "mpid: no user has the MPID 17."
        told = await replayed(world, position, {"user_identities": {"customerid": "c"}})
        assert told["reason"] == "it was tried 3 times; send it as a batch of its input"


async def test_what_is_older_than_request_ids_are_remembered_is_not_replayed(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        position = await world.take({"user_identities": {"customerid": "c-1"}, "events": [BAD]})
        document = mended((await world.get(f"/quarantine/{position}"))["document"])
        assert (await replayed(world, position, document))["outcome"] == "accepted"
        upkeep = Request("forget", upkeep=Upkeep(through=world.store.position))
        await world.engine.submit(Call("acme/production", "/retention", upkeep))
        told = await replayed(world, position, document)
        assert (told["outcome"], told["reason"][:47]) == (
            "set_aside",
            "it is older than request ids are remembered, so",
        )
        assert await events_of(world, await world.mpid_of(position)) == ["Bought"]
