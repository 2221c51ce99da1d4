"""The report on an undo or a split in words (docs/undo.md)."""

from __future__ import annotations

from collections.abc import Iterator

from oneself.history.undo.report import UndoReport, Way

__all__ = ["undo_text"]

_SHOWN = 10


def undo_text(report: UndoReport) -> str:
    """Return a report as text."""
    return "\n".join(_lines(report))


def _lines(report: UndoReport) -> Iterator[str]:
    word = "Split" if report.what == "split" else "Undone"
    if report.position:
        yield f"{word} in {report.space} by decision {report.position}:"
    else:
        yield f"To be {word.lower()} in {report.space}:"
    yield from _counts(report)
    if report.in_the_way:
        again = ", and are made again" if report.later == "redecide" else ""
        yield f"Later decisions that depend on it{again}: {report.in_the_way}"
        yield from (f"  {_way(way)}" for way in report.listed[:_SHOWN])
        if report.in_the_way > _SHOWN:
            yield f"  and {report.in_the_way - _SHOWN} more"
    if not report.possible:
        yield _advice(report)


def _counts(report: UndoReport) -> Iterator[str]:
    counts = [
        ("decisions undone", report.undone),
        ("decisions undone in part", report.undone_in_part),
        ("decisions made again", report.decided_again),
        ("users removed", len(report.profiles_removed)),
        ("users made", len(report.profiles_made)),
        ("other users changed", len(report.profiles_changed)),
        ("identities withdrawn", report.identities_withdrawn),
        ("identities linked", report.identities_linked),
        ("batches to another user", report.batches_moved),
        ("batches to nobody", report.batches_of_nobody),
        ("events in these batches", report.events_moved),
    ]
    shown = [(name, count) for name, count in counts if count]
    for name, count in shown:
        yield f"  {name:<24} {count:>7}"
    if report.guarded:
        yield f"  guarded afterwards: {report.guarded}"
    if not shown and not report.guarded:
        yield "  nothing"


def _way(way: Way) -> str:
    what = f"decision {way.position}, {way.kind} by {way.input}"
    if way.how == "alias":
        return f"{what}: one of its users would be nobody"
    if way.how != "again":
        return f"{what}: undo it first"
    was, would = (f"MPID {mpid}" if mpid else "nobody" for mpid in (way.was, way.would_be))
    if was == would:
        return f"{what}: {was}, with other identities"
    return f"{what}: {was}, would be {would}"


def _advice(report: UndoReport) -> str:
    if any(way.how not in ("again", "alias") for way in report.listed):
        return "Nothing is changed: undo those later undos and splits first."
    if not report.in_the_way:
        return "Nothing is changed: there is nothing to undo."
    return (
        "Nothing is changed. Say what becomes of them: --later redecide makes them again, "
        "--later keep undoes only what none of them needs."
    )
