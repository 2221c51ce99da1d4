"""``oneself`` and ``oneself check``: what they print and how they exit."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import oneself
from oneself.commands import COMMANDS, main
from oneself.config import generate
from oneself.errors import OneselfError

SURPRISING = """
[[workspace]]
id = 1
name = "shop"
scope = "acme"

[[workspace]]
id = 2
name = "outlet"
scope = "acme"

[[workspace]]
id = 3
name = "lab"

[[input]]
workspace = "shop"
name = "web"
kind = "web"
key = "web-key"
secret = "hush-1"
key_only = false

[[input]]
workspace = "outlet"
name = "till"
kind = "server"
key = "till-key"
key_only = true

[[api_client]]
client_id = "reader"
client_secret = "hush-2"
workspaces = ["shop"]
permissions = ["profile:read"]

[scope.acme]
strategy = "profile_isolation"
max_known_profiles_per_value = 500
max_values_per_profile = 0
junk = []

[scope.lab]
strategy = "best_match"
"""

SURPRISES = [
    "input[0].key_only",
    "input[1].key_only",
    "workspace[2]",
    "scope.acme.max_known_profiles_per_value",
    "scope.acme.max_values_per_profile",
    "scope.acme.junk",
    "scope.lab.max_known_profiles_per_value",
]


@pytest.fixture
def run(monkeypatch):
    for name in ("ONESELF_DATA", "ONESELF_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def surprising(tmp_path):
    path = tmp_path / "oneself.toml"
    path.write_text(SURPRISING)
    return path


def test_a_valid_configuration_is_summed_up(run, surprising):
    result = run("check", surprising)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == f"{surprising} is valid."
    assert "workspace shop: id 1, account 1, organization 1, scope acme" in lines
    assert "  kept:      events 730 days, profiles 730 days" in lines
    assert "  sources:   platform > server > partner_feed > custom_feed > csv" in lines
    assert "input shop/web: web, by key and secret, create_and_update" in lines
    assert "input outlet/till: server, by key alone, create_and_update" in lines
    assert "api client reader: profile:read of shop" in lines
    assert "scope acme: profile_isolation, shared by shop, outlet" in lines
    assert "scope lab: best_match, of lab" in lines
    assert "  login:     customerid, email" in lines
    assert "  immutable: none" in lines
    assert any(line.startswith("  priority:  customerid > ") for line in lines)


def test_what_may_surprise_is_warned_of_with_its_key(run, surprising):
    result = run("check", surprising)
    warned = [line.split(": ")[1] for line in result.output.splitlines() if line.startswith("warning: ")]
    assert warned == SURPRISES


def test_a_generated_configuration_has_no_warning(run, tmp_path):
    result = run("check", generate(tmp_path))
    assert result.exit_code == 0
    assert "warning" not in result.output


def test_a_script_reads_the_same_as_json_and_no_secret(run, surprising):
    result = run("check", "--json", surprising)
    assert result.exit_code == 0
    found = json.loads(result.output)
    assert found["ok"] is True
    assert [one["key"] for one in found["warnings"]] == SURPRISES
    assert [one["name"] for one in found["workspaces"]] == ["shop", "outlet", "lab"]
    assert [(one["id"], one["has_secret"]) for one in found["inputs"]] == [("shop/web", True), ("outlet/till", False)]
    assert [(one["name"], one["workspaces"]) for one in found["scopes"]] == [
        ("acme", ["shop", "outlet"]),
        ("lab", ["lab"]),
    ]
    assert "hush" not in result.output
    assert "hush" not in run("check", surprising).output


def test_every_problem_is_a_line_and_the_exit_code_is_1(run, tmp_path):
    path = tmp_path / "oneself.toml"
    path.write_text('[[workspace]]\nid = 0\nname = "a b"\n')
    result = run("check", path)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["workspace[0].id", "workspace[0].name"]
    as_json = run("check", "--json", path)
    assert as_json.exit_code == 1
    found = json.loads(as_json.output)
    assert found["ok"] is False
    assert [one["key"] for one in found["problems"]] == ["workspace[0].id", "workspace[0].name"]


def test_a_missing_file_is_a_problem_without_a_traceback(run, tmp_path):
    result = run("check", tmp_path / "nope.toml")
    assert result.exit_code == 1
    assert "file: cannot be read: No such file" in result.output


def test_the_environment_counts(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ONESELF_SCOPE__DEFAULT__STRATEGY", "nonsense")
    result = run("check", generate(tmp_path))
    assert result.exit_code == 1
    assert "scope.default.strategy" in result.output


# -- the command line as such ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("chekc",), ("check",), ("check", "--nope", "x"), ("check", "a", "b")])
def test_wrong_use_exits_with_2(run, arguments):
    assert run(*arguments).exit_code == 2


def test_a_misspelt_command_is_guessed(run):
    assert "Did you mean 'check'?" in run("chekc").output


def test_help_names_every_command_and_gives_an_example(run):
    result = run("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"  {name} " in result.output
    assert "Example:" in result.output
    assert "Example:" in run("check", "--help").output


def test_help_imports_no_command():
    code = (
        "import sys; from oneself.commands import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('oneself.') and name not in"
        " ('oneself.commands', 'oneself.errors')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_python_m_oneself_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "oneself", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"oneself, version {oneself.__version__}\n"


def test_an_error_of_oneself_is_one_message_and_exits_with_1(run, monkeypatch):
    @click.command()
    def check() -> None:
        raise OneselfError("the disk is full; free some space")

    monkeypatch.setattr("oneself.commands.check.check", check)
    result = run("check")
    assert result.exit_code == 1
    assert result.stderr == "Error: the disk is full; free some space\n"
    assert result.stdout == ""
