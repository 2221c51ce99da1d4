"""The report of guards in plain text, for a terminal (docs/guards.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from oneself.explain import DROPPED, GUARDED
from oneself.history.guards.heavy import Counting
from oneself.history.guards.report import (
    CrowdedProfile,
    DecidingValue,
    GuardedValue,
    GuardsSeen,
    HeldOff,
    Quarantine,
    SharedValue,
)
from oneself.history.whatif.text import moment
from oneself.identity import HOLDERS_READ

__all__ = ["guards_text"]

_LONGEST = 64

_REFUSED = {
    "unique": "another profile holds the value, which is unique",
    "immutable": "the profile keeps the one that it has, which is immutable",
    "max_known_profiles_per_value": "too many known users share the value",
    "max_values_per_profile": "the profile has as many as it may",
}


def guards_text(report: GuardsSeen) -> str:
    """Return the report as text, a section a kind, each with what to do."""
    lines = [f"Decisions {report.first} to {report.last}, and what is held now."]
    total = f" (the first {len(report.guarded)} of {report.guarded_total})"
    for title, rows in (
        (
            "Guarded values, which find nobody" + (total if report.guarded_total > len(report.guarded) else ""),
            map(_guarded, report.guarded),
        ),
        ("Values shared by about as many known users as may", map(_shared, report.shared)),
        ("Values that found a profile for many requests with further identities", map(_deciding, report.deciding)),
        ("Profiles with unusually many values", map(_profile, report.profiles)),
        ("Held off", map(_held_off, report.held_off)),
        ("Set aside", map(_quarantine, report.quarantine)),
    ):
        told = [line for row in rows for line in row]
        if told:
            lines += ["", f"{title}:", *told]
    if not report.found:
        lines.append("Nothing was held off, and nothing looks shared by many.")
    return "\n".join(lines)


def _guarded(row: GuardedValue) -> Iterator[str]:
    yield f"  {row.type} {_value(row.value)} in {row.space}: {GUARDED.get(row.why, row.why)}"
    asked = f", request {_plain(row.request_id)}" if row.request_id else ""
    yield f"    since decision {row.since}, {moment(row.since_ms)}, by {row.input}{asked}"
    more = " or more" if len(row.holders) == HOLDERS_READ else ""
    yield f"    held by {len(row.holders)} profiles{more}, {row.known} of them known"
    if row.held_off is not None:
        yield f"    sent since {_counted(row.held_off)}"
    yield from _advice(row.advice)


def _shared(row: SharedValue) -> Iterator[str]:
    limit = f"limit {row.limit}" if row.guard else f"the guard is off; the usual limit is {row.limit}"
    yield f"  {row.type} {_value(row.value)} in {row.space}: {row.known} known users share it ({limit})"
    yield f"    held by {row.holders:,} profiles"
    yield from _advice(row.advice)


def _deciding(row: DecidingValue) -> Iterator[str]:
    whose = f" of MPID {row.mpid}" if row.mpid else ""
    more = "at least " if row.more else ""
    yield f"  {row.type} {_value(row.value)}{whose} in {row.space}: {more}{_counted(row.requests)}"
    yield from _advice(row.advice)


def _profile(row: CrowdedProfile) -> Iterator[str]:
    counts = ", ".join(
        f"{one.held:,} of {one.type}" + (f" and {one.replaced:,} before" if one.replaced else "") for one in row.types
    )
    limit = f"limit {row.limit} a type" if row.guard else f"the guard is off; the usual limit is {row.limit} a type"
    yield f"  MPID {row.mpid} in {row.space}: {counts} ({limit})"
    yield f"    made by decision {row.made}, changed last by decision {row.latest}"
    for type_, value, count in row.deciding:
        yield f"    found by {type_} {_value(value)} {count:,} times, of its latest {row.read:,} decisions"
    yield from _advice(row.advice)


def _held_off(row: HeldOff) -> Iterator[str]:
    why = {
        "dropped": f"does not count: {DROPPED.get(row.why, row.why)}",
        "refused": f"is not linked: {_REFUSED.get(row.why, row.why)}",
        "contradicted": f"found profiles of another {row.why} than the request named",
    }[row.what]
    yield f"  {row.type} in {row.space} {why}"
    yield f"    {_counted(row.counting)}"
    values = ", ".join(f"{_value(one.value)} {one.count:,}{' or more' if one.more else ''}" for one in row.values)
    yield f"    most often: {values}"
    yield from _advice(row.advice)


def _quarantine(row: Quarantine) -> Iterator[str]:
    what = f"{row.events:,} events of {row.counting.count:,} batches" if row.events else "batches"
    yield f"  {row.workspace}: {what}: {_plain(row.reason)}"
    yield f"    {_counted(row.counting)}"
    yield from _advice(row.advice)


def _counted(counting: Counting) -> str:
    """Return how often something was, since when, and by which inputs."""
    inputs = sorted(counting.inputs.items(), key=lambda row: (-row[1], row[0]))
    by = ", ".join(f"{name} {count:,}" for name, count in inputs[:5]) + (", …" if len(inputs) > 5 else "")
    if counting.count == 1:
        return f"once, by decision {counting.first}, {moment(counting.first_ms)}, by {inputs[0][0]}"
    span = f"decision {counting.first}, {moment(counting.first_ms)}, to {counting.last}, {moment(counting.last_ms)}"
    return f"{counting.count:,} times, {span}, by {by}"


def _advice(advice: Iterable[str]) -> Iterator[str]:
    for line in advice:
        yield f"    > {line}"


def _value(value: str) -> str:
    return repr(value if len(value) <= _LONGEST else value[:_LONGEST] + "…")


def _plain(text: str) -> str:
    """Return a client's text without what would move a terminal's cursor."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
