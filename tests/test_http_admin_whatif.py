"""What-ifs by the admin API: started, followed, stopped, one at a time, of one scope only (docs/whatif.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from admin_world import World, admin
from engine_at_work import identify, running
from http_edge import basic
from oneself.history.whatif.running import Asked
from oneself.http.admin import runner
from oneself.http.admin.runner import Run, Runner
from oneself.http.wire import HttpError
from oneself.identity import PolicySettings
from store_factories import Postgres

pytestmark = pytest.mark.anyio

LINK = {"settings": {"strategy": "profile_link"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def used(folder: Path) -> AsyncIterator[World]:
    """A shop with some users, and another scope's user; its clock goes on."""
    async with admin(folder) as world:
        for number in range(20):
            await world.identify(device_application_stamp=f"d-{number}")
            await world.identify(device_application_stamp=f"d-{number}", customerid=f"c-{number}")
        body = {"environment": "production", "known_identities": {"email": "theirs@example.com"}}
        assert (await world.ask("POST", "/v1/identify", body, basic("other-key", "other-secret"))).status == 200
        yield world


async def ended(world: World, path: str = "/whatif", **who: str) -> Any:
    """Wait until a report has ended, and return what became of it."""
    async with asyncio.timeout(60):
        while True:
            answer = await world.answer("GET", path, **who)
            assert answer.status == 200
            if answer.json["state"] != "running":
                return answer.json
            await asyncio.sleep(0.05)


async def test_a_whatif_is_made_beside_the_server_and_reported_as_json_and_as_a_page(tmp_path: Path) -> None:
    async with used(tmp_path) as world:
        assert (await world.answer("GET", "/whatif")).status == 404
        started = await world.answer("POST", "/whatif", LINK)
        assert (started.status, started.json["state"], started.json["by"]) == (202, "running", "/admin/admin")
        assert (await world.answer("GET", "/whatif/report")).status == 404
        done = await ended(world)
        assert (done["id"], done["state"], done["progress"]) == (started.json["id"], "done", 1.0)
        assert done["settings"] == LINK["settings"]
        report = await world.get("/whatif/report")
        (space,) = report["spaces"]
        assert (space["space"], space["users"]["split"], report["left"]) == ("acme/production", 20, [])
        assert space["decided"] == 40
        page = await world.answer("GET", "/whatif/report", query={"format": "html"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.body.startswith(b"<!DOCTYPE html>")
        assert b"theirs@example.com" not in page.body
        assert "c-1" not in str(report), "values are digests unless they are to be shown"
        assert world.store.position == 41


async def test_values_are_shown_where_they_are_asked_for_and_a_span_is_kept(tmp_path: Path) -> None:
    async with used(tmp_path) as world:
        body = LINK | {"show_values": True, "from": "3", "to": "30"}
        assert (await world.answer("POST", "/whatif", body)).status == 202
        assert (await ended(world))["state"] == "done"
        report = await world.get("/whatif/report")
        assert (report["first"], report["last"]) == (3, 30)
        assert "c-1" in str(report)


async def test_one_is_made_at_a_time_and_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with used(tmp_path) as world:
        monkeypatch.setattr(runner.sys, "executable", "/bin/sleep")  # takes "-m" for no time, and ends with an error
        assert (await world.answer("POST", "/whatif", LINK)).status == 202
        assert (await ended(world))["state"] == "failed"
        monkeypatch.setattr(runner.sys, "executable", str(_slow(tmp_path)))
        assert (await world.answer("POST", "/whatif", LINK)).status == 202
        for client, workspace in (("admin", "shop"), ("stranger", "other")):
            busy = await world.answer("POST", "/whatif", LINK, client=client, workspace=workspace)
            assert (busy.status, busy.json["ErrorCode"]) == (409, "BUSY")
        assert (await world.answer("GET", "/whatif", client="stranger", workspace="other")).status == 404
        stopped = await world.answer("POST", "/whatif/stop")
        assert (stopped.status, stopped.json["state"]) == (200, "stopped")
        again = await world.answer("POST", "/whatif/stop")
        assert (again.status, again.json["ErrorCode"]) == (409, "NOT_RUNNING")


def _slow(folder: Path) -> Path:
    """Return a program that takes its time, whatever it is asked."""
    program = folder / "slow"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    return program


async def test_a_whatif_whose_server_has_gone_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with used(tmp_path) as world:
        monkeypatch.setattr(runner.sys, "executable", str(_slow(tmp_path)))
        assert (await world.answer("POST", "/whatif", LINK)).status == 202
        world.now += 20
        latest = await world.get("/whatif")
        assert (latest["state"], latest["problem"]) == ("lost", "The server that ran it has gone.")


async def test_a_process_that_runs_ends_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    async with used(tmp_path) as world:
        monkeypatch.setattr(runner.sys, "executable", str(_slow(tmp_path)))
        assert (await world.answer("POST", "/whatif", LINK)).status == 202
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "settings"),
        ({"settings": {"strategy": "x"}}, "settings.strategy"),
        ({"settings": {"alias_delay": "soon"}}, "settings.alias_delay"),
        (LINK | {"odd": 1}, "odd"),
        (LINK | {"from": "x" * 65}, "from"),
    ],
)
async def test_what_is_wrong_is_told(tmp_path: Path, body: Any, message: str) -> None:
    async with admin(tmp_path) as world:
        answer = await world.answer("POST", "/whatif", body)
        assert answer.status == 400
        assert message in answer.message


