"""The Python SDK from PyPI, unmodified, sends batches; the profile and the timeline hold exactly that."""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reading_back import (
    events_of,
    identities_of,
    profile_of,
    readable_shop,
    records_of,
    set_aside,
    shown_events,
    timeline,
)
from serving import Certificate, Server, serving

BOTH_ENGINES = True

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the SDK's own code
    import mparticle
    from mparticle.models.user_attribute_change_event import UserAttributeChangeEvent
    from mparticle.rest import ApiException, RESTClientObject

ADA = {"customerid": "c-1", "email": "ada@example.com", "other_id_2": "loyal-7"}
SENT_MS = int(time.time() * 1000) - 60_000
DEVICE = "5d1c6b3e-0000-4000-8000-000000000007"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, storage: str) -> Iterator[Server]:
    with serving(readable_shop(), tmp_path_factory.mktemp("python-sdk")) as server:
        yield server


def api_of(server: Server, *, secret: str = "", host: str = "", ca: Path | None = None) -> Any:
    """Return the SDK's API, pointed at a server in the way that the SDK documents."""
    configuration = mparticle.Configuration()
    configuration.host = host or f"{server.base_url}/v2"
    configuration.api_key, key_secret = server.inputs["server"]
    configuration.api_secret = secret or key_secret
    configuration.ssl_ca_cert = ca and str(ca)
    return mparticle.EventsApi(configuration)


@pytest.fixture
def api(server: Server) -> Iterator[Any]:
    api = api_of(server)
    yield api
    done_with(api)


def done_with(api: Any) -> None:
    """Close what the SDK leaves open, and forget what it remembers for a whole process."""
    api.api_client.rest_client.pool_manager.clear()
    RESTClientObject.retry_after_timestamp = 0
    RESTClientObject.latest_response = None


def batch_of(**fields: Any) -> Any:
    batch = mparticle.Batch()
    batch.environment = "production"
    for name, value in fields.items():
        setattr(batch, name, value)
    return batch


def crash() -> Any:
    return mparticle.CrashReportEvent(message="boom", class_name="Oops", exception_handled=True)


def everything() -> list[Any]:
    """One event of each kind that the SDK can send and a shop would."""
    product = mparticle.Product(id="p-1", name="Tea", price=4.5, quantity=2, custom_attributes={"organic": "yes"})
    action = mparticle.ProductAction("purchase", transaction_id="t-1", total_amount=9.0, products=[product])
    return [
        mparticle.AppEvent("Searched", "search", custom_attributes={"for": "tea", "hits": "3"}),
        mparticle.ScreenViewEvent(screen_name="Teas"),
        mparticle.CommerceEvent(action, currency_code="EUR"),
        mparticle.EventBase(crash(), "crash_report"),
        mparticle.PushRegistrationEvent(register=True, registration_token="token-1"),
        UserAttributeChangeEvent(user_attribute_name="drink", new="tea", old=None),
        mparticle.SessionStartEvent(session_id=7_000_000_000_001_234_567),
        mparticle.OptOutEvent(is_opted_out=True),
    ]


def test_what_is_sent_is_what_is_known(server: Server, api: Any) -> None:
    events = everything()
    for at, event in enumerate(events):
        data = getattr(event, "data", event)
        data.timestamp_unixtime_ms = SENT_MS + at
        data.source_message_id = f"m-{at}"
    consent = mparticle.ConsentState()
    consent.gdpr = {
        "Analytics": mparticle.GDPRConsentState(document="v3", consented=True, timestamp_unixtime_ms=SENT_MS)
    }
    batch = batch_of(
        events=events, source_request_id="r-1", ip="198.51.100.7", mp_deviceid=DEVICE,
        user_identities=mparticle.UserIdentities(**ADA), consent_state=consent,
        device_info=mparticle.DeviceInformation(platform="iOS", device_model="iPhone", ios_idfv=DEVICE.upper()),
        user_attributes={"drink": "coffee", "sizes": ["s", "m"], "vip": None, "$City": "Oslo", "visits": 12},
    )  # fmt: skip
    assert api.upload_events(batch)[1] == 202
    [mpid] = server.held()

    kept = events_of(server, mpid)
    assert [event.type for event in kept] == [
        "custom_event", "screen_view", "commerce_event", "crash_report", "push_registration",
        "user_attribute_change", "session_start", "opt_out",
    ]  # fmt: skip
    sent = api.api_client.sanitize_for_serialization(batch)
    assert [{"event_type": event.type, "data": event.data} for event in kept] == sent["events"]
    assert shown_events(server, mpid) == sent["events"]
    assert kept[6].data["session_id"] == 7_000_000_000_001_234_567

    profile = profile_of(server, mpid)
    assert identities_of(profile) == {"customer_id": "c-1", "email": "ada@example.com", "other2": "loyal-7"}
    assert identities_of(profile, "device_identities") == {
        "ios_vendor_id": DEVICE, "device_application_stamp": DEVICE,
    }  # fmt: skip
    assert profile["user_attributes"] == {
        "drink": "coffee", "sizes": ["s", "m"], "vip": None, "$city": "Oslo", "visits": "12",
    }  # fmt: skip
    assert profile["consent_state"] == {
        "gdpr": {"analytics": {"consented": True, "timestamp_unixtime_ms": SENT_MS, "document": "v3"}}
    }
    assert profile["is_opted_out"] is True
    assert profile["created_timestamp_ms"] == SENT_MS

    api.upload_events(batch)
    assert len(timeline(server, mpid)) == 1, "the batch was there already"
    later = batch_of(mpid=mpid, user_attributes={"drink": "tea"}, events=[mparticle.OptOutEvent(is_opted_out=False)])
    later.deleted_user_attributes = ["sizes", "vip"]
    api.upload_events(later)
    profile = profile_of(server, mpid)
    assert profile["user_attributes"] == {"drink": "tea", "$city": "Oslo", "visits": "12"}
    assert profile["is_opted_out"] is False
    assert server.held().keys() == {mpid}


