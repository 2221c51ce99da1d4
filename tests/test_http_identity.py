"""The identity endpoints: what reaches the engine, and what its decisions look like on the wire (docs/http.md)."""

from __future__ import annotations

import gzip
import json
from typing import Any
from uuid import UUID

import pytest

from http_edge import (
    BASIC,
    IDENTITY_PATHS,
    KEY,
    KINDS,
    MODIFY_PATHS,
    MPID,
    StrawEngine,
    ask,
    edge,
    modifying,
    refused,
    resolving,
)
from oneself.engine.calls import Call
from oneself.errors import Overloaded, StoreUnavailable
from oneself.identity import Decision, IdentityChange, Request, Trace
from oneself.identity.names import FROM_EVENTS, IDENTITY_TYPES

WEB_SDK = {
    "client_sdk": {"platform": "web", "sdk_vendor": "mparticle", "sdk_version": "2.68.0"},
    "context": None,
    "environment": "development",
    "request_id": "0e7f6ab5-6e31-4a33-9c1a-9f4a52c5ff8e",
    "request_timestamp_ms": 1795294533301,
    "previous_mpid": None,
    "known_identities": {
        "customerid": "c-1",
        "email": "a@example.com",
        "other10": "o10",
        "mobile_number": "+1555",
        "device_application_stamp": "6a4c1ad1-30f2-4d0e-a3e5-04a6f5b0f0a5",
    },
}
WEB_SDK_HEADERS = {
    "content-type": "application/json",
    "accept": "text/plain;charset=UTF-8",
    "x-mp-key": "web-key",
    "origin": "https://shop.example",
}


def call_of(path: str, body: Any, headers: Any = BASIC) -> Call:
    engine = StrawEngine()
    answer = ask(edge(engine), "POST", path, body, headers)
    assert answer.status == 200, answer.message
    (call,) = engine.calls
    return call


# -- what reaches the engine -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", IDENTITY_PATHS)
def test_a_path_names_the_kind(path: str) -> None:
    call = call_of(path, resolving({"email": " Ada@Example.com"}))
    assert call == Call(
        "acme/production", "shop/server", Request(path.rsplit("/", 1)[1], {"email": " Ada@Example.com"})
    )


def test_the_web_sdks_body_is_taken_whole() -> None:
    call = call_of("/identity/v1/identify", WEB_SDK, WEB_SDK_HEADERS)
    assert call.space == "acme/development"
    assert call.input == "shop/web"
    assert call.request_id == WEB_SDK["request_id"]
    assert call.request == Request("identify", WEB_SDK["known_identities"])


@pytest.mark.parametrize("path", MODIFY_PATHS)
def test_the_web_sdks_modify_body_is_taken_whole(path: str) -> None:
    envelope = {name: value for name, value in WEB_SDK.items() if name not in ("previous_mpid", "known_identities")}
    changes = [
        {"old_value": "a@x", "new_value": "b@x", "identity_type": "email"},
        {"old_value": None, "new_value": "c-1", "identity_type": "customerid"},
        {"old_value": "o", "new_value": None, "identity_type": "other"},
    ]
    call = call_of(path, envelope | {"identity_changes": changes}, WEB_SDK_HEADERS)
    assert call.request == Request(
        "modify",
        mpid=MPID,
        changes=(
            IdentityChange("email", "a@x", "b@x"),
            IdentityChange("customerid", None, "c-1"),
            IdentityChange("other", "o", None),
        ),
    )
    assert call.request_id == WEB_SDK["request_id"]


def test_the_web_sdks_search_body_is_taken_whole() -> None:
    body = {name: value for name, value in WEB_SDK.items() if name not in ("context", "previous_mpid")}
    assert call_of("/v1/search?cb=1", body).request.kind == "search"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"context": "anything"},
        {"context": ""},
        {"request_id": None},
        {"request_id": ""},
        {"request_timestamp_ms": None},
        {"request_timestamp_ms": -1},
        {"client_sdk": None},
        {"client_sdk": {}},
        {"client_sdk": {"platform": "toaster", "build": "7", "sdk_version": None}},
    ],
)
def test_what_means_nothing_may_be_left_out_or_anything(more: dict[str, Any]) -> None:
    call = call_of("/v1/identify", resolving(**more))
    assert call.request_id == ""


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("7000000000001234567", 7000000000001234567),
        (7000000000001234567, 7000000000001234567),
        ("-9223372036854775808", -(2**63)),
        (9223372036854775807, 2**63 - 1),
        (None, None),
        (7.0, 7),
        ("", None),
        ("0", None),
        (0, None),
    ],
)
def test_previous_mpid_is_string_or_number_and_lossless(sent: Any, read: int | None) -> None:
    assert call_of("/v1/login", resolving(previous_mpid=sent)).request.previous_mpid == read


