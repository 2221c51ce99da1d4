"""Who may do what: Basic, HMAC, a key alone (docs/http.md)."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_edge import (
    BASIC,
    CONFIG,
    IDENTITY_PATHS,
    KEY,
    MODIFY_PATHS,
    MPID,
    NOW,
    Answer,
    StrawEngine,
    ask,
    basic,
    edge,
    modifying,
    resolving,
)
from oneself.http.auth import Gate

BODY = json.dumps(resolving()).encode()


def moment(seconds: float = 0) -> datetime:
    return datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=seconds)


def iso(seconds: float = 0) -> str:
    return moment(seconds).strftime("%Y%m%dT%H%M%SZ")


def signed(
    target: str = "/v1/identify", body: bytes = BODY, *, key: str = "server-key", secret: str = "server-secret",
    date: str = "", method: str = "POST",
) -> dict[str, str]:  # fmt: skip
    date = date or iso()
    text = f"{method}\n{date}\n{target}".encode() + body
    signature = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    return {"x-mp-key": key, "date": date, "x-mp-signature": signature}


def identify(headers: dict[str, str], target: str = "/v1/identify", body: bytes = BODY) -> Answer:
    return ask(edge(), "POST", target, body, headers)


def assert_unauthorized(answer: Answer) -> None:
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert answer.json["ErrorCode"] == "UNAUTHORIZED"
    assert answer.headers["access-control-allow-origin"] == "*"


# -- Basic -------------------------------------------------------------------------------------------------------


def test_basic_names_the_input_and_its_space() -> None:
    engine = StrawEngine()
    app = edge(engine)
    assert ask(app, "POST", "/v1/identify", BODY, basic("server-key", "server-secret")).status == 200
    assert ask(app, "POST", "/v1/identify", BODY, basic("other-key", "other-secret")).status == 200
    assert ask(app, "POST", "/v1/identify", BODY, basic("server-key", "server-secret")).status == 200
    assert [(call.input, call.space) for call in engine.calls] == [
        ("shop/server", "acme/production"),
        ("other/server", "other/production"),
        ("shop/server", "acme/production"),
    ]


def test_basic_with_another_scheme_case_and_spaces() -> None:
    encoded = base64.b64encode(b"server-key:server-secret").decode()
    assert identify({"authorization": f"basic   {encoded} "}).status == 200


@pytest.mark.parametrize(
    "header",
    [
        "Basic " + base64.b64encode(b"server-key:wrong").decode(),
        "Basic " + base64.b64encode(b"server-key:").decode(),
        "Basic " + base64.b64encode(b"server-key").decode(),
        "Basic " + base64.b64encode(b"nobody:server-secret").decode(),
        "Basic " + base64.b64encode(b"web-key:server-secret").decode(),
        "Basic " + base64.b64encode(b"bare-key:").decode(),
        "Basic Og==",
        "Basic !!!",
        "Basic",
        "Bearer abc",
        "Digest username=x",
        "server-key:server-secret",
    ],
)
def test_wrong_basic_is_refused(header: str) -> None:
    assert_unauthorized(identify({"authorization": header}))


def test_an_empty_authorization_header_is_none() -> None:
    assert_unauthorized(identify({"authorization": ""}))
    assert identify({"authorization": "", "x-mp-key": "web-key"}).status == 200


def test_no_credentials_are_refused_with_advice() -> None:
    answer = identify({})
    assert_unauthorized(answer)
    assert "Authorization: Basic" in answer.message
    assert "x-mp-key" in answer.message


def test_nothing_tells_whether_a_key_exists() -> None:
    for known, unknown in [
        (basic("server-key", "wrong"), basic("nobody", "wrong")),
        ({"x-mp-key": "server-key"}, {"x-mp-key": "nobody"}),
        (signed(secret="wrong"), signed(key="nobody", secret="wrong")),
        (signed(key="bare-key", secret=""), signed(key="nobody", secret="")),
    ]:
        first, second = identify(known), identify(unknown)
        assert_unauthorized(first)
        assert first.message == second.message
        assert "-key" not in first.message.replace("x-mp-key", "")


def test_remembered_headers_are_bounded() -> None:
    gate = Gate(CONFIG)
    for spaces in range(3000):
        header = BASIC["authorization"].replace(" ", " " + " " * spaces, 1).encode()
        assert gate.admit({b"authorization": header}) is not None
    assert len(gate._by_basic) <= 1024


# -- HMAC ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*IDENTITY_PATHS, *MODIFY_PATHS])
def test_a_signature_is_taken_on_every_identity_path(path: str) -> None:
    body = json.dumps(modifying() if path.endswith("modify") else resolving()).encode()
    assert ask(edge(), "POST", path, body, signed(path, body)).status == 200


def test_both_date_forms_are_taken() -> None:
    rfc = format_datetime(moment(), usegmt=True)
    assert rfc == "Sat, 21 Nov 2026 20:55:33 GMT"
    assert identify(signed(date=rfc)).status == 200
    assert identify(signed(date="20261121T205533Z")).status == 200
    assert identify(signed(date="2026-11-21T20:55:33Z")).status == 200
    assert identify(signed(date="2026-11-21T20:55:33.123Z")).status == 200
    assert identify(signed(date="20261121T215533+0100")).status == 200


@pytest.mark.parametrize(("seconds", "status"), [(-899, 200), (899, 200), (-901, 401), (901, 401), (-1e9, 401)])
def test_a_date_may_be_15_minutes_off(seconds: float, status: int) -> None:
    assert identify(signed(date=iso(seconds))).status == status
    assert identify(signed(date=format_datetime(moment(seconds), usegmt=True))).status == status


@pytest.mark.parametrize("date", ["yesterday", "0", "20261321T205533Z", "Sat", "20261121", " ", "٢٠٢٦", "9" * 400])
def test_other_dates_are_refused(date: str) -> None:
    headers = signed() | {"date": date.encode().decode("latin-1")}
    assert_unauthorized(identify(headers))


def test_a_signed_request_needs_a_date() -> None:
    headers = signed()
    del headers["date"]
    answer = identify(headers)
    assert_unauthorized(answer)
    assert answer.message.startswith("Date: ")


def test_the_query_may_be_signed_or_not() -> None:
    target = "/v1/identify?read_only=true&x=1"
    assert identify(signed(target), target).status == 200
    assert identify(signed("/v1/identify"), target).status == 200
    assert_unauthorized(identify(signed("/v1/identify?read_only=false"), target))


def test_hex_is_taken_in_any_case() -> None:
    headers = signed()
    assert identify(headers | {"x-mp-signature": headers["x-mp-signature"].upper()}).status == 200


def test_the_body_is_signed_before_compression() -> None:
    packed, packing = gzip.compress(BODY), {"content-encoding": "gzip"}
    assert identify(signed() | packing, body=packed).status == 200
    assert_unauthorized(identify(signed(body=packed) | packing, body=packed))


@pytest.mark.parametrize(
    "change",
    [
        {"x-mp-signature": ""},
        {"x-mp-signature": "0" * 64},
        {"x-mp-signature": "é" * 64},
        {"x-mp-key": "web-key"},
        {"x-mp-key": "other-key"},
        {"date": iso(1)},
    ],
)
def test_anything_else_signed_is_refused(change: dict[str, str]) -> None:
    assert_unauthorized(identify(signed() | change))


def test_method_path_and_body_are_signed() -> None:
    assert_unauthorized(identify(signed(method="PUT")))
    assert_unauthorized(identify(signed("/v1/login")))
    assert_unauthorized(identify(signed("/identity/v1/identify")))
    assert_unauthorized(identify(signed(), body=BODY + b" "))


def test_a_signature_without_a_key_is_no_credential() -> None:
    headers = signed()
    del headers["x-mp-key"]
    assert_unauthorized(identify(headers))


def test_an_input_without_a_secret_cannot_sign() -> None:
    assert_unauthorized(identify(signed(key="bare-key", secret="")))


@given(date=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=60))
def test_no_date_breaks_the_gate(date: str) -> None:
    assert identify(signed() | {"date": date}).status == 401


@given(header=st.text(st.characters(codec="latin-1"), max_size=60))
def test_no_authorization_breaks_the_gate(header: str) -> None:
    assert identify({"authorization": "Basic " + header}).status == 401


# -- a key alone ---------------------------------------------------------------------------------------------------


def test_a_key_alone_is_enough_where_the_input_allows_it() -> None:
    app = edge()
    for kind in ("identify", "login", "logout"):
        assert ask(app, "POST", f"/v1/{kind}", BODY, {"x-mp-key": "web-key"}).status == 200
        assert ask(app, "POST", f"/v1/{kind}", BODY, {"x-mp-key": "bare-key"}).status == 200
    assert ask(app, "POST", MODIFY_PATHS[0], modifying(), KEY).status == 200
    assert_unauthorized(identify({"x-mp-key": "server-key"}))
    assert_unauthorized(identify({"x-mp-key": "nobody"}))
    assert_unauthorized(identify({"x-mp-key": ""}))


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v1/search", resolving()),
        ("/identity/v1/search?cb=1", resolving()),
        ("/v1/identify?read_only=true", resolving()),
        ("/v1/login?read_only=true", resolving()),
        ("/v1/logout?read_only=true", resolving()),
        (f"/v1/{MPID}/modify?read_only=true", modifying()),
    ],
)
def test_a_key_alone_learns_nothing(target: str, body: Any) -> None:
    engine = StrawEngine()
    answer = ask(edge(engine), "POST", target, body, KEY)
    assert answer.status == 403
    assert answer.json["ErrorCode"] == "FORBIDDEN"
    assert not engine.calls
    assert ask(edge(), "POST", target, body, BASIC).status == 200
    assert ask(edge(), "POST", target, body, basic("web-key", "web-secret")).status == 200
