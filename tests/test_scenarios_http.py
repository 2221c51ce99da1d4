"""The worked examples of docs/strategies.md, run row by row against a real server.

The page is the data: its settings configure the server, and each row of its tables is a request, what must be
answered, and what every profile must hold afterwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from oneself.identity import PRESETS, PolicySettings, build
from serving import Server, serving, shop

BOTH_ENGINES = True

PAGE = (Path(__file__).parents[1] / "docs/strategies.md").read_text()

INPUTS = "".join(
    f'[[input]]\nworkspace = "shop"\nname = "{name}"\nkind = "{kind}"\nkey = "{name}-key"\nsecret = "{name}-secret"\n'
    for name, kind in {"site": "web", "app": "ios", "tablet": "android", "tv": "roku", "feed": "server"}.items()
)

Held = dict[int, set[tuple[str, str]]]
"""What profiles hold, by their numbers on the page."""


@dataclass(frozen=True)
class Row:
    """One row of a worked example, as the page has it; ``holds`` names only the profiles that it changed."""

    happens: str
    input: str
    request: str
    answer: str
    holds: Held

    def __str__(self) -> str:
        return f"{self.happens} | {self.request}"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table(text: str) -> list[list[str]]:
    """Return the rows of the first table in a text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [cells(line) for line in lines[2:]]


def identities(text: str) -> list[tuple[str, str]]:
    return [(type_, value) for type_, _, value in (word.partition("=") for word in text.split())]


def parse(row: list[str]) -> Row:
    happens, input, request, answer, holds = row
    changed: Held = {}
    if holds != "as before":
        for part in holds.split("<br>"):
            number, _, held = part.partition(": ")
            changed[int(number)] = set() if held == "nothing" else set(identities(held.strip("`")))
    return Row(happens, input, request.strip("`"), answer, changed)


def examples() -> dict[str, tuple[str, list[Row]]]:
    """Return, for each strategy of the page, its settings as TOML and the rows of its story."""
    found = {}
    for name, section in re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S):
        [settings] = re.findall(r"^```toml\n(.*?)^```", section, re.M | re.S)
        found[name] = (settings, [parse(row) for row in table(section)])
    return found


EXAMPLES = examples()


@dataclass
class Story:
    """A story in progress: the MPIDs of the page's profiles, and what they must hold."""

    server: Server
    mpids: dict[int, str] = field(default_factory=dict)
    holds: Held = field(default_factory=dict)

    def play(self, row: Row) -> None:
        """Send a row's request, twice as a client that retries would, and check the answer and the profiles."""
        path, body = self.request(row.request, self.server.inputs[row.input].key)
        body |= {"environment": "production", "request_id": str(uuid4())}
        answer = self.server.post(path, body, input=row.input)
        self.check(row, answer)
        self.holds |= row.holds
        self.check_profiles(row)
        again = self.server.post(path, body, input=row.input)
        assert (again.status_code, comparable(again)) == (answer.status_code, comparable(answer)), row
        self.check_profiles(row)

    def request(self, text: str, key: str) -> tuple[str, dict[str, Any]]:
        """Return the path and the body of a request in the page's notation."""
        kind, _, rest = text.partition(" ")
        if kind == "alias":
            source, destination = (self.mpids[int(number)] for number in rest.split(" → "))
            data = {"source_mpid": source, "destination_mpid": destination}
            return f"/v1/identity/{key}/Alias", {"request_type": "alias", "api_key": key, "data": data}
        if kind == "modify":
            [(number, type_, old, new)] = re.findall(r"^(\d+): (\w+) (\S+) → (\S+)$", rest)
            change = {"identity_type": type_, "old_value": none(old), "new_value": none(new)}
            return f"/v1/{self.mpids[int(number)]}/modify", {"identity_changes": [change]}
        return f"/v1/{kind}", {"known_identities": dict(identities(rest))}

    def check(self, row: Row, answer: httpx.Response) -> None:
        """Check an answer against the page's words for it."""
        told = f"{row}: {answer.status_code} {answer.text}"
        if row.answer in ("done", "accepted"):
            assert answer.status_code == {"done": 200, "accepted": 202}[row.answer], told
            return
        if refused := re.fullmatch(r"(\d{3}) (\w+)", row.answer):
            assert answer.status_code == int(refused[1]), told
            assert refused[2] in answer.text, told
            return
        words = re.fullmatch(r"(new )?profile (\d+), (known|anonymous)", row.answer)
        assert words, f"the page has an answer that this test cannot read: {row.answer}"
        assert answer.status_code == 200, told
        mpid, number = answer.json()["mpid"], int(words[2])
        assert bool(words[1]) is (number not in self.mpids), f"the page says new at the wrong row: {row}"
        if words[1]:
            assert mpid not in self.mpids.values(), told
            self.mpids[number] = mpid
        assert {number: mpid}.items() <= self.mpids.items(), told
        assert answer.json()["is_logged_in"] is (words[3] == "known"), told

    def check_profiles(self, row: Row) -> None:
        """Check that every profile holds what it must, in the journal and in the answers of the server."""
        held = self.server.held()
        assert {mpid: held.get(int(mpid)) for mpid in self.mpids.values()} == {
            mpid: self.holds[number] for number, mpid in self.mpids.items()
        }, row
        assert len(held) == len(self.mpids), f"{row}: there are no profiles besides those on the page"
        for number, mpid in self.mpids.items():
            if self.holds[number]:
                asked = dict(sorted(self.holds[number]))
                seen = self.server.look(asked, previous_mpid=mpid)
                assert (seen["mpid"], seen["matched_identities"]) == (mpid, asked), row


def none(value: str) -> str | None:
    return None if value == "none" else value


def comparable(answer: httpx.Response) -> Any:
    """Return what two answers to one request have in common: all of it, but an error's own request id."""
    if not answer.content:
        return None
    body = answer.json()
    body.pop("RequestId", None)
    return body


@pytest.mark.parametrize("strategy", EXAMPLES)
def test_the_worked_example_of_a_strategy_holds_row_by_row(strategy: str, tmp_path: Path) -> None:
    settings, rows = EXAMPLES[strategy]
    with serving(INPUTS + shop(settings), tmp_path) as server:
        story = Story(server)
        for row in rows:
            story.play(row)


def test_the_page_explains_every_strategy_as_it_is() -> None:
    def types(names: Any) -> str:
        return ", ".join(sorted(names)) or "–"

    def explained(name: Any) -> list[str]:
        policy = build(PolicySettings(strategy=name))
        assert policy.unique == policy.login
        on_new_known = policy.on_new_known if policy.login else "–"
        outcomes = [on_new_known, policy.on_logout, "yes" if policy.alias_allowed else "no"]
        return [f"`{name}`", types(policy.login), types(policy.immutable), *outcomes]

    assert table(PAGE.partition("\n\n- ")[0]) == [explained(name) for name in PRESETS]
    assert list(EXAMPLES) == list(PRESETS)
    for name, (settings, _) in EXAMPLES.items():
        assert f'strategy = "{name}"' in settings
