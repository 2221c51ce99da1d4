"""The admin API finds every user who holds an identity, and shows all that is known of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from admin_world import NOW_MS, OTHER, OUTLET, POLICY, SHOP, admin, event
from oneself.http.admin import users as search_limits
from oneself.identity import build

BOTH_ENGINES = True

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def mpids(answer: Any) -> list[str]:
    return [user["mpid"] for user in answer["users"]]


# -- who may look -------------------------------------------------------------------------------------------------

PATHS = ("", "/users?value=a", "/users/1", "/users/1/devices", "/users/1/timeline", "/users/1/aliases")
PATHS += ("/live?seconds=0",)
ADMIN_PATHS = ("/quarantine", "/quarantine/1")


@pytest.mark.parametrize("path", [*PATHS[1:], *ADMIN_PATHS])
async def test_a_workspace_of_others_looks_like_none(tmp_path: Path, path: str) -> None:
    async with admin(tmp_path) as world:
        stranger = await world.answer("GET", path, client="stranger")
        nowhere = await world.answer("GET", path, client="stranger", workspace="nowhere")
        assert (stranger.status, nowhere.status) == (404, 404)
        assert stranger.message == nowhere.message


@pytest.mark.parametrize("path", [*PATHS, *ADMIN_PATHS])
async def test_a_token_is_needed(tmp_path: Path, path: str) -> None:
    async with admin(tmp_path) as world:
        target = f"/admin/workspaces{'/shop' if path else ''}{path}"
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic YTpi"}):
            answer = await world.ask("GET", target, headers=headers)
            assert (answer.status, answer.headers["www-authenticate"][:6]) == (401, "Bearer")


async def test_looking_takes_search_read_or_admin_and_the_quarantine_admin(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        for path in (*PATHS[1:], *ADMIN_PATHS):
            assert (await world.answer("GET", path, client="reader")).status == 403
        for path in PATHS[1:]:
            assert (await world.answer("GET", path, client="looker")).status in (200, 404)
        for path in ADMIN_PATHS:
            assert (await world.answer("GET", path, client="looker")).status == 403
        assert (await world.answer("POST", "/quarantine/1/replay", client="looker")).status == 403
        headers = await world.headers("reader")
        assert (await world.ask("GET", "/admin/workspaces", headers=headers)).status == 403


async def test_no_cache_keeps_an_answer(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        answer = await world.answer("GET", "/users", query={"value": "a"})
        assert answer.headers["cache-control"] == "no-store"


# -- searching ----------------------------------------------------------------------------------------------------


async def test_a_search_finds_every_user_who_holds_the_value_whatever_its_type(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        first = await world.identify(customerid="4155550100")
        second = await world.identify(other="4155550100")
        third = await world.identify(mobile_number="+14155550100")
        await world.identify(customerid="41555501001")
        found = await world.get("/users", value="4155550100")
        assert mpids(found) == [third, second, first]  # those linked last first
        assert [user["matched"] for user in found["users"]] == [["mobile_number"], ["other"], ["customerid"]]
        assert found["more"] is False
        assert mpids(await world.get("/users", value="4155550100", type="other")) == [second]
        assert mpids(await world.get("/users", value="(415) 555-0100", type="mobile_number")) == [third]
        assert mpids(await world.get("/users", value="nobody")) == []


async def test_values_are_compared_as_their_type_is(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        ana = await world.identify(email="Ana@Example.com")
        assert mpids(await world.get("/users", value=" ANA@example.com ")) == [ana]
        assert mpids(await world.get("/users", value="ANA@example.com", type="customerid")) == []


async def test_a_search_takes_an_mpid_as_a_value_or_by_itself(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        ana = await world.identify(email="ana@example.com")
        bob = await world.identify(other=ana)
        assert mpids(await world.get("/users", mpid=ana)) == [ana]
        assert set(mpids(await world.get("/users", value=ana))) == {ana, bob}
        assert mpids(await world.get("/users", value=ana, type="other")) == [bob]
        assert mpids(await world.get("/users", mpid=1)) == []


async def test_a_search_tells_environments_apart(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        batch = {"user_identities": {"customerid": "c-1"}}
        live = await world.mpid_of(await world.take(batch))
        test = await world.mpid_of(await world.take(batch | {"environment": "development"}))
        assert mpids(await world.get("/users", value="c-1")) == [test, live]
        assert mpids(await world.get("/users", value="c-1", environment="production")) == [live]
        assert mpids(await world.get("/users", value="c-1", environment="development")) == [test]
        found = await world.get("/users", value="c-1")
        assert [user["environment"] for user in found["users"]] == ["development", "production"]


async def test_a_search_finds_nobody_of_another_scope(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        theirs = await world.mpid_of(await world.take({"user_identities": {"customerid": "c-1"}}, "server"))
        answer = await world.answer("GET", "/users", client="stranger", workspace="other", query={"mpid": theirs})
        assert answer.json["users"] == []
        answer = await world.answer("GET", f"/users/{theirs}", client="stranger", workspace="other")
        assert answer.status == 404


async def test_what_is_listed_of_a_user(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        position = await world.take({
            "user_identities": {"customerid": "c-1", "email": "ana@example.com"},
            "events": [event(at_ms=NOW_MS - 3 * HOUR_MS), event(at_ms=NOW_MS - HOUR_MS)],
        })  # fmt: skip
        mpid = await world.mpid_of(position)
        anonymous = await world.identify(device_application_stamp="d-1")
        found = await world.get("/users", value="c-1")
        assert found["users"] == [{
            "mpid": mpid, "environment": "production", "known": True, "customer_id": "c-1",
            "email": "ana@example.com", "matched": ["customerid"], "first_seen_ms": NOW_MS - 3 * HOUR_MS,
            "last_seen_ms": NOW_MS - HOUR_MS,
        }]  # fmt: skip
        found = await world.get("/users", mpid=anonymous)
        assert found["users"] == [{
            "mpid": anonymous, "environment": "production", "known": False, "customer_id": None, "email": None,
            "matched": [], "first_seen_ms": None, "last_seen_ms": None,
        }]  # fmt: skip


async def test_a_search_lists_so_many_and_says_that_there_are_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_limits, "MOST_FOUND", 3)
    async with admin(tmp_path) as world:
        made = []
        for number in range(5):
            made.append(await world.identify(customerid=f"c-{number}"))
            await world.modify(made[-1], "other", None, "shared")
        found = await world.get("/users", value="shared")
        assert (mpids(found), found["more"]) == (made[:1:-1], True)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({}, "value (in the query): give either value or mpid"),
        ({"value": "a", "mpid": "1"}, "value (in the query): give either value or mpid"),
        ({"value": ""}, "value (in the query): it must be 1 to"),
        ({"value": "a\0"}, "value (in the query): it must be 1 to"),
        ({"value": "a" * 5000}, "value (in the query): it must be 1 to"),
        ({"value": "a", "type": "shoe_size"}, "type (in the query): it must be one of"),
        ({"mpid": "1", "type": "email"}, "type (in the query): it goes with value"),
        ({"mpid": "x"}, "mpid (in the query): it is not an MPID"),
        ({"mpid": "9223372036854775808"}, "mpid (in the query): it is not an MPID"),
        ({"mpid": "0"}, "mpid (in the query): it is 0"),
        ({"value": "a", "environment": "staging"}, "environment (in the query): it must be one of"),
        ({"value": "a", "valeu": "b"}, "valeu (in the query): no such parameter"),
    ],
)
async def test_a_bad_parameter_is_named(tmp_path: Path, query: dict[str, str], told: str) -> None:
    async with admin(tmp_path) as world:
        answer = await world.answer("GET", "/users", query=query)
        assert answer.status == 400
        assert answer.message.startswith(told)


async def test_a_query_string_that_is_none_is_refused(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        for query in ("value=%FF", "value=a&value=b", "&".join(f"a{n}=1" for n in range(200))):
            answer = await world.answer("GET", f"/users?{query}")
            assert answer.status == 400, query


# -- one user -----------------------------------------------------------------------------------------------------


async def test_details_show_all_that_is_known_of_a_user(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        web = {
            "mp_deviceid": "0B5BBF8B-91DC-4F3C-9D6A-5D9C5A9D3F11",
            "user_identities": {"customerid": "c-1"},
            "device_info": {"platform": "iOS", "ios_advertising_id": "613AC3A2-5B6B-4B0F-8B5E-5A0C2A9F7C11",
                            "att_authorization_status": "authorized", "limit_ad_tracking": False},
            "consent_state": {"gdpr": {"ads": {"consented": True, "timestamp_unixtime_ms": NOW_MS - 5,
                                               "document": "v1"}}},
            "attribution_info": {"publisher": "Pub", "campaign": "Spring"},
            "events": [
                {"event_type": "user_attribute_change",
                 "data": {"user_attribute_name": "drink", "new": "tea", "timestamp_unixtime_ms": NOW_MS - HOUR_MS}},
                {"event_type": "opt_out", "data": {"is_opted_out": True, "timestamp_unixtime_ms": NOW_MS - HOUR_MS}},
                {"event_type": "push_registration",
                 "data": {"register": True, "registration_token": "t-1", "timestamp_unixtime_ms": NOW_MS - HOUR_MS}},
            ],
        }  # fmt: skip
        first = await world.page(web)
        mpid = await world.mpid_of(first)
        server = {
            "mpid": mpid, "ip": "192.0.2.7", "timestamp_unixtime_ms": NOW_MS - 10,
            "user_attributes": {"$Zip": "0150", "$City": "Oslo", "$Age": 42, "tags": ["b", "a"], "vip": None,
                                "drink": "x"},
        }  # fmt: skip
        second = await world.take(server)
        await world.take({"mpid": mpid, "user_attributes": {"here": "no"}, "ip": "192.0.2.8"}, "till")
        user = await world.get(f"/users/{mpid}")

        assert (user["mpid"], user["environment"], user["known"]) == (mpid, "production", True)
        assert (user["customer_id"], user["email"]) == ("c-1", None)
        assert (user["first_seen_ms"], user["last_seen_ms"]) == (NOW_MS - HOUR_MS, NOW_MS)
        assert (user["workspace_first_seen_ms"], user["workspace_last_seen_ms"]) == (NOW_MS - HOUR_MS, NOW_MS - 10)
        assert user["created_ms"] == NOW_MS
        assert user["ip"] == {"value": "192.0.2.8", "at_ms": NOW_MS}
        assert user["opted_out"] == {"value": True, "at_ms": NOW_MS - HOUR_MS}
        assert user["limit_ad_tracking"] == {"value": False, "at_ms": NOW_MS - HOUR_MS}
        held = {one["type"]: one["value"] for one in user["identities"]}
        assert held["customerid"] == "c-1"
        assert held["device_application_stamp"] == "0b5bbf8b-91dc-4f3c-9d6a-5d9c5a9d3f11"
        assert {one["linked_ms"] for one in user["identities"]} == {NOW_MS}
        assert user["identities_total"] == len(user["identities"]) == 3

        shown = [(one["name"], one["value"], one["kind"], one["at_ms"]) for one in user["attributes"]]
        assert shown == [
            ("$age", "42", "server", NOW_MS - 10),
            ("$city", "Oslo", "server", NOW_MS - 10),
            ("$zip", "0150", "server", NOW_MS - 10),
            ("drink", "tea", "web", NOW_MS - HOUR_MS),
            ("tags", ["b", "a"], "server", NOW_MS - 10),
            ("vip", None, "server", NOW_MS - 10),
        ]
        by_name = {one["name"]: one for one in user["attributes"]}
        assert (by_name["drink"]["rank"], by_name["drink"]["position"], by_name["drink"]["input"]) == (
            0, first, "shop/web",
        )  # fmt: skip
        assert (by_name["vip"]["rank"], by_name["vip"]["position"]) == (1, second)

        assert user["consent"] == [{
            "regulation": "gdpr", "purpose": "ads", "consented": True, "at_ms": NOW_MS - 5, "document": "v1",
            "location": None, "hardware_id": None,
        }]  # fmt: skip
        assert user["inputs"] == [
            {"input": "shop/server", "kind": "server", "first_ms": NOW_MS - 10, "last_ms": NOW_MS - 10},
            {"input": "shop/web", "kind": "web", "first_ms": NOW_MS - HOUR_MS, "last_ms": NOW_MS - HOUR_MS},
        ]
        assert user["device_id"] == "613AC3A2-5B6B-4B0F-8B5E-5A0C2A9F7C11"
        (device,) = user["devices"]
        assert (device["name"], device["platform"]) == ("0b5bbf8b-91dc-4f3c-9d6a-5d9c5a9d3f11", "iOS")
        assert device["att"] == {"value": "authorized", "at_ms": NOW_MS - HOUR_MS}
        assert device["limit_ad_tracking"] is False
        assert device["identities"] == {"ios_idfa": "613AC3A2-5B6B-4B0F-8B5E-5A0C2A9F7C11"}
        assert device["push_tokens"] == {"t-1": True}
        assert user["attribution"] == device["attribution"] == {
            "publisher": "Pub", "campaign": "Spring", "service_provider": "", "at_ms": NOW_MS - HOUR_MS,
        }  # fmt: skip
        assert (user["memberships"], user["notes"], user["devices_next"]) == ([], [], None)
        outlet = await world.answer("GET", f"/users/{mpid}", workspace="outlet")
        assert [one["name"] for one in outlet.json["attributes"]] == ["here"]


async def test_reserved_attributes_come_first_in_their_order(tmp_path: Path) -> None:
    names = ["$Age", "$FirstName", "$LastName", "$Gender", "$Mobile", "$Address"]
    names += ["$City", "$State", "$Zip", "$Country"]
    others = ["$Zodiac", "Zeta", "alpha", "beta"]
    async with admin(tmp_path) as world:
        attributes = dict.fromkeys(reversed([*names, *others]), "x")
        position = await world.take({"user_identities": {"customerid": "c"}, "user_attributes": attributes})
        user = await world.get(f"/users/{await world.mpid_of(position)}")
        shown = [one["name"] for one in user["attributes"]]
        assert shown == [*(name.lower() for name in names), "$zodiac", *others[1:]]


async def test_identities_that_left_are_told_with_their_reason(tmp_path: Path) -> None:
    policy = msgspec.structs.replace(POLICY, login=("customerid", "email"), unique=("customerid", "email"))
    scopes = {"acme": policy, "other": POLICY}
    policies = {scope: build(settings) for scope, settings in scopes.items()}
    async with admin(tmp_path, scopes=scopes, policies=policies) as world:
        ana = await world.identify(customerid="c-1", email="old@example.com")
        bob = await world.identify(customerid="c-2")
        world.now += 60
        await world.modify(ana, "email", "old@example.com", "new@example.com")
        world.now += 60
        await world.modify(bob, "email", None, "new@example.com")
        user = await world.get(f"/users/{ana}")
        told = [
            (one["value"], one["why"], one["moved_to"], one["linked_ms"], one["ended_ms"])
            for one in user["former_identities"]
        ]
        assert told == [
            ("new@example.com", "moved", bob, NOW_MS + 60_000, NOW_MS + 120_000),
            ("old@example.com", "modified", None, NOW_MS, NOW_MS + 60_000),
        ]
        assert user["former_identities_total"] == 2
        assert user["first_seen_ms"] is user["workspace_first_seen_ms"] is None
        assert (user["inputs"], user["attributes"], user["devices"], user["device_id"]) == ([], [], [], None)


async def test_an_mpid_of_nobody_is_404_and_one_that_is_none_400(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        for path in ("", "/devices", "/timeline"):
            assert (await world.answer("GET", f"/users/1{path}")).status == 404
            for wrong in ("0", "x", "1.5", "99999999999999999999", "9223372036854775808"):
                answer = await world.answer("GET", f"/users/{wrong}{path}")
                assert (answer.status, answer.message[:18]) == (400, "mpid (in the path)")


async def test_devices_come_page_by_page(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        mpid = await world.identify(customerid="c-1")
        names = sorted(f"d-{number:02}" for number in range(25))
        for name in reversed(names):
            await world.take({"mpid": mpid, "mp_deviceid": name, "device_info": {"platform": "web"}})
        user = await world.get(f"/users/{mpid}")
        assert [one["name"] for one in user["devices"]] == names[:20]
        rest = await world.get(f"/users/{mpid}/devices", after=user["devices_next"])
        assert ([one["name"] for one in rest["devices"]], rest["next"]) == (names[20:], None)
        seen: list[str] = []
        after: dict[str, Any] = {}
        while True:
            page = await world.get(f"/users/{mpid}/devices", limit=10, **after)
            seen += [one["name"] for one in page["devices"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert seen == names
        answer = await world.answer("GET", f"/users/{mpid}/devices", query={"limit": "0"})
        assert (answer.status, answer.message[:20]) == (400, "limit (in the query)")


async def test_what_expired_is_not_shown_whether_it_has_been_removed_or_not(tmp_path: Path) -> None:
    forgetful = msgspec.structs.replace(SHOP, profile_lifetime_ms=HOUR_MS)
    async with admin(tmp_path, workspaces=(forgetful, OUTLET, OTHER)) as world:
        body = {"user_identities": {"customerid": "c-1"}, "mp_deviceid": "d-1", "user_attributes": {"a": "b"}}
        mpid = await world.mpid_of(await world.take(body))
        world.now += 1801
        assert len((await world.get(f"/users/{mpid}"))["attributes"]) == 1
        world.now += 1800
        world.tokens.clear()
        user = await world.get(f"/users/{mpid}")
        assert (user["customer_id"], user["workspace_last_seen_ms"], user["device_id"]) == ("c-1", None, None)
        assert user["attributes"] == user["inputs"] == user["devices"] == []
        assert (await world.get(f"/users/{mpid}/devices")) == {"devices": [], "next": None}


# -- workspaces ---------------------------------------------------------------------------------------------------


async def test_workspaces_are_those_of_the_client_without_secrets(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        answer = await world.ask("GET", "/admin/workspaces", headers=await world.headers("admin"))
        told = answer.json
        assert [one["name"] for one in told["workspaces"]] == ["shop", "outlet"]
        assert told["workspaces"][0] | {"inputs": []} == {
            "id": SHOP.id, "name": "shop", "account": 10, "organization": 1, "scope": "acme", "inputs": [],
        }  # fmt: skip
        assert b"secret" not in answer.body
        assert b"-key" not in answer.body
        others = (await world.ask("GET", "/admin/workspaces", headers=await world.headers("stranger"))).json
        assert [one["name"] for one in others["workspaces"]] == [OTHER.name]


async def test_what_became_of_batches_is_counted_for_each_input(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        known = {"user_identities": {"customerid": "c-1"}}
        await world.take(known | {"events": [event(), {"event_type": "x"}, {}]})
        await world.take(known, "feed")
        await world.take({"user_identities": {"customerid": "nobody"}}, "feed")
        await world.take(known, "trial")
        await world.page([1])
        assert (await world.send({"mpid": 1})).status == 400
        told = (await world.ask("GET", "/admin/workspaces", headers=await world.headers("looker"))).json
        assert (told["since_ms"], told["workers"]) == (NOW_MS, 1)
        counted = {
            one["name"]: tuple(
                one[name] for name in ("taken", "kept", "dropped", "set_aside", "refused", "quarantined_events")
            )
            for one in told["workspaces"][0]["inputs"]
        }
        assert counted == {
            "web": (0, 0, 0, 1, 0, 0),
            "server": (1, 0, 0, 0, 1, 2),
            "feed": (1, 0, 1, 0, 0, 0),
            "trial": (0, 1, 0, 0, 0, 0),
        }
