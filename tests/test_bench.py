"""The benchmarks measure what they say: tiny runs check the harness, never a time (docs/benchmarks.md)."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner, Result

from journal_fold import assert_consistent, replay
from oneself.bench import identity as identity_bench
from oneself.bench import rival as rival_service
from oneself.bench import servers
from oneself.bench.core import measure_core
from oneself.bench.disk import DiskReport, measure_disk
from oneself.bench.figures import identity_figures, of_rounds
from oneself.bench.fill import SPACE, fill
from oneself.bench.identity import Measured, Options, planned_steps
from oneself.bench.load import LoadReport
from oneself.bench.mix import SHARES, Cursor, Mix, Wire, core_request
from oneself.bench.population import Population, identities_of, stored
from oneself.bench.processes import free_port
from oneself.bench.report import Figures, Row, table
from oneself.commands import main
from oneself.identity import PolicySettings, View, apply, build, decide, prepare
from oneself.store import EmbeddedStore, Wanted
from postgres_server import server

SCHEMA = f"oneself_rival_test_{os.getpid()}"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nright"

# -- the mix -------------------------------------------------------------------------------------------------

POPULATION = Population(400)


def test_the_mix_has_its_shares():
    assert sum(SHARES.values()) == 100
    mix = Mix(POPULATION, Cursor(), seed=1)
    kinds = Counter(mix.next().kind for _ in range(1000))
    assert kinds == {"identify": 700, "login": 200, "logout": 100}


def test_requests_of_stored_users_reach_the_whole_range():
    """Known users are 0 to 99 and anonymous visitors 100 to 199: of each, every tenth is asked for."""
    mix = Mix(POPULATION, Cursor(), seed=1)
    asked = [mix.next() for _ in range(3000)]
    returning = Counter(w.device // 10 for w in asked if w.kind == "identify" and w.device < 200)
    users = Counter(w.customer // 10 for w in asked if w.kind == "login" and w.customer < 100)
    assert set(returning) == set(range(10, 20))
    assert set(users) == set(range(10))


def test_each_stored_user_is_logged_out_once_before_new_devices_are():
    mix = Mix(POPULATION, Cursor(), seed=1)
    logouts = [w.device for w in (mix.next() for _ in range(2000)) if w.kind == "logout"]
    assert sorted(logouts[:100]) == list(range(100))
    assert logouts[:100] != sorted(logouts[:100])
    assert len(set(logouts)) == len(logouts) == 200


def test_the_next_run_goes_on_where_the_last_one_ended():
    first = Mix(POPULATION, Cursor(), seed=1)
    before = [first.next() for _ in range(2000)]
    second = Mix(POPULATION, msgspec.json.decode(msgspec.json.encode(first.cursor), type=Cursor), seed=2)
    after = [second.next() for _ in range(2000)]
    new = [w.device for w in [*before, *after] if w.kind == "identify" and w.device >= 200]
    customers = [w.customer for w in [*before, *after] if w.customer >= 100]
    assert len(set(new)) == len(new)
    assert len(set(customers)) == len(customers) > 0


def test_requests_on_the_wire_are_whole_and_say_what_was_wanted():
    mix, wire = Mix(POPULATION, Cursor(), seed=1), Wire("127.0.0.1:80", "k", "s")
    ids = set()
    for _ in range(500):
        wanted = mix.next()
        head, _, body = wire.encode(wanted, mix.cursor.requests).partition(b"\r\n\r\n")
        assert head.startswith(f"POST /v1/{wanted.kind} HTTP/1.1\r\n".encode())
        assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
        assert b"Authorization: Basic azpz" in head
        document = msgspec.json.decode(body)
        request = core_request(wanted)
        assert document["known_identities"] == request.identities
        assert document["previous_mpid"] == (None if request.previous_mpid is None else str(request.previous_mpid))
        ids.add(document["request_id"])
    assert len(ids) == 500


def test_a_population_has_as_many_identities_as_asked_for():
    for size in (100, 401, 1002, 1003):
        people = list(stored(Population(size)))
        identities = [identity for _, held in people for identity in held]
        assert len(identities) == len(set(identities)) == size
        assert len({mpid for mpid, _ in people}) == len(people) == Population(size).profiles


# -- filling -------------------------------------------------------------------------------------------------


def test_a_filled_folder_is_as_if_every_request_had_been_resolved(tmp_path: Path):
    steps: list[int] = []
    fill(tmp_path / "data", POPULATION, steps.append)
    assert sum(steps) == 2 * POPULATION.profiles
    assert assert_consistent(tmp_path / "data").position == POPULATION.profiles

    async def look() -> None:
        store = EmbeddedStore(tmp_path / "data", read_only=True)
        await store.open()
        try:
            assert await replay(store) == POPULATION.profiles
            for number, (mpid, identities) in enumerate(stored(POPULATION)):
                view = (await store.read({SPACE: Wanted(identities)})).views[SPACE]
                assert view.holders == {
                    identity: [(number + 1, mpid)] for identity in identities_of(POPULATION, number)
                }
        finally:
            await store.close()

    asyncio.run(look())


# -- figures -------------------------------------------------------------------------------------------------


def report_of(rate: float, **more: Any) -> LoadReport:
    settings: dict[str, Any] = {
        "seconds": 1.0, "answered": int(rate), "rate": rate, "p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0,
        "errors": {}, "generator_cpu": 10.0, "generator_busy": 0.1, "server_cpu": 100.0, "cursor": Cursor(),
    }  # fmt: skip
    return LoadReport(**settings | more)


def measured_with(**more: Any) -> Measured:
    settings: dict[str, Any] = {
        "bare": [report_of(1000), report_of(2000), report_of(4000)],
        "empty": [report_of(1100), report_of(2200), report_of(4400)],
        "identify": {10_000: [report_of(500), report_of(500), report_of(1000)], 1_000_000: [report_of(250)] * 3},
        "paced": [report_of(250), report_of(250, p99=40.0), report_of(250, p99=20.0)],
        "disk": [DiskReport(9, 0.5, 1.0, 20.0), DiskReport(9, 0.4, 1.0, 30.0), DiskReport(9, 0.6, 1.0, 90.0)],
        "peak_memory": {10_000: 50_000_000, 1_000_000: 700_000_000},
    }
    return Measured(**settings | more)


OPTIONS = Options(stored=(10_000, 1_000_000))


def rows_of(figures: Figures) -> dict[str, Row]:
    return {row.figure: row for row in figures.rows}


def test_ratios_are_medians_of_the_rounds_ratios():
    assert of_rounds([1, 2, 9], [2, 2, 3]) == 1.0
    rows = rows_of(identity_figures(OPTIONS, measured_with()))
    mix = rows["identity mix, 10k stored"]
    assert (mix.value, mix.ratio, mix.target, mix.met) == (500, 0.25, 0.35, False)
    assert rows["at half that rate, p99"].value == 20.0
    growth = rows["cost of a request, 1m stored"]
    assert (growth.value, growth.ratio, growth.met) == (4000, 2.0, False)


def test_a_target_is_met_on_the_right_side_of_its_bound():
    assert Row("rate", 5, "/s", 0.35, "bare", ">=", 0.35).met
    assert not Row("rate", 5, "/s", 0.34, "bare", ">=", 0.35).met
    assert Row("latency", 29.9, "ms", bound="<", target=30).met
    assert not Row("latency", 30, "ms", bound="<", target=30).met
    assert Row("rate", 5, "/s").met is None
    rows = rows_of(identity_figures(OPTIONS, measured_with()))
    assert rows["server's peak memory, 10k stored"].met
    assert not rows["server's peak memory, 1m stored"].met


def test_the_disk_alone_is_told_beside_what_waits_for_it(tmp_path: Path):
    rows = rows_of(identity_figures(OPTIONS, measured_with()))
    assert rows["the disk alone, a sync, p50"].value == 0.5
    assert rows["the disk alone, a sync, longest"].value == 30.0
    assert rows["at half that rate, longest"].value == 4.0
    report = measure_disk(tmp_path, 0.05)
    assert report.syncs > 0
    assert 0 < report.p50 <= report.p99 <= report.max
    assert not list(tmp_path.iterdir())


def test_the_table_has_a_line_for_each_figure():
    figures = identity_figures(OPTIONS, measured_with(rival=[report_of(100)] * 3))
    text = table(figures)
    for row in figures.rows:
        assert any(line.startswith(row.figure) for line in text.splitlines())
    line = next(line for line in text.splitlines() if line.startswith("identity mix, 10k stored"))
    assert line.split()[4:] == ["500", "/s", "0.25", "of", "bare", ">=", "0.35", "missed"]
    assert rows_of(figures)["identity mix beside the rival"].ratio == 5.0


def test_wrong_answers_are_reported_with_the_load_they_came_from():
    bad = measured_with(rival=[report_of(100, errors={"500": 3}), report_of(0), report_of(100)])
    bad.identify[10_000] = [report_of(500, errors={"429": 1})] * 3
    figures = identity_figures(OPTIONS, bad)
    assert figures.errors == {"10k stored": {"429": 3}, "rival": {"500": 3, "no answers at all": 1}}
    assert "10k stored: 3 × 429" in table(figures)


# -- the commands --------------------------------------------------------------------------------------------


def run_bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


def test_without_a_name_the_benches_are_listed():
    result = run_bench()
    assert result.exit_code == 0
    assert "identity" in result.output
    assert "core" in result.output


def test_the_core_bench_decides_as_many_requests_as_asked():
    result = run_bench("core", "--stored", "400", "--requests", "300", "--rounds", "2", "--json")
    assert result.exit_code == 0, result.output
    figures = msgspec.json.decode(result.stdout)
    assert [row["figure"] for row in figures["rows"]] == ["prepare", "decide and apply", "pure core, 400 stored"]
    assert figures["conditions"]["requests"] == 300
    assert measure_core(POPULATION, 100, 1).requests == 100


@pytest.fixture(autouse=True)
def short_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_bench, "_CORE_REQUESTS", 200)


TINY = ["--seconds", "1.0", "--settle", "0.1", "--rounds", "1", "--connections", "8"]


def test_a_whole_tiny_run_answers_every_request(rival: str):
    sizes = ("--stored", "400,1k", "--database", rival)
    result = run_bench("identity", *sizes, *TINY, "--json")
    assert result.exit_code == 0, result.output
    figures = msgspec.json.decode(result.stdout)
    assert figures["errors"] == {}
    names = [row["figure"] for row in figures["rows"]]
    assert "identity mix, 400 stored" in names
    assert "cost of a request, 1k stored" in names
    assert figures["raw"]["identify"]["1000"][0]["answered"] > 0
    assert "rival: FastAPI, SQLAlchemy, PostgreSQL" in names
    for row in figures["rows"]:
        assert row.get("met") in (None, True, False)


def test_a_rival_that_cannot_run_is_named_and_left_out():
    nowhere = f"postgresql://postgres:secret@127.0.0.1:{free_port()}/test"
    result = run_bench("identity", "--stored", "400", *TINY, "--database", nowhere)
    assert result.exit_code == 0, result.output
    assert "No rival: " in result.output
    assert "rival's latency" not in result.output
    assert "secret" not in result.output


def test_a_server_that_does_not_start_fails_the_run_with_its_last_words(monkeypatch: pytest.MonkeyPatch):
    broken = servers._CONFIG.replace('strategy = "default"', 'strategy = "guesswork"')
    monkeypatch.setattr(servers, "_CONFIG", broken)
    result = run_bench("identity", "--stored", "400", *TINY, "--no-rival")
    assert result.exit_code == 1
    assert "ended with exit code" in result.output
    assert "guesswork" in result.output


def test_wrong_answers_fail_the_run(monkeypatch: pytest.MonkeyPatch):
    bad = measured_with(bare=[report_of(1000, errors={"503": 2})] * 3)
    monkeypatch.setattr("oneself.commands.bench.measure_identity", lambda *_: bad)
    result = run_bench("identity", "--stored", "10k,1m")
    assert result.exit_code == 1
    assert "bare endpoint: 6 × 503" in result.output


@pytest.mark.parametrize("sizes", ["", "10", "10k,10k", "many", "10k;1m"])
def test_sizes_that_are_none_are_refused(sizes: str):
    result = run_bench("identity", "--stored", sizes)
    assert result.exit_code == 2
    assert "--stored" in result.output


def test_progress_is_told_to_its_end():
    told: list[int] = []
    options = Options(stored=(400,), seconds=0.1, settle=0.0, rounds=1, connections=2)
    identity_bench.measure_identity(options, told.append)
    assert sum(told) == planned_steps(options)


# -- the rival -----------------------------------------------------------------------------------------------


@pytest.fixture
def rival(monkeypatch: pytest.MonkeyPatch) -> str:
    """The rival's database, with a schema for this process alone."""
    monkeypatch.setattr(identity_bench, "_SCHEMA", SCHEMA)
    return server()


