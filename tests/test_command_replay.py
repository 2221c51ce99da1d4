"""``oneself replay``: the worked examples of its page, its options and exit codes (docs/replay.md)."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from oneself.commands import main
from recorded_histories import fill_shop

PAGE = (Path(__file__).parent.parent / "docs" / "replay.md").read_text()
EXAMPLES = [text for text in re.findall(r"```\n(.*?)```", PAGE, re.S) if text.startswith("$ oneself ")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample shop's data folder."""
    folder = tmp_path_factory.mktemp("shop") / "data"
    fill_shop(folder)
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["replay", *arguments])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_the_worked_examples_print_what_their_page_says(shop: Path, example: str) -> None:
    command, _, expected = example.partition("\n")
    result = run("--data", str(shop), *command.split()[3:])
    assert result.exit_code == 0, result.output
    assert result.output == expected


def test_there_are_two_worked_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.fixture
def damaged(shop: Path, tmp_path: Path) -> Path:
    """The sample shop with a holder too few."""
    folder = tmp_path / "damaged"
    shutil.copytree(shop, folder)
    file = apsw.Connection(str(folder / "state.db"))
    with file:
        file.execute("DELETE FROM holder WHERE position = 3")
    file.close()
    return folder


def test_a_difference_is_told_with_both_sides_and_exit_code_1(damaged: Path) -> None:
    result = run("--data", str(damaged))
    assert result.exit_code == 1
    assert "2 differences: holders 2" in result.output
    assert re.search(r"holders: email #[0-9a-f]{10} in default/production\n +journal: \(3, -?\d+\)", result.output)
    assert "found:   nothing more" in result.output
    assert "ana@example.com" not in result.output
    assert "email 'ana@example.com'" in run("--data", str(damaged), "--show-values").output


def test_json_has_the_differences(damaged: Path) -> None:
    result = run("--data", str(damaged), "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)
    assert found["where"] == {"holders": 2}
    assert found["differences_in_all"] == len(found["differences"]) == 2
    assert set(found["differences"][0]) == {"where", "what", "journal", "found"}


def test_of_many_differences_twenty_are_printed(shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(shop, folder)
    file = apsw.Connection(str(folder / "state.db"))
    with file:
        file.execute("DELETE FROM holder")
    file.close()
    result = run("--data", str(folder))
    assert result.output.count("journal:") == 20
    assert "… --json lists 292" in result.output


def test_as_of_is_told_as_json_too(shop: Path) -> None:
    mpid = EXAMPLES[1].split()[5]
    found = json.loads(run("--data", str(shop), "--as-of", "2025-10-09T09:00:00", mpid, "--json").output)
    assert (found["mpid"], found["state"], found["leads_to"]) == (mpid, "known", [mpid])
    assert found["position"] == 5


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--as-of", "3"], 2, "--as-of and MPID belong together"),
        (["77"], 2, "--as-of and MPID belong together"),
        (["--as-of", "3", "ana"], 2, "'ana' is no MPID"),
        (["--as-of", "3", str(2**63)], 2, "is no MPID"),
        (["--as-of", "3", "77"], 1, "No user had the MPID 77 at decision 3."),
        (["--as-of", "noon", "77"], 1, "'noon' is no moment"),
        (["--config", "missing.toml"], 1, "missing.toml"),
    ],
)
def test_what_is_wrong_is_told(shop: Path, arguments: list[str], code: int, told: str) -> None:
    data = [] if "--config" in arguments else ["--data", str(shop)]
    result = run(*data, *arguments)
    assert result.exit_code == code, result.output
    assert told in result.output


def test_the_folder_is_that_of_the_configuration_or_the_usual_one(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONESELF_DATABASE", raising=False)
    monkeypatch.delenv("ONESELF_DATA", raising=False)
    config = tmp_path / "oneself.toml"
    config.write_text(f'data = "{shop}"\n[[workspace]]\nid = 1\nname = "default"\n')
    assert run("--config", str(config)).exit_code == 0
    config.write_text('database = "postgresql://x:secret@127.0.0.1:1/y"\n[[workspace]]\nid = 1\nname = "default"\n')
    assert "The database 127.0.0.1:1/y cannot be reached" in run("--config", str(config)).output
    assert "in one place" in run("--data", str(shop), "--database", "postgresql://x@127.0.0.1:1/y").output
    monkeypatch.setenv("ONESELF_DATA", str(shop))
    assert run().exit_code == 0
    monkeypatch.setenv("ONESELF_DATA", str(tmp_path / "nothing"))
    assert "holds no data" in run().output
