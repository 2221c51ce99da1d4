"""``oneself export``: what it writes where, also while a server runs, and how wrong use ends."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from bulk_world import CONFIG
from oneself.commands import main
from profile_world import NOW_MS, custom
from serving import serving

MORE = '\n[[workspace]]\nid = 2\nname = "lab"\n'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``oneself export`` in a folder with data of two customers, one batch each."""
    for name in ("ONESELF_DATA", "ONESELF_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oneself-data").mkdir()
    (tmp_path / "oneself-data" / "oneself.toml").write_text(CONFIG)
    rows = [
        {
            "user_identities": {"customer_id": "a"},
            "user_attributes": {"plan": "x"},
            "events": [custom("Seen", NOW_MS)],
        },
        {"user_identities": {"customer_id": "b"}, "events": [custom("Seen", NOW_MS + 86_400_000)]},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert CliRunner().invoke(main, ["import", "rows.jsonl", "--input", "shop/server"]).exit_code == 0
    return lambda *arguments: CliRunner().invoke(main, ["export", *map(str, arguments)])


def lines(text: str) -> list[dict[str, object]]:
    """Return the documents of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_profiles_go_to_standard_output_as_json_lines(run: Callable[..., Result]) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert sorted(str(one["user_attributes"]) for one in lines(result.stdout)) == ["{'plan': 'x'}", "{}"]


def test_events_go_to_a_file_by_its_name(run: Callable[..., Result], tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        result = run("--what", "events", "--output", name)
        assert (result.exit_code, result.stdout) == (0, f"2 batches written to {name}\n"), result.output
    plain = (tmp_path / "a.jsonl").read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == plain
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [json.loads(row["events"]) for row in rows] == [one["events"] for one in lines(plain.decode())]
    assert run("--what", "events", "--output", "b", "--format", "parquet").exit_code == 0
    assert pq.read_table(tmp_path / "b").num_rows == 2


def test_a_time_is_a_date_or_has_a_zone(run: Callable[..., Result]) -> None:
    def names(*arguments: str) -> list[object]:
        result = run("--what", "events", *arguments)
        assert result.exit_code == 0, result.output
        return [one["user_identities"] for one in lines(result.stdout)]

    a, b = {"customer_id": "a"}, {"customer_id": "b"}
    assert names("--from", "2023-11-14", "--to", "2023-11-15") == [a]
    assert names("--from", "2023-11-15") == [b]
    assert names("--to", "2023-11-14T22:13:20Z") == []
    assert names("--to", "2023-11-14T23:13:20.001+01:00") == [a]
    assert names("--to", "2023-11-14T22:13:20.001", "--input", "shop/server") == [a]
    assert names("--input", "shop/web") == names("--environment", "development") == []


def test_a_folder_is_exported_while_it_is_served(run: Callable[..., Result], tmp_path: Path) -> None:
    with serving(CONFIG, tmp_path / "served") as server:
        batch = {"user_identities": {"customer_id": "a"}, "user_attributes": {"n": "1"}, "environment": "production"}
        assert server.post("/v2/events", batch).status_code == 202
        result = run("--data", server.data, "--config", server.config)
        assert [one["user_attributes"] for one in lines(result.stdout)] == [{"n": "1"}]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--format", "parquet"], 2, "Parquet goes to a file; give --output FILE"),
        (["--what", "users"], 2, "'users' is not one of"),
        (["--workspace", "shopp"], 2, "'shopp' is no workspace; did you mean shop?"),
        (["--input", "shop/server"], 2, "--input goes with --what events"),
        (["--what", "events", "--input", "shop/serve"], 2, "'shop/serve' is no input; did you mean shop/server?"),
        (["--from", "yesterday"], 2, "'yesterday' is no date or time"),
        (["--data", "elsewhere"], 2, "elsewhere/oneself.toml is not there"),
        (["--config", "two.toml"], 2, "There are several workspaces; give --workspace. Workspaces: shop, lab."),
        (
            ["--config", "two.toml", "--what", "events", "--input", "shop/web", "--workspace", "lab"],
            2,
            "shop/web is no input of the workspace lab",
        ),
        (["--data", "empty", "--config", "two.toml", "--workspace", "lab"], 1, "empty holds no data"),
        (["--output", "absent/a.jsonl"], 1, "absent/a.jsonl cannot be written: No such file"),
    ],
)
def test_wrong_use_is_told(
    run: Callable[..., Result], tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "two.toml").write_text(CONFIG + MORE)
    result = run(*arguments)
    assert (result.exit_code, said in result.output) == (code, True), result.output
