"""Reports in plain text, for a terminal (docs/whatif.md, docs/replay.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

from oneself.history.as_of import AsOf, Shown
from oneself.history.replay import Replay
from oneself.history.whatif.report import Answers, Example, Report, SpaceReport, Users

__all__ = ["Way", "answers_compared", "as_of_text", "moment", "one_line", "replay_text", "whatif_text"]

Way = Literal["split", "fused", "gained", "lost"]

_DIFFERENCES = 20


def moment(unix_ms: int) -> str:
    """Return a time in UTC."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# -- what-if ------------------------------------------------------------------------------------------------------


def whatif_text(report: Report) -> str:
    """Return a what-if's report as text."""
    lines = [
        f"Decisions {report.first} to {report.last}, {moment(report.from_ms)} to {moment(report.to_ms)}, "
        "under other policies."
    ]
    for space in report.spaces:
        lines += ["", *_space(space)]
    if report.left:
        lines += ["", f"Left as they are, since the configuration has no such scope: {', '.join(report.left)}"]
    return "\n".join(lines)


def _space(space: SpaceReport) -> Iterator[str]:
    folded = f", {space.folded} before them stay as they were" if space.folded else ""
    yield f"{space.space}: {space.decided} decisions are made again{folded}"
    for kind, count in space.left_out.items():
        yield f"  {count} of kind {kind} decide nothing of users and are left out"
    if not space.settings:
        yield "  the policy is the one that was in force"
    for setting in space.settings:
        yield f"  {setting.name}: {setting.before} -> {setting.after}"
    if not space.differs:
        yield "  Nothing is different."
    yield ""
    yield from _columns(("", "before", "after", ""), _compared(space))
    yield ""
    yield from _columns(("recorded users", "all", "known"), _users(space.users, space.known_users))
    yield ""
    yield from _moves(space)
    for title, way, examples, count in _ways(space):
        if examples:
            yield ""
            yield f"{title} (the most telling {len(examples)} of {count}):"
            yield from (f"  MPID {example.mpid}, {one_line(way, example)}" for example in examples)
            yield from _first(examples[0])


def _compared(space: SpaceReport) -> Iterator[Sequence[str]]:
    before, after = space.before, space.after
    for name in ("all", "known", "anonymous", "orphans"):
        label = "profiles" if name == "all" else f"  {name}"
        yield _row(label, getattr(before.profiles, name), getattr(after.profiles, name))
    yield _row("identities held", before.profiles.identities, after.profiles.identities)
    yield _row("requests with a user", before.answers.users, after.answers.users)
    yield _row("guarded values", before.answers.guarded_at_end, after.answers.guarded_at_end)
    for title, rows in answers_compared(before.answers, after.answers):
        for name, was, now in rows:
            yield _row(f"{title}: {name}", was, now)


def answers_compared(before: Answers, after: Answers) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """Yield what was counted of answers: what, and each reason with its numbers before and after."""
    for name, title in _COUNTED.items():
        was: dict[str, int] = getattr(before, name)
        now: dict[str, int] = getattr(after, name)
        yield title, [(key, was.get(key, 0), now.get(key, 0)) for key in sorted({*was, *now})]


_COUNTED = {
    "errors": "errors", "dropped": "values dropped", "refused": "links refused", "guarded": "values guarded",
    "aliases": "aliases",
}  # fmt: skip


def _row(label: str, before: int, after: int) -> Sequence[str]:
    return label, f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else ""


def _users(all_: Users, known: Users) -> Iterator[Sequence[str]]:
    for name, label in (
        ("all", "with requests"), ("kept", "  kept"), ("split", "  split"), ("fused", "  fused"),
        ("both", "  split and fused at once"), ("unanswered", "  without an answer"),
    ):  # fmt: skip
        yield label, f"{getattr(all_, name):,}", f"{getattr(known, name):,}"


def _moves(space: SpaceReport) -> Iterator[str]:
    moved = space.moved
    lost = f" ({moved.batches_without_events:,} batches have lost theirs)" if moved.batches_without_events else ""
    yield (
        f"{moved.requests:,} of {space.answered:,} requests move to another user, among them {moved.batches:,} "
        f"batches with {moved.events:,} events{lost}."
    )
    if space.unanswered or space.newly_answered:
        yield f"{space.unanswered:,} requests have no user any more, {space.newly_answered:,} have one only now."
    yield (
        f"Anonymous history: {space.gained.users:,} known users gain {space.gained.requests:,} requests, "
        f"{space.lost.users:,} lose {space.lost.requests:,}."
    )