@asynccontextmanager
async def rival_client() -> AsyncIterator[Any]:
    """A client of the rival over PostgreSQL."""
    database = server()
    await rival_service.begin(database, SCHEMA, Population(0))
    engine = rival_service.engine_for(database, SCHEMA, 4)
    try:
        transport = httpx.ASGITransport(rival_service.create_app(engine, "key", "secret"))
        async with httpx.AsyncClient(transport=transport, base_url="http://rival", auth=("key", "secret")) as client:
            yield client
    finally:
        await engine.dispose()
        await rival_service.end(database, SCHEMA)


async def ask(client: Any, kind: str, identities: dict[str, Any], **more: Any) -> Any:
    body = {"environment": "production", "known_identities": identities} | more
    answer = await client.post(f"/v1/{kind}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def conversion() -> None:
    async with rival_client() as client:
        device = {"device_application_stamp": "d-1"}
        user = {"customerid": "c-1", "email": "Ana@Example.com", **device}
        visitor = await ask(client, "identify", device)
        assert not visitor["is_logged_in"]
        signed_up = await ask(client, "login", user)
        assert signed_up["mpid"] == visitor["mpid"], "a new known user converts the anonymous one"
        assert signed_up["is_logged_in"]
        assert signed_up["matched_identities"] == device
        left = await ask(client, "logout", device, request_id="once")
        assert left["mpid"] != visitor["mpid"], "a logout makes a new anonymous user"
        assert await ask(client, "logout", device, request_id="once") == left, "a request is answered once"
        back = await ask(client, "login", user)
        assert back["mpid"] == visitor["mpid"]
        assert back["matched_identities"] == {**user, "email": "ana@example.com"}
        other = await ask(client, "login", {"customerid": "c-2", **device})
        assert other["mpid"] != visitor["mpid"], "another account is another user"
        together = await asyncio.gather(*(ask(client, "login", {"customerid": "c-3"}) for _ in range(4)))
        assert len({answer["mpid"] for answer in together}) == 1, "a unique value is on one profile"
        assert (await client.post("/v1/identify", json={}, auth=("key", "wrong"))).status_code == 401
        empty = {"environment": "production", "known_identities": {"email": "null"}}
        assert (await client.post("/v1/identify", json=empty)).status_code == 400


def test_the_rival_keeps_the_default_presets_conversion():
    asyncio.run(conversion())


async def same_answers(requests: int) -> None:
    """Give the same requests to the rival and to the core: their answers differ in nothing but the MPIDs' names."""
    policy, view, mix = build(PolicySettings()), View(), Mix(Population(8), Cursor(), seed=3)
    names: dict[str, int] = {}
    async with rival_client() as client:
        for position in range(1, requests + 1):
            request = core_request(mix.next())
            prepared = prepare(policy, request)
            for identity in prepared.identities:
                view.holders.setdefault(identity, [])
            decision = decide(prepared, view, 0, position)
            for change in decision.changes:
                apply(view, change, position)
            answer = await ask(client, request.kind, request.identities)
            assert decision.mpid is not None
            assert names.setdefault(answer["mpid"], decision.mpid) == decision.mpid
            assert answer["is_logged_in"] == decision.known
            assert sorted(answer["matched_identities"]) == sorted(decision.matched)
    assert len(set(names.values())) == len(names) > requests / 10


def test_the_rival_answers_as_the_core_does():
    asyncio.run(same_answers(300))
