"""``oneself policy``: the worked example of its page, and what it refuses (docs/policies.md, "Versions")."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oneself.commands import main
from recorded_histories import fill_shop

PAGE = (Path(__file__).parent.parent / "docs" / "policies.md").read_text()
BLOCKS = [text for _, text in re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)]
EXAMPLES = [text for text in BLOCKS if text.startswith("$ oneself policy ")]

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample shop's data folder."""
    folder = tmp_path_factory.mktemp("shop") / "data"
    fill_shop(folder)
    return folder


@pytest.fixture
def run(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command on the shop, in a folder of its own."""
    for name in ("ONESELF_DATA", "ONESELF_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ONESELF_DATA", str(shutil.copytree(filled, tmp_path / "data")))
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.toml").write_text('[scope.default]\nstrategy = "profile_isolation"\n')
    return lambda *arguments: CliRunner().invoke(main, ["policy", *arguments])


def test_the_worked_example_prints_what_its_page_says(run: Run) -> None:
    (example,) = EXAMPLES
    steps = re.findall(r"\$ oneself policy (.*)\n((?:[^$].*\n)*)", example)
    assert len(steps) == 5
    for command, expected in steps:
        result = run(*shlex.split(command))
        assert result.exit_code == 0, result.output
        pattern = ".*".join(re.escape(part) for part in expected.split("…"))
        assert re.fullmatch(pattern, result.output), f"{command}\nprinted {result.output}"


def test_json_has_every_version(run: Run) -> None:
    assert run("promote", "--config", "new.toml", "--by", "bob", "--note", "why not").exit_code == 0
    versions = json.loads(run("list", "--json").output)
    assert [(one["version"], one["origin"], one["author"]) for one in versions] == [
        (1, "configuration", ""), (2, "promotion", "bob"),
    ]  # fmt: skip
    assert json.loads(run("show", "--json").output) == versions[1]
    assert json.loads(run("show", "1", "--json").output) == versions[0]


def test_nothing_is_done_twice(run: Run) -> None:
    assert run("promote", "--config", "new.toml").exit_code == 0
    again = run("promote", "--config", "new.toml")
    assert "Nothing to do: version 2 of default is in force and has these settings." in again.output
    assert "Nothing to do" in run("restore", "2").output
    assert len(json.loads(run("list", "--json").output)) == 2


def test_what_is_shown_can_be_promoted(run: Run, tmp_path: Path) -> None:
    settings = (
        'strategy = "profile_link"\npriority = ["customerid", "email", "other"]\njunk_also = ["a\\"b", "\u2603"]\n'
    )
    (tmp_path / "odd.toml").write_text(f'[scope.default]\n{settings}alias_delay = 3600\nphone_region = "DE"\n')
    assert run("promote", "--config", "odd.toml").exit_code == 0
    (tmp_path / "shown.toml").write_text(run("show").output)
    assert "Nothing to do" in run("promote", "--config", "shown.toml").output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("restore", "7"), 1, "default has no version 7; its versions are 1 to 1."),
        (("show", "--scope", "defalt"), 1, "'defalt' here; did you mean default?"),
        (("promote", "--config", "two.toml"), 2, "several scopes; give --scope"),
        (("promote", "--config", "two.toml", "--scope", "acme"), 1, "No server has decided in a scope 'acme' here"),
        (("promote", "--config", "two.toml", "--scope", "x"), 2, "two.toml has no scope 'x'"),
        (("promote", "--config", "no.toml"), 1, "no.toml"),
        (("promote", "--config", "new.toml", "--note", "x" * 1001), 2, "at most 1000 characters"),
    ],
)
def test_what_cannot_be_done_is_told(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "two.toml").write_text("[scope.default]\n[scope.acme]\n")
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
