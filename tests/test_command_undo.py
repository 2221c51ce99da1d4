"""``oneself undo`` and ``oneself split``: the worked example of their page, and their options (docs/undo.md)."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oneself.commands import main
from oneself.store import EmbeddedStore
from recorded_histories import fill_shop
from store_factories import Postgres
from undo_world import OPEN, SENTINEL, SPACE, use, user_calls, world

PAGE = (Path(__file__).parent.parent / "docs" / "undo.md").read_text()
EXAMPLES = [block for block in re.findall(r"```\n(.*?)```", PAGE, re.S) if block.startswith("$ oneself ")]
ANA = "-2094736468471429619"

Run = Callable[..., Result]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample shop's data folder, to be copied."""
    folder = tmp_path_factory.mktemp("shop") / "data"
    fill_shop(folder)
    return folder


@pytest.fixture
def shop(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ONESELF_DATA", "ONESELF_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(filled, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def run(shop: Path) -> Run:
    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--data", str(shop)])

    return invoke


def test_the_worked_example_prints_what_its_page_says(run: Run) -> None:
    assert len(EXAMPLES) == 5
    for example in EXAMPLES:
        command, _, expected = example.partition("\n")
        result = run(*command.split()[2:])
        assert result.output == expected, command
        assert result.exit_code == (1 if "Nothing is changed." in expected else 0)
    replayed = run("replay")
    assert "Nothing is different." in replayed.output, replayed.output


def test_why_says_what_became_of_a_decision(run: Run) -> None:
    assert "since decision" not in run("why", "ana-signs-up").output
    assert run("undo", "ana-signs-up", "--later", "redecide", "--yes").exit_code == 0
    assert "  since decision 505 it is undone\n" in run("why", "ana-signs-up").output
    told = run("why", "ana-logs-in-on-tv").output
    assert "  since decision 505 it is made again: MPID -659314400521909595\n" in told
    undone = run("why", "--decision", "505").output
    assert "decision 3 is undone" in undone
    assert f"customerid 'C-1001' was not linked to MPID {ANA}" in undone
    assert run("undo", "505", "--yes").exit_code == 0
    assert f"  since decision 506 it counts again: MPID {ANA}\n" in run("why", "ana-signs-up").output


def test_a_dry_run_changes_nothing_and_json_has_everything(run: Run, shop: Path) -> None:
    before = {path.name: path.read_bytes() for path in shop.iterdir() if path.suffix == ".db"}
    told = json.loads(run("undo", "ana-signs-up", "--later", "redecide", "--dry-run", "--json").output)
    assert (told["possible"], told["position"], told["undone"], told["decided_again"]) == (True, 0, 1, 4)
    assert {way["position"] for way in told["listed"]} == {8, 9, 13, 14}
    assert {path.name: path.read_bytes() for path in shop.iterdir() if path.suffix == ".db"} == before


def test_nothing_is_done_unasked_where_nobody_can_be_asked(run: Run) -> None:
    result = run("undo", "dans-mail-is-noted")
    assert result.exit_code == 2
    assert "give --yes, or --dry-run" in result.output


def test_what_later_decisions_need_is_kept(run: Run) -> None:
    result = run("undo", "ana-signs-up", "--later", "keep", "--yes")
    assert result.exit_code == 0
    assert "decisions undone in part       1" in result.output


def test_an_input_in_a_span(run: Run) -> None:
    told = json.loads(run("undo", "--input", "default/ios", "--dry-run", "--json").output)
    assert told["undone"] > 1
    assert told["batches_of_nobody"] > 1
    late = run("undo", "--input", "default/ios", "--from", "2031-01-01", "--dry-run")
    assert (late.exit_code, "Nothing was decided from 2031-01-01" in late.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["undo"], 2, "Name what to undo"),
        (["undo", "1", "--input", "default/web"], 2, "Name what to undo"),
        (["undo", "1", "--from", "1"], 2, "belong to --input"),
        (["undo", "nobody-asked-this"], 1, "There is no decision or request nobody-asked-this."),
        (["undo", "99999"], 1, "There is no decision or request 99999."),
        (["undo", "--identity", "email"], 1, "write TYPE=VALUE"),
        (["undo", "--identity", "mail=a"], 1, "'mail' is no identity type"),
        (["undo", "--identity", "push_token=a"], 1, "push_token finds nobody"),
        (["undo", "--identity", "email=a", "--scope", "elsewhere"], 1, "Name the scope"),
        (["split", "ana", "--identity", "email=a"], 2, "'ana' is no MPID"),
        (["split", "404", "--identity", "email=a"], 1, "No user has the MPID 404."),
        (["split", ANA, "--identity", "email=a"], 1, "does not hold email 'a'"),
    ],
)
def test_what_is_wrong_is_said(run: Run, arguments: list[str], code: int, message: str) -> None:
    result = run(*arguments)
    assert message in result.output, result.output
    assert result.exit_code == code


@pytest.mark.anyio
async def test_a_database_beside_a_running_server(tmp_path: Path) -> None:
    async with world(Postgres, tmp_path / "it", random.Random("database"), OPEN) as it:
        for number in range(3):
            await use(it, user_calls(number))
        assert isinstance(it.backend, Postgres)
        where = ["--database", it.backend.url, "--yes"]
        asked = ["undo", "--identity", f"other={SENTINEL}", "--scope", "acme", "--later", "redecide", *where]
        result = await asyncio.to_thread(CliRunner().invoke, main, asked)
        assert result.exit_code == 0, result.output
        assert "users made                     2" in result.output
        await use(it, user_calls(0))
        assert len(await it.store.mpids([SPACE])) == 3


def test_a_folder_that_is_served_is_pointed_to_the_admin_api(run: Run, shop: Path) -> None:
    async def serve() -> None:
        store = EmbeddedStore(shop)
        await store.open()
        try:
            result = await asyncio.to_thread(run, "undo", "dans-mail-is-noted", "--yes")
            assert result.exit_code == 1
            assert "POST /admin/workspaces/WORKSPACE/undo" in result.output
            dry = await asyncio.to_thread(run, "undo", "dans-mail-is-noted", "--dry-run")
            assert dry.exit_code == 0
        finally:
            await store.close()

    asyncio.run(serve())
