"""The Profile API over a real engine: what is answered, to whom, and what is not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine_at_work import running
from engines import store_at
from http_edge import Answer, ask_within, basic
from oneself.config import ApiClient, Config, Input, Workspace
from oneself.http import create_app
from oneself.http.profile_api import ProfileRoutes, UserProfile
from oneself.http.tokens import ApiCaller, Tokens
from oneself.http.wire import HttpError
from oneself.identity import PolicySettings, build
from oneself.store import Store

NOW_MS = 1_795_294_533_000
DAY_MS = 86_400_000
FIRST, SECOND = -9_007_199_254_740_993, 9_223_372_036_854_775_807
"""MPIDs that a double cannot hold."""

FIELDS = "device_identities,user_identities,user_attributes,audience_memberships,attribution,consent_state"
SHOP, OUTLET, RETIRED, BUSY, OTHER = "1/10/1001", "1/20/1002", "1/10/1003", "1/10/1004", "2/30/2002"

SETTINGS = {
    "acme": PolicySettings(
        login=("customerid", "email"), unique=("customerid", "email"), immutable=("customerid", "email")
    ),
    "other": PolicySettings(strategy="best_match"),
}
CONFIG = Config(
    workspaces=(
        Workspace(1001, "shop", 10, 1, "acme"),
        Workspace(1002, "outlet", 20, 1, "acme", profile_lifetime_ms=2 * DAY_MS),
        Workspace(1003, "retired", 10, 1, "acme", profile_lifetime_ms=0),
        Workspace(1004, "busy", 10, 1, "acme", max_profile_reads_per_second=3),
        Workspace(2002, "other", 30, 2, "other"),
    ),
    inputs=(
        Input("shop", "server", "server", "shop-key", "secret", False, "create_and_update"),
        Input("outlet", "server", "server", "outlet-key", "secret", False, "create_and_update"),
        Input("other", "server", "server", "other-key", "secret", False, "create_and_update"),
    ),
    api_clients=(
        ApiClient("reader", "secret", ("shop", "outlet", "retired", "busy", "other"), ("profile:read",)),
        ApiClient("second", "secret", ("shop", "busy"), ("profile:read", "admin")),
        ApiClient("admin", "secret", ("shop", "other"), ("admin", "search:read")),
    ),
    scopes=SETTINGS,
    policies={name: build(settings) for name, settings in SETTINGS.items()},
)

BATCH: dict[str, Any] = {
    "environment": "production",
    "user_attributes": {"$City": "Oslo", "ltv": 342.1, "recs": ["1", "2"], "vip": None},
    "consent_state": {"gdpr": {"Ads": {"consented": True, "timestamp_unixtime_ms": 5_000_000_000_00}}},
    "attribution_info": {"publisher": "search", "campaign": "spring"},
    "device_info": {"android_advertising_id": "38400000-8cf0-11bd-b23e-10b96e40000d", "limit_ad_tracking": True},
    "events": [
        {"event_type": "opt_out", "data": {"is_opted_out": True, "timestamp_unixtime_ms": NOW_MS - 5000}},
        {
            "event_type": "custom_event",
            "data": {"event_name": "A", "custom_event_type": "other", "timestamp_unixtime_ms": NOW_MS - 9000},
        },
    ],
}


class World:
    """A server with two scopes; its clock stands still until a test moves it."""

    def __init__(self, store: Store) -> None:
        self.now_ms = NOW_MS
        self.store = store
        self.tokens: dict[str, str] = {}

    async def post(self, path: str, body: Any, headers: dict[str, str]) -> Answer:
        raw = msgspec.json.encode(body)
        return await ask_within(self.app, "POST", path, raw, headers | {"content-length": str(len(raw))})

    async def identify(self, key: str = "shop-key", environment: str = "production", **known: str) -> int:
        body = {"environment": environment, "known_identities": known}
        answer = await self.post("/v1/identify", body, basic(key, "secret"))
        assert answer.status == 200, answer.json
        return int(answer.json["mpid"])

    async def batch(self, batch: Any, key: str = "shop-key") -> None:
        answer = await self.post("/v2/events", batch, basic(key, "secret"))
        assert answer.status == 202, answer.json

    async def authorization(self, client: str) -> dict[str, str]:
        if client not in self.tokens:
            asked = {"client_id": client, "client_secret": "secret", "grant_type": "client_credentials"}
            self.tokens[client] = (await self.post("/oauth/token", asked, {})).json["access_token"]
        return {"authorization": f"Bearer {self.tokens[client]}"}

    async def read(
        self, place: str, mpid: object, fields: str = FIELDS, *, client: str = "reader", method: str = "GET"
    ) -> Answer:
        headers = await self.authorization(client)
        return await ask_within(self.app, method, f"/userprofile/v1/{place}/{mpid}?fields={fields}", b"", headers)

    async def resolve(
        self, place: str, type_: str, value: str, *, client: str = "reader", fields: str = FIELDS, **more: Any
    ) -> Answer:
        body = {"environment_type": "production", "identity": {"type": type_, "value": value}} | more
        path = f"/userprofile/v1/resolve/{place}?fields={fields}"
        return await self.post(path, body, await self.authorization(client))


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    store = store_at(folder / "data")
    await store.open()
    made = World(store)
    mpids = itertools.chain((FIRST, SECOND), itertools.count(1)).__next__
    try:
        async with running(store, SETTINGS, mpids=mpids, clock=lambda: made.now_ms) as engine:
            made.engine = engine
            made.app = create_app(CONFIG, engine, clock=lambda: made.now_ms / 1000)
            yield made
    finally:
        await store.close()


def within(folder: Path):
    """Run a test inside a world."""

    def run(test):
        async def inside() -> None:
            async with world(folder) as server:
                await test(server)

        asyncio.run(inside())

    return run


# -- what is answered -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_whole_profile_is_answered_exactly(tmp_path, method):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1", email="Ada@Example.com", other="x")
        await server.batch(BATCH | {"mpid": str(mpid)})
        answer = await server.read(SHOP, mpid, method=method)
        assert answer.status == 200, answer.json
        assert b'"mpid":-9007199254740993,' in answer.body
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json == {
            "mpid": FIRST,
            "created_timestamp_ms": NOW_MS - 9000,
            "last_stored_timestamp_ms": NOW_MS,
            "is_opted_out": True,
            "limit_ad_tracking": True,
            "device_identities": [],
            "user_identities": [
                {"type": "customer_id", "encoding": "none", "value": "C-1"},
                {"type": "email", "encoding": "none", "value": "ada@example.com"},
                {"type": "other", "encoding": "none", "value": "x"},
            ],
            "account_userattributes": None,
            "user_attributes": {"$city": "Oslo", "ltv": "342.1", "recs": ["1", "2"], "vip": None},
            "audience_memberships": [],
            "attribution": {
                "service_provider": None, "publisher": "search", "campaign": "spring",
                "timestamp_unixtime_ms": NOW_MS - 5000,
            },
            "consent_state": {"gdpr": {"ads": {"consented": True, "timestamp_unixtime_ms": 500_000_000_000}}},
        }  # fmt: skip
        described = msgspec.json.decode(answer.body, type=UserProfile)
        assert msgspec.to_builtins(described) == answer.json, "the description says the same"


def test_device_identities_are_apart_from_the_user_s(tmp_path):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1", android_aaid="38400000-8CF0-11BD-B23E-10B96E40000D")
        answer = await server.read(SHOP, mpid, "device_identities")
        value = "38400000-8cf0-11bd-b23e-10b96e40000d"
        assert answer.json["device_identities"] == [
            {"type": "google_advertising_id", "encoding": "none", "value": value}
        ]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ("user_attributes", {"user_attributes", "account_userattributes"}),
        ("user_identities,attribution", {"user_identities", "attribution"}),
        ("user_identities%2C%20attribution", {"user_identities", "attribution"}),
        ("consent_state&fields=audience_memberships&x=y", {"consent_state", "audience_memberships"}),
    ],
)
def test_only_the_fields_asked_for_are_answered(tmp_path, fields, names):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1")
        always = {
            "mpid", "created_timestamp_ms", "last_stored_timestamp_ms", "is_opted_out", "limit_ad_tracking",
        }  # fmt: skip
        assert set((await server.read(SHOP, mpid, fields)).json) == always | names
        assert set((await server.resolve(SHOP, "customer_id", "C-1", fields=fields)).json) == always | names


def test_a_profile_without_data_has_its_identities_and_the_time_it_was_made(tmp_path):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1")
        server.now_ms += 5_000
        await server.identify(customerid="C-1", other="later")
        answer = (await server.read(SHOP, mpid)).json
        assert (answer["created_timestamp_ms"], answer["last_stored_timestamp_ms"]) == (NOW_MS, NOW_MS)
        assert [one["value"] for one in answer["user_identities"]] == ["C-1", "later"]
        assert (answer["is_opted_out"], answer["limit_ad_tracking"]) == (False, None)
        assert (answer["user_attributes"], answer["attribution"], answer["consent_state"]) == ({}, None, {})


def test_workspaces_of_one_scope_share_the_person_and_not_the_attributes(tmp_path):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1")
        await server.batch(BATCH | {"mpid": mpid})
        await server.batch({"mpid": mpid, "user_attributes": {"size": "M"}}, "outlet-key")
        shop, outlet, retired = [(await server.read(place, mpid)).json for place in (SHOP, OUTLET, RETIRED)]
        assert outlet["user_attributes"] == {"size": "M"}
        assert "size" not in shop["user_attributes"]
        assert (retired["user_attributes"], retired["consent_state"], retired["attribution"]) == ({}, {}, None)
        for shared in ("mpid", "user_identities", "is_opted_out", "limit_ad_tracking", "created_timestamp_ms"):
            assert shop[shared] == outlet[shared] == retired[shared]


# -- by identity ------------------------------------------------------------------------------------------------


def test_an_immutable_identity_finds_its_profile_however_it_is_spelled(tmp_path):
    @within(tmp_path)
    async def test(server):
        await server.identify(customerid="C-0", email="bob@example.com")
        mpid = await server.identify(customerid="C-1", email="ada@example.com")
        expected = (await server.read(SHOP, mpid)).json
        assert expected["mpid"] == SECOND
        for type_, value in (("customer_id", "C-1"), ("email", " ADA@example.com ")):
            assert (await server.resolve(SHOP, type_, value)).json == expected
            server.now_ms += 1000
        identity = {"type": "customer_id", "encoding": "none", "value": "C-1"}
        assert (await server.resolve(OUTLET, "", "", identity=identity)).json == expected


@pytest.mark.parametrize(
    ("place", "type_", "told"),
    [
        (SHOP, "other", "identity.type: it must be immutable, which is customer_id, email in this workspace."),
        (SHOP, "customerid", "identity.type: it must be immutable, which is customer_id, email in this workspace."),
        (SHOP, "nonsense", "which is customer_id, email"),
        (OTHER, "customer_id", "no type is immutable in this workspace; ask by MPID"),
    ],
)
def test_other_identities_find_nobody_and_are_told_so(tmp_path, place, type_, told):
    @within(tmp_path)
    async def test(server):
        await server.identify(customerid="C-1", other="x")
        answer = await server.resolve(place, type_, "x")
        assert answer.status == 400
        assert told in answer.message


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"environment_type": "staging"}, "environment_type: it must be one of production, development"),
        ({"environment_type": None}, "environment_type"),
        ({"identity": None}, "identity: expected object"),
        ({"identity": {"type": "email"}}, "identity.value: it is missing"),
        ({"identity": {"type": "email", "value": 5}}, "identity.value: expected string"),
        ({"identity": {"type": "email", "value": "a\0"}}, "identity.value: it has a NUL"),
        ({"identity": {"type": "email", "value": "a", "encoding": "md5"}}, "encoding: it must be one of none"),
        ({"id": 5}, "id: no such field"),
    ],
)  # fmt: skip
def test_a_wrong_body_is_told_by_its_field(tmp_path, more, told):
    @within(tmp_path)
    async def test(server):
        answer = await server.resolve(SHOP, "email", "a@example.com", **more)
        assert answer.status == 400
        assert told in answer.message

    @within(tmp_path)
    async def nothing_else(server):
        path = f"/userprofile/v1/resolve/{SHOP}?fields=attribution"
        answer = await ask_within(server.app, "POST", path, b"", await server.authorization("reader"))
        assert (answer.status, answer.message) == (400, "body: it is empty; send a JSON object.")


# -- who is answered --------------------------------------------------------------------------------------------


def test_whatever_a_client_may_not_see_is_forbidden_alike(tmp_path):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1")
        tried = [("reader", place) for place in ("1/10/1002", "1/20/1001", "2/10/1001", "1/10/9", "01/10/1001",
                                                 "acme/10/1001", "1/10/shop", "1/10/-1")]  # fmt: skip
        tried += [("second", OUTLET), ("second", OTHER), ("second", "9/9/9"), ("admin", SHOP), ("admin", OTHER)]
        told = set()
        for client, place in tried:
            for answer in (
                await server.read(place, mpid, client=client),
                await server.read(place, "nonsense", "nonsense", client=client),
                await server.resolve(place, "customer_id", "C-1", client=client),
            ):
                assert answer.status == 403, (client, place)
                told.add(answer.message)
        assert len(told) == 1
        assert (await server.read(SHOP, mpid, client="second")).status == 200


def test_a_profile_of_another_scope_is_unknown(tmp_path):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1")
        stranger = await server.identify("other-key", customerid="C-2")
        told = set()
        for place, asked in ((OTHER, mpid), (SHOP, stranger), (SHOP, 12345), (OTHER, -12345)):
            answer = await server.read(place, asked)
            assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND_ERROR")
            told.add(answer.message)
        assert len(told) == 1
        assert (await server.read(OTHER, stranger)).status == 200


def test_nobody_has_an_unknown_a_worthless_or_another_environment_s_identity(tmp_path):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1")
        test_user = await server.identify(environment="development", customerid="C-2")
        assert mpid != test_user
        for value in ("C-3", "null", "", "x" * 300, "C-2"):
            answer = await server.resolve(SHOP, "customer_id", value)
            assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND_ERROR"), value
        found = await server.resolve(OUTLET, "customer_id", "C-2", environment_type="development")
        assert found.json["mpid"] == test_user
        assert (await server.read(OUTLET, test_user)).status == 200


@pytest.mark.parametrize(
    ("mpid", "fields", "told"),
    [
        ("1", "", "fields (in the query): is missing; it names one or more of device_identities"),
        ("1", "user_attribute", "fields (in the query): names 'user_attribute'; it may name"),
        ("0", "attribution", "mpid (in the path): it is 0"),
        ("12x", "attribution", "mpid (in the path): it is not an MPID"),
        ("9223372036854775808", "attribution", "it is not an MPID"),
    ],
)
def test_a_wrong_request_is_told_by_its_part(tmp_path, mpid, fields, told):
    @within(tmp_path)
    async def test(server):
        answer = await server.read(SHOP, mpid, fields)
        assert (answer.status, answer.json["code"]) == (400, "BAD_REQUEST")
        assert told in answer.message


def test_no_token_no_answer(tmp_path):
    @within(tmp_path)
    async def test(server):
        for headers in ({}, {"x-mp-key": "shop-key"}, basic("shop-key", "secret"), basic("reader", "secret")):
            answer = await ask_within(server.app, "GET", f"/userprofile/v1/{SHOP}/1?fields=x", b"", headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="Oneself"')
            assert (await server.post(f"/userprofile/v1/resolve/{SHOP}", {}, headers)).status == 401
        assert (await server.read(SHOP, 1, method="PUT")).status == 405


# -- how long and how often -------------------------------------------------------------------------------------


def test_a_profile_beyond_its_lifetime_is_gone_until_it_is_heard_of_again(tmp_path):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1")
        await server.batch({"mpid": mpid, "user_attributes": {"size": "M"}}, "outlet-key")
        silent = await server.identify(customerid="C-2")
        server.now_ms += 2 * DAY_MS
        assert (await server.read(OUTLET, mpid)).status == 200
        assert (await server.read(OUTLET, silent)).status == 200
        server.now_ms += 1
        server.tokens.clear()
        for asked in (mpid, silent):
            assert (await server.read(OUTLET, asked)).status == 404
            assert (await server.read(RETIRED, asked)).status == 200, "there it is kept for ever"
        assert (await server.resolve(OUTLET, "customer_id", "C-1")).status == 404
        await server.batch({"mpid": mpid}, "shop-key")
        assert (await server.read(OUTLET, mpid)).status == 404, "not heard of in this workspace"
        await server.batch({"mpid": mpid}, "outlet-key")
        answer = await server.read(OUTLET, mpid)
        assert (answer.status, answer.json["user_attributes"]) == (200, {"size": "M"})


def test_a_client_that_reads_too_often_is_told_when_to_come_back(tmp_path):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1")
        for place, statuses in ((BUSY, [200, 200, 200, 429]), (SHOP, [200] * 9)):
            assert [(await server.read(place, mpid)).status for _ in statuses] == statuses
        answer = await server.resolve(BUSY, "customer_id", "C-1")
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert answer.message == "This client may read 3 profiles a second here."
        assert (await server.read(BUSY, mpid, client="second")).status == 200, "each client for itself"
        assert (await server.read(BUSY, "x")).status == 400, "what is wrong is not counted"


def test_straight_from_the_connection_the_answer_is_the_applications(tmp_path):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1", device_application_stamp="d1")
        await server.batch(BATCH | {"mpid": str(mpid)})
        headers = await server.authorization("reader")
        lines = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]

        def straight(target: str) -> Any:
            request = f"GET {target} HTTP/1.1{lines}\r\n\r\n".encode()
            server.app.front.admit_read(sent, request)
            found = server.app.front.read(request)
            return None if found is None else found[1]

        assert straight(f"/userprofile/v1/{SHOP}/{mpid}?fields={FIELDS}") is None, "the token is not known yet"
        for _ in ("rows in memory", "rows in tables"):
            for place, asked in itertools.product((SHOP, OUTLET, RETIRED, OTHER), (mpid, 77)):
                answer = await server.read(place, asked)
                reply = straight(f"/userprofile/v1/{place}/{asked}?fields={FIELDS}")
                assert reply.status == answer.status
                if reply.status == 200:
                    assert msgspec.json.decode(reply.body) == answer.json
                    assert dict(reply.headers)[b"cache-control"] == b"no-store"
            await server.store.flush()
        refused = straight(f"/userprofile/v1/{SHOP}/{mpid}?fields=shoes")
        assert (refused.status, (await server.read(SHOP, mpid, "shoes")).status) == (400, 400)
        for odd in ("1/2/3/77", f"{SHOP}/x", f"{SHOP}/--1", f"{SHOP}/%31", f"{SHOP}/1/", f"resolve/{SHOP}", SHOP):
            assert straight(f"/userprofile/v1/{odd}?fields={FIELDS}") is None, "the application is asked"


def test_as_time_goes_by_a_client_may_read_again(tmp_path):
    @within(tmp_path)
    async def test(server):
        mpid = await server.identify(customerid="C-1")
        clock = [0.0]
        tokens = Tokens(CONFIG, server.engine)
        routes = ProfileRoutes(CONFIG, tokens, server.engine, lambda: NOW_MS / 1000, lambda: clock[0])
        caller = ApiCaller("reader", frozenset({"busy"}), frozenset({"profile:read"}))

        async def status() -> int:
            try:
                return (await routes.answer(caller, *BUSY.split("/"), str(mpid), b"fields=attribution")).status
            except HttpError as error:
                return error.status

        async def allowed() -> int:
            """Return how many of ten reads go through before the others are refused."""
            statuses = [await status() for _ in range(10)]
            assert statuses == sorted(statuses)
            return statuses.count(200)

        found = []
        for passed in (0, 0, 0.4, 0.3, 10):
            clock[0] += passed
            found.append(await allowed())
        assert found == [3, 0, 1, 1, 3]
        routes = ProfileRoutes(CONFIG, tokens, server.engine, lambda: NOW_MS / 1000, lambda: clock[0], workers=6)
        found = []
        for passed in (0, 0, 1, 1, 10):
            clock[0] += passed
            found.append(await allowed())
        assert found == [1, 0, 0, 1, 1]
