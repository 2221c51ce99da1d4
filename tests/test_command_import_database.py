"""``oneself import`` and ``oneself export`` with a database that an option names (docs/import-export.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bulk_files import json_lines, written
from bulk_world import CONFIG
from oneself.bulk import BulkError, EngineTaker, lines
from oneself.commands import main
from oneself.store.url import database_key
from postgres_server import fresh_schema
from serving import serving


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: its data folder has a configuration and no data."""
    for name in ("ONESELF_DATA", "ONESELF_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oneself-data").mkdir()
    written(tmp_path / "oneself-data" / "oneself.toml", CONFIG)
    return tmp_path


def customers(path: Path, first: int, count: int) -> Path:
    """Write JSON lines of so many customers."""
    return written(path, json_lines({"user_identities": {"customer_id": f"C-{first + n}"}} for n in range(count)))


def test_a_database_is_named_by_an_option_and_each_has_its_own_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "CHUNK_ROWS", 40)
    customers(folder / "people.jsonl", 0, 60)
    customers(folder / "others.jsonl", 1_000, 100)
    first, second = fresh_schema(), fresh_schema()
    (folder / "aside").mkdir()
    options = ("--input", "shop/server", "--rejects", folder / "aside" / "rejects.jsonl")
    assert run("import", "others.jsonl", *options, "--database", second).exit_code == 0
    with monkeypatch.context() as broken:
        begin, lots = EngineTaker.begin, iter((True, False))

        def begin_once(*given: Any, **how: Any) -> Any:
            if not next(lots):
                raise BulkError("It is stopped.")
            return begin(*given, **how)

        broken.setattr(EngineTaker, "begin", begin_once)
        result = run("import", "people.jsonl", *options, "--database", first)
        assert "It is stopped." in result.output, result.output
    (checkpoint,) = (folder / "aside").glob("import-*.json")
    result = run("import", "people.jsonl", *options, "--database", second)
    assert result.stdout.startswith("60 rows: 60 taken in, 0 rejected; 60 of them now"), result.output
    assert checkpoint.exists()
    result = run("import", "people.jsonl", *options, "--database", first)
    assert "Going on after 40 rows." in result.output
    assert result.stdout.startswith("60 rows: 60 taken in, 0 rejected; 20 of them now"), result.output
    assert not checkpoint.exists()
    for url, batches in ((first, 60), (second, 160)):
        exported = run("export", "--what", "events", "--database", url)
        assert len(exported.stdout.splitlines()) == batches
    assert not list((folder / "oneself-data").glob("journal.db*"))


def test_a_database_takes_rows_in_beside_its_server(folder: Path) -> None:
    customers(folder / "people.jsonl", 0, 30)
    url = fresh_schema()
    with serving(f'database = "{url}"\n{CONFIG}', folder / "served") as server:
        held = server.identity("login", {"customerid": "C-7"})
        options = ("--input", "shop/server", "--config", server.config, "--database", url)
        result = run("import", "people.jsonl", *options)
        assert result.stdout.startswith("30 rows: 30 taken in"), result.output
        assert server.identity("login", {"customerid": "C-7"})["mpid"] == held["mpid"]
        assert server.look({"customerid": "C-8"})["mpid"]
    assert len({entry.decision.mpid for entry in server.journal() if entry.decision.mpid}) == 30


def test_what_tells_a_database_from_others_has_no_password() -> None:
    keys = {
        database_key(url)
        for url in (
            "postgresql://ann:secret@db:5432/shop?search_path=a",
            "postgresql://ann:other@db:5432/shop?search_path=a&password=hidden",
            "postgresql://ann:secret@db:5432/shop?search_path=b",
            "postgresql://bob:secret@db:5432/shop?search_path=a",
            "postgresql://ann:secret@db:5432/lab?search_path=a",
        )
    }
    assert len(keys) == 4
    assert not [key for key in keys if "secret" in key or "hidden" in key]


@pytest.mark.parametrize("command", [("import", "people.jsonl", "--input", "shop/server"), ("export",)])
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--database", "postgresql://x:y@127.0.0.1:1/z"), 1, "The database 127.0.0.1:1/z cannot be reached"),
        (("--database", "postgresql://x@y/z", "--data", "oneself-data"), 2, "in one place"),
        (("--database", "mysql://x@y/z"), 2, "takes a PostgreSQL address"),
    ],
)
def test_wrong_use_is_told(
    folder: Path, command: tuple[str, ...], options: tuple[str, ...], code: int, said: str
) -> None:
    customers(folder / "people.jsonl", 0, 1)
    result = run(*command, *options)
    assert (result.exit_code, said in result.output) == (code, True), result.output


def test_rows_go_to_a_server_or_into_a_database(folder: Path) -> None:
    customers(folder / "people.jsonl", 0, 1)
    options = ("--input", "shop/server", "--database", "postgresql://x@y/z", "--url", "http://127.0.0.1:1")
    result = run("import", "people.jsonl", *options)
    assert (result.exit_code, "give one" in result.output) == (2, True), result.output
