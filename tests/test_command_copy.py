"""``oneself copy``: the worked examples of its page, its options and exit codes (docs/copy.md)."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from click.testing import CliRunner, Result

from oneself.commands import main
from oneself.store.transfer import Copied
from oneself.store.transfer.tables import TABLES
from postgres_server import free_port, own_schema
from recorded_histories import fill_shop

PAGE = (Path(__file__).parent.parent / "docs" / "copy.md").read_text()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample shop's data folder."""
    folder = tmp_path_factory.mktemp("shop") / "oneself-data"
    fill_shop(folder)
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["copy", *arguments])


def masked(text: str) -> str:
    """Return an output without what changes with the time: checksums of rows that have times in them, and seconds."""
    return re.sub(r"in [\d.,]+ s", "in N s", re.sub(r"\b[0-9a-f]{16}\b", "CHECKSUM", text))


def test_the_worked_example_prints_what_its_page_says(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = [text for text in re.findall(r"```\n(.*?)```", PAGE, re.S) if "\ntable " in text]
    command, _, expected = example.partition("\n")
    shutil.copytree(shop, tmp_path / "oneself-data")
    monkeypatch.chdir(tmp_path)
    result = run(*command.split()[3:])
    assert result.exit_code == 0, result.output
    assert masked(result.output) == masked(expected)
    result = run(*command.split()[3:])
    assert result.exit_code == 1
    assert "is not empty" in result.output


def test_there_and_back_as_json(shop: Path, tmp_path: Path) -> None:
    url = own_schema()
    there = run("--from", str(shop), "--to", url, "--json")
    assert there.exit_code == 0, there.output
    back = run("--from", url, "--to", str(tmp_path / "back"), "--json")
    assert back.exit_code == 0, back.output
    told: list[dict[str, Any]] = [json.loads(one.output) for one in (there, back)]
    assert [one["equal"] for one in told] == [True, True]
    assert told[0]["position"] == told[1]["position"] > 0
    assert told[0]["tables"] == told[1]["tables"]
    assert [table["table"] for table in told[0]["tables"]] == [table.name for table in TABLES]
    assert told[0]["from"] == told[1]["to"].replace(str(tmp_path / "back"), str(shop))
    assert all(len(table["checksum"]) == 32 for table in told[0]["tables"])


def test_a_difference_is_told_with_both_sides_and_exit_code_1(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def different(*arguments: Any, **options: Any) -> Copied:
        copied = await original(*arguments, **options)
        first = copied.tables[0]
        wrong = type(first)(first.table, first.rows, first.checksum, first.rows - 1, "0" * 32)
        return Copied(copied.position, (wrong, *copied.tables[1:]))

    import oneself.store.transfer as transfer

    original = transfer.copy
    monkeypatch.setattr(transfer, "copy", different)
    result = run("--from", str(shop), "--to", str(tmp_path / "copy"))
    assert result.exit_code == 1
    assert re.search(r"^entry +\d+  [0-9a-f]{16}\n +\d+  0{16}  in the copy: DIFFERENT$", result.output, re.M)
    assert "is not finished: no server opens it" in result.output


def test_a_copy_that_fails_says_how_to_go_on(shop: Path, tmp_path: Path) -> None:
    damaged, to = tmp_path / "damaged", tmp_path / "copy"
    shutil.copytree(shop, damaged)
    with closing(apsw.Connection(str(damaged / "journal.db"))) as file:
        file.execute("UPDATE batch SET checksum = 1 WHERE position = (SELECT max(position) FROM batch)")
    result = run("--from", str(damaged), "--to", str(to))
    assert result.exit_code == 1
    assert "does not match its checksum" in result.output
    assert f"The copy in {to} is not finished: run the same command with --restart." in result.output
    again = run("--from", str(shop), "--to", str(to))
    assert again.exit_code == 1
    assert "oneself copy --restart" in again.output
    assert run("--from", str(shop), "--to", str(to), "--restart").exit_code == 0


def test_credentials_are_not_shown(shop: Path) -> None:
    url = f"postgresql://somebody:secret@127.0.0.1:{free_port()}/shop"
    result = run("--from", str(shop), "--to", url)
    assert result.exit_code == 1
    assert "127.0.0.1" in result.output
    assert "secret" not in result.output


def test_a_folder_without_data_is_named(tmp_path: Path) -> None:
    result = run("--from", str(tmp_path), "--to", str(tmp_path / "copy"))
    assert result.exit_code == 1
    assert f"{tmp_path} holds no data" in result.output
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite:///file"])
def test_a_url_of_another_database_is_wrong_use(tmp_path: Path, url: str) -> None:
    result = run("--from", str(tmp_path), "--to", url)
    assert result.exit_code == 2
    assert "postgresql://user@host/oneself" in result.output


def test_both_places_are_asked_for() -> None:
    assert run("--from", "here").exit_code == run("--to", "there").exit_code == 2


def test_progress_reaches_its_end(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    planned: list[int] = []

    monkeypatch.setattr("oneself.commands.copy._Progress.plan", lambda _, steps: planned.append(steps))
    monkeypatch.setattr("oneself.commands.copy._Progress.step", lambda _, steps: shown.append(steps))
    assert run("--from", str(shop), "--to", str(tmp_path / "copy")).exit_code == 0
    assert planned == [sum(shown)]
