"""Batches are taken as they were sent: exact numbers, whose address, which environment, how much (docs/events.md)."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from http_batches import BATCH_PATHS, CREDENTIALS, OLD, body_for, brought, send
from http_edge import BASIC, BULK_PATHS, KEY, ONE_BATCH_PATHS, WEB_EVENT_PATHS, basic, batch, happening
from oneself.http.events import MAX_BULK, MAX_REQUEST_BYTES

# -- what is taken as it is sent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["text/plain;charset=UTF-8", "application/json", "", "image/png"])
def test_the_content_type_is_not_looked_at(type_: str) -> None:
    for path in (*BATCH_PATHS, *WEB_EVENT_PATHS):
        assert send(path, body_for(path), {**CREDENTIALS[path], "content-type": type_})[0].status == 202


@pytest.mark.parametrize("path", [*BATCH_PATHS, *WEB_EVENT_PATHS])
def test_gzip(path: str) -> None:
    packed = gzip.compress(json.dumps(body_for(path)).encode())
    answer, [call] = send(path, packed, {**CREDENTIALS[path], "content-encoding": "gzip"})
    assert answer.status == 202
    assert brought(call).document == batch(OLD)


@pytest.mark.parametrize("mpid", [1, -1, 2**53 + 1, 7000000000001234567, -7459349377063902477, 2**63 - 1, -(2**63)])
def test_mpids_are_exact_as_numbers_and_as_strings(mpid: int) -> None:
    for path in (*BATCH_PATHS, *WEB_EVENT_PATHS):
        for form in (str(mpid), f'"{mpid}"'):
            one = f'{{"mpid":{form},"events":[{json.dumps(OLD)}]}}'
            _, [call] = send(path, (f"[{one}]" if path in BULK_PATHS else one).encode(), CREDENTIALS[path])
            assert call.request.mpid == mpid


def test_large_numbers_anywhere_are_exact() -> None:
    sent = batch(happening(order=2**64 + 1, custom_attributes={"n": -(10**30)}))
    _, [call] = send(WEB_EVENT_PATHS[0], sent, {})
    batch_ = brought(call).batch
    assert batch_ is not None
    data = batch_.events[0].data
    assert (data["order"], data["custom_attributes"]["n"]) == (2**64 + 1, -(10**30))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (rb"Caf\u00e9 \ud83d", "Café \ufffd"),
        (rb"\ude00x", "\ufffdx"),
        (rb"\uD83D\uDE00", "😀"),
        (rb"\ud83d\ud83d\ude00", "\ufffd😀"),
        (rb"\\ud83d\ud83d", "\\ud83d\ufffd"),
        (rb"\\\ud83d\"", '\\\ufffd"'),
    ],
)
def test_half_of_an_emoji_is_no_reason_to_lose_a_batch(sent: bytes, kept: str) -> None:
    one = json.dumps(batch(happening(event_name="TEXT"))).encode().replace(b"TEXT", sent)
    for path in (*BATCH_PATHS[:3], *WEB_EVENT_PATHS):
        answer, [call] = send(path, b"[%s]" % one if path in BULK_PATHS else one, CREDENTIALS[path])
        assert answer.status == 202
        batch_ = brought(call).batch
        assert batch_ is not None
        assert batch_.events[0].name == kept


@pytest.mark.parametrize(
    ("said", "ip"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 , 10.0.0.1, 10.0.0.2", "203.0.113.7"),
        ("203.0.113.7:51000, 10.0.0.1", "203.0.113.7"),
        ("2001:db8::1, 10.0.0.1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_a_platform_has_the_address_of_its_sender_and_a_server_the_one_it_gives(said: str, ip: str) -> None:
    headers = {"x-forwarded-for": said}
    for path in (*BATCH_PATHS, *WEB_EVENT_PATHS):
        for credentials in (KEY, BASIC) if path in BATCH_PATHS else ({},):
            _, [call] = send(path, body_for(path, batch(OLD, ip="198.51.100.9")), {**credentials, **headers})
            batch_ = brought(call).batch
            assert batch_ is not None
            assert batch_.ip == ("198.51.100.9" if credentials == BASIC else ip)


@pytest.mark.parametrize("path", [*BATCH_PATHS, *WEB_EVENT_PATHS])
def test_environments_are_apart(path: str) -> None:
    for environment in ("production", "development"):
        _, [call] = send(path, body_for(path, batch(OLD, environment=environment)), CREDENTIALS[path])
        assert call.space == f"acme/{environment}"
    for absent in ({}, {"environment": None}):
        sent = {name: value for name, value in batch(OLD).items() if name != "environment"} | absent
        _, [call] = send(path, body_for(path, sent), CREDENTIALS[path])
        assert call.space == "acme/production"


# -- how much ------------------------------------------------------------------------------------------------------


def padded(sent: Any, size: int) -> bytes:
    body = json.dumps(sent).encode()
    return body + b" " * (size - len(body))


@pytest.mark.parametrize("path", [*ONE_BATCH_PATHS, *WEB_EVENT_PATHS])
def test_a_batch_has_a_limit(path: str) -> None:
    for most, settings in ((131_072, {}), (2_000, {"max_batch_bytes": 2_000}), (10**6, {"max_batch_bytes": 10**6})):
        assert send(path, padded(batch(), most), CREDENTIALS[path], **settings)[0].status == 202
        answer, calls = send(path, padded(batch(), most + 1), CREDENTIALS[path], **settings)
        assert (answer.status, calls) == (413, [])
        assert answer.message.startswith("body: ")
        packed = gzip.compress(padded(batch(), most + 1))
        headers = {**CREDENTIALS[path], "content-encoding": "gzip"}
        assert send(path, packed, headers, **settings)[0].status == 413


@pytest.mark.parametrize("path", BULK_PATHS)
def test_a_request_has_a_limit(path: str) -> None:
    for most, settings in ((MAX_REQUEST_BYTES, {}), (10**6, {"max_batch_bytes": 10**6})):
        assert send(path, padded([batch(OLD)] * 50, most), **settings)[0].status == 202
        answer, calls = send(path, padded([batch(OLD)] * 50, most + 1), **settings)
        assert (answer.status, calls) == (413, [])


def test_one_workspace_s_limit_is_no_other_s() -> None:
    other = basic("other-key", "other-secret")
    assert send("/v2/events", padded(batch(), 131_072), other, max_batch_bytes=10**6)[0].status == 202
    assert send("/v2/events", padded(batch(), 131_073), other, max_batch_bytes=10**6)[0].status == 413
    assert send("/v2/bulkevents", padded([batch()], 300_000), other, max_batch_bytes=10**6)[0].status == 413


def test_a_batch_that_is_too_large_among_others_is_set_aside() -> None:
    large = batch(user_attributes={"a": "x" * 2_000})
    answer, [before, aside, after] = send("/v2/bulkevents", [batch(), large, batch()], max_batch_bytes=2_000)
    assert answer.status == 202
    assert (brought(aside).batch, brought(aside).document) == (None, None)
    assert "2000 are allowed" in brought(aside).reason
    assert brought(before).batch is not None
    assert brought(after).batch is not None


@pytest.mark.parametrize("path", BULK_PATHS)
def test_many_batches_have_a_number(path: str) -> None:
    answer, calls = send(path, [batch(OLD, source_request_id=str(n)) for n in range(MAX_BULK)])
    assert (answer.status, [call.request_id for call in calls]) == (202, [str(n) for n in range(MAX_BULK)])
    answer, calls = send(path, [batch(OLD)] * (MAX_BULK + 1))
    assert (answer.status, calls) == (400, [])
    assert "100" in answer.message
    assert send(path, [])[0].status == 202
