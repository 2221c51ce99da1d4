"""A what-if's report as one page without anything from elsewhere, for light and dark screens (docs/whatif.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element, tostring

from oneself.history.whatif.census import BUCKETS
from oneself.history.whatif.charts import Bar, columns, el, stacked
from oneself.history.whatif.report import Example, Largest, Report, Side, SpaceReport, Users
from oneself.history.whatif.text import Way, answers_compared, moment, one_line

__all__ = ["page"]

_STYLE: Final = """
:root { --page: #ffffff; --ink: #1c2330; --soft: #586174; --line: #d5dae3; --panel: #f4f6f9;
  --blue: #2563c4; --amber: #a05a00; --grey: #8b94a5; --green: #1f8a5b; --red: #c23b3b; --violet: #7a4cc2;
  --on: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12161d; --ink: #e6e9ef; --soft: #a3adbd; --line: #333c4a; --panel: #1b212b;
    --blue: #78aaf5; --amber: #e6a74a; --grey: #8d97a8; --green: #58c08d; --red: #f08080; --violet: #b493ee;
    --on: #10141b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.9rem; margin: 0; }
h2 { font-size: 1.35rem; margin: 3rem 0 0.5rem; border-top: 1px solid var(--line); padding-top: 1.5rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 0.5rem; }
p.lead, figcaption, .soft { color: var(--soft); }
figcaption { font-weight: 600; margin-bottom: 0.5rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 0.75rem; margin: 1rem 0; }
.tile { background: var(--panel); border-radius: 0.5rem; padding: 0.75rem 1rem; }
.tile b { display: block; font-size: 1.6rem; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1.5rem; }
figure { margin: 0; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg text.small { font-size: 11px; fill: var(--soft); }
svg text.end { text-anchor: end; }
svg text.middle, svg text.in { text-anchor: middle; }
svg text.in { fill: var(--on); font-weight: 600; }
svg .axis { stroke: var(--line); }
.c-known, .c-kept, .c-after { fill: var(--blue); } .k-known, .k-kept, .k-after { background: var(--blue); }
.c-anonymous, .c-split { fill: var(--amber); } .k-anonymous, .k-split { background: var(--amber); }
.c-orphans, .c-unanswered, .c-before { fill: var(--grey); }
.k-orphans, .k-unanswered, .k-before { background: var(--grey); }
.c-fused { fill: var(--red); } .k-fused { background: var(--red); }
.c-both { fill: var(--violet); } .k-both { background: var(--violet); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; padding: 0; margin: 0.5rem 0 0;
  font-size: 0.875rem; color: var(--soft); }
.key { display: inline-block; width: 0.8rem; height: 0.8rem; border-radius: 0.15rem; line-height: 0.8rem;
  vertical-align: -0.05rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 0.925rem; }
th, td { text-align: right; padding: 0.3rem 0.75rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, .words { text-align: left; }
.words { white-space: normal; }
details { border: 1px solid var(--line); border-radius: 0.5rem; margin: 0.5rem 0; padding: 0.5rem 1rem; }
summary { cursor: pointer; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem; }
.sides div { min-width: 0; }
pre { background: var(--panel); border-radius: 0.4rem; padding: 0.75rem; margin: 0.25rem 0; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, monospace; }
"""

_PROFILES: Final = {"known": "known", "anonymous": "anonymous", "orphans": "orphans"}
_USERS: Final = {
    "kept": "kept", "split": "split", "fused": "fused", "both": "split and fused", "unanswered": "without an answer",
}  # fmt: skip
_SIDES: Final = {"before": "as recorded", "after": "under the other policy"}


def page(report: Report) -> str:
    """Return a report as an HTML page that is well-formed XML, too."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = el(
        "head", None,
        el("meta", {"charset": "utf-8"}),
        el("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        el("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        el("meta", {"name": "color-scheme", "content": "light dark"}),
        el("title", None, "What if: another policy on the recorded history"),
        el("style", None, _STYLE),
    )  # fmt: skip
    body = el("body", None, *_top(report), *(part for space in report.spaces for part in _space(space)))
    html = el("html", {"xmlns": "http://www.w3.org/1999/xhtml", "lang": "en"}, head, body)
    return f"<!DOCTYPE html>\n{tostring(html, encoding='unicode')}\n"


def _top(report: Report) -> Iterator[Element]:
    yield el("h1", None, "What if")
    span = f"Decisions {report.first:,} to {report.last:,}, {moment(report.from_ms)} to {moment(report.to_ms)}"
    yield el("p", {"class": "lead"}, f"{span}, made again under other policies. Nothing was changed.")
    if not report.values_shown:
        told = "Identity values stand here as digests: the same for the same value in this report only."
        yield el("p", {"class": "soft"}, told)
    if report.left:
        told = f"Left as they are, since the configuration has no such scope: {', '.join(report.left)}."
        yield el("p", {"class": "soft"}, told)


def _space(space: SpaceReport) -> Iterator[Element]:
    yield el("h2", None, space.space)
    told = f"{space.decided:,} decisions are made again."
    if space.folded:
        told += f" {space.folded:,} before them stay as they were."
    if not space.differs:
        told += " Nothing is different."
    yield el("p", None, told)
    if space.settings:
        rows = [(setting.name, setting.before, setting.after) for setting in space.settings]
        yield _table(("Setting", "recorded", "tried"), rows, words=True)
    yield _tiles(space)
    yield el("div", {"class": "charts"}, *_charts(space))
    yield el("h3", None, "Answers")
    yield _table(("", "before", "after", "change"), list(_answers(space)))
    yield el("h3", None, "The largest profiles")
    for title, attribute in (("by identities", "most_identities"), ("by requests", "most_requests")):
        yield el("div", {"class": "charts"}, *_largest(space, title, attribute))
    for title, told, way, examples in _ways(space):
        yield el("h3", None, f"{title}: the most telling")
        yield el("p", {"class": "soft"}, told if examples else "None.")
        yield from (_example(way, example) for example in examples)


def _ways(space: SpaceReport) -> Iterator[tuple[str, str, Way, list[Example]]]:
    yield "Split", "Users whose requests come to several profiles.", "split", space.split
    yield "Fused", "Profiles that requests of several users come to.", "fused", space.fused
    told = "Known users with requests that were an anonymous user's."
    yield "Anonymous history gained", told, "gained", space.gained_most
    yield "History lost", "Known users whose requests go to anonymous users.", "lost", space.lost_most


def _tiles(space: SpaceReport) -> Element:
    users, moved = space.users, space.moved
    figures = (
        (f"{users.kept:,}", f"of {users.all:,} recorded users are kept"),
        (f"{users.split:,}", f"are split, {space.known_users.split:,} of them known"),
        (f"{users.fused:,}", f"are fused, {space.known_users.fused:,} of them known"),
        (f"{moved.requests:,}", f"of {space.answered:,} requests move"),
        (f"{moved.events:,}", f"events move, in {moved.batches:,} batches"),
        (f"{space.gained.requests:,}", f"anonymous requests gained by {space.gained.users:,} known users"),
        (f"{space.lost.requests:,}", f"requests lost by {space.lost.users:,} known users"),
        (f"{space.unanswered:,}", f"requests without a user, {space.newly_answered:,} with one only now"),
    )
    return el(
        "div", {"class": "tiles"}, *(el("div", {"class": "tile"}, el("b", None, n), told) for n, told in figures)
    )


def _charts(space: SpaceReport) -> Iterator[Element]:
    yield stacked(
        "Profiles",
        [Bar(label, _parts(side)) for label, side in (("as recorded", space.before), ("tried", space.after))],
        _PROFILES,
    )
    yield stacked(
        "What becomes of the recorded users",
        [Bar("all", _fates(space.users)), Bar("known", _fates(space.known_users))],
        _USERS,
    )
    sides = (("as recorded", space.before), ("tried", space.after))
    bars = [
        Bar(label, [("known", side.known_requests), ("anonymous", side.answers.users - side.known_requests)])
        for label, side in sides
    ]
    yield stacked("Requests by what their user is in the end", bars, {"known": "known", "anonymous": "anonymous"})
    labels = [_bucket(place) for place in range(len(BUCKETS) + 1)]
    series = {"before": space.before.profiles.by_identities, "after": space.after.profiles.by_identities}
    yield columns("Profiles by the number of their identities", labels, series, _SIDES)


def _parts(side: Side) -> list[tuple[str, int]]:
    return [(name, getattr(side.profiles, name)) for name in _PROFILES]


def _fates(users: Users) -> list[tuple[str, int]]:
    split, fused = users.split - users.both, users.fused - users.both
    return [
        ("kept", users.kept), ("split", split), ("fused", fused), ("both", users.both),
        ("unanswered", users.unanswered),
    ]  # fmt: skip


def _bucket(place: int) -> str:
    if place == len(BUCKETS):
        return f"over {BUCKETS[-1]}"
    first = BUCKETS[place - 1] + 1 if place else 0
    return str(first) if first == BUCKETS[place] else f"{first}–{BUCKETS[place]}"


def _answers(space: SpaceReport) -> Iterator[Sequence[str]]:
    before, after = space.before.answers, space.after.answers
    yield _compared("requests with a user", before.users, after.users)
    yield _compared("guarded values at the end", before.guarded_at_end, after.guarded_at_end)
    for title, rows in answers_compared(before, after):
        for name, was, now in rows:
            yield _compared(f"{title}: {name}", was, now)


def _compared(label: str, before: int, after: int) -> Sequence[str]:
    return label, f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else "–"


def _largest(space: SpaceReport, title: str, attribute: str) -> Iterator[Element]:
    for when, side in (("as recorded", space.before), ("tried", space.after)):
        rows: list[Largest] = getattr(side, attribute)
        cells = [
            (row.mpid, "known" if row.known else "anonymous", f"{row.identities:,}", f"{row.requests:,}")
            for row in rows
        ]
        caption = el("p", {"class": "soft"}, f"{title}, {when}")
        yield el("div", None, caption, _table(("MPID", "", "identities", "requests"), cells))


def _example(way: Way, example: Example) -> Element:
    asked = f", request {example.request_id}" if example.request_id else ""
    return el(
        "details", None,
        el("summary", None, el("b", None, f"MPID {example.mpid}"), f" {one_line(way, example)}"),
        el("p", {"class": "soft"}, f"Decision {example.position:,}, {moment(example.at_ms)}{asked}"),
        el("div", {"class": "sides"}, _side("As recorded", example.recorded), _side("Instead", example.instead)),
    )  # fmt: skip


def _side(title: str, lines: Iterable[str]) -> Element:
    return el("div", None, el("span", {"class": "soft"}, title), el("pre", None, "\n".join(lines)))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False) -> Element:
    cell = {"class": "words"} if words else {}
    top = el("tr", None, *(el("th", cell, name or "\N{NO-BREAK SPACE}") for name in head))
    body = [el("tr", None, *(el("td", cell, text or "\N{NO-BREAK SPACE}") for text in row)) for row in rows]
    table = el("table", None, el("thead", None, top), el("tbody", None, *(body or [el("tr", None)])))
    return el("div", {"class": "wide"}, table)
