"""The alias endpoint: what reaches the engine, and what its clients are told (docs/alias.md)."""

from __future__ import annotations

from typing import Any

import pytest

from http_edge import ALIAS_PATHS, BASIC, StrawEngine, aliasing, ask, basic, edge, refused
from oneself.engine.calls import Call
from oneself.identity import AliasRequest, Request
from test_http_auth import signed

WEB = {"content-type": "application/json", "origin": "https://shop.example"}


@pytest.mark.parametrize("path", ALIAS_PATHS)
def test_the_web_sdks_request_is_accepted_without_a_header(path: str) -> None:
    engine = StrawEngine()
    body = aliasing(scope="device", device_application_stamp="stamp-1")
    answer = ask(edge(engine), "POST", path, body, WEB)
    assert answer.status == 202
    assert answer.body == b""
    assert answer.headers["content-length"] == "0"
    asked = AliasRequest(111, 222, 1, 2, "device", "stamp-1")
    assert engine.calls == [Call("acme/production", "shop/web", Request("alias", alias=asked), body["request_id"])]


@pytest.mark.parametrize(
    ("data", "asked"),
    [
        ({"scope": "mpid"}, AliasRequest(111, 222, 1, 2, "mpid")),
        ({"scope": None, "device_application_stamp": None}, AliasRequest(111, 222, 1, 2)),
        ({"start_unixtime_ms": None}, AliasRequest(111, 222, None, 2)),
        ({"end_unixtime_ms": None}, AliasRequest(111, 222, 1, None)),
        ({"source_mpid": -(2**63), "destination_mpid": 2**63 - 1}, AliasRequest(-(2**63), 2**63 - 1, 1, 2)),
        ({"source_mpid": 7.0, "start_unixtime_ms": 1.0}, AliasRequest(7, 222, 1, 2)),
        ({"source_mpid": str(-(2**63))}, AliasRequest(-(2**63), 222, 1, 2)),
    ],
)
def test_what_a_request_may_say(data: dict[str, Any], asked: AliasRequest) -> None:
    engine = StrawEngine()
    assert ask(edge(engine), "POST", ALIAS_PATHS[0], aliasing(**data), WEB).status == 202
    assert engine.calls[0].request.alias == asked


def test_only_mpids_and_environment_are_needed() -> None:
    engine = StrawEngine()
    body = {"environment": "development", "data": {"source_mpid": "1", "destination_mpid": "2"}}
    assert ask(edge(engine), "POST", ALIAS_PATHS[0], body, WEB).status == 202
    assert engine.calls[0] == Call("acme/development", "shop/web", Request("alias", alias=AliasRequest(1, 2)))


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"source_mpid": None}, "data.source_mpid"),
        ({"source_mpid": ""}, "data.source_mpid"),
        ({"source_mpid": "0"}, "data.source_mpid"),
        ({"destination_mpid": 0}, "data.destination_mpid"),
        ({"destination_mpid": "x"}, "data.destination_mpid"),
        ({"destination_mpid": 1.5}, "data.destination_mpid"),
        ({"destination_mpid": 2**63}, "data.destination_mpid"),
        ({"start_unixtime_ms": "1"}, "data.start_unixtime_ms"),
        ({"start_unixtime_ms": 1.5}, "data.start_unixtime_ms"),
        ({"end_unixtime_ms": 2**63}, "data.end_unixtime_ms"),
        ({"scope": "all"}, "data.scope"),
        ({"device_application_stamp": 1}, "data.device_application_stamp"),
        ({"device_application_stamp": "a\0"}, "data.device_application_stamp"),
        ({"surprise": 1}, "data.surprise"),
    ],
)
def test_what_a_request_may_not_say(data: dict[str, Any], field: str) -> None:
    engine = StrawEngine()
    answer = ask(edge(engine), "POST", ALIAS_PATHS[0], aliasing(**data), WEB)
    assert answer.status == 400
    assert answer.json["code"] == "INVALID_DATA"
    assert answer.json["message"].startswith(f"{field}: ")
    assert not engine.calls


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"api_key": "server-key"}, "api_key"),
        ({"request_type": "merge"}, "request_type"),
        ({"data": None}, "data"),
        ({"data": []}, "data"),
    ],
)
def test_what_its_envelope_may_not_say(change: dict[str, Any], field: str) -> None:
    answer = ask(edge(), "POST", ALIAS_PATHS[0], aliasing() | change, WEB)
    assert answer.status == 400
    assert answer.json["message"].startswith(f"{field}: ")


@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_is_flat(status: int) -> None:
    engine = StrawEngine(refused(status, "INVALID_DATA", "No."))
    answer = ask(edge(engine), "POST", ALIAS_PATHS[0], aliasing(), WEB)
    assert answer.status == status
    assert (answer.json["code"], answer.json["message"]) == ("INVALID_DATA", "No.")


def test_the_key_in_the_path_must_be_enough_alone() -> None:
    for key in ("server-key", "nobody", "WEB-KEY"):
        answer = ask(edge(), "POST", f"/v1/identity/{key}/Alias", aliasing(api_key=key), WEB)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")


def test_a_key_in_a_header_means_nothing_here() -> None:
    assert ask(edge(), "POST", ALIAS_PATHS[0], aliasing(), {"x-mp-key": "nobody"}).status == 202


def test_other_credentials_must_be_of_the_key_in_the_path() -> None:
    engine = StrawEngine()
    path = "/v1/identity/server-key/Alias"
    body = {"environment": "production", "data": {"source_mpid": "1", "destination_mpid": "2"}}
    assert ask(edge(engine), "POST", path, body, BASIC).status == 202
    assert engine.calls[0].input == "shop/server"
    assert ask(edge(), "POST", path, body, basic("server-key", "wrong")).status == 401
    assert ask(edge(), "POST", path, body, basic("other-key", "other-secret")).status == 403
    assert ask(edge(), "POST", ALIAS_PATHS[0], body, BASIC).status == 403


def test_a_signature_is_taken_too() -> None:
    path = "/v1/identity/server-key/Alias"
    body = b'{"environment":"production","data":{"source_mpid":"1","destination_mpid":"2"}}'
    assert ask(edge(), "POST", path, body, signed(path, body)).status == 202
    assert ask(edge(), "POST", path, body, signed(path, body, secret="wrong")).status == 401
    stranger = signed(path, body, key="other-key", secret="other-secret")
    assert ask(edge(), "POST", path, body, stranger).status == 403
