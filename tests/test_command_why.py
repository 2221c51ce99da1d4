"""``oneself why``: the worked examples of its page, JSON, and names of nothing (docs/why.md)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oneself.commands import main
from recorded_histories import fill_shop

PAGE = (Path(__file__).parent.parent / "docs" / "why.md").read_text()
BLOCKS = [text for text in re.findall(r"```\n(.*?)```", PAGE, re.S) if text.startswith("$ oneself why ")]
EXAMPLES = [example for block in BLOCKS for example in re.split(r"\n\n(?=\$ )", block)]

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample shop's data folder."""
    folder = tmp_path_factory.mktemp("shop") / "data"
    fill_shop(folder)
    return folder


@pytest.fixture
def run(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command on the shop."""
    monkeypatch.delenv("ONESELF_DATABASE", raising=False)
    monkeypatch.setenv("ONESELF_DATA", str(shop))
    return lambda *arguments: CliRunner().invoke(main, ["why", *arguments])


def mpid_of(run: Run, request_id: str) -> str:
    return str(json.loads(run(request_id, "--json").output)["mpid"])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_the_worked_examples_print_what_their_page_says(run: Run, example: str) -> None:
    command, _, expected = example.partition("\n")
    arguments = shlex.split(command.removeprefix("$ oneself why ").replace("…", mpid_of(run, "dan-signs-up")))
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    pattern = ".*".join(re.escape(part) for part in expected.rstrip("\n").split("…"))
    assert re.fullmatch(pattern, result.output.rstrip("\n")), result.output


def test_there_are_four_worked_examples() -> None:
    assert len(EXAMPLES) == 4


def test_json_has_what_was_asked_for_and_then_each_decision(run: Run) -> None:
    dan = mpid_of(run, "dan-signs-up")
    life, *decisions = map(json.loads, run(dan, "--json").output.splitlines())
    assert (life["mpid"], life["state"], life["decisions_total"]) == (dan, "known", len(decisions))
    assert [one["did"] for one in decisions] == [
        ["created", "linked", "anonymous"], ["linked", "known"], ["unlinked", "linked"],
    ]  # fmt: skip
    (at,) = map(json.loads, run("--decision", str(decisions[-1]["position"]), "--json").output.splitlines())
    assert at["request_id"] == "dan-changes-his-address"
    assert at["words"][0].startswith("modify: MPID")
    production, *_ = map(json.loads, run("customer_id=C-1004", "--json").output.splitlines())
    assert [one["mpid"] for one in production["holders"]] == [dan]


def test_a_guarded_value_says_since_when(run: Run) -> None:
    kiosk = json.loads(run("kiosk-visitor-22-logs-in", "--json").output)
    stamp = kiosk["entry"]["request"]["identities"]["device_application_stamp"]
    told = run(f"device_application_stamp={stamp}").output
    assert "it is guarded, and finds nobody until it is released" in told
    assert "guarded since decision" in told
    assert "request kiosk-visitor-21-logs-in" in told


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nobody-asks-this",), 1, "Neither a profile nor a request"),
        (("404",), 1, "Neither a profile nor a request"),
        (("email=nobody@example.com",), 1, "Nobody in"),
        (("--decision", "5000"), 1, "There is no decision 5000"),
        ((), 2, "Give an MPID"),
        (("x", "--decision", "1"), 2, "Give an MPID"),
    ],
)
def test_names_of_nothing_are_told(run: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.output
