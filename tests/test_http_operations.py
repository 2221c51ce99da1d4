"""Liveness, readiness, metrics, and what happens when something breaks (docs/operations.md)."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from http_edge import BASIC, CONFIG, KEY, LOG, MODIFY_PATHS, StrawEngine, ask, edge, modifying, resolving
from oneself import logs
from oneself.http import Conflicts, Gauge, Groups, create_app


def test_alive_is_always_answered() -> None:
    engine = StrawEngine()
    engine.ready = False
    answer = ask(edge(engine), "GET", "/healthz", headers={})
    assert (answer.status, answer.json) == (200, {"status": "alive"})
    assert ask(edge(engine), "GET", "/healthz?x=1").status == 200


def test_ready_is_what_the_engine_says() -> None:
    engine = StrawEngine()
    app = edge(engine)
    assert ask(app, "GET", "/readyz").json == {"ready": True}
    engine.ready = False
    answer = ask(app, "GET", "/readyz")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0


def test_metrics_count_requests_by_documented_path_and_status() -> None:
    engine = StrawEngine()
    engine.waiting = 5
    app = create_app(CONFIG, engine, collectors=[Gauge("oneself_journal_position", "The last.", lambda: 17)])
    for path in ("/v1/identify", "/identity/v1/identify", "/v1/login"):
        ask(app, "POST", path, resolving(), KEY)
    ask(app, "POST", "/v1/identify", b"{", KEY)
    ask(app, "POST", MODIFY_PATHS[0], modifying(), KEY)
    ask(app, "GET", "/nowhere/web-key")
    ask(app, "OPTIONS", "/v1/identify")
    answer = ask(app, "GET", "/metrics", headers={})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    counts = {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for sample in families["oneself_http_requests"].samples
    }
    assert counts == {
        ("/v1/identify", "200"): 2,
        ("/v1/login", "200"): 1,
        ("/v1/identify", "400"): 1,
        ("/v1/{mpid}/modify", "200"): 1,
        ("other", "404"): 1,
        ("/v1/identify", "204"): 1,
    }
    seconds = [
        sample.value
        for sample in families["oneself_http_request_seconds"].samples
        if sample.name.endswith("_bucket") and sample.labels["route"] == "/v1/identify"
    ]
    assert seconds == sorted(seconds)
    assert seconds[-1] == 4
    assert families["oneself_waiting"].samples[0].value == 5
    assert families["oneself_ready"].samples[0].value == 1
    assert families["oneself_journal_position"].samples[0].value == 17


def test_metrics_tell_how_calls_are_grouped() -> None:
    groups = Groups()
    for size in (1, 1, 3, 300):
        groups.record(size, 0.004, 0.001)
    answer = ask(create_app(CONFIG, StrawEngine(), collectors=[groups]), "GET", "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    sizes = {sample.labels.get("le", sample.name): sample.value for sample in families["oneself_group_size"].samples}
    assert (sizes["1.0"], sizes["2.0"], sizes["4.0"], sizes["256.0"], sizes["+Inf"]) == (2, 2, 3, 3, 4)
    assert sizes["oneself_group_size_sum"] == 305
    assert families["oneself_group_seconds"].samples[-1].value > 0


def test_metrics_tell_what_other_servers_changed() -> None:
    answer = ask(create_app(CONFIG, StrawEngine(), collectors=[Conflicts(lambda: {"holders": 2})]), "GET", "/metrics")
    assert b'oneself_conflicts_total{what="holders"} 2.0' in answer.body


@pytest.fixture(autouse=True)
def logging_here() -> None:
    """Logs go to ``LOG``, whatever other tests made of them."""
    logs.configure("info", LOG)


def test_what_nobody_expected_is_a_500_and_logged_without_what_was_sent() -> None:
    secret_value, request_id = "ada.secret@example.com", "request-id-17"
    for when in ("refusal", "failure"):
        engine = StrawEngine()
        setattr(engine, when, KeyError(secret_value))
        before = len(LOG.getvalue())
        body = resolving({"email": secret_value}, request_id=request_id)
        answer = ask(edge(engine), "POST", "/v1/identify", body, BASIC)
        assert answer.status == 500
        assert answer.json["ErrorCode"] == "INTERNAL_ERROR"
        assert answer.json["RequestId"] == request_id
        assert secret_value not in answer.body.decode()
        logged = LOG.getvalue()[before:]
        line = json.loads(logged.splitlines()[-1])
        assert line["level"] == "error"
        assert line["route"] == "/v1/identify"
        assert line["exception"][-1] == "KeyError"
        assert any("identity.py" in place for place in line["exception"])
        for private in (secret_value, "server-secret", BASIC["authorization"], request_id):
            assert private not in logged


def test_ordinary_requests_are_not_logged() -> None:
    before = len(LOG.getvalue())
    ask(edge(), "POST", "/v1/identify", resolving(), BASIC)
    ask(edge(), "POST", "/v1/identify", b"{", BASIC)
    ask(edge(), "GET", "/nowhere")
    assert LOG.getvalue()[before:] == ""


def test_debug_lines_have_no_identity_and_no_request_id() -> None:
    out = io.StringIO()
    logs.configure("debug", out)
    try:
        ask(edge(), "POST", "/v1/identify", resolving({"email": "ada@x.org"}, request_id="r-17"), BASIC)
        ask(edge(), "POST", "/v1/login", b"{", {})
    finally:
        logs.configure("info", LOG)
    first, second = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (first["route"], first["status"], first["input"]) == ("/v1/identify", 200, "shop/server")
    assert first["request_id"] == logs.digest("r-17")
    assert first["ms"] > 0
    assert (second["route"], second["status"], second["input"]) == ("/v1/login", 401, None)
    for private in ("ada@x.org", "r-17", "server-secret", "c2VydmVy"):
        assert private not in out.getvalue()


def test_a_cancelled_request_says_that_the_server_stops() -> None:
    class Stopping(StrawEngine):
        def outcome(self, call: object) -> asyncio.Future[object]:  # type: ignore[override]
            future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            future.cancel()
            return future

    answer = ask(edge(Stopping()), "POST", "/v1/identify", resolving(), BASIC)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"


def test_digests_are_short_and_the_same_for_the_same_value() -> None:
    assert logs.digest("ada@example.com") == logs.digest("ada@example.com")
    assert logs.digest("ada@example.com") != logs.digest("bob@example.com")
    assert len(logs.digest("ada@example.com")) == 12