@pytest.mark.parametrize(
    "content_type", ["text/plain;charset=UTF-8", "application/json; charset=utf-8", "nonsense", ""]
)
def test_the_content_type_is_not_looked_at(content_type: str) -> None:
    call_of("/v1/identify", resolving(), BASIC | {"content-type": content_type})


def test_a_body_may_come_compressed_and_in_pieces() -> None:
    body = gzip.compress(json.dumps(resolving()).encode())
    for encoding in ("gzip", "GZIP", "x-gzip"):
        answer = ask(edge(), "POST", "/v1/identify", body, BASIC | {"content-encoding": encoding}, chunk=7)
        assert answer.status == 200
    assert ask(edge(), "POST", "/v1/identify", resolving(), BASIC | {"content-encoding": "identity"}).status == 200


def test_every_type_is_taken_by_both_names() -> None:
    for name, type_ in FROM_EVENTS.items():
        assert call_of("/v1/identify", resolving({name: "x1"})).request.identities == {type_: "x1"}
        change = {"identity_type": name, "old_value": None, "new_value": "x1"}
        assert call_of(MODIFY_PATHS[0], modifying(change)).request.changes[0].identity_type == type_
    assert set(FROM_EVENTS.values()) == IDENTITY_TYPES


def test_two_names_of_one_type_must_agree() -> None:
    same = call_of("/v1/identify", resolving({"customerid": "a", "customer_id": "a"}))
    assert same.request.identities == {"customerid": "a"}
    for one, two in (("a", None), (None, "a")):
        call = call_of("/v1/identify", resolving({"customerid": one, "customer_id": two}))
        assert call.request.identities == {"customerid": "a"}
    answer = ask(edge(), "POST", "/v1/identify", resolving({"customerid": "a", "customer_id": "b"}), BASIC)
    assert answer.status == 400
    assert answer.message.startswith("known_identities.customer_id: ")


