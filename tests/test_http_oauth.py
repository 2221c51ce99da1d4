"""Tokens: who gets one, what one is worth, how long, and that it can be taken back."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import jwt
import msgspec
import pytest

import serving
from http_edge import CONFIG, LOG, NOW, Answer, StrawEngine, ask, basic
from oneself.config import ApiClient, Config
from oneself.errors import StoreUnavailable
from oneself.http import create_app
from oneself.http.tokens import Tokens
from oneself.http.wire import HttpError
from serving import shop

BOTH_ENGINES = True

SECRET = "s3cret+with%25signs&="
READER = ApiClient("reader", SECRET, ("shop",), ("profile:read",))
ADMIN = ApiClient("admin", "admin-secret", ("shop",), ("admin",))
OVERSEER = ApiClient("overseer", "overseer-secret", ("shop", "other"), ("admin", "profile:read"))
EVERYWHERE = ApiClient("everywhere", "everywhere-secret", ("shop", "other"), ("profile:read",))
CLIENTS = (READER, ADMIN, OVERSEER, EVERYWHERE)
HOURS = 3600


class Settings:
    """A store's settings, in memory."""

    shared = False

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.failure: Exception | None = None

    async def setting(self, name: str) -> str | None:
        if self.failure:
            raise self.failure
        return self.values.get(name)

    async def set_setting(self, name: str, value: str) -> None:
        if self.failure:
            raise self.failure
        self.values[name] = value

    async def first_setting(self, name: str, value: str) -> str:
        if self.failure:
            raise self.failure
        return self.values.setdefault(name, value)


class Server:
    """The edge over settings that outlive it, with a clock of its own."""

    def __init__(self, store: Settings | None = None, clients: tuple[ApiClient, ...] = CLIENTS) -> None:
        self.store = store or Settings()
        self.now = float(NOW)
        self.config: Config = msgspec.structs.replace(CONFIG, api_clients=clients)
        engine: Any = StrawEngine()
        engine.store = self.store
        self.app = create_app(self.config, engine, clock=lambda: self.now)
        self.tokens = Tokens(self.config, engine, lambda: self.now)

    def ask(self, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return ask(self.app, "POST", path, raw, {"content-length": str(len(raw))} | (headers or {}))

    def token(self, client: ApiClient = READER) -> str:
        answer = self.ask("/oauth/token", asking(client))
        assert answer.status == 200, answer.json
        return str(answer.json["access_token"])

    def holds(self, token: str) -> bool:
        """Tell whether a token is taken: 403 and not 401 where its client has no such workspace."""
        answer = ask(self.app, "GET", "/userprofile/v1/9/9/9/1?fields=attribution", headers=bearer(token))
        assert answer.status in (401, 403)
        if answer.status == 401:
            assert answer.headers["www-authenticate"] == 'Bearer realm="Oneself"'
        return answer.status == 403


def asking(client: ApiClient = READER, **more: Any) -> dict[str, Any]:
    return {
        "client_id": client.client_id, "client_secret": client.client_secret,
        "audience": "https://api.example.com", "grant_type": "client_credentials",
    } | more  # fmt: skip


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# -- issuing ----------------------------------------------------------------------------------------------------


def test_a_client_gets_a_token_for_its_credentials():
    server = Server()
    answer = server.ask("/oauth/token", asking())
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json["access_token"]
    assert answer.json == {"access_token": token, "expires_in": 28_800, "token_type": "Bearer"}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("oneself", "oneself", "reader")
    assert (claims["iat"], claims["exp"] - claims["iat"]) == (NOW, 28_800)
    assert server.holds(token)
    assert jwt.decode(server.token(), options={"verify_signature": False})["jti"] != claims["jti"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"grant_type=client_credentials&client_id=reader&client_secret=s3cret%2Bwith%2525signs%26%3D", {}),
        (b"grant_type=client_credentials", basic("reader", SECRET)),
        (b"grant_type=client_credentials", basic("reader", "s3cret%2Bwith%2525signs%26%3D")),
        (b"grant_type=client_credentials&client_id=reader&scope=a+b&resource=x", basic("reader", SECRET)),
        (b' \n{"grant_type":"client_credentials","unknown":1}', basic("reader", SECRET)),
        (json.dumps(asking(audience=None)).encode(), {"content-type": "application/x-www-form-urlencoded"}),
    ],
)
def test_credentials_may_come_as_json_as_a_form_or_as_a_basic_header(body, headers):
    assert Server().ask("/oauth/token", body, headers).status == 200


