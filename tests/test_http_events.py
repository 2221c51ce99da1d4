"""Who may send batches, and what is answered: taken in, refused, set aside (docs/events.md)."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from http_batches import BATCH_PATHS, CREDENTIALS, OLD, body_for, brought, send
from http_edge import (
    AUDIENCE_PATHS,
    BASIC,
    BULK_PATHS,
    FORWARDING_PATHS,
    KEY,
    NOW,
    ONE_BATCH_PATHS,
    WEB_EVENT_PATHS,
    Answer,
    StrawEngine,
    ask,
    ask_within,
    basic,
    batch,
    edge,
    happening,
    refused,
)
from oneself.engine.calls import Call, Outcome
from oneself.errors import Overloaded, StoreUnavailable
from oneself.http.documents import MAX_DEPTH
from test_http_auth import signed

KEY_PATHS = [*WEB_EVENT_PATHS, *FORWARDING_PATHS]


# -- who -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*BATCH_PATHS, "/v2//events", "/v2//bulkevents"])
@pytest.mark.parametrize(
    ("headers", "input_"),
    [(BASIC, "shop/server"), (KEY, "shop/web"), (basic("web-key", "web-secret"), "shop/web"),
     (basic("other-key", "other-secret"), "other/server"), ({"x-mp-key": "bare-key"}, "shop/bare")],
    ids=["basic", "key", "basic of a web input", "other workspace", "key without a secret"],
)  # fmt: skip
def test_the_credentials_say_whose_batch_it_is(path: str, headers: dict[str, str], input_: str) -> None:
    body = [batch(OLD)] if "bulk" in path else batch(OLD)
    answer, [call] = send(path, body, headers)
    assert (answer.status, answer.body) == (202, b"")
    assert call.input == input_
    assert call.space == ("acme/production" if input_.startswith("shop") else "other/production")
    delivered = brought(call)
    assert delivered.document == batch(OLD)
    assert delivered.batch is not None
    assert delivered.batch.source.input == input_
    assert delivered.batch.source.workspace == input_.partition("/")[0]
    assert delivered.refuse is (path not in BULK_PATHS and "bulk" not in path)
    assert delivered.historical is path.endswith("historical")


@pytest.mark.parametrize("path", BATCH_PATHS)
def test_a_signature_is_taken_and_a_wrong_one_is_not(path: str) -> None:
    body = json.dumps(body_for(path)).encode()
    answer, [call] = send(path, body, signed(path, body))
    assert (answer.status, call.input) == (202, "shop/server")
    for wrong in (signed(path, body, secret="x"), signed(path, body + b" "), signed("/v2/other", body)):
        answer, calls = send(path, body, wrong)
        assert (answer.status, calls) == (401, [])


@pytest.mark.parametrize("path", BATCH_PATHS)
@pytest.mark.parametrize(
    "headers",
    [{}, {"x-mp-key": "server-key"}, {"x-mp-key": "nobody"}, basic("server-key", "wrong"), basic("web-key", ""),
     basic("bare-key", ""), {"authorization": "Bearer x"}],
    ids=["none", "key of an input with a secret", "nobody", "wrong", "no secret", "bare", "bearer"],
)  # fmt: skip
def test_others_may_not_send(path: str, headers: dict[str, str]) -> None:
    answer, calls = send(path, body_for(path), headers)
    assert (answer.status, calls) == (401, [])


@pytest.mark.parametrize("path", WEB_EVENT_PATHS)
@pytest.mark.parametrize("headers", [{}, {"x-mp-key": "other-key"}, basic("web-key", "web-secret")])
def test_the_key_in_the_path_says_whose_batch_it_is(path: str, headers: dict[str, str]) -> None:
    answer, [call] = send(path, batch(), headers | {"content-type": "text/plain;charset=UTF-8"})
    assert (answer.status, answer.body, call.input) == (202, b"", "shop/web")
    assert not brought(call).refuse
    body = json.dumps(batch()).encode()
    answer, [call] = send(path, body, signed(path, body, key="web-key", secret="web-secret"))
    assert (answer.status, call.input) == (202, "shop/web")
    path = path.replace("web-key", "server-key")
    answer, [call] = send(path, body, signed(path, body))
    assert (answer.status, call.input) == (202, "shop/server")


@pytest.mark.parametrize("path", KEY_PATHS)
@pytest.mark.parametrize(
    ("key", "headers", "status"),
    [
        ("server-key", {}, 401),
        ("other-key", {}, 401),
        ("nobody", {}, 401),
        ("Web-Key", {}, 401),
        ("ключ", {}, 401),
        ("web-key", basic("server-key", "server-secret"), 403),
        ("web-key", basic("other-key", "other-secret"), 403),
        ("nobody", basic("server-key", "server-secret"), 403),
        ("web-key", basic("web-key", "wrong"), 401),
        ("web-key", {"authorization": "Bearer x"}, 401),
    ],
)
def test_another_key_in_the_path_is_refused(path: str, key: str, headers: dict[str, str], status: int) -> None:
    path = path.replace("web-key", key)
    answer, calls = send(path, batch(), headers)
    assert (answer.status, calls) == (status, [])
    body = json.dumps(batch()).encode()
    answer, calls = send(path, body, signed(path, body, key="bare-key", secret="x"))
    assert (answer.status, calls) == (401, [])
    if key == "web-key":
        answer, calls = send(path, body, signed(path, body))
        assert (answer.status, calls) == (403, [])


# -- when ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*BATCH_PATHS, *WEB_EVENT_PATHS])
def test_nothing_is_answered_before_the_engine_has_answered(path: str) -> None:
    class Waiting(StrawEngine):
        def outcome(self, call: Call) -> asyncio.Future[Outcome]:
            decided = super().outcome(call)
            waiting.append((later := asyncio.get_running_loop().create_future(), decided))
            return later

    waiting: list[tuple[asyncio.Future[Outcome], asyncio.Future[Outcome]]] = []

    async def run() -> Answer:
        asked = asyncio.create_task(ask_within(edge(Waiting()), "POST", path, body_for(path), CREDENTIALS[path]))
        while not waiting:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not asked.done()
        for later, decided in waiting:
            later.set_result(decided.result())
        return await asked

    assert asyncio.run(run()).status == 202


@pytest.mark.parametrize("path", [*BATCH_PATHS, *WEB_EVENT_PATHS])
@pytest.mark.parametrize(("failure", "status"), [(StoreUnavailable("Full.", 7), 503), (Overloaded(7), 429)])
def test_a_busy_engine_says_when_to_come_again(path: str, failure: Exception, status: int) -> None:
    for when in ("refusal", "failure"):
        engine = StrawEngine()
        setattr(engine, when, failure)
        answer = ask(edge(engine), "POST", path, body_for(path), CREDENTIALS[path])
        assert answer.status == status
        assert answer.headers["retry-after"] == "7"


def test_many_batches_are_submitted_as_one() -> None:
    class Counting(StrawEngine):
        def submit_all(self, calls: Any) -> Any:
            together.append(len(calls))
            return super().submit_all(calls)

    together: list[int] = []
    answer = ask(edge(Counting()), "POST", "/v2/bulkevents", [batch(), 1, batch(), {"mpid": "x"}], BASIC)
    assert (answer.status, together) == (202, [4])


# -- what is refused, and what is set aside ------------------------------------------------------------------------

NO_BATCHES = [
    (1, "a batch must be an object"),
    (None, "a batch must be an object"),
    ([], "a batch must be an object"),
    ("x", "a batch must be an object"),
    ({"environment": "staging"}, "environment: "),
    ({"environment": 1}, "environment: "),
    ({"mpid": "x"}, "mpid: "),
    ({"mpid": 0}, "mpid: "),
    ({"mpid": 1.5}, "mpid: "),
    ({"mpid": str(2**63)}, "mpid: "),
    ({"mpid": -(2**63) - 1}, "mpid: "),
    ({"mpid": True}, "mpid: "),
    ({"events": {"a": 1}}, "events: "),
    ({"events": "x"}, "events: "),
    ({"user_identities": "x"}, "user_identities: "),
    ({"user_attributes": [1]}, "user_attributes: "),
    ({"device_info": "web"}, "device_info: "),
    ({"consent_state": 1}, "consent_state: "),
    ({"deleted_user_attributes": "x"}, "deleted_user_attributes: "),
    ({"user_attributes": {"a": "x\0y"}}, "user_attributes.a: it has a NUL character"),
    ({"events": [{"event_type": "custom_event", "data": {"a\0": 1}}]}, "events[0].data: it has a NUL character"),
]


@pytest.mark.parametrize(("document", "reason"), NO_BATCHES, ids=lambda part: repr(part)[:50])
def test_what_is_no_batch(document: Any, reason: str) -> None:
    """It is refused where a server sends it by itself, and set aside where it would keep others from going on."""
    for path in ONE_BATCH_PATHS:
        answer, calls = send(path, document if document != [] else b"[]")
        assert (answer.status, calls) == (400, [])
        assert answer.message.startswith(reason), answer.message
    for path in WEB_EVENT_PATHS:
        answer, [call] = send(path, json.dumps(document).encode(), {})
        assert_set_aside(answer, call, document, reason)
    for path in BULK_PATHS:
        if not path.endswith("historical"):
            answer, [before, call, after] = send(path, [batch(), document, batch()])
            assert_set_aside(answer, call, document, reason)
            assert brought(before).batch is not None
            assert brought(after).batch is not None


def assert_set_aside(answer: Answer, call: Call, document: Any, reason: str) -> None:
    assert answer.status == 202
    delivered = brought(call)
    assert (delivered.batch, delivered.document, delivered.refuse) == (None, document, False)
    assert delivered.reason.startswith(reason), delivered.reason
    assert call.space == "acme/production"


@pytest.mark.parametrize("event", [happening(), happening(timestamp_unixtime_ms=(NOW - 71 * 3600) * 1000), None])
def test_what_is_not_historical_is_set_aside(event: Any) -> None:
    sent = batch(event) if event else {"user_attributes": {"a": "b"}}
    answer, [aside, kept] = send("/v2/bulkevents/historical", [sent, batch(OLD)])
    assert answer.status == 202
    assert brought(aside).reason.startswith("events")
    assert brought(kept).batch is not None


def test_a_bad_event_is_set_aside_and_the_rest_goes_on() -> None:
    sent = batch(happening(), {"event_type": "custom_event"}, "x", happening(event_name="Bought"))
    for path in (*BATCH_PATHS[:3], *WEB_EVENT_PATHS):
        answer, [call] = send(path, body_for(path, sent), CREDENTIALS[path])
        delivered = brought(call)
        assert answer.status == 202
        assert delivered.batch is not None
        assert [event.name for event in delivered.batch.events] == ["Viewed", "Bought"]
        assert [(bad.index, bad.event) for bad in delivered.quarantined] == [
            (1, {"event_type": "custom_event"}), (2, "x"),
        ]  # fmt: skip


def test_what_the_engine_refuses() -> None:
    for path in ONE_BATCH_PATHS:
        engine = StrawEngine(refused(400, "UNKNOWN_MPID", "mpid: no user has the MPID 7."))
        answer = ask(edge(engine), "POST", path, batch(mpid=7), BASIC)
        assert (answer.status, answer.json["code"]) == (400, "UNKNOWN_MPID")
        assert answer.message.startswith("mpid: ")
    for path in (*BULK_PATHS, *WEB_EVENT_PATHS):
        engine = StrawEngine(refused(400, "UNKNOWN_MPID", "mpid: no user has the MPID 7."))
        assert ask(edge(engine), "POST", path, body_for(path), CREDENTIALS[path]).status == 202


NO_JSON = [
    (b"", "body: "),
    (b" ", "body: it is not JSON"),
    (b"{", "body: it is not JSON"),
    (b"{'a':1}", "body: it is not JSON"),
    (b"{}x", "body: it is not JSON"),
    (b'{"a":NaN}', "body: it is not JSON"),
    (b'{"a":1e999}', "body: number out of range"),
    (b'{"a":"\xff"}', "body: it is not UTF-8"),
    (b'{"a":"\\u12"}', "body: it is not JSON"),
    (b'{"a":"\\ud83d}', "body: it is not JSON"),
    (b'{"a":"\x00"}', "body: it is not JSON"),
    (b'{"a":' + b"[" * 100_000, "body: it is nested too deeply"),
    (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", f"body: it is nested more than {MAX_DEPTH} deep"),
    (b'{"a":' + b'{"":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH + b"}", f"body: it is nested more than {MAX_DEPTH}"),
]


@pytest.mark.parametrize(("body", "message"), NO_JSON, ids=lambda part: repr(part)[:30])
def test_what_is_no_json_is_refused_as_each_client_understands(body: bytes, message: str) -> None:
    for path in ONE_BATCH_PATHS:
        answer, calls = send(path, body)
        assert (answer.status, calls) == (400, [])
        assert answer.message.startswith(message), answer.message
    for path in KEY_PATHS:
        answer, calls = send(path, body, {})
        assert (answer.status, answer.json["code"], calls) == (422, "UNPROCESSABLE_CONTENT", [])
        assert answer.message.startswith(message), answer.message
    for path in BULK_PATHS:
        answer, calls = send(path, b'[{"a":1},%s]' % body)
        if answer.status == 202:
            _, aside = calls
            assert brought(aside).reason.startswith(message)
            assert brought(aside).document == body.decode(errors="replace")
        else:
            assert (answer.status, calls) == (400, [])
            assert answer.message.startswith("body: "), answer.message


@pytest.mark.parametrize("one", [b'{"a":1e999}', b'{"a":"\xff"}', b"[" * 100 + b"]" * 100])
def test_one_that_cannot_be_read_does_not_keep_the_others_out(one: bytes) -> None:
    answer, [before, aside, after] = send("/v2/bulkevents", b"[{},%s,{}]" % one)
    assert (answer.status, brought(aside).document) == (202, one.decode(errors="replace"))
    assert brought(before).batch == brought(after).batch
    assert brought(before).batch is not None


def test_as_deep_as_is_allowed() -> None:
    deep = b'{"context":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    answer, [call] = send(WEB_EVENT_PATHS[0], deep, {})
    assert (answer.status, brought(call).reason) == (202, "context: must be an object")
    brackets = {
        "user_attributes": {"a": "[{" * 100},
        "mp_deviceid": "d",
        "events": [happening(n=n) for n in range(99)],
    }
    assert send(WEB_EVENT_PATHS[0], brackets, {})[0].status == 202
    assert send(WEB_EVENT_PATHS[0], b'"%s"' % (b"[" * 100), {})[0].status == 202


@pytest.mark.parametrize("body", [b"{}", b"1", b"null", b'"x"', b'{"a":[]}'])
def test_many_batches_are_an_array(body: bytes) -> None:
    for path in BULK_PATHS:
        answer, calls = send(path, body)
        assert (answer.status, calls) == (400, [])
        assert answer.message.startswith("body: expected array"), answer.message


@pytest.mark.parametrize("damaged", [b"{}", gzip.compress(b"{}", mtime=0)[:-1], gzip.compress(b"{}", mtime=0) + b"x"])
def test_damaged_gzip(damaged: bytes) -> None:
    packing = {"content-encoding": "gzip"}
    assert send("/v2/events", damaged, BASIC | packing)[0].status == 400
    assert send(WEB_EVENT_PATHS[0], damaged, packing)[0].status == 422
    assert send(WEB_EVENT_PATHS[0], damaged, {"content-encoding": "br"})[0].status == 415


# -- what else the web SDK asks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FORWARDING_PATHS)
@pytest.mark.parametrize("body", [{"mid": "1", "n": "x", "eec": 0}, {"uuid": "u", "data": [{"n": "x"}]}, []])
def test_what_kits_forwarded_is_taken_note_of(path: str, body: Any) -> None:
    answer, calls = send(path, json.dumps(body).encode(), {})
    assert (answer.status, answer.body, calls) == (202, b"", [])


@pytest.mark.parametrize("path", AUDIENCE_PATHS)
def test_nobody_is_in_an_audience_yet(path: str) -> None:
    first, second = (ask(edge(), "GET", f"{path}?mpid=7", headers={}) for _ in range(2))
    assert first.status == 200
    assert first.headers["content-type"] == "application/json"
    assert first.json == {"dt": "cam", "ct": NOW * 1000, "id": first.json["id"], "audience_memberships": []}
    assert first.json["id"] != second.json["id"]
    for key in ("server-key", "other-key", "nobody"):
        assert ask(edge(), "GET", path.replace("web-key", key)).status == 401