def test_null_values_are_taken() -> None:
    assert call_of("/v1/logout", resolving({"email": None, "other": "o"})).request.identities["email"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_read_only_reaches_the_engine(kind: str) -> None:
    assert call_of(f"/v1/{kind}?read_only=true", resolving()).read_only
    assert not call_of(f"/v1/{kind}?read_only=false&cb=1", resolving()).read_only
    assert call_of(MODIFY_PATHS[0] + "?read_only=true", modifying()).read_only


@pytest.mark.parametrize(
    "query", ["read_only=1", "read_only=", "read_only=True", "return_matches=yes", "read_only=%00"]
)
@pytest.mark.parametrize("path", ["/v1/identify", MODIFY_PATHS[0]])
def test_flags_are_true_or_false(path: str, query: str) -> None:
    answer = ask(edge(), "POST", f"{path}?{query}", modifying() if "modify" in path else resolving(), BASIC)
    assert answer.status == 400
    assert answer.message.startswith(query.split("=")[0])


# -- what the answer looks like ----------------------------------------------------------------------------------


def answered(decision: Decision, path: str = "/v1/identify", body: Any = None, headers: Any = BASIC) -> Any:
    engine = StrawEngine(lambda call: decision)
    answer = ask(edge(engine), "POST", path, body or resolving({"email": " Ada@x.org", "other": None}), headers)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    return answer.json


def test_a_user_is_answered_with_the_mpid_as_a_string() -> None:
    assert answered(Decision(Trace("matched"), -MPID, True, ["email", "other"])) == {
        "context": "b25lc2VsZi0x",
        "mpid": f"-{MPID}",
        "matched_identities": {"email": " Ada@x.org"},
        "is_ephemeral": False,
        "is_logged_in": True,
    }


def test_a_would_be_new_user_has_no_mpid() -> None:
    body = answered(Decision(Trace("new"), None, False), "/v1/identify?read_only=true")
    assert body["mpid"] is None
    assert body["is_logged_in"] is False
    assert body["matched_identities"] == {}


def test_matches_can_be_left_out() -> None:
    decision = Decision(Trace("matched"), MPID, True, ["email"])
    assert answered(decision, "/v1/identify?return_matches=false")["matched_identities"] == {}
    assert answered(decision, "/v1/identify?return_matches=true")["matched_identities"] == {"email": " Ada@x.org"}


def test_a_repeated_answer_tells_nothing_that_was_not_sent() -> None:
    engine = StrawEngine(lambda call: Decision(Trace("matched"), MPID, True, ["email", "customerid", "other"]))
    first = {"email": "ada@example.com", "customerid": "secret", "other": "o1"}
    engine.repeated_from = Call("acme/production", "shop/web", Request("identify", first))
    body = resolving({"email": "ada@example.com", "other": "o2"}, request_id="r-1")
    assert ask(edge(engine), "POST", "/v1/identify", body, KEY).json["matched_identities"] == {
        "email": "ada@example.com"
    }


def test_a_modify_answer_lists_the_changes_and_no_mpid() -> None:
    changes = [
        {"identity_type": "email", "old_value": None, "new_value": "a@x.org"},
        {"identity_type": "other_id_2", "old_value": "o", "new_value": None},
    ]
    body = modifying(*changes)
    assert answered(Decision(Trace("modified"), MPID, True), MODIFY_PATHS[0], body) == {
        "change_results": [
            {"identity_type": "email", "modified_mpid": str(MPID)},
            {"identity_type": "other2", "modified_mpid": str(MPID)},
        ],
        "is_logged_in": True,
    }


@pytest.mark.parametrize("path", ["/v1/search", "/v1/identify", MODIFY_PATHS[0]])
@pytest.mark.parametrize(
    ("status", "code"), [(404, "NOT_FOUND_ERROR"), (400, "LOOKUP_ERROR"), (400, "IMMUTABLE_IDENTITY")]
)
def test_a_refusal_has_every_form_of_an_error(path: str, status: int, code: str) -> None:
    engine = StrawEngine(refused(status, code, "No."))
    request = modifying if "modify" in path else resolving
    answer = ask(edge(engine), "POST", path, request(request_id="r-1"), BASIC)
    assert answer.status == status
    assert answer.json == {
        "errors": [{"code": code, "message": "No."}],
        "Errors": [{"code": code, "message": "No."}],
        "ErrorCode": code,
        "StatusCode": status,
        "RequestId": "r-1",
        "code": code,
        "message": "No.",
    }


def test_an_error_without_a_request_id_gets_one() -> None:
    engine = StrawEngine(refused(400, "LOOKUP_ERROR", "No."))
    ids = {ask(edge(engine), "POST", "/v1/identify", resolving(), BASIC).json["RequestId"] for _ in range(3)}
    assert len({UUID(id_) for id_ in ids}) == 3


def test_an_error_has_the_request_id_of_a_body_that_is_wrong() -> None:
    body = {"request_id": "r-7", "environment": "moon"}
    assert ask(edge(), "POST", "/v1/identify", body, BASIC).json["RequestId"] == "r-7"
    body = {"request_id": "r" * 300, "environment": "production"}
    assert len(ask(edge(), "POST", "/v1/identify", body, BASIC).json["RequestId"]) == 36


def test_overload_and_trouble_say_when_to_come_back() -> None:
    engine = StrawEngine()
    engine.refusal = Overloaded(7)
    answer = ask(edge(engine), "POST", "/v1/identify", resolving(), KEY)
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    engine = StrawEngine()
    engine.failure = StoreUnavailable("The disk is full.")
    answer = ask(edge(engine), "POST", "/v1/identify", resolving(), KEY)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.message == "The disk is full."


def test_a_client_that_leaves_is_not_answered() -> None:
    engine = StrawEngine()
    app = edge(engine)
    with pytest.raises(ConnectionError):
        ask(app, "POST", "/v1/identify", b"{", BASIC | {"content-length": "5"}, chunk=-1)
    assert not engine.calls
