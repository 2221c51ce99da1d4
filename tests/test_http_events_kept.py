"""What the event endpoints answered with 202 is kept, once, apart from what others sent; nothing gets in the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from engine_at_work import Faulty, faulty, running
from http_edge import (
    BASIC,
    CONFIG,
    KEY,
    NOW,
    SERVER,
    WEB_EVENT_PATHS,
    Answer,
    Headers,
    ask_within,
    basic,
    batch,
    happening,
)
from oneself.http import App, create_app
from oneself.identity import Create
from oneself.journal import BatchRecord
from oneself.profiles import values_of
from store_factories import abandon

WEB = WEB_EVENT_PATHS[0]
STRANGER = basic("other-key", "other-secret")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Shop(NamedTuple):
    """A whole server but for its sockets."""

    app: App
    store: Faulty

    async def send(self, path: str, body: Any, headers: Headers | None = None) -> Answer:
        """Send a body; with the server's credentials, but where the key in the path is enough."""
        if headers is None:
            headers = {} if path == WEB else BASIC
        return await ask_within(self.app, "POST", path, body, headers)

    async def records(self) -> dict[int, BatchRecord]:
        """Everything that is kept of batches, by position."""
        return await self.store.batches(range(1, self.store.position + 1))

    async def names(self) -> list[str]:
        """The names of all events that are kept, in the order of the journal."""
        records = await self.records()
        return [event.name for at in sorted(records) if (kept := records[at].batch) for event in kept.events]

    async def made(self) -> list[int]:
        """The profiles that there are, oldest first."""
        changes = [c async for _, entry in self.store.entries() for c in entry.decision.changes]
        return [change.mpid for change in changes if isinstance(change, Create)]

    async def counts(self) -> dict[tuple[str, str, str], float]:
        """What the metrics say of ingestion."""
        answer = await ask_within(self.app, "GET", "/metrics")
        return {
            (family.name, sample.labels["input"], sample.labels["outcome"]): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            if family.name in ("oneself_batches", "oneself_events")
            for sample in family.samples
            if sample.name.endswith("_total")
        }


@asynccontextmanager
async def open_shop(folder: Path, **server: Any) -> AsyncIterator[Shop]:
    """A shop on a data folder; ``server`` changes the settings of its server input."""
    inputs = tuple(msgspec.structs.replace(one, **server) if one == SERVER else one for one in CONFIG.inputs)
    store = faulty(folder)
    await store.open()
    try:
        async with running(store, CONFIG.scopes, mpids=None) as engine:
            yield Shop(create_app(msgspec.structs.replace(CONFIG, inputs=inputs), engine, clock=lambda: NOW), store)
    finally:
        await store.close()


# -- durable -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "many"), [("/v2/events", False), ("/v2/bulkevents", True), (WEB, False)])
async def test_202_comes_when_the_disk_has_it(tmp_path: Path, path: str, many: bool) -> None:
    async with open_shop(tmp_path) as shop:
        shop.store.gate = asyncio.Event()
        asked = asyncio.create_task(shop.send(path, [batch()] if many else batch()))
        async with asyncio.timeout(20):
            while not shop.store.groups:
                await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert not asked.done()
        shop.store.gate.set()
        assert (await asked).status == 202


async def test_what_was_answered_is_there_after_a_crash(tmp_path: Path) -> None:
    store = faulty(tmp_path)
    await store.open()
    async with running(store, CONFIG.scopes, mpids=None) as engine:
        shop = Shop(create_app(CONFIG, engine, clock=lambda: NOW), store)
        for path, body in (("/v2/events", batch(happening(event_name="a"))),
                           ("/v2/bulkevents", [batch(happening(event_name=name)) for name in "bc"]),
                           (WEB, batch(happening(event_name="d")))):  # fmt: skip
            assert (await shop.send(path, body)).status == 202
    await abandon(store)
    async with open_shop(tmp_path) as shop:
        assert await shop.names() == ["a", "b", "c", "d"]