@pytest.mark.parametrize(
    ("body", "headers", "status", "error", "told"),
    [
        (asking(client_secret="wrong"), {}, 401, "invalid_client", "is wrong"),
        (asking(client_id="nobody"), {}, 401, "invalid_client", "is wrong"),
        (asking(client_secret=""), {}, 401, "invalid_client", "No credentials"),
        (asking(client_id=None), {}, 401, "invalid_client", "No credentials"),
        (asking(ADMIN, client_secret=SECRET), {}, 401, "invalid_client", "is wrong"),
        (b"grant_type=client_credentials", basic("reader", "wrong"), 401, "invalid_client", "is wrong"),
        (b"grant_type=client_credentials", {"authorization": "Basic !"}, 401, "invalid_client", "base64"),
        (b"grant_type=client_credentials", {"authorization": "Bearer x"}, 401, "invalid_client", "Basic only"),
        (asking(grant_type="password"), {}, 400, "unsupported_grant_type", "only client_credentials"),
        (asking(grant_type=None), {}, 400, "invalid_request", "grant_type: it is missing"),
        (asking(grant_type=1), {}, 400, "invalid_request", "grant_type: expected string"),
        (asking(audience=["a"]), {}, 400, "invalid_request", "audience: expected string"),
        (asking(client_id="a\0"), {}, 400, "invalid_request", "client_id: it has a NUL"),
        ([asking()], {}, 400, "invalid_request", "body: expected object"),
        (b"{", {}, 400, "invalid_request", "not JSON"),
        (b"", {}, 400, "invalid_request", "empty"),
        (b"\xff\xfe", {}, 400, "invalid_request", "neither a JSON object nor a form"),
        (b"client_id=reader", {}, 400, "invalid_request", "grant_type: it is missing"),
        (b"client_id=a&client_id=b", {}, 400, "invalid_request", "client_id: it is there twice"),
        (b"client_id=%FF", {}, 400, "invalid_request", "neither"),
        (b"client_id=%00", {}, 400, "invalid_request", "client_id: it has a NUL"),
        (b"&".join(b"a=1" for _ in range(500)), {}, 400, "invalid_request", "neither"),
        (asking(), basic("reader", SECRET), 400, "invalid_request", "send one"),
        (b"grant_type=client_credentials&client_id=x", basic("reader", SECRET), 400, "invalid_request", "send one"),
    ],
)  # fmt: skip
def test_whatever_is_wrong_is_told_in_both_forms(body, headers, status, error, told):
    answer = Server().ask("/oauth/token", body, headers)
    assert (answer.status, answer.json["error"]) == (status, error), answer.json
    assert told in answer.message
    assert answer.json["error_description"] == answer.message
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["content-length"]) == len(answer.body)
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Basic ")


def test_an_unknown_client_and_a_wrong_secret_are_told_alike():
    server = Server()
    told = {server.ask("/oauth/token", asking(**{field: "x"})).message for field in ("client_id", "client_secret")}
    assert len(told) == 1


def test_no_secret_and_no_token_is_logged():
    server = Server()
    token = server.token()
    server.ask("/oauth/token", asking(client_secret="tell-nobody"))
    server.ask("/oauth/revoke", asking())
    logged = LOG.getvalue()
    assert "tokens revoked" in logged
    for hidden in (SECRET, "tell-nobody", token, token.rpartition(".")[2], server.store.values["token_key"]):
        assert hidden not in logged


# -- verifying --------------------------------------------------------------------------------------------------


def test_a_token_holds_for_eight_hours_and_no_longer():
    server = Server()
    seen, unseen = server.token(), server.token()
    assert server.holds(seen)
    server.now += 8 * HOURS - 1
    assert server.holds(seen)
    server.now += 1
    assert not server.holds(seen)
    assert not server.holds(unseen)


