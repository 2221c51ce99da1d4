"""The live stream shows batches once they are durable, holds nothing up, and always ends with the reason."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from admin_world import NOW_MS, admin, event
from http_edge import BASIC
from oneself.http.admin import feed as feeds
from oneself.http.admin import live as lives
from oneself.http.tokens import LIFETIME_SECONDS

pytestmark = pytest.mark.anyio

IDFA = "613AC3A2-5B6B-4B0F-8B5E-5A0C2A9F7C11"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def dev(**more: Any) -> dict[str, Any]:
    """Return a batch of the development environment."""
    return {"environment": "development", "user_identities": {"customerid": "c-1"}} | more


async def test_a_batch_is_shown_with_what_became_of_it(tmp_path: Path) -> None:
    async with admin(tmp_path) as world, world.watching() as stream:
        headers = dict(stream.messages[0]["headers"])
        assert stream.status == 200
        assert headers[b"content-type"] == b"text/event-stream"
        assert headers[b"cache-control"] == b"no-store"
        first = await world.take(dev(events=[event("a"), {"event_type": "nonsense"}], mp_deviceid="d-1"))
        second = await world.take(dev(user_attributes={"a": "b"}))
        one, two = await stream.until(2)
        mpid = await world.mpid_of(first)
        assert (one["position"], one["input"], one["kind"], one["environment"]) == (
            first, "shop/server", "server", "development",
        )  # fmt: skip
        assert (one["outcome"], one["mpid"], one["known"], one["created"], one["why"]) == (
            "taken", mpid, True, True, "new_known_created",
        )  # fmt: skip
        assert sorted(one["linked"]) == ["customerid", "device_application_stamp"]
        assert [e["event"]["data"]["event_name"] for e in one["batch"]["events"]] == ["a"]
        assert one["batch"]["quarantined"] == [
            {"index": 1, "reason": "event_type is not one that is known", "event": {"event_type": "nonsense"}}
        ]
        assert (two["position"], two["created"], two["why"], two["linked"]) == (second, False, "matched", [])
        assert f"id: {second}\n" in stream.text


async def test_what_was_not_taken_in_is_shown_too(tmp_path: Path) -> None:
    async with admin(tmp_path) as world, world.watching() as stream:
        await world.take(dev())
        await world.take(dev(user_identities={"customerid": "nobody"}), "feed")
        await world.take(dev(), "trial")
        await world.page({"environment": "nowhere", "events": 3})
        assert (await world.send(dev(mpid="17"))).status == 400
        await world.page(dev(mpid="18"))
        told = [(one["outcome"], one["why"], one["environment"]) for one in (await stream.until(6))]
        assert told == [
            ("taken", "new_known_created", "development"),
            ("dropped", "user_unknown", "development"),
            ("kept", "only_read", "development"),
            ("set_aside", "refused", None),
            ("refused", "refused", "development"),
            ("set_aside", "refused", "development"),
        ]
        dropped, _, misfit, refused, unknown = stream.events()[1:]
        assert (dropped["batch"], dropped["identities"]) == (None, {"customerid": "nobody"})
        assert misfit["document"] == {"environment": "nowhere", "events": 3}
        assert misfit["error"]["message"] == "environment: must be production or development"
        assert refused["error"]["code"] == unknown["error"]["code"] == "UNKNOWN_MPID"
        assert (refused["document"], unknown["document"]) == (None, dev(mpid="18"))


async def test_only_development_is_shown_unless_more_is_named(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        mpid = await world.identify(customerid="c-1")
        device = {"mp_deviceid": "d-1", "device_info": {"ios_advertising_id": IDFA}}
        queries = {
            "": 2,
            "environment=production": 2,
            "environment=development": 2,
            "device=d-1": 2,
            f"device={IDFA.lower()}": 2,
            "device=d-1&environment=production": 1,
            f"mpid={mpid}": 2,
            "input=web": 1,
            "input=web&environment=production": 0,
            "type=screen_view": 1,
            "device=d-2": 0,
        }
        for query, count in queries.items():
            async with world.watching(query) as stream:
                base = world.store.position
                await world.take({"mpid": mpid})
                await world.take({"mpid": mpid, **device})
                screen = {"event_type": "screen_view", "data": {"screen_name": "Home"}}
                await world.take(dev(events=[screen, event()], **device))
                await world.page(dev())
                await world.take({"mpid": mpid, "environment": "production"}, "till")
                marker = await world.page([])  # that every stream shows, whatever its environment
                assert world.store.position == marker == base + 6
                if not {"device", "mpid", "type"} & {part.partition("=")[0] for part in query.split("&")}:
                    assert (await stream.until(count + ("input=server" not in query)))[-1]["position"] == marker
                    shown = stream.events()[:-1]
                else:
                    shown = await stream.until(count)
                    await asyncio.sleep(0.02)
                    assert len(stream.events()) == count, query
                assert len(shown) == count, query
                if query == "type=screen_view":
                    assert [e["type"] for e in shown[0]["batch"]["events"]] == ["screen_view"]
                    assert shown[0]["batch"]["event_count"] == 2


async def test_only_what_is_durable_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with admin(tmp_path) as world, world.watching() as stream:
        begin, gate = world.store.begin, asyncio.Event()

        async def later(begun: Any) -> None:
            await gate.wait()
            await begun

        monkeypatch.setattr(world.store, "begin", lambda reading: later(begin(reading)))
        sending = asyncio.create_task(world.take(dev()))
        await asyncio.sleep(0.05)
        assert stream.events() == []
        gate.set()
        assert (await stream.until(1))[0]["position"] == await sending


async def test_a_stream_resumes_where_it_was(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        sent = [await world.take(dev(user_attributes={"n": number})) for number in range(5)]
        await world.identify(customerid="c-9")
        sent.append(await world.take(dev()))
        async with world.watching(headers={"last-event-id": str(sent[1])}) as stream:
            sent.append(await world.take(dev()))
            assert [one["position"] for one in await stream.until(5)] == sent[2:]
        async with world.watching("seconds=0", headers={"last-event-id": str(sent[4])}) as stream:
            assert (await stream.end())["why"] == "time"
            assert [one["position"] for one in stream.events()] == sent[5:]
        async with world.watching("seconds=0", headers={"last-event-id": "1000000"}) as stream:
            await stream.end()
            assert stream.events() == []


async def test_each_batch_comes_once_to_a_stream_that_resumes_while_they_come(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        seen = [0]
        sending = asyncio.create_task(_send_many(world, 120))
        while not sending.done() or world.store.position > seen[-1]:
            async with world.watching(headers={"last-event-id": str(seen[-1])}) as stream:
                await asyncio.sleep(0.01)
            seen += [one["position"] for one in stream.events()]
        assert seen[1:] == await sending


async def _send_many(world: Any, count: int) -> list[int]:
    positions = []
    for number in range(count):
        positions.append(await world.take(dev(user_attributes={"n": number})))
        await asyncio.sleep(0.001)
    return positions


async def test_a_stream_that_is_too_far_back_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "FARTHEST_BACK", 3)
    async with admin(tmp_path) as world:
        for _ in range(5):
            await world.take(dev())
        async with world.watching(headers={"last-event-id": "1"}) as stream:
            await stream.until(1, "gap")
            position = await world.take(dev())
            assert [one["position"] for one in await stream.until(1)] == [position]


async def test_a_quiet_stream_says_that_it_is_alive_and_how_far_it_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "HEARTBEAT_SECONDS", 0.01)
    async with admin(tmp_path) as world, world.watching("input=web") as stream:
        start = world.store.position
        assert f": the live stream of Oneself\nid: {start}\n\n" in stream.text
        position = await world.take(dev())  # which the stream does not show
        async with asyncio.timeout(20):
            while f": alive\nid: {position}\n\n" not in stream.text:
                await asyncio.sleep(0.005)
        assert stream.events() == []


async def test_a_slow_reader_is_cut_off_and_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "SIZE", 16)
    async with admin(tmp_path) as world, world.watching() as slow, world.watching() as quick:
        slow.may_send.clear()
        for number in range(1, 41):
            await world.take(dev())
            await quick.until(number)
        assert len(await quick.until(40)) == 40
        assert slow.events() == []
        slow.may_send.set()
        assert await slow.end() == {
            "why": "too_slow",
            "message": "The stream was read more slowly than batches came in. "
            "Resume from the last id, or filter more.",
        }
        assert not quick.task.done()


async def test_a_stream_ends_when_its_token_expires_or_its_client_is_revoked(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        async with world.watching() as stream:
            world.now += LIFETIME_SECONDS + 1
            assert (await stream.end())["why"] == "token"
        world.tokens.clear()
        async with world.watching(client="looker") as stream:
            client = {"client_id": "looker", "client_secret": "l-secret"}
            assert (await world.ask("POST", "/oauth/revoke", client)).status == 200
            assert (await stream.end())["why"] == "token"


async def test_a_stream_ends_when_the_server_stops_or_its_time_is_over(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        async with world.watching("seconds=0") as stream:
            assert (await stream.end())["why"] == "time"
        async with world.watching() as stream:
            world.app.end_streams()
            assert (await stream.end())["why"] == "stopping"


async def test_so_many_streams_may_be_open_and_one_that_ends_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MOST_READERS", 3)
    monkeypatch.setattr(feeds, "MOST_READERS_A_CLIENT", 2)
    async with admin(tmp_path) as world, world.watching() as first, world.watching(client="looker"):
        async with world.watching():
            for client in ("admin", "looker"):
                answer = await world.answer("GET", "/live", client=client)
                assert (answer.status, answer.headers["retry-after"]) == (429, "15")
        async with world.watching(client="looker"):
            answer = await world.answer("GET", "/live", client="looker")
            assert answer.status == 429
        first.gone.set()
        await first.task
        for _ in range(9):
            async with world.watching():
                pass


async def test_nothing_is_kept_while_nobody_listens(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        (feed,) = [listener.__self__ for listener in world.engine.listeners if hasattr(listener.__self__, "join")]
        await world.take(dev())
        assert feed._ring == []
        async with world.watching() as stream:
            await world.take(dev())
            await stream.until(1)
            assert len(feed._ring) == 1
        assert feed._ring == []
        assert not feed._readers


@pytest.mark.parametrize(
    ("query", "headers", "told"),
    [
        ("environment=staging", {}, "environment (in the query): it must be one of"),
        ("type=party", {}, "type (in the query): it must be one of"),
        ("mpid=x", {}, "mpid (in the query): it is not an MPID"),
        ("seconds=-1", {}, "seconds (in the query): it must be a whole number"),
        ("device=", {}, "device (in the query): it must be 1 to"),
        ("devcie=a", {}, "devcie (in the query): no such parameter"),
        ("", {"last-event-id": "x"}, "Last-Event-ID: it must be the id"),
        ("", {"last-event-id": "9" * 30}, "Last-Event-ID: it must be the id"),
    ],
)
async def test_a_bad_parameter_is_named(tmp_path: Path, query: str, headers: dict[str, str], told: str) -> None:
    async with admin(tmp_path) as world:
        token = await world.headers("admin")
        answer = await world.ask("GET", f"/admin/workspaces/shop/live?{query}", headers=token | headers)
        assert (answer.status, answer.message[: len(told)]) == (400, told)


async def test_a_bulk_of_batches_is_shown_whole(tmp_path: Path) -> None:
    async with admin(tmp_path) as world, world.watching() as stream:
        body = [dev(events=[event(f"e-{number}", NOW_MS - number)]) for number in range(100)]
        for _ in range(5):
            assert (await world.ask("POST", "/v2/bulkevents", body, dict(BASIC))).status == 202
        shown = await stream.until(500)
        assert [one["position"] for one in shown] == list(range(1, 501))
