"""The what-if benchmark measures what it says: a tiny run checks the harness, never a time (docs/benchmarks.md)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from oneself.bench.figures_history import history_figures
from oneself.bench.histories import TRIED, HistoryMeasured, HistoryOptions, TrialReport, planned_history_steps
from oneself.bench.recording import PEOPLE, record
from oneself.commands import main
from oneself.engine import Call, Engine
from oneself.engine.policies import stored_policies
from oneself.identity import Create, Decision
from oneself.journal import Entry
from oneself.store import EmbeddedStore
from postgres_server import server

REQUESTS = 2_000


def entries_of(folder: Path) -> list[Entry]:
    async def read() -> list[Entry]:
        store = EmbeddedStore(folder, read_only=True)
        await store.open()
        try:
            return [entry async for _, entry in store.entries()]
        finally:
            await store.close()

    return asyncio.run(read())


def test_a_recorded_history_is_what_a_server_records(tmp_path: Path) -> None:
    with capture_logs():
        record(tmp_path / "recorded", REQUESTS, seed=1)
    entries = entries_of(tmp_path / "recorded")
    assert len(entries) == REQUESTS
    kinds = Counter(entry.request.kind for entry in entries[REQUESTS // PEOPLE :])
    assert abs(kinds["identify"] / kinds.total() - 0.7) < 0.02
    asyncio.run(decide_again(tmp_path / "served", entries))


async def decide_again(folder: Path, entries: list[Entry]) -> None:
    """Let a server decide the same requests: the same changes and answers."""
    fresh = iter([made_by(entry.decision) or 1 for entry in entries])
    store = EmbeddedStore(folder)
    await store.open()
    await store.add_policy("default", 0, "{}")
    engine = Engine(store, await stored_policies(store), mpids=lambda: next(fresh))
    await engine.start()
    for entry in entries:
        outcome = await engine.submit(Call(entry.space, entry.input, entry.request, entry.request_id))
        assert (outcome.decision.changes, outcome.decision.mpid) == (entry.decision.changes, entry.decision.mpid)
    await engine.stop()
    await store.close()


def made_by(decision: Decision) -> int:
    return next((change.mpid for change in decision.changes if isinstance(change, Create)), 0)


@pytest.mark.parametrize("on_database", [False, True])
def test_a_tiny_run_prints_its_figures(tmp_path: Path, on_database: bool) -> None:
    arguments = ["--requests", str(REQUESTS), "--decisions", "300", "--rounds", "1", "--folder", str(tmp_path)]
    arguments += ["--database", server()] if on_database else []
    result = CliRunner().invoke(main, ["bench", "whatif", "--json", *arguments])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["errors"] == {}
    raw = figures["raw"]
    assert ("server_version" in figures["conditions"]) == on_database
    assert [(one["strategy"], one["requests"], one["differs"]) for one in raw["trials"]] == [
        ("default", REQUESTS, False), ("profile_isolation", REQUESTS, True),
    ]  # fmt: skip
    assert raw["decisions"] == 300
    assert len(raw["undone_ms"]) == len(raw["decided_ms"]) > 0
    assert all(row["value"] > 0 for row in figures["rows"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("differs", [False, True])
def test_a_policy_that_differs_from_itself_is_an_error(differs: bool) -> None:
    options = HistoryOptions(requests=1_000, rounds=1)
    trials = [TrialReport(name, 1_000, 0.005, 10**8, name != TRIED[0] or differs) for name in TRIED]
    measured = HistoryMeasured(1.0, trials, [10.0], 10_000, [1.0], [1.5])
    figures = history_figures(options, measured)
    assert bool(figures.errors) == differs
    rows = {row.figure: row for row in figures.rows}
    assert rows["1k requests under default"].value == 200_000
    assert rows["its undo"].met
    assert planned_history_steps(options) > 0