async def test_many_are_kept_together_or_not_at_all(tmp_path: Path) -> None:
    many = [batch(happening(event_name=f"n{n}"), source_request_id=f"r{n}") for n in range(100)]
    async with open_shop(tmp_path) as shop:
        shop.store.fault = OSError("no luck")
        assert (await shop.send("/v2/bulkevents", many)).status == 500
        assert await shop.names() == []
        shop.store.fault = None
        assert (await shop.send("/v2/bulkevents", many)).status == 202
        assert await shop.names() == [f"n{n}" for n in range(100)]
        assert len(shop.store.groups) == 1


# -- once ----------------------------------------------------------------------------------------------------------


async def test_a_batch_that_comes_again_counts_once(tmp_path: Path) -> None:
    sent = batch(happening(event_name="a"), source_request_id="r-1")
    async with open_shop(tmp_path) as shop:
        for path, body in (("/v2/events", sent), ("/v2/events", sent), ("/s2s/v2/events", sent),
                           ("/v2/bulkevents", [sent, sent])):  # fmt: skip
            assert (await shop.send(path, body)).status == 202
        answers = await asyncio.gather(*[shop.send(WEB, sent) for _ in range(5)])
        assert [answer.status for answer in answers] == [202] * 5
        assert await shop.names() == ["a", "a"]  # each input has request ids of its own
        counts = await shop.counts()
        assert counts["oneself_batches", "shop/server", "repeated"] == 4
        assert counts["oneself_batches", "shop/web", "repeated"] == 4
        assert counts["oneself_batches", "shop/web", "taken"] == 1


