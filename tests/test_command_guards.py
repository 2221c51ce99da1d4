"""``oneself guards``: the worked example of its page, JSON, and releasing a value (docs/guards.md)."""

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

PAGE = (Path(__file__).parent.parent / "docs" / "guards.md").read_text()
BLOCKS = [text for _, text in re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)]
EXAMPLES = [text for text in BLOCKS if text.startswith("$ oneself guards")]
KIOSK = "device_application_stamp=4fb5db6d-c44e-48b2-91d7-8fa87803a763"

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample shop's data folder."""
    folder = tmp_path_factory.mktemp("shop") / "data"
    fill_shop(folder)
    return folder


@pytest.fixture
def run(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command on a shop of its own."""
    monkeypatch.delenv("ONESELF_DATABASE", raising=False)
    monkeypatch.setenv("ONESELF_DATA", str(shutil.copytree(filled, tmp_path / "data")))
    return lambda *arguments: CliRunner().invoke(main, ["guards", *arguments])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_the_worked_examples_print_what_their_page_says(run: Run, example: str) -> None:
    command, _, expected = example.partition("\n")
    result = run(*shlex.split(command)[3:])
    assert result.exit_code == 0, result.output
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    assert re.fullmatch(pattern, result.output, re.S), result.output


def test_there_are_two_worked_examples() -> None:
    assert len(EXAMPLES) == 2


def test_json_has_everything(run: Run) -> None:
    report = json.loads(run("--json", "--scope", "default").output)
    assert (report["first"], report["last"], report["guarded_total"]) == (1, 504, 1)
    (guarded,) = report["guarded"]
    assert f"{guarded['type']}={guarded['value']}" == KIOSK
    assert {(one["what"], one["type"], one["why"]) for one in report["held_off"]} == {
        ("dropped", "customerid", "junk"), ("dropped", "email", "junk"), ("dropped", "other", "junk"),
        ("dropped", "device_application_stamp", "guarded"),
    }  # fmt: skip
    assert report["quarantine"][0]["events"] == 1
    assert not report["profiles"]


def test_a_value_is_released_once(run: Run) -> None:
    assert run("release", KIOSK).exit_code == 0
    assert json.loads(run("--json").output)["guarded"] == []
    again = run("release", KIOSK)
    assert again.exit_code == 1
    assert "is not guarded here; nothing was changed" in again.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("release", "kiosk"), 2, "write TYPE=VALUE"),
        (("release", "odd=1"), 2, "write TYPE=VALUE"),
        (("release", KIOSK, "--environment", "development"), 1, "is not guarded here"),
        (("release", KIOSK, "--scope", "acme"), 1, "No server has decided in a scope 'acme' here"),
        (("--scope", "acme"), 1, "No server has decided in a scope 'acme' here"),
        (("--from", "soon"), 1, "'soon' is no moment"),
    ],
)
def test_what_cannot_be_done_is_told(run: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
