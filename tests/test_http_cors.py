"""Every answer can be read by a web page of any origin, and no path is ever redirected (docs/http.md)."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from http_edge import (
    ALIAS_PATHS,
    AUDIENCE_PATHS,
    BULK_PATHS,
    CONFIG_PATHS,
    FORWARDING_PATHS,
    IDENTITY_PATHS,
    KEY,
    MODIFY_PATHS,
    MPID,
    ONE_BATCH_PATHS,
    OPERATION_PATHS,
    WEB_EVENT_PATHS,
    StrawEngine,
    aliasing,
    ask,
    basic,
    batch,
    edge,
    modifying,
    refused,
    resolving,
)
from oneself.errors import Overloaded, StoreUnavailable
from oneself.http.openapi import document

DECIDED_PATHS = [*IDENTITY_PATHS, *MODIFY_PATHS, *ALIAS_PATHS, *ONE_BATCH_PATHS, *BULK_PATHS, *WEB_EVENT_PATHS]
POST_PATHS = [*DECIDED_PATHS, *FORWARDING_PATHS]
GET_PATHS = [*CONFIG_PATHS, *OPERATION_PATHS, *AUDIENCE_PATHS]

VALUES = {"key": "web-key", "mpid": str(MPID)}


def concrete(path: str) -> str:
    """Return a documented path with something in the place of its parameters."""
    return re.sub(r"\{(\w+)\}", lambda name: VALUES.get(name[1], "1"), path)


METHODS = {
    concrete(path): {method.upper() for method in ("get", "post", "put", "delete") if method in described}
    for path, described in msgspec.json.decode(document())["paths"].items()
}
"""Every path that is described, those that other tests are about too, with its methods."""


def body_of(path: str) -> Any:
    match path.rpartition("/")[2]:
        case "Alias":
            return aliasing()
        case "modify":
            return modifying()
        case "bulkevents" | "historical":
            return [batch()]
        case "events":
            return batch()
        case "Forwarding":
            return {"mid": "1", "n": "Viewed"}
        case _:
            return resolving()


def assert_readable(headers: dict[str, str]) -> None:
    assert headers["access-control-allow-origin"] == "*"
    exposed = {name.strip() for name in headers["access-control-expose-headers"].split(",")}
    assert {"X-MP-Max-Age", "Retry-After"} == exposed


def test_the_paths_of_these_tests_are_described() -> None:
    assert {path for path, methods in METHODS.items() if "POST" in methods} >= set(POST_PATHS)
    assert {path for path, methods in METHODS.items() if "GET" in methods} >= set(GET_PATHS)


@pytest.mark.parametrize("path", METHODS)
def test_preflight_is_answered_without_credentials(path: str) -> None:
    answer = ask(edge(), "OPTIONS", path, headers={"origin": "https://shop.example"})
    assert answer.status == 204
    assert answer.body == b""
    assert_readable(answer.headers)
    assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "content-type, x-mp-key"
    assert int(answer.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize("path", [*POST_PATHS, *GET_PATHS])
def test_a_right_answer_is_readable(path: str) -> None:
    method = "GET" if path in GET_PATHS else "POST"
    answer = ask(edge(), method, path, b"" if method == "GET" else body_of(path))
    assert answer.status in (200, 202) or path.endswith("search")
    assert_readable(answer.headers)
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize("path", DECIDED_PATHS)
@pytest.mark.parametrize(
    ("failure", "status"),
    [(Overloaded(3), 429), (StoreUnavailable("The disk is full."), 503), (RuntimeError("x"), 500)],
)
def test_a_failure_is_readable(path: str, failure: Exception, status: int) -> None:
    for when in ("refusal", "failure"):
        engine = StrawEngine()
        setattr(engine, when, failure)
        headers = basic("web-key", "web-secret")
        answer = ask(edge(engine), "POST", path, body_of(path), headers)
        assert answer.status == status
        assert_readable(answer.headers)
        assert answer.json["StatusCode"] == status
        assert ("retry-after" in answer.headers) == (status in (429, 503))


@pytest.mark.parametrize("path", DECIDED_PATHS)
def test_wrong_requests_are_readable(path: str) -> None:
    too_large = ask(edge(), "POST", path, b"x" * 300_000, KEY)
    assert too_large.status == 413
    for answer in (
        too_large,
        ask(edge(), "POST", path, b"{", KEY),
        ask(edge(), "POST", path, b"", KEY),
        ask(edge(), "POST", path, b"{}", KEY | {"content-encoding": "br"}),
        ask(edge(), "POST", path.replace("web-key", "nobody"), body_of(path), {"x-mp-key": "nobody"}),
    ):
        assert 400 <= answer.status < 500
        assert_readable(answer.headers)
        assert answer.json["ErrorCode"]


@pytest.mark.parametrize("path", [*IDENTITY_PATHS, *MODIFY_PATHS, *ALIAS_PATHS, *ONE_BATCH_PATHS])
def test_a_refusal_is_readable(path: str) -> None:
    engine = StrawEngine(refused(403, "ALIAS_NOT_ALLOWED", "No."))
    answer = ask(edge(engine), "POST", path, body_of(path), basic("web-key", "web-secret"))
    assert (answer.status, answer.json["ErrorCode"]) == (403, "ALIAS_NOT_ALLOWED")
    assert_readable(answer.headers)


@pytest.mark.parametrize("path", METHODS)
def test_another_method_is_refused_with_those_allowed(path: str) -> None:
    right = METHODS[path]
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE"} - right:
        answer = ask(edge(), method, path, b"{}")
        assert answer.status == 405
        assert_readable(answer.headers)
        allowed = set(answer.headers["allow"].split(", "))
        assert allowed == {*right, "OPTIONS"} | ({"HEAD"} if "GET" in right else set())
        assert answer.json["ErrorCode"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize("path", GET_PATHS)
def test_head_is_taken_where_get_is(path: str) -> None:
    assert ask(edge(), "HEAD", path).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/v1",
        "/v1/",
        "/v1/identify/",
        "//v1/identify",
        "/v1//identify",
        "/v1/Identify",
        "/V1/identify",
        "/v1/identif%79",
        "/v1%2Fidentify",
        "/v2/identify",
        "/v2",
        "/v2/",
        "/v2/events/",
        "/v2/Events",
        "/v2///events",
        "//v2/events",
        "/v2/bulkevents/",
        "/v2/bulkevents/historical/",
        "/v2//bulkevents//historical",
        "/s2s/events",
        "/s2s/v2//events",
        "/v3/JS/web-key/Events",
        "/v3/js/web-key/events",
        "/v3/JS//events",
        "/v3/JS/web-key/events/",
        "/v3/JS/web%2Dkey/events",
        "/v1/JS/web-key/events",
        "/v3/JS/web-key/Forwarding",
        "/v2/JS/web-key/forwarding",
        "/webevents//v3/JS/web-key/events",
        "/v1//audience",
        "/v1/a/b/audience",
        "/identity/v1",
        "/identity/v1/identify/x",
        "/v1/modify",
        "/v1//modify",
        "/v1/1/2/modify",
        "/v1/%31/modify",
        "/v1/1%2F2/modify",
        "/identity/v1//modify",
        "/x/v1/1/modify",
        "/modify",
        "/v1/identity/web-key/alias",
        "/v1/identity//Alias",
        "/v1/identity/web-key/Alias/",
        "/v1/identity/web%2Dkey/Alias",
        "/v1/identity/a/b/Alias",
        "/identity/v1/identity/web-key/Alias",
        "/JS/v2//config",
        "/js/v2/web-key/config",
        "/JS/v2/web-key/config/",
        "/tags//JS/v2/web-key/config",
        "/healthz/",
        "/healthz\x7f",
        "/../healthz",
        "/metrics/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_paths_are_taken_as_sent(method: str, path: str) -> None:
    answer = ask(edge(), method, path, b"{}")
    assert answer.status == 404
    assert_readable(answer.headers)
    assert "location" not in answer.headers
    assert answer.json["ErrorCode"] == "NOT_FOUND_ERROR"
