"""Whatever a body is, the answer is a 4xx that names what is wrong, and nothing reaches the engine (docs/http.md)."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from http_edge import (
    ALIAS_PATHS,
    BASIC,
    KEY,
    MODIFY_PATHS,
    Answer,
    StrawEngine,
    aliasing,
    ask,
    edge,
    modifying,
    resolving,
)
from oneself.http.body import BODY_LIMIT
from oneself.http.field_errors import find_nul

IDENTIFY, MODIFY, ALIAS = "/v1/identify", MODIFY_PATHS[0], ALIAS_PATHS[0]
RIGHT = {IDENTIFY: resolving, MODIFY: modifying, ALIAS: aliasing}


def asked(path: str, body: Any, headers: Any = None) -> Answer:
    """Send a body; whatever comes back is no fault of the server, and a wrong request does not reach the engine."""
    engine = StrawEngine()
    answer = ask(edge(engine), "POST", path, body, headers or (KEY if path == ALIAS else BASIC))
    assert answer.status < 500
    assert (answer.status < 300) == bool(engine.calls)
    if answer.status >= 400:
        assert answer.json["ErrorCode"]
        assert answer.message
    return answer


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


DEEP = b"[" * 100_000
HUGE = b"9" * 5000

BAD_EVERYWHERE = [
    (b"", "body"),
    (b" ", "body"),
    (b"null", "body"),
    (b"[]", "body"),
    (b'"x"', "body"),
    (b"1", "body"),
    (b"{", "body"),
    (b"{}x", "environment"),
    (b"{'a':1}", "body"),
    (b"\xef\xbb\xbf{}", "body"),
    ("{}".encode("utf-16"), "body"),
    ("{}".encode("utf-32-le"), "body"),
    (b"\x00", "body"),
    (b"\x1f\x8b\x08\x00", "body"),
    (DEEP, "body"),
    (b'{"environment":' * 5_000, "environment"),
    (b'{"environment":' + DEEP, "environment"),
    (b'{"request_id":' + HUGE + b"}", "request_id"),
    (b'{"request_id":"\xff"}', "body"),
    (b'{"request_id":"\xed\xa0\x80"}', "body"),
    (b'{"request_id":"\\ud800"}', "body"),
    (b'{"request_id":"\\udc00x"}', "body"),
    (b'{"request_id":"\x01"}', "body"),
    (b'{"\xff":1}', "body"),
    (b'{"request_id":NaN}', "body"),
    (b'{"request_id":1e999}', "request_id"),
    (b"{}", "environment"),
    (b'{"environment":null}', "environment"),
    (b'{"environment":1}', "environment"),
    (b'{"environment":"staging"}', "environment"),
    (b'{"environment":"Production"}', "environment"),
    (b'{"environment":["production"]}', "environment"),
]


@pytest.mark.parametrize("path", RIGHT)
@pytest.mark.parametrize(("body", "field"), BAD_EVERYWHERE, ids=lambda part: repr(part)[:40])
def test_what_is_no_request_at_all(path: str, body: bytes, field: str) -> None:
    answer = asked(path, body)
    assert answer.status == 400
    assert answer.message.startswith(f"{field}: "), answer.message
    assert len(answer.body) < 5000


@pytest.mark.parametrize("path", RIGHT)
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"request_id": 1}, "request_id"),
        ({"request_id": {}}, "request_id"),
        ({"request_id": "x" * 257}, "request_id"),
        ({"request_id": "a\0b"}, "request_id"),
        ({"surprise": 1}, "surprise"),
        ({"x" * 10_000: 1}, "x" * 64 + "…"),
        ({"a - at `key` in `$.zzz": 1}, "zzz.a"),
        ({"a` - at `$.known_identities[...]": 1}, "known_identities[...].a"),
        ({"": 1}, ""),
        ({"environment": "x - at `$.request_id"}, "environment"),
    ],
    ids=lambda part: repr(part)[:50],
)
def test_what_every_request_may_not_have(path: str, change: dict[str, Any], field: str) -> None:
    answer = asked(path, RIGHT[path]() | change)
    assert answer.status == 400
    assert answer.message.startswith(f"{field}: "), answer.message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"known_identities": None}, "known_identities"),
        ({"known_identities": []}, "known_identities"),
        ({"known_identities": "email"}, "known_identities"),
        ({"known_identities": {}}, "known_identities"),
        ({"known_identities": {"email": 1}}, "known_identities.email"),
        ({"known_identities": {"email": 1.5}}, "known_identities.email"),
        ({"known_identities": {"email": True}}, "known_identities.email"),
        ({"known_identities": {"email": {}}}, "known_identities.email"),
        ({"known_identities": {"other": "x", "email": ["a@x.org"]}}, "known_identities.email"),
        ({"known_identities": {"emial": "a@x.org"}}, "known_identities.emial"),
        ({"known_identities": {"Email": "a@x.org"}}, "known_identities.Email"),
        ({"known_identities": {"": "a@x.org"}}, "known_identities."),
        ({"known_identities": {"mpid": "1"}}, "known_identities.mpid"),
        ({"known_identities": {"email": "a\0b"}}, "known_identities.email"),
        ({"known_identities": {"em\0ail": "a"}}, "known_identities.em\0ail"),
        ({"previous_mpid": "testMPID"}, "previous_mpid"),
        ({"previous_mpid": "1.0"}, "previous_mpid"),
        ({"previous_mpid": 1.5}, "previous_mpid"),
        ({"previous_mpid": 2.0**60}, "previous_mpid"),
        ({"previous_mpid": True}, "previous_mpid"),
        ({"previous_mpid": 2**63}, "previous_mpid"),
        ({"previous_mpid": str(2**63)}, "previous_mpid"),
        ({"previous_mpid": 10**400}, "previous_mpid"),
        ({"previous_mpid": "1" * 5000}, "previous_mpid"),
        ({"previous_mpid": "١٢٣"}, "previous_mpid"),
        ({"previous_mpid": "--1"}, "previous_mpid"),
        ({"previous_mpid": "1_0"}, "previous_mpid"),
        ({"previous_mpid": []}, "previous_mpid"),
        ({"context": 1}, "context"),
        ({"context": "a\0b"}, "context"),
        ({"client_sdk": "web"}, "client_sdk"),
        ({"client_sdk": {"platform": 1}}, "client_sdk.platform"),
        ({"client_sdk": {"platform": {"deep": []}}}, "client_sdk.platform"),
        ({"client_sdk": {"platform": "a\0b"}}, "client_sdk.platform"),
        ({"client_sdk": {"a\0": "b"}}, "client_sdk"),
        ({"request_timestamp_ms": "1"}, "request_timestamp_ms"),
        ({"request_timestamp_ms": 1.5}, "request_timestamp_ms"),
        ({"request_timestamp_ms": 10**30}, "request_timestamp_ms"),
        ({"identity_changes": []}, "identity_changes"),
    ],
    ids=lambda part: repr(part)[:50],
)
def test_what_a_resolving_request_may_not_have(change: dict[str, Any], field: str) -> None:
    answer = asked(IDENTIFY, resolving() | change)
    assert answer.status == 400
    assert answer.message.startswith(f"{field}: "), answer.message


def test_an_unknown_type_is_answered_with_those_allowed() -> None:
    answer = asked(IDENTIFY, resolving({"emial": "a@x.org"}))
    assert "customerid" in answer.message
    assert "email" in answer.message
    assert "a@x.org" not in answer.message
    answer = asked(MODIFY, modifying({"identity_type": "emial", "old_value": None, "new_value": "a@x.org"}))
    assert answer.message.startswith("identity_changes[0].identity_type: ")
    assert "customerid" in answer.message


def test_nothing_to_look_up_is_a_lookup_error() -> None:
    assert asked(IDENTIFY, resolving({})).json["ErrorCode"] == "LOOKUP_ERROR"


CHANGE = {"identity_type": "email", "old_value": None, "new_value": "a@x.org"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (None, "identity_changes"),
        ({}, "identity_changes"),
        ([], "identity_changes"),
        ([CHANGE] * 101, "identity_changes"),
        ([1], "identity_changes[0]"),
        ([CHANGE, None], "identity_changes[1]"),
        ([CHANGE, without(CHANGE, "identity_type")], "identity_changes[1].identity_type"),
        ([without(CHANGE, "old_value")], "identity_changes[0].old_value"),
        ([without(CHANGE, "new_value")], "identity_changes[0].new_value"),
        ([CHANGE | {"new_value": None}], "identity_changes[0]"),
        ([CHANGE | {"new_value": 1}], "identity_changes[0].new_value"),
        ([CHANGE | {"new_value": "a\0b"}], "identity_changes[0].new_value"),
        ([CHANGE | {"old_value": []}], "identity_changes[0].old_value"),
        ([CHANGE | {"identity_type": None}], "identity_changes[0].identity_type"),
        ([CHANGE | {"identity_type": "x"}], "identity_changes[0].identity_type"),
        ([CHANGE | {"extra": 1}], "identity_changes[0].extra"),
    ],
    ids=lambda part: repr(part)[:50],
)
def test_what_a_modify_request_may_not_have(changes: Any, field: str) -> None:
    answer = asked(MODIFY, modifying() | {"identity_changes": changes})
    assert answer.status == 400
    assert answer.message.startswith(f"{field}: "), answer.message


@pytest.mark.parametrize(
    "mpid",
    ["undefined", "null", "0", "-0", "00", "-", "1.0", "1e3", "+1", "0x1", "1_0", "9223372036854775808",
     "-9223372036854775809", "1" * 5000, "abc", "identity", "NaN", "1;2", "1'--"],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["/v1", "/identity/v1"])
def test_a_modify_path_must_name_an_mpid(prefix: str, mpid: str) -> None:
    answer = asked(f"{prefix}/{mpid}/modify", modifying(), KEY)
    assert answer.status == 400
    assert answer.message.startswith("mpid (in the path): ")
    assert answer.json["StatusCode"] == 400


@pytest.mark.parametrize("mpid", ["1", "-1", "9223372036854775807", "-9223372036854775808"])
def test_any_other_64_bit_integer_is_an_mpid(mpid: str) -> None:
    assert asked(f"/v1/{mpid}/modify", modifying()).json["change_results"][0]["modified_mpid"] == mpid


# -- sizes and encodings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RIGHT)
def test_a_body_has_a_limit(path: str) -> None:
    right = json.dumps(RIGHT[path]()).encode()
    whole = right + b" " * (BODY_LIMIT - len(right))
    assert asked(path, whole).status < 300
    assert asked(path, whole + b" ").status == 413
    assert asked(path, b"x" * 10_000_000).status == 413


@pytest.mark.parametrize("declared", ["131073", "10000000", "9" * 30])
def test_a_body_that_says_that_it_is_too_large_is_not_read(declared: str) -> None:
    headers = BASIC | {"content-length": declared}
    assert ask(edge(), "POST", IDENTIFY, b"{}", headers, chunk=1).status == 413


def test_a_body_in_pieces_has_the_same_limit() -> None:
    answer = ask(edge(), "POST", IDENTIFY, b" " * 10_000_000, BASIC, chunk=65_536)
    assert answer.status == 413


@pytest.mark.parametrize("path", RIGHT)
def test_a_compressed_body_has_the_same_limit_once_it_is_plain(path: str) -> None:
    packing = (KEY if path == ALIAS else BASIC) | {"content-encoding": "gzip"}
    right = json.dumps(RIGHT[path]()).encode()
    assert asked(path, gzip.compress(right + b" " * (BODY_LIMIT - len(right))), packing).status < 300
    bomb = gzip.compress(b" " * 50_000_000, mtime=0)
    assert len(bomb) < BODY_LIMIT
    assert asked(path, bomb, packing).status == 413


@pytest.mark.parametrize(
    "damaged",
    [
        b"{}",
        gzip.compress(b"{}", mtime=0)[:-1],
        gzip.compress(b"{}", mtime=0)[:5],
        gzip.compress(b"{}", mtime=0) + b"x",
        gzip.compress(b"{}", mtime=0) * 2,
        zlib.compress(b"{}"),
        gzip.compress(b"{}", mtime=0)[:-8] + b"\0" * 8,
    ],
)
def test_damaged_gzip_is_refused(damaged: bytes) -> None:
    answer = asked(IDENTIFY, damaged, BASIC | {"content-encoding": "gzip"})
    assert answer.status == 400
    assert answer.message.startswith("body: ")


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "gzip;q=1", "é"])
def test_other_encodings_are_not_understood(encoding: str) -> None:
    answer = asked(IDENTIFY, resolving(), BASIC | {"content-encoding": encoding})
    assert answer.status == 415
    assert answer.message.startswith("Content-Encoding: ")


# -- anything at all -----------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)
FIELDS = [
    "environment", "known_identities", "identity_changes", "data", "client_sdk", "context", "request_id",
    "request_timestamp_ms", "previous_mpid", "request_type", "api_key",
]  # fmt: skip


@given(path=st.sampled_from(list(RIGHT)), body=st.binary(max_size=200))
@example(path=IDENTIFY, body=b'{"known_identities":{"email":1e999}}')
@example(path=IDENTIFY, body=b'{"known_identities":{"email":1}x')
@example(path=IDENTIFY, body=b'{"known_identities":{"email":1,"a":' + DEEP)
@example(path=IDENTIFY, body=b'{"known_identities":{"emial":"x"},"\xff":1}')
def test_any_bytes(path: str, body: bytes) -> None:
    assert asked(path, body).status == 400


@given(path=st.sampled_from(list(RIGHT)), body=anything)
def test_any_json(path: str, body: Any) -> None:
    assert asked(path, json.dumps(body).encode()).status == 400


@given(path=st.sampled_from(list(RIGHT)), change=st.dictionaries(st.sampled_from(FIELDS) | st.text(), anything))
def test_a_right_body_with_anything_in_it(path: str, change: dict[str, Any]) -> None:
    answer = asked(path, json.dumps(RIGHT[path]() | change).encode())
    assert answer.status < 500


@given(known=st.dictionaries(st.sampled_from(["email", "customer_id", "other"]) | st.text(), anything, min_size=1))
def test_any_identities(known: dict[str, Any]) -> None:
    answer = asked(IDENTIFY, json.dumps(resolving(known)).encode())
    if answer.status != 200:
        assert answer.message.startswith("known_identities")


@given(value=anything)
def test_nul_is_found_wherever_it_is(value: Any) -> None:
    found = find_nul(json.dumps(value).encode())
    assert (found is not None) == ("\\u0000" in json.dumps(value).replace("\\\\", ""))
