"""``oneself resolve``: requests answered without a server, with their traces."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from oneself.commands import main
from oneself.commands.resolve import Memory, answer
from oneself.identity import (
    HOLDERS_READ,
    INLINE_VALUES,
    Change,
    Create,
    Decision,
    Link,
    PolicySettings,
    Request,
    Trace,
    build,
)
from oneself.journal import Entry
from oneself.store import EmbeddedStore, Wanted

CONFIG = """
[[workspace]]
id = 1
name = "shop"

[[workspace]]
id = 2
name = "lab"

[scope.shop]
strategy = "profile_isolation"
"""

# The published isolation flow, with a device in place of the app.
FLOW = [
    {"kind": "identify", "known_identities": {"ios_idfv": "9876"}},
    {"kind": "login", "known_identities": {"customerid": "ABC123", "email": "ed@example.com", "ios_idfv": "9876"}},
    {"kind": "logout", "known_identities": {"ios_idfv": "9876"}},
    {"kind": "identify", "known_identities": {"email": "h.jekyll@example.com"}},
    {"kind": "login", "known_identities": {"customerid": "ABC123", "email": "ed@example.com", "ios_idfv": "9876"}},
]


@pytest.fixture
def run(monkeypatch):
    for name in ("ONESELF_DATA", "ONESELF_DATABASE"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: object, stdin: object = ""):
        lines = stdin if isinstance(stdin, str | bytes) else "\n".join(json.dumps(line) for line in stdin)
        return CliRunner().invoke(main, ["resolve", *map(str, arguments)], input=lines)

    return invoke


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "oneself.toml"
    path.write_text(CONFIG)
    return path


def documents(result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_one_request_is_given_by_options(run):
    result = run(
        "--kind", "login", "--identity", "customerid=A=1", "--identity", "email=null", "--previous-mpid", "-5"
    )
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "login: customerid 'A=1', email 'null'; before it was MPID -5"
    assert lines[1].endswith(", a known user")
    assert lines[2] == "why: a new known user: a new profile"
    assert "  email 'null': it is a placeholder that stands for nobody (junk)" in lines


def test_several_lines_are_a_flow_over_one_state(run, config):
    mpids = [one["mpid"] for one in documents(run("--config", config, "--scope", "shop", "--json", stdin=FLOW))]
    anonymous, known, back, third, again = mpids
    assert len({anonymous, known, third}) == 3
    assert (back, again) == (anonymous, known)


def test_a_flow_goes_on_with_modify(run, config):
    arguments = ("--config", config, "--scope", "shop", "--json", "--seed", 3)
    known, third = (documents(run(*arguments, stdin=FLOW))[at]["mpid"] for at in (1, 3))
    change = {"identity_type": "email", "old_value": "ed@example.com", "new_value": "h.jekyll@example.com"}
    modify = {"kind": "modify", "mpid": known, "identity_changes": [change]}
    search = {"kind": "search", "known_identities": {"email": "h.jekyll@example.com"}}
    modified, found = documents(run(*arguments, stdin=[*FLOW, modify, search]))[-2:]
    assert modified["trace"]["why"] == "modified"
    assert f"  email: the value was taken from MPID {third}" in modified["words"]
    assert found["mpid"] == known


def test_a_history_is_decided_first_and_not_shown(run, config, tmp_path):
    history = tmp_path / "history.jsonl"
    history.write_text("\n\n".join(json.dumps(line) for line in FLOW))
    result = run("--config", config, "--scope", "shop", "--history", history, "--json", stdin=[FLOW[1]])
    (only,) = documents(result)
    assert only["trace"]["why"] == "matched"
    assert only["matched"] == ["customerid", "email", "ios_idfv"]


def test_a_seed_makes_the_same_mpids_and_no_seed_others(run):
    def mpid(*arguments: object) -> str:
        return documents(run("--json", "--identity", "email=a", *arguments))[0]["mpid"]

    assert mpid("--seed", 1) == mpid("--seed", 1) != mpid("--seed", 2)
    assert mpid() != mpid()


def test_a_json_answer_has_the_mpid_as_a_string_and_the_words(run):
    one, refused = documents(
        run("--json", stdin=[{"known_identities": {"email": value}} for value in ("A@b", "null")])
    )
    assert isinstance(one["mpid"], str)
    assert one["is_logged_in"] is False
    assert one["changes"] == [["create", int(one["mpid"])], ["link", int(one["mpid"]), "email", "a@b"]]
    assert one["words"][0] == "identify: email 'A@b'"
    assert refused["mpid"] is None
    assert refused["error"]["code"] == "LOOKUP_ERROR"


def test_names_of_the_events_api_are_understood(run):
    first, second = documents(
        run("--json", stdin=[{"known_identities": {"customer_id": "A"}}, {"known_identities": {"customerid": "A"}}])
    )
    assert first["mpid"] == second["mpid"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"kind": "identfy"}', "Invalid enum value 'identfy'"),
        ('{"known_identites": {}}', "unknown field `known_identites`"),
        ('{"known_identities": {"emial": "a"}}', "did you mean email?"),
        ('{"known_identities": {"email": 5}}', "known_identities"),
        ('{"known_identities": {"customerid": "a", "customer_id": "b"}}', "a type twice"),
        ('{"previous_mpid": "x", "known_identities": {"email": "a"}}', "previous_mpid must be an MPID"),
        ('{"previous_mpid": 0, "known_identities": {"email": "a"}}', "previous_mpid must be an MPID"),
        ('{"previous_mpid": 9223372036854775808, "known_identities": {}}', "previous_mpid must be an MPID"),
        ('{"mpid": 5, "known_identities": {"email": "a"}}', "belong to modify"),
        ('{"kind": "modify", "mpid": 5}', "modify takes mpid and identity_changes"),
        ('{"kind": "modify", "identity_changes": [{"identity_type": "email"}]}', "modify takes mpid"),
        ('{"kind": "modify", "mpid": 5, "identity_changes": [{"identity_type": "email"}]}', "needs old_value"),
        ("{", "truncated"),
        ("[" * 100_000, "Expected `object`, got `array`"),
        (b'{"kind": "\xff"}', "codec can't decode"),
    ],
)
def test_a_line_that_is_no_request_is_told_by_its_number_and_fails(run, line, told):
    good = b'{"known_identities": {"email": "a"}}'
    result = run("--json", stdin=good + b"\n\n" + (line if isinstance(line, bytes) else line.encode()))
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1, "what came before is answered"
    assert result.stderr.startswith("Error: standard input, line 3: ")
    assert told in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--identity", "email"], "write TYPE=VALUE"),
        (["--identity", "emial=a"], "did you mean email?"),
        (["--identity", "email=a", "--identity", "email=b"], "one value of a type"),
        (["--identity", "email=a", "--previous-mpid", "x"], "previous_mpid must be an MPID"),
        (["--identity", "email=a", "--kind", "modify"], "'modify' is not one of"),
        (["--kind", "login"], "need --identity"),
        (["--scope", "shop", "--identity", "email=a"], "--scope needs --config"),
    ],
)
def test_wrong_use_exits_with_2_and_says_what_to_write(run, arguments, told):
    result = run(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_scope_must_be_one_of_the_configuration(run, config):
    several = run("--config", config, "--identity", "email=a")
    assert several.exit_code == 2
    assert "Scopes: shop, lab." in several.stderr
    misspelt = run("--config", config, "--scope", "shpo", "--identity", "email=a")
    assert misspelt.exit_code == 2
    assert "did you mean shop?" in misspelt.stderr


def test_the_only_scope_needs_no_name(run, tmp_path):
    path = tmp_path / "oneself.toml"
    path.write_text('[[workspace]]\nid = 1\nname = "lab"\n[scope.lab]\nstrategy = "best_match"\n')
    (one,) = documents(run("--config", path, "--identity", "customerid=a", "--json"))
    assert one["is_logged_in"] is False, "best_match knows nobody"


def test_files_that_cannot_be_used_are_told(run, tmp_path):
    for option in ("--config", "--history"):
        result = run(option, tmp_path / "nope", "--identity", "email=a")
        assert result.exit_code == 1
        assert "nope" in result.stderr
        assert "cannot be read" in result.stderr


def test_help_has_an_example(run):
    assert "Example:" in run("--help").output


# -- the state ------------------------------------------------------------------------------------------------


def test_a_state_shows_many_values_and_many_holders_as_a_store_does():
    policy = build(PolicySettings(strategy="best_match", max_values_per_profile=0))
    state = Memory()
    for number in range(INLINE_VALUES * 2):
        request = Request("identify", {"email": "same", "other": f"value-{number}"}, previous_mpid=1)
        assert answer(state, policy, request, number + 1).mpid == 1
    for number in range(INLINE_VALUES * 2):
        decision = answer(state, policy, Request("search", {"other": f"value-{number}", "email": "same"}), 999)
        assert (decision.mpid, decision.matched) == (1, ["email", "other"])


def test_of_many_holders_only_the_latest_are_walked():
    policy, state = build(), Memory()
    for mpid in range(1, HOLDERS_READ + 50):
        answer(state, policy, Request("logout", {"ios_idfv": "shared"}), mpid)
    decision = answer(state, policy, Request("identify", {"ios_idfv": "shared"}), 999)
    assert decision.mpid == HOLDERS_READ + 49
    assert len(decision.trace.steps[0].seen) == HOLDERS_READ


def test_data_is_what_a_folder_has_and_stays_as_it_is(tmp_path: Path) -> None:
    async def fill() -> None:
        store = EmbeddedStore(tmp_path)
        await store.open()
        reading = await store.read({"default/production": Wanted([("customerid", "A1")])})
        changes: list[Change] = [Create(77), Link(77, "customerid", "A1")]
        decision = Decision(Trace("new"), 77, changes=changes)
        reading.keep(Entry(0, "default/production", "shop/web", 1, Request("login"), decision))
        await store.commit(reading)
        await store.close()

    asyncio.run(fill())
    lines = '{"kind":"login","known_identities":{"customerid":"A1","email":"a@example.com"}}\n' * 2
    for _ in range(2):
        told = CliRunner().invoke(main, ["resolve", "--data", str(tmp_path), "--json"], input=lines)
        assert told.exit_code == 0, told.output
        first, second = (json.loads(line) for line in told.stdout.splitlines())
        assert first["mpid"] == second["mpid"] == "77"
        assert first["changes"] == [["link", 77, "email", "a@example.com"]]
        assert second["changes"] == []
    elsewhere = ["resolve", "--data", str(tmp_path), "--environment", "development", "--json"]
    other = CliRunner().invoke(main, elsewhere, input=lines)
    assert json.loads(other.stdout.splitlines()[0])["mpid"] != "77"