def test_a_token_outlives_a_restart_because_its_key_is_kept():
    server = Server()
    token = server.token()
    assert len(bytes.fromhex(server.store.values["token_key"])) == 32
    assert Server(server.store).holds(token)
    assert not Server(Settings()).holds(token), "another server has another key"


def test_a_token_of_a_client_that_was_removed_is_void():
    server = Server()
    token = server.token()
    assert not Server(server.store, (ADMIN,)).holds(token)


def forged(server: Server, algorithm: str = "HS256", key: bytes | None = None, **claims: Any) -> str:
    right = bytes.fromhex(server.store.values["token_key"])
    all_claims = {"iss": "oneself", "aud": "oneself", "sub": "reader", "iat": NOW, "exp": NOW + 60, "jti": "1"}
    kept = {name: value for name, value in (all_claims | claims).items() if value is not None}
    return jwt.encode(kept, right if key is None else key, algorithm)


@pytest.mark.parametrize(
    "claims",
    [{name: None} for name in ("iss", "aud", "sub", "iat", "exp", "jti")]
    + [{"iss": "x"}, {"aud": "x"}, {"sub": "nobody"}, {"exp": NOW}],
)
def test_a_token_needs_every_claim_as_it_was_issued(claims):
    server = Server()
    server.token()
    assert server.holds(forged(server))
    assert not server.holds(forged(server, **claims))


def test_a_token_needs_the_right_signature_and_algorithm():
    server = Server()
    token = server.token()
    head, claims, signature = token.split(".")
    other = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode().rstrip("=")
    assert not server.holds(f"{other}.{claims}.")
    assert not server.holds(f"{head}.{claims}.{signature[:-2]}")
    assert not server.holds(forged(server, key=b"x" * 32))
    assert not server.holds(forged(server, "HS512", bytes.fromhex(server.store.values["token_key"]) * 2))
    for nonsense in ("", "a", "a.b.c", "..", "é", "\x00", "e30.e30.e30"):
        assert not server.holds(nonsense), nonsense


def test_the_scheme_is_taken_in_any_case_and_no_other_is():
    server = Server()
    token = server.token()
    path = "/userprofile/v1/9/9/9/1?fields=attribution"
    assert ask(server.app, "GET", path, headers={"authorization": f"bEARER {token}"}).status == 403
    for headers in ({}, {"authorization": token}, {"authorization": f"Basic {token}"}, basic("reader", SECRET)):
        answer = ask(server.app, "GET", path, headers=headers)
        assert answer.status == 401
        assert "POST /oauth/token" in answer.message


def test_a_verified_token_is_remembered_within_bounds():
    server = Server()
    tokens = server.tokens

    async def verify() -> None:
        for _ in range(3_000):
            header = {b"authorization": b"Bearer " + (await tokens.issue("reader", SECRET)).encode()}
            assert tokens.recall(header) is None
            caller = await tokens.verify(header)
            assert tokens.recall(header) is caller
            assert len(tokens._verified) <= 1_024

    asyncio.run(verify())


def test_a_caller_may_do_only_what_it_is_allowed_where_it_is_allowed():
    server = Server()

    async def caller():
        token = await server.tokens.issue("reader", SECRET)
        return await server.tokens.verify({b"authorization": f"Bearer {token}".encode()})

    reader = asyncio.run(caller())
    assert (reader.client, reader.workspaces, reader.permissions) == ("reader", {"shop"}, {"profile:read"})
    reader.require("profile:read", "shop")
    told = set()
    for permission, workspace in (("profile:read", "other"), ("profile:read", "nowhere"), ("admin", "shop")):
        with pytest.raises(HttpError) as caught:
            reader.require(permission, workspace)
        told.add((caught.value.status, caught.value.message))
    assert len(told) == 1
    assert told.pop()[0] == 403


# -- taking back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers"),
    [(asking(), {}), (b"client_id=reader&client_secret=s3cret%2Bwith%2525signs%26%3D", {}),
     (b"", basic("reader", SECRET))],
)  # fmt: skip
def test_a_client_takes_all_its_tokens_back_and_goes_on_with_new_ones(body, headers):
    server = Server()
    seen, unseen, other = server.token(), server.token(), server.token(ADMIN)
    assert server.holds(seen)
    answer = server.ask("/oauth/revoke", body, headers)
    assert (answer.status, answer.json) == (200, {"client_id": "reader", "revoked_until_ms": NOW * 1000})
    assert not server.holds(seen)
    assert not server.holds(unseen)
    assert server.holds(other)
    fresh = server.token()
    assert server.holds(fresh), "issued at the very moment of the revocation, but after it"
    again = Server(server.store)
    assert not again.holds(seen)
    assert again.holds(fresh)