async def test_a_batch_that_found_nobody_is_mended_under_another_id(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        for sent in (batch(mpid=7, source_request_id="r-1"), batch(source_request_id="r-1")):
            refused = await shop.send("/v2/events", sent)
            assert (refused.status, refused.json["code"]) == (400, "UNKNOWN_MPID")
        assert (await shop.send("/v2/events", batch(environment="moon", source_request_id="r-2"))).status == 400
        for id_ in ("r-2", "r-3"):
            assert (await shop.send("/v2/events", batch(source_request_id=id_))).status == 202
        assert await shop.names() == ["Viewed", "Viewed"]


async def test_an_event_that_comes_again_counts_once(tmp_path: Path) -> None:
    first, second = (happening(event_name=name, source_message_id=name) for name in "ab")
    async with open_shop(tmp_path) as shop:
        for events in ([first], [first, second], [second, first, second]):
            assert (await shop.send(WEB, batch(*events))).status == 202
        assert await shop.names() == ["a", "b"]
        assert await shop.names() == ["a", "b"]
        assert (await shop.counts())["oneself_events", "shop/web", "taken"] == 2


# -- apart ---------------------------------------------------------------------------------------------------------


async def test_a_key_never_reaches_another_workspace_s_data(tmp_path: Path) -> None:
    who = {"user_identities": {"customerid": "c-1"}}
    async with open_shop(tmp_path) as shop:
        await shop.send("/v2/events", who | {"user_attributes": {"drink": "tea"}})
        [ours] = await shop.made()
        assert (await shop.send("/v2/events", who | {"user_attributes": {"drink": "gin"}}, STRANGER)).status == 202
        _, theirs = await shop.made()
        by_mpid = batch(mpid=ours, user_attributes={"drink": "rum"})
        refused = await shop.send("/v2/events", by_mpid, STRANGER)
        assert (refused.status, refused.json["code"]) == (400, "UNKNOWN_MPID")
        assert (await shop.send("/v2/bulkevents", [by_mpid], STRANGER)).status == 202
        assert await shop.made() == [ours, theirs]
        for mpid, workspace, drink in ((ours, "shop", "tea"), (theirs, "other", "gin")):
            user = await shop.store.user(mpid, workspace)
            assert user is not None
            assert user.workspace is not None
            assert values_of(user.workspace.attributes) == {"drink": drink}
        for mpid, workspace in ((ours, "other"), (theirs, "shop")):
            user = await shop.store.user(mpid, workspace)
            assert user is None or user.workspace is None
            assert await shop.store.activity(mpid, workspace) == []
        assert [row.workspace for row in await shop.store.quarantined("other")] == ["other"]
        assert await shop.store.quarantined("shop") == []


async def test_development_never_touches_production(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        for environment in ("production", "development"):
            sent = {"environment": environment, "user_identities": {"customerid": "c-1"},
                    "user_attributes": {"where": environment}}  # fmt: skip
            assert (await shop.send("/v2/events", sent)).status == 202
        production, development = await shop.made()
        for mpid, environment in ((production, "production"), (development, "development")):
            user = await shop.store.user(mpid, "shop")
            assert user is not None
            assert user.profile.space == f"acme/{environment}"
            assert user.workspace is not None
            assert values_of(user.workspace.attributes) == {"where": environment}
        refused = await shop.send("/v2/events", {"mpid": development, "user_attributes": {"where": "nowhere"}})
        assert (refused.status, refused.json["code"]) == (400, "UNKNOWN_MPID")


# -- protection ----------------------------------------------------------------------------------------------------


async def test_an_input_that_may_only_update_makes_nobody(tmp_path: Path) -> None:
    async with open_shop(tmp_path, protection="only_update") as shop:
        unknown = {"user_identities": {"customerid": "c-1"}, "user_attributes": {"a": "b"}}
        assert (await shop.send("/v2/events", unknown)).status == 202
        assert (await shop.send("/v2/bulkevents", [unknown])).status == 202
        assert (await shop.send("/v2/events", unknown | {"mpid": 7})).status == 202
        assert await shop.made() == []
        assert await shop.records() == {}
        assert await shop.counts() == {("oneself_batches", "shop/server", "dropped"): 3}


async def test_an_input_that_may_only_read_is_kept_for_nobody(tmp_path: Path) -> None:
    async with open_shop(tmp_path, protection="only_read") as shop:
        assert (await shop.send("/v2/events", batch(user_identities={"customerid": "c-1"}))).status == 202
        assert await shop.made() == []
        assert await shop.names() == ["Viewed"]
        counts = await shop.counts()
        assert counts["oneself_batches", "shop/server", "kept"] == 1
        assert counts["oneself_events", "shop/server", "taken"] == 1


# -- nothing gets in the way ---------------------------------------------------------------------------------------


async def test_what_is_set_aside_is_all_there(tmp_path: Path) -> None:
    misfit = {"environment": "moon", "events": [happening()], "huge": 2**70}
    mixed = batch({"event_type": "screen_view", "data": {}}, happening())
    stranger = batch(mpid=7)
    async with open_shop(tmp_path) as shop:
        for sent in (misfit, mixed, stranger):
            assert (await shop.send(WEB, sent)).status == 202
        third, second, first = await shop.store.quarantined("shop")
        assert (first.input, first.events, first.reason) == (
            "shop/web", 0, "environment: must be production or development",
        )  # fmt: skip
        assert (second.events, second.reason) == (1, "data.screen_name is missing")
        assert third.reason == "mpid: no user has the MPID 7."
        records = await shop.records()
        assert records[first.position].document == misfit
        assert [bad.event for bad in records[second.position].quarantined] == [mixed["events"][0]]
        assert records[third.position].document == stranger
        assert await shop.names() == ["Viewed"]
        assert await shop.counts() == {
            ("oneself_batches", "shop/web", "set_aside"): 2,
            ("oneself_batches", "shop/web", "taken"): 1,
            ("oneself_events", "shop/web", "taken"): 1,
            ("oneself_events", "shop/web", "quarantined"): 1,
        }


async def test_a_refused_batch_leaves_nothing_but_its_count(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        for sent in (batch(mpid=7), {"user_attributes": {"a": "b"}}, {"user_identities": {"email": " "}}):
            assert (await shop.send("/v2/events", sent)).status == 400
        assert await shop.made() == []
        assert await shop.records() == {}
        assert await shop.counts() == {("oneself_batches", "shop/server", "refused"): 3}


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.sampled_from(["production", "true", "custom_event", "0", "1795294533000", "a\0b", "\ud83d", 2**63, 10**30])
)  # fmt: skip
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
EVENT_TYPES = [
    "custom_event", "screen_view", "commerce_event", "opt_out", "user_attribute_change", "push_registration",
    "application_state_transition", "first_run", "crash_report", "session_start", "user_identity_change",
]  # fmt: skip
EVENT_FIELDS = [
    "event_name", "custom_event_type", "timestamp_unixtime_ms", "custom_attributes", "screen_name",
    "product_action", "user_attribute_name", "new", "deleted", "is_opted_out", "register", "registration_token",
    "source_message_id", "application_transition_type", "is_first_run", "promotion_action", "product_impressions",
]  # fmt: skip
FIELDS = [
    "environment", "mpid", "source_request_id", "mp_deviceid", "ip", "user_identities", "user_attributes",
    "deleted_user_attributes", "device_info", "application_info", "context", "consent_state", "attribution_info",
    "integration_attributes", "events", "timestamp_unixtime_ms", "sdk_version", "partner_identities",
]  # fmt: skip
events = st.fixed_dictionaries(
    {"event_type": st.sampled_from(EVENT_TYPES) | anything},
    optional={"data": st.dictionaries(st.sampled_from(EVENT_FIELDS) | st.text(), anything, max_size=6) | anything},
)
consent = st.dictionaries(
    st.sampled_from(["gdpr", "ccpa"]) | st.text(),
    st.dictionaries(st.text(), st.dictionaries(st.sampled_from(["consented", "document"]), anything)) | anything,
)
batches = st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6) | st.fixed_dictionaries(
    {"events": st.lists(events | anything, max_size=4), "mp_deviceid": st.text()},
    optional={
        "user_attributes": st.dictionaries(st.text(), anything, max_size=4),
        "user_identities": st.dictionaries(st.sampled_from(["customerid", "email", "other_id_2"]), anything),
        "device_info": st.dictionaries(st.sampled_from(["ios_idfv", "limit_ad_tracking", "platform"]), anything),
        "consent_state": consent,
    },
)


@settings(max_examples=30)
@given(poison=st.lists(anything | batches, min_size=1, max_size=20))
def test_no_batch_blocks_the_ones_that_come_after_it(
    tmp_path_factory: pytest.TempPathFactory, poison: list[Any]
) -> None:
    """Whatever a page sends as JSON, it may go on, and so may the server after a crash."""
    folder = tmp_path_factory.mktemp("poison")

    async def run() -> None:
        store = faulty(folder)
        await store.open()
        async with running(store, CONFIG.scopes, mpids=None) as engine:
            shop = Shop(create_app(CONFIG, engine, clock=lambda: NOW), store)
            for at, document in enumerate(poison):
                bodies = [json.dumps(document).encode()] * 2
                answers = await asyncio.gather(*[shop.send(WEB, body) for body in bodies])
                answers.append(await shop.send("/v2/bulkevents", b"[%s]" % bodies[0]))
                assert [answer.status for answer in answers] == [202] * 3
                single = await shop.send("/v2/events", bodies[0], KEY)
                assert single.status in (202, 400)
                good = batch(happening(event_name=f"good {at}"), mp_deviceid="a good device")
                assert (await shop.send(WEB, good)).status == 202
            names = await shop.names()
        await abandon(store)
        async with open_shop(folder) as shop:
            assert await shop.names() == names
            assert [name for name in names if name.startswith("good ")] == [f"good {at}" for at in range(len(poison))]

    asyncio.run(run())
