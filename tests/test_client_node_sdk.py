"""The SDK for Node from npm, unmodified, sends batches; the profile and the timeline hold exactly that."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reading_back import events_of, identities_of, profile_of, readable_shop, set_aside, shown_events
from serving import Certificate, Server, serving
from web_pages import CLIENTS

BOTH_ENGINES = True

SENT_MS = int(time.time() * 1000) - 60_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, storage: str) -> Iterator[Server]:
    with serving(readable_shop(), tmp_path_factory.mktemp("node-sdk")) as server:
        yield server


class NodeSdk:
    """The SDK in a process of its own, driven through tests/clients/node_sdk.mjs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def send(self, name: str, body: Any) -> dict[str, Any]:
        """Call one of the SDK's two functions; return the status and the body that it told its callback."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"do": name, "body": body}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the SDK's process ended; its own words are in the captured stderr"
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def node_sdk(node: str, server: Server, *, base: str = "/v2", secret: str = "") -> Iterator[NodeSdk]:
    key, right = server.inputs["server"]
    command = [node, str(CLIENTS / "node_sdk.mjs"), f"{server.base_url}{base}", key, secret or right]
    environ = dict(os.environ)
    if server.certificate:
        environ["NODE_EXTRA_CA_CERTS"] = str(server.certificate.cert)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    ) as process:  # fmt: skip
        yield NodeSdk(process)
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def sdk(node: str, server: Server) -> Iterator[NodeSdk]:
    with node_sdk(node, server) as sdk:
        yield sdk


def model(type_: str, *args: Any, **fields: Any) -> dict[str, Any]:
    """Return what the driver makes with one of the SDK's constructors."""
    return {"type": type_, "args": list(args), "fields": fields}


def batch_of(*events: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"environment": "production", "events": list(events), "fields": fields}


def user(**identities: str) -> dict[str, Any]:
    return model("UserIdentities", **identities)


def common(at: int) -> dict[str, Any]:
    return {"timestamp_unixtime_ms": SENT_MS + at, "source_message_id": f"m-{at}"}


def test_what_is_sent_is_what_is_known(server: Server, sdk: NodeSdk) -> None:
    product = model("Product", id="p-1", name="Tea", price=4.5, quantity=2)
    action = model("ProductAction", "purchase", transaction_id="t-1", total_amount=9, products=[product])
    consent = {"consented": False, "timestamp_unixtime_ms": SENT_MS, "document": "v3"}
    sent = batch_of(
        model("AppEvent", "search", "Searched", custom_attributes={"for": "tea", "hits": 3}, **common(0)),
        model("ScreenViewEvent", "Teas", **common(1)),
        model("CommerceEvent", product_action=action, currency_code="EUR", **common(2)),
        model("CrashReportEvent", "Oops", "boom", "at 1", True, **common(3)),
        model("OptOutEvent", True, **common(4)),
        model("SessionStartEvent", **common(5)),
        source_request_id="r-1",
        user_identities=user(customerid="c-1", email="ada@example.com", facebook_custom_audience_id="f-1"),
        user_attributes={"drink": "coffee", "sizes": ["s", "m"], "vip": None, "visits": 12},
        consent_state=model("ConsentState", gdpr={"marketing": consent}),
    )
    assert sdk.send("uploadEvents", sent) == {"failed": False, "status": 202, "body": None}
    [mpid] = server.held()
    kept = events_of(server, mpid)
    assert [(event.type, event.name) for event in kept] == [
        ("custom_event", "Searched"), ("screen_view", "Teas"), ("commerce_event", "purchase"),
        ("crash_report", "Oops"), ("opt_out", ""), ("session_start", ""),
    ]  # fmt: skip
    assert [event.data for event in kept] == [
        {"custom_event_type": "search", "event_name": "Searched", "custom_attributes": {"for": "tea", "hits": 3}}
        | common(0),
        {"screen_name": "Teas"} | common(1),
        {"currency_code": "EUR", "product_action": {
            "action": "purchase", "transaction_id": "t-1", "total_amount": 9,
            "products": [{"id": "p-1", "name": "Tea", "price": 4.5, "quantity": 2}],
        }} | common(2),
        {"class_name": "Oops", "message": "boom", "stack_trace": "at 1", "exception_handled": True} | common(3),
        {"is_opted_out": True} | common(4),
        common(5),
    ]  # fmt: skip
    assert shown_events(server, mpid) == [{"event_type": event.type, "data": event.data} for event in kept]
    profile = profile_of(server, mpid)
    assert identities_of(profile) == {
        "customer_id": "c-1", "email": "ada@example.com", "facebook_custom_audience_id": "f-1",
    }  # fmt: skip
    assert profile["user_attributes"] == {"drink": "coffee", "sizes": ["s", "m"], "vip": None, "visits": "12"}
    assert profile["consent_state"] == {"gdpr": {"marketing": consent}}
    assert profile["is_opted_out"] is True

    assert not sdk.send("uploadEvents", sent)["failed"]
    assert len(events_of(server, mpid)) == len(sent["events"]), "the batch was there already"
    later = batch_of(mpid=str(mpid), deleted_user_attributes=["sizes"], user_attributes={"drink": "tea"})
    assert not sdk.send("bulkUploadEvents", [later])["failed"]
    assert profile_of(server, mpid)["user_attributes"] == {"drink": "tea", "vip": None, "visits": "12"}
    assert server.held().keys() == {mpid}