def test_taking_back_holds_also_where_the_clock_was_put_back():
    server = Server()
    before = server.token()
    server.now -= 3 * HOURS
    server.ask("/oauth/revoke", asking())
    assert not server.holds(before)
    after = server.token()
    assert server.holds(after)
    server.ask("/oauth/revoke", asking())
    assert not server.holds(after)


def test_taking_back_needs_the_credentials():
    server = Server()
    token = server.token()
    assert server.ask("/oauth/revoke", asking(client_secret="wrong")).json["error"] == "invalid_client"
    assert server.ask("/oauth/revoke", b"").status == 401
    assert server.ask("/oauth/revoke", b"", bearer(token)).status == 401
    assert server.holds(token)


def test_an_admin_of_all_its_workspaces_takes_a_client_s_tokens_back():
    server = Server()
    reader, everywhere = server.token(READER), server.token(EVERYWHERE)
    admin, overseer = server.token(ADMIN), server.token(OVERSEER)
    told = set()
    for caller, client in ((reader, "reader"), (admin, "everywhere"), (admin, "nobody"), (overseer, "nobody")):
        answer = server.ask(f"/admin/clients/{client}/revoke", headers=bearer(caller))
        assert answer.status == 403
        told.add(answer.message)
    assert len(told) == 1, "nobody learns which clients exist"
    assert server.ask("/admin/clients/reader/revoke").status == 401
    assert server.holds(reader)
    assert server.holds(everywhere)
    answer = server.ask("/admin/clients/reader/revoke", headers=bearer(admin))
    assert (answer.status, answer.json["client_id"]) == (200, "reader")
    assert server.ask("/admin/clients/everywhere/revoke", headers=bearer(overseer)).status == 200
    assert not server.holds(reader)
    assert not server.holds(everywhere)
    assert server.holds(overseer)


def test_while_the_store_is_away_nothing_is_issued_or_taken_back_and_known_tokens_hold():
    server = Server()
    token = server.token()
    assert server.holds(token)
    server.store.failure = StoreUnavailable("The disk is full.")
    answer = server.ask("/oauth/revoke", asking())
    assert (answer.status, answer.json["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    assert server.holds(token)
    fresh = Server(server.store)
    assert fresh.ask("/oauth/token", asking()).status == 503
    server.store.failure = None
    assert fresh.holds(token)


# -- served -----------------------------------------------------------------------------------------------------


def test_tokens_and_their_revocation_outlive_the_server_s_process(tmp_path):
    config = shop() + '[[api_client]]\nclient_id = "crm"\nclient_secret = "hush"\nworkspaces = ["shop"]\n'
    config += 'permissions = ["profile:read"]\n'
    mine, asked = ("crm", "hush"), {"grant_type": "client_credentials"}

    def read(server: serving.Server, token: str) -> httpx.Response:
        query = {"fields": "user_identities"}
        path = f"/userprofile/v1/1/10/1001/{mpid}"
        return server.client.get(path, params=query, headers={"authorization": f"Bearer {token}"})

    with serving.serving(config, tmp_path) as server:
        mpid = server.identity("identify", {"customerid": "C-1"})["mpid"]
        first, second = (server.client.post("/oauth/token", auth=mine, data=asked).json() for _ in range(2))
        assert read(server, first["access_token"]).json()["mpid"] == int(mpid)
    with serving.serving(config, tmp_path) as server:
        assert read(server, second["access_token"]).status_code == 200
        assert server.client.post("/oauth/revoke", auth=mine).status_code == 200
        assert read(server, second["access_token"]).status_code == 401
    with serving.serving(config, tmp_path) as server:
        assert read(server, first["access_token"]).status_code == 401
        third = server.client.post("/oauth/token", auth=mine, data=asked).json()
        assert read(server, third["access_token"]).status_code == 200