def _ways(space: SpaceReport) -> Iterator[tuple[str, Way, list[Example], int]]:
    yield "Split", "split", space.split, space.users.split
    yield "Fused", "fused", space.fused, space.users.fused
    yield "Gain anonymous history", "gained", space.gained_most, space.gained.users
    yield "Lose history to anonymous users", "lost", space.lost_most, space.lost.users


def one_line(way: Way, example: Example) -> str:
    """Return what becomes of a telling user, after its MPID."""
    kind = "known" if example.known else "anonymous"
    more = example.others_in_all - len(example.others)
    others = ", ".join(f"{share.mpid} ({share.requests:,})" for share in example.others)
    return _LINES[way].format(
        kind=kind, requests=example.requests, others=f"{others}{f' and {more:,} more' * (more > 0)}"
    )


_LINES: dict[Way, str] = {
    "split": "{kind}: its requests come to {others}",
    "fused": "{kind}: {requests:,} requests come together, of {others}",
    "gained": "gains {requests:,} requests; those that it has come from {others}",
    "lost": "loses {requests:,} requests; those that it had come to {others}",
}


def _first(example: Example) -> Iterator[str]:
    yield f"  The first of them, decision {example.position} ({moment(example.at_ms)}), as recorded:"
    yield from (f"    {line}" for line in example.recorded)
    yield "  and as it would be:"
    yield from (f"    {line}" for line in example.instead)


def _columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield rows as aligned lines, numbers to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        first, *rest = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join([first, *rest]).rstrip()


# -- replay -------------------------------------------------------------------------------------------------------


def replay_text(found: Replay) -> str:
    """Return what a replay found as text."""
    lines = [f"{found.entries:,} entries of the journal, {found.decided:,} of them decided again."]
    lines += [f"  {count:,} of kind {kind} cannot be decided again" for kind, count in found.not_decided.items()]
    lines.append(f"{found.profiles:,} profiles and {found.identities:,} identities compared with the live state.")
    if not found.differences_in_all:
        return "\n".join([*lines, "Nothing is different."])
    where = ", ".join(f"{name} {count:,}" for name, count in found.where.items())
    lines.append(f"{found.differences_in_all:,} differences: {where}")
    for difference in found.differences[:_DIFFERENCES]:
        lines += [f"  {difference.where}: {difference.what}", f"    journal: {difference.journal}",
                  f"    found:   {difference.found}"]  # fmt: skip
    if len(found.differences) > _DIFFERENCES:
        lines.append(f"  … --json lists {len(found.differences):,}")
    return "\n".join(lines)


def as_of_text(found: AsOf) -> str:
    """Return a profile at a past time as text."""
    lines = [f"MPID {found.mpid} in {found.space} after decision {found.position}: {_STATES[found.state]}"]
    lines.append(f"  made by decision {found.created}")
    lines += [f"  held {row.type} {row.value!r} since decision {row.since}" for row in found.holds]
    for row in found.left:
        to = f", to MPID {row.moved_to}" if row.moved_to else ""
        then = f", and MPID {row.now_at} held it then" if row.now_at not in ("", row.moved_to) else ""
        lines.append(f"  {row.type} {row.value!r} left by decision {row.until} ({row.why}{to}){then}")
    lines += [f"  its events {_window(row)} were shown in MPID {row.destination}" for row in found.shown_in]
    lines += [f"  it showed the events {_window(row)} of MPID {row.source}" for row in found.shows]
    leads = ", ".join(f"MPID {mpid}" for mpid in found.leads_to) or "nobody; its data can be read by its MPID"
    return "\n".join([*lines, f"It led to: {leads}"])


_STATES = {"known": "a known user", "anonymous": "an anonymous user", "orphan": "an orphan, which holds no identity",
           "removed": "nobody any more, since an undo"}  # fmt: skip


def _window(row: Shown) -> str:
    return f"from {moment(row.start_ms)} to {moment(row.end_ms)}"