async def test_a_span_without_decisions_fails_with_the_reason(tmp_path: Path) -> None:
    async with used(tmp_path) as world:
        assert (await world.answer("POST", "/whatif", LINK | {"from": "900"})).status == 202
        failed = await ended(world)
        assert (failed["state"], failed["problem"]) == ("failed", "Nothing was decided from 900 to now.")


async def test_it_takes_the_permission_admin(tmp_path: Path) -> None:
    async with admin(tmp_path) as world:
        for method, path in (
            ("POST", "/whatif"),
            ("GET", "/whatif"),
            ("GET", "/whatif/report"),
            ("POST", "/whatif/stop"),
        ):
            assert (
                await world.answer(method, path, LINK if method == "POST" else None, client="looker")
            ).status == 403


async def test_the_report_of_guards_is_made_likewise(tmp_path: Path) -> None:
    async with used(tmp_path) as world:
        await world.identify(other="null", other2="x")
        assert (await world.answer("GET", "/guards/report")).status == 404
        started = await world.answer("POST", "/guards/report", {"top": 3})
        assert (started.status, started.json["state"], started.json["top"]) == (202, "running", 3)
        busy = await world.answer("POST", "/whatif", LINK)
        assert (busy.status, busy.json["ErrorCode"]) == (409, "BUSY")
        assert (await ended(world, "/guards/report"))["state"] == "done"
        seen = await world.get("/guards/report/result")
        assert (seen["first"], seen["last"]) == (1, 42)
        (junk,) = seen["held_off"]
        assert (junk["what"], junk["why"], junk["space"]) == ("dropped", "junk", "acme/production")
        for method, path in (("GET", "/guards/report"), ("POST", "/guards/report"), ("GET", "/guards/report/result")):
            body = {} if method == "POST" else None
            assert (await world.answer(method, path, body, client="looker")).status == 403


async def test_servers_of_one_database_make_one_at_a_time_and_all_know_it(tmp_path: Path) -> None:
    backend = Postgres(tmp_path)
    await backend.start()
    other = backend.make()
    await other.open()
    scopes = {"acme": PolicySettings()}
    async with running(backend.store, scopes) as here, running(other, scopes) as there:
        await here.submit(identify())
        one, two = Runner(here, time.time), Runner(there, time.time)
        asked = Asked("whatif", "acme", PolicySettings("profile_link"))
        started = await one.start("whatif", "acme", "/admin/ann", asked)
        with pytest.raises(HttpError, match="one is made at a time"):
            await two.start("guards", "acme", "/admin/bob", asked)
        with pytest.raises(HttpError, match="on this server"):
            await two.stop("whatif", "acme")
        done = await _done(two)
        assert (done.id, done.state, done.problem) == (started.id, "done", "")
        assert b'"space":"acme/production"' in await two.result("whatif", "acme")
        assert await two.result("whatif", "acme", page=True) == await one.result("whatif", "acme", page=True)
        assert (await two.start("whatif", "acme", "/admin/bob", asked)).by == "/admin/bob"
        await two.stop("whatif", "acme")
    await other.close()
    await backend.stop()


async def _done(of: Runner) -> Run:
    async with asyncio.timeout(60):
        while (run := await of.latest("whatif", "acme")).state == "running":
            await asyncio.sleep(0.05)
    return run