def test_many_batches_and_one_that_is_none(server: Server, sdk: NodeSdk) -> None:
    """Node cannot write a large MPID as a number: one that lost its last digits is nobody's, and harms nobody."""
    [mpid, *_] = server.held()
    wrong = float(mpid) if float(mpid) != mpid else mpid + 1
    before, aside = server.held().keys(), len(set_aside(server))
    many = [
        batch_of(model("AppEvent", "other", "Bought"), user_identities=user(customerid=f"b-{n}")) for n in range(99)
    ]
    odd = batch_of(model("AppEvent", "other", "Bought"), mpid=wrong)
    assert not sdk.send("bulkUploadEvents", [*many, odd])["failed"]
    made = server.held().keys() - before
    assert len(made) == 99
    assert [event.name for one in made for event in events_of(server, one)] == ["Bought"] * 99
    assert len(set_aside(server)) == aside + 1
    refused = sdk.send("bulkUploadEvents", [*many, odd, odd])
    assert (refused["failed"], refused["status"]) == (True, 400)


def test_refusals_say_what_is_wrong(node: str, server: Server, sdk: NodeSdk) -> None:
    refused = sdk.send("uploadEvents", batch_of(model("SessionStartEvent")))
    assert (refused["failed"], refused["status"]) == (True, 400)
    assert refused["body"]["errors"][0]["message"].startswith("user_identities and device_info have")
    with node_sdk(node, server, secret="wrong") as stranger:
        refused = stranger.send("uploadEvents", batch_of(user_identities=user(customerid="c-1")))
    assert (refused["failed"], refused["status"]) == (True, 401)


def test_the_example_of_the_page_works(node: str, server: Server) -> None:
    """docs/clients.md is right, but for the address and the keys."""
    page = (CLIENTS.parents[1] / "docs/clients.md").read_text()
    [example] = re.findall(r"```js\n(.*?)```", page, re.S)
    example = example.replace("https://identity.example.com", server.base_url)
    for word, value in zip(("SERVER_KEY", "SERVER_SECRET"), server.inputs["server"], strict=True):
        example = example.replace(word, value)
    command = [node, "--input-type=module", "-e", "import mParticle from 'mparticle';\n" + example]
    ran = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    mpid = server.look({"customerid": "C-1001"})["mpid"]
    assert [event.name for event in events_of(server, mpid)] == ["Paid"]


def test_a_host_that_ends_in_a_slash(node: str, server: Server) -> None:
    with node_sdk(node, server, base="/v2/") as sdk:
        assert not sdk.send("uploadEvents", batch_of(user_identities=user(customerid="slash")))["failed"]
    assert server.look({"customerid": "slash"})["is_logged_in"]


def test_tls(node: str, tmp_path: Path, certificate: Certificate) -> None:
    with serving(readable_shop(), tmp_path, certificate=certificate) as server:
        with node_sdk(node, server) as sdk:
            assert not sdk.send("uploadEvents", batch_of(user_identities=user(customerid="c-1")))["failed"]
        assert server.look({"customerid": "c-1"})["is_logged_in"]
