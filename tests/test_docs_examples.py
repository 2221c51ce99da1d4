"""The examples of the pages of the HTTP API, of aliases, of the journal and of the commands do what is said."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from batches import event, taken
from oneself.commands import COMMANDS, main
from oneself.config import generate
from oneself.engine import Call
from oneself.identity import AliasRequest, Decision, PolicySettings, Request
from oneself.journal import BatchRecord, Entry
from oneself.store import timeline
from page_examples import PAGES, assert_said, run_examples
from profile_world import source
from reading_back import until
from recorded_histories import at_work, fill_shop
from serving import Server, serving, shop


def page(name: str) -> str:
    return (PAGES / name).read_text()


# -- over HTTP -----------------------------------------------------------------------------------------------------

PERSONALISATION = {"PERSONALISATION_SECRET": "personal-secret"}


@contextmanager
def sample_shop(folder: Path, policy: str = "") -> Iterator[tuple[Server, dict[str, str]]]:
    """Serve the sample shop with the configuration that a first start makes, and the API client of a page."""
    if not shutil.which("curl") or not shutil.which("jq"):
        pytest.skip("curl or jq is not installed")
    config = generate(folder / "made").read_text() + policy
    client = re.search(r"```toml\n(.*?)```", page("profile-api.md"), re.S)
    assert client is not None
    config += client[1].replace("env:PERSONALISATION_SECRET", PERSONALISATION["PERSONALISATION_SECRET"])
    admin = tomllib.loads(config)["api_client"][0]
    with serving(config, folder / "served", options=("--demo",)) as server:
        key, secret = server.inputs["server"]
        yield server, {"KEY": key, "SECRET": secret, "ADMIN_SECRET": admin["client_secret"], **PERSONALISATION}


@pytest.mark.parametrize(("name", "commands"), [("http.md", 2), ("profile-api.md", 6)])
def test_the_commands_of_a_page_answer_what_it_says(name: str, commands: int, tmp_path: Path) -> None:
    with sample_shop(tmp_path) as (server, environ):
        assert run_examples(page(name), server.base_url, environ, tmp_path) == commands


def test_the_commands_of_the_admin_api_answer_what_its_page_says(tmp_path: Path) -> None:
    with sample_shop(tmp_path, 'alias_delay = "0s"\n') as (server, environ):
        credentials = {"client_id": "admin", "client_secret": environ["ADMIN_SECRET"]}
        token = server.client.post("/oauth/token", json=credentials | {"grant_type": "client_credentials"}).json()
        ana = server.identity("identify", {"customerid": "C-1001"}, read_only="true")["mpid"]

        def applied() -> bool:
            told = server.client.get(
                f"/admin/workspaces/default/users/{ana}/aliases",
                headers={"authorization": f"Bearer {token['access_token']}"},
            )
            return [row["alias"]["outcome"] for row in told.json()["aliases"]] == ["applied"]

        until(applied, "the alias is in effect")
        assert run_examples(page("admin-api.md"), server.base_url, environ, tmp_path) == 12


def test_the_request_of_the_page_of_aliases_is_accepted(tmp_path: Path) -> None:
    (body,) = re.findall(r"```json\n(.*?)```", page("alias.md"), re.S)
    with serving(shop(), tmp_path) as server:
        asked = json.loads(body)
        mpids = [server.identity("identify", {"customerid": name})["mpid"] for name in ("visitor", "ana")]
        now_ms = int(server.journal()[-1].at_ms)
        asked["api_key"] = server.inputs["web"].key
        asked["data"] |= {"source_mpid": mpids[0], "destination_mpid": mpids[1]}
        asked["data"] |= {"start_unixtime_ms": now_ms - 1000, "end_unixtime_ms": now_ms}
        assert set(asked["data"]) == set(json.loads(body)["data"])
        for path in ("/v1/identity/web-key/Alias", "/webevents/v1/identity/web-key/Alias"):
            answer = server.client.post(path, json=asked | {"request_id": path}, headers={"x-mp-key": "web-key"})
            assert answer.status_code == 202, answer.text


# -- aliases -------------------------------------------------------------------------------------------------------

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
VISITOR, ANA = 52, 67
SPACE = "shop/production"


def at(day: int, time: str) -> int:
    """Return a time of the example as unix ms; the first day is 0."""
    hour, minute = map(int, time.split(":"))
    return int(MONDAY.timestamp() * 1000) + ((24 * day + hour) * 60 + minute) * 60_000


def sent(mpid: int, name: str, time: str, received: str | None = None) -> tuple[int, Call]:
    """Return when a batch of one event is received, and its call."""
    document = {"mpid": mpid, "events": [event(name, at_ms=at(0, time))]}
    received_ms = at(0, received or time)
    return received_ms, taken(document, source("web"), received_ms, scope="shop")


def test_the_example_of_the_page_of_aliases_comes_out_as_its_page_says(tmp_path: Path) -> None:
    asked = AliasRequest(VISITOR, ANA)
    steps = [
        (at(0, "09:59"), Call(SPACE, "shop/web", Request("identify", {"device_application_stamp": "d"}))),
        sent(VISITOR, "Tea", "10:00"),
        (
            at(0, "10:05"),
            Call(SPACE, "shop/web", Request("login", {"device_application_stamp": "d", "email": "a@b.c"})),
        ),
        sent(ANA, "Basket", "10:06"),
        (at(0, "10:07"), Call(SPACE, "shop/web", Request("alias", alias=asked))),
        sent(VISITOR, "Cups", "10:02", "10:30"),
        (at(1, "10:07"), Call(SPACE, "/alias", Request("alias_process", position=5))),
        (at(1, "11:00"), Call(SPACE, "/admin/support", Request("alias_undo", position=5))),
    ]
    shown = asyncio.run(played(tmp_path, steps))
    example = page("alias.md").partition("\n## An example\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (Mon|Tue) ([0-9:]+) \|.*\| (\d+) \| ?(.*?) \|$", example, re.M)
    assert len(rows) == 7
    for day, time, position, names in rows:
        when, _ = steps[int(position) - 1]
        assert when == at(day == "Tue", time)
        assert shown[int(position)] == names.strip(), f"{day} {time}"
    told = CliRunner().invoke(main, ["why", str(ANA), "--data", str(tmp_path)])
    (says,) = re.findall(r"\$ oneself why 67\n(.*?)```", example, re.S)
    assert_said(says, told.output, "oneself why 67")


async def played(folder: Path, steps: list[tuple[int, Call]]) -> dict[int, str]:
    """Play an example; return what Ana's timeline shows after each position, latest first."""
    shown: dict[int, str] = {}
    now, drawn, others = [at(0, "09:00")], {1: VISITOR, 3: ANA}, count(1000)
    settings = {"shop": PolicySettings("profile_link", alias_delay="24h")}
    async with at_work(
        folder, settings, clock=lambda: now[0], mpids=lambda: drawn.pop(len(shown) + 1, 0) or next(others)
    ) as engine:
        for when, call in steps:
            now[0] = when
            outcome = await engine.submit(call)
            assert outcome.decision.error is None, outcome.decision.error
            found = []
            for moment in await timeline(engine.store, ANA, "shop"):
                record = (await engine.store.batches([moment.activity.position]))[moment.activity.position]
                assert record.batch is not None
                found += [one.name for one in record.batch.events if moment.shows(one.at_ms)]
            shown[outcome.position] = ", ".join(found)
    return shown