def test_many_batches_and_one_that_is_none(server: Server, api: Any) -> None:
    users = [mparticle.UserIdentities(customerid=f"b-{n}") for n in range(100)]
    batches = [
        batch_of(
            user_identities=user,
            user_attributes={"n": str(n)},
            events=[mparticle.ScreenViewEvent(screen_name="Home")],
        )
        for n, user in enumerate(users)
    ]
    batches[50] = batch_of(mpid=7, user_attributes={"n": "x"})
    before, aside = server.held().keys(), len(set_aside(server))
    api.bulk_upload_events(batches)
    made = server.held().keys() - before
    numbers = {profile_of(server, mpid)["user_attributes"]["n"] for mpid in made}
    assert numbers == {str(n) for n in range(100)} - {"50"}
    [one, *_] = set_aside(server)
    assert (len(set_aside(server)), one.reason) == (aside + 1, "mpid: no user has the MPID 7.")
    with pytest.raises(ApiException) as refused:
        api.bulk_upload_events([*batches, batches[0]])
    assert refused.value.status == 400


def test_what_the_sdk_calls_by_a_wrong_name_is_set_aside_alone(server: Server, api: Any) -> None:
    """The SDK labels a crash report ``commerce_event``; it is kept as it was sent, and the rest goes on."""
    aside = len(set_aside(server))
    api.upload_events(
        batch_of(user_identities=mparticle.UserIdentities(customerid="crashed"), events=[crash(), everything()[0]])
    )
    [newest, *_] = set_aside(server)
    assert (len(set_aside(server)), newest.events) == (aside + 1, 1)
    record = records_of(server)[newest.position]
    assert record.batch is not None
    assert [event.name for event in record.batch.events] == ["Searched"]
    [bad] = record.quarantined
    assert bad.event == {
        "event_type": "commerce_event",
        "data": {"message": "boom", "class_name": "Oops", "exception_handled": True},
    }
    assert "product_action" in bad.reason


def test_refusals_say_what_is_wrong(server: Server, api: Any) -> None:
    with pytest.raises(ApiException) as refused:
        api.upload_events(batch_of(mpid=7, events=[mparticle.SessionStartEvent()]))
    assert (refused.value.status, refused.value.reason) == (400, "Bad Request")
    assert json.loads(refused.value.body)["errors"][0]["code"] == "UNKNOWN_MPID"
    stranger = api_of(server, secret="wrong")
    try:
        with pytest.raises(ApiException) as refused:
            stranger.upload_events(batch_of(user_identities=mparticle.UserIdentities(**ADA)))
        assert refused.value.status == 401
    finally:
        done_with(stranger)


def test_the_example_of_the_page_works(server: Server) -> None:
    """docs/clients.md is right, but for the address and the keys."""
    page = (Path(__file__).parents[1] / "docs/clients.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", page, re.S)
    example = example.replace("https://identity.example.com", server.base_url)
    for word, value in zip(("SERVER_KEY", "SERVER_SECRET"), server.inputs["server"], strict=True):
        example = example.replace(word, value)
    made: dict[str, Any] = {"mparticle": mparticle}
    exec(example, made)
    done_with(made["api"])
    mpid = server.look({"customerid": "C-1001"})["mpid"]
    assert profile_of(server, mpid)["user_attributes"] == {"plan": "gold"}
    assert [event.name for event in events_of(server, mpid)] == ["Paid"]


def test_a_host_that_ends_in_a_slash(server: Server) -> None:
    api = api_of(server, host=f"{server.base_url}/v2/")
    try:
        api.upload_events(batch_of(user_identities=mparticle.UserIdentities(customerid="slash")))
        api.bulk_upload_events([batch_of(user_identities=mparticle.UserIdentities(customerid="slashes"))])
    finally:
        done_with(api)
    assert server.look({"customerid": "slash"})["is_logged_in"]
    assert server.look({"customerid": "slashes"})["is_logged_in"]


def test_a_client_that_is_too_fast_waits_by_itself(tmp_path: Path) -> None:
    """The SDK holds back every request until the time that the answer says has passed."""
    with serving(readable_shop(workspace="max_batches_per_second = 2"), tmp_path) as server:
        api = api_of(server)
        try:
            many = [batch_of(user_identities=mparticle.UserIdentities(customerid=f"b-{n}")) for n in range(50)]
            api.bulk_upload_events(many)
            for body in (many[0], many[1]):
                with pytest.raises(ApiException) as refused:
                    api.upload_events(body)
                assert refused.value.status == 429
                assert int(refused.value.headers["Retry-After"]) > 1
            metrics = server.client.get("/metrics").text
            assert 'oneself_http_requests_total{route="/v2/events",status="429"} 1.0' in metrics.splitlines()
        finally:
            done_with(api)


def test_tls(tmp_path: Path, certificate: Certificate) -> None:
    with serving(readable_shop(), tmp_path, certificate=certificate) as server:
        api = api_of(server, ca=certificate.cert)
        try:
            api.upload_events(batch_of(user_identities=mparticle.UserIdentities(**ADA)))
        finally:
            done_with(api)
        assert server.look({"customerid": "c-1"})["is_logged_in"]
