"""``oneself whatif``: the worked example of its page, its options, and the report as a page (docs/whatif.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import apsw
import pytest
from click.testing import CliRunner, Result

from oneself.commands import main
from oneself.commands.whatif import settings_of_file
from oneself.errors import ConfigError
from oneself.history.whatif.charts import el
from recorded_histories import fill_shop

PAGE = (Path(__file__).parent.parent / "docs" / "whatif.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)
(ISOLATION,) = [text for language, text in BLOCKS if language == "toml"]
SVG = "{http://www.w3.org/2000/svg}"
HTML = "{http://www.w3.org/1999/xhtml}"
VOID = {"meta", "br", "hr", "img", "input", "link"}

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample shop's data folder."""
    folder = tmp_path_factory.mktemp("shop") / "data"
    fill_shop(folder)
    return folder


@pytest.fixture
def run(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command on the shop with a configuration in a folder of its own."""
    for name in ("ONESELF_DATA", "ONESELF_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "isolation.toml").write_text(ISOLATION)

    def invoke(*arguments: str, config: str = "isolation.toml") -> Result:
        return CliRunner().invoke(main, ["whatif", "--config", config, "--data", str(shop), *arguments])

    return invoke


def test_the_worked_example_prints_what_its_page_says(run: Run) -> None:
    (shown,) = [text for _, text in BLOCKS if text.startswith("$ oneself whatif --config isolation.toml")]
    command, _, expected = shown.partition("\n")
    result = run(*command.split()[5:])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(expected)
    assert Path("report.html").exists()
    (excerpt,) = [text for _, text in BLOCKS if text.startswith("as recorded:")]
    rest = result.output.removeprefix(expected)
    for line in excerpt.splitlines():
        assert line.strip() in rest


def test_the_versions_of_policies_are_where_the_page_says(run: Run, shop: Path) -> None:
    (shown,) = [text for _, text in BLOCKS if text.startswith("$ sqlite3")]
    command, expected = shown.splitlines()
    match = re.search(r'"(SELECT .*)"', command)
    assert match
    (row,) = apsw.Connection(str(shop / "journal.db")).execute(match[1])
    assert "|".join(map(str, row)) == expected


def test_json_has_everything_and_hides_values(run: Run) -> None:
    hidden, shown = run("--json"), run("--json", "--show-values")
    report = json.loads(hidden.output)
    (space,) = report["spaces"]
    assert (report["first"], report["last"], report["left"]) == (1, 504, [])
    assert space["users"] == {"all": 212, "kept": 111, "split": 74, "fused": 75, "both": 48, "unanswered": 0}
    assert len(space["split"]) == len(space["fused"]) == len(space["lost_most"]) == 10
    assert space["before"]["profiles"]["by_identities"] == [4, 130, 24, 53, 1, 0, 0]
    assert "ana@example.com" not in hidden.output
    assert "ana-signs-up" not in hidden.output
    assert "ana@example.com" in shown.output
    assert "ana-signs-up" in shown.output
    assert json.loads(shown.output)["spaces"][0]["after"] == space["after"]


def test_a_span_leaves_what_came_before_as_it_was(run: Run) -> None:
    whole = json.loads(run("--json").output)["spaces"][0]
    part = json.loads(run("--json", "--from", "100", "--to", "300").output)
    assert (part["first"], part["last"]) == (100, 300)
    (space,) = part["spaces"]
    assert (space["folded"], space["decided"]) == (99, 201)
    assert space["users"]["all"] < whole["users"]["all"]
    by_time = json.loads(run("--json", "--from", "2025-10-09T10:00:00Z").output)
    assert 1 < by_time["first"] < 504
    late = run("--from", "2031-01-01")
    assert late.exit_code == 1
    assert "Nothing was decided from 2031-01-01 to now." in late.output
    odd = run("--to", "soon")
    assert odd.exit_code == 1
    assert "'soon' is no moment" in odd.output


def test_the_same_policy_differs_in_nothing(run: Run) -> None:
    Path("same.toml").write_text('[scope.default]\nstrategy = "default"\n')
    result = run(config="same.toml")
    assert result.exit_code == 0
    assert "Nothing is different." in result.output
    assert "the policy is the one that was in force" in result.output
    assert "Split" not in result.output


def test_a_scope_that_is_not_in_the_configuration_is_named(run: Run) -> None:
    Path("other.toml").write_text('[scope.other]\nstrategy = "default"\n')
    result = run(config="other.toml")
    assert "Left as they are, since the configuration has no such scope: default/production" in result.output


# -- the configuration ---------------------------------------------------------------------------------------------

WHOLE = """
data = "there"

[[workspace]]
id = 1
name = "shop"
scope = "default"

[[workspace]]
id = 2
name = "lab"

[scope.default]
strategy = "best_match"
"""


def test_a_whole_configuration_gives_every_scope_a_policy_and_names_the_data(tmp_path: Path) -> None:
    path = tmp_path / "whole.toml"
    path.write_text(WHOLE)
    settings, config = settings_of_file(path)
    assert {name: one.strategy for name, one in settings.items()} == {"default": "best_match", "lab": "default"}
    assert config is not None
    assert config.data == tmp_path / "there"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "scope"),
        ("[scope.a]\nstrategy = 'isolation'", "scope.a.strategy"),
        ("[scope.a]\nlogin = ['email']\npriority = ['customerid']", "scope.a.login"),
        ("data = 'x'\n[scope.a]\nstrategy = 'default'", "data"),
        ("[[workspace]]\nname = 'shop'", "workspace[0].id"),
        ("[scope", "end of document"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_told_with_its_key(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        settings_of_file(path)
    assert key in [where for where, _ in raised.value.problems], raised.value.problems


def test_a_file_that_is_not_there_is_an_error(run: Run) -> None:
    result = run(config="missing.toml")
    assert result.exit_code == 1
    assert "missing.toml" in result.output


# -- the page ------------------------------------------------------------------------------------------------------


@pytest.fixture
def report(run: Run) -> str:
    assert run("--html", "report.html").exit_code == 0
    return Path("report.html").read_text()


class _Balance(HTMLParser):
    """Reads a page as a browser does and remembers what is not closed, and what comes from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.from_elsewhere: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        named = ("src", "href", "action", "data", "poster", "srcset")
        self.from_elsewhere += [(name, value) for name, value in attrs if name in named or name.startswith("on")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID or tag in {"line", "rect", "path"}, f"<{tag} /> is not closed in HTML"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_as_html_and_as_xml(report: str) -> None:
    root = ElementTree.fromstring(report)
    assert root.tag == f"{HTML}html"
    reader = _Balance()
    reader.feed(report)
    assert reader.open == []
    assert report.startswith("<!DOCTYPE html>\n<html")


def test_the_page_needs_nothing_from_elsewhere_and_fits_light_and_dark(report: str) -> None:
    reader = _Balance()
    reader.feed(report)
    assert reader.from_elsewhere == []
    assert not re.search(r"url\(|@import|<script", report)
    assert re.findall(r"https?://[^\"' ]+", report.replace("http://www.w3.org/", "")) == []
    assert "default-src 'none'" in report
    assert "prefers-color-scheme: dark" in report
    (style,) = re.findall(r"<style>(.*?)</style>", report, re.S)
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    named = set(re.findall(r"var\((--[a-z]+)\)", style))
    for part in (light, dark):
        assert named <= set(re.findall(r"(--[a-z]+): #", part)), "each colour is set for light and for dark"
    used = set(re.findall(r'class="([ck]-\w+)"', report)) | set(re.findall(r'class="key (k-\w+)"', report))
    assert used
    for class_ in used:
        assert f".{class_}" in style


@pytest.mark.parametrize(("ink", "page"), [("ink", "page"), ("soft", "page"), ("ink", "panel"), ("on", "blue"),
                                           ("on", "amber"), ("on", "red"), ("on", "violet")])  # fmt: skip
def test_text_can_be_read_on_its_ground_in_light_and_dark(report: str, ink: str, page: str) -> None:
    """The contrast is at least 4.5, as WCAG 2 asks for text."""
    (style,) = re.findall(r"<style>(.*?)</style>", report, re.S)
    for part in style.split("@media (prefers-color-scheme: dark)"):
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", part))
        lighter, darker = sorted((luminance(colours[ink]), luminance(colours[page])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (ink, page)


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_has_the_charts_the_figures_and_both_traces_side_by_side(report: str) -> None:
    root = ElementTree.fromstring(report)
    charts = root.findall(f".//{SVG}svg")
    assert len(charts) == 4
    for chart in charts:
        assert chart.get("role") == "img"
        assert re.search(r"\d", chart.get("aria-label", ""))
        _, _, width, height = map(float, chart.get("viewBox", "").split())
        for shape in chart.iter(f"{SVG}rect"):
            left, top, wide, tall = (float(shape.get(name, "")) for name in ("x", "y", "width", "height"))
            assert left >= 0
            assert top >= 0
            assert wide > 0
            assert tall > 0
            assert left + wide <= width
            assert top + tall <= height
    text = "".join(root.itertext())
    for told in ("111", "of 212 recorded users are kept", "102", "events move, in 51 batches", "profile_isolation"):
        assert told in text
    details = root.findall(f".//{HTML}details")
    assert len(details) == 30
    for one in details:
        sides = one.findall(f".//{HTML}pre")
        assert len(sides) == 2
        assert all("why:" in (side.text or "") for side in sides)
    assert "ana@example.com" not in report


def test_the_bars_of_a_chart_are_as_long_as_their_numbers(report: str) -> None:
    chart = ElementTree.fromstring(report).findall(f".//{SVG}svg")[0]
    lengths: dict[str, float] = {}
    for shape in chart.iter(f"{SVG}rect"):
        title = shape.find(f"{SVG}title")
        assert title is not None
        lengths[title.text or ""] = float(shape.get("width", ""))
    scale = lengths["as recorded, known: 79"] / 79
    for told, length in lengths.items():
        assert length == pytest.approx(scale * int(told.rsplit(" ", 1)[1]), abs=0.2)


def test_characters_that_a_page_cannot_have_are_replaced(run: Run) -> None:
    element = el("p", None, "a\x00b\ud800c", el("b", None, "\x1b"), "<&>")
    text = ElementTree.tostring(element, encoding="unicode")
    assert text == "<p>a\ufffdb\ufffdc<b>\ufffd</b>&lt;&amp;&gt;</p>"
    assert ElementTree.fromstring(text).text == "a\ufffdb\ufffdc"


def test_a_page_that_cannot_be_written_is_an_error(run: Run) -> None:
    result = run("--html", "no/such/folder/report.html")
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_the_data_folder_is_left_as_it_is(run: Run, shop: Path) -> None:
    def look() -> dict[str, Any]:
        return {path.name: path.read_bytes() for path in shop.iterdir() if path.suffix == ".db"}

    before = look()
    assert run("--html", "report.html").exit_code == 0
    assert look() == before