# -- the journal ---------------------------------------------------------------------------------------------------


def test_the_journal_is_read_and_made_as_its_page_says(tmp_path: Path) -> None:
    text = page("journal.md")
    (statement,) = re.findall(r'^\$ sqlite3 oneself-data/journal.db "(.*)"$', text, re.M)
    fill_shop(tmp_path / "oneself-data")
    with closing(sqlite3.connect(tmp_path / "oneself-data/journal.db")) as file:
        ((body,),) = file.execute(statement).fetchall()
    table = text.partition("| field | what |")[2].partition("\n\n")[0]
    fields = re.findall(r"^\| `(\w+)` \|", table, re.M)
    assert set(json.loads(body)) <= set(fields) == set(Entry.__struct_fields__)
    assert set(re.findall(r"`(\w+)`", table.rpartition("| `decision` |")[2])) <= set(Decision.__struct_fields__)
    for name in ("batch", "quarantined", "document", "reason", "trimmed", "moved_to"):
        assert name in BatchRecord.__struct_fields__
        assert f"`{name}`" in text


def test_the_page_of_the_journal_names_every_change(tmp_path: Path) -> None:
    """Each with as many parts as it has."""
    text = re.sub(r"\s+", " ", page("journal.md"))
    shown = {name: rest.count(", ") for name, rest in re.findall(r'`\["(\w+)"((?:, [A-Z_]+)*)\]`', text)}
    assert shown == {change.__struct_config__.tag: len(change.__struct_fields__) for change in changes()}


def changes() -> list[Any]:
    """Return the types of all changes."""
    (listed,) = [one for one in msgspec.structs.fields(Decision) if one.name == "changes"]
    element = listed.type.__args__[0]
    union = getattr(element, "__value__", element)
    return list(union.__args__)


# -- commands ------------------------------------------------------------------------------------------------------


def commands(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name, those of groups and these themselves."""
    context = click.Context(group)
    for one in group.list_commands(context):
        command = group.get_command(context, one)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{name}{one} ")
        yield name + one, command


def options(*found: click.Command) -> set[str]:
    """Return the options of commands, but for ``--help``."""
    return {
        option
        for command in found
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--")
    }


def test_every_option_of_every_command_is_on_its_page() -> None:
    text = page("commands.md")
    sections = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=\n## |\Z)", text, re.M | re.S))
    assert set(sections) == set(COMMANDS)
    assert isinstance(main, click.Group)
    all_commands = dict(commands(main))
    for name in COMMANDS:
        usage = sections[name].partition("\n\n")[0] if name != "bench" else page("benchmarks.md")
        has = options(*(command for whole, command in all_commands.items() if whole.split()[0] == name))
        named = set(re.findall(r"--[a-z][a-z-]*", usage))
        assert has <= named, f"{name}: {has - named} are not told"
        assert name == "bench" or named <= has, f"{name}: {named - has} are no options"


def test_the_example_of_the_page_of_commands_answers_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONESELF_DATA", "ONESELF_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    ((lines, says),) = re.findall(r"\$ oneself resolve --seed 1 <<END\n(.*?)END\n(.*?)```", page("commands.md"), re.S)
    answered = CliRunner().invoke(main, ["resolve", "--seed", "1"], input=lines)
    assert_said(says, answered.output, "oneself resolve")
