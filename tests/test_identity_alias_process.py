"""Alias: what becomes of a request that was accepted, by the rules alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from oneself.identity import (
    AliasRequest,
    AliasRow,
    AliasState,
    Decision,
    Profile,
    Request,
    View,
    apply,
    build,
    decide,
    only_device,
    prepare,
)

NOW_MS = 1_700_000_000_000
SOURCE, DESTINATION, OTHER, FOURTH = 1, 2, 3, 4
ASKED = AliasRow(10, SOURCE, DESTINATION, 1_000, 2_000, NOW_MS)
POLICY = build()


def view_of(*aliases: AliasRow, without: int = 0) -> View:
    """Return a view of four profiles, or three, and some aliases."""
    view = View()
    view.profiles = {mpid: Profile(mpid, mpid) for mpid in (SOURCE, DESTINATION, OTHER, FOURTH) if mpid != without}
    view.aliases = {alias.position: alias for alias in aliases}
    return view


def other(source: int, destination: int, position: int = 5, **more: Any) -> AliasRow:
    """Return another alias, in effect unless told otherwise, with the window of the one that is asked for."""
    return AliasRow(
        position,
        source,
        destination,
        **{"start_ms": 1_000, "end_ms": 2_000, "due_ms": 0, "outcome": "applied"} | more,
    )


def process(view: View, position: int = 10, now_ms: int = NOW_MS) -> Decision:
    """Decide what becomes of an alias."""
    return decide(prepare(POLICY, Request("alias_process", position=position)), view, now_ms, 0)


def undo(view: View, position: int = 10) -> Decision:
    """Take an alias back."""
    return decide(prepare(POLICY, Request("alias_undo", position=position)), view, NOW_MS, 0)


def outcome(decision: Decision) -> tuple[Any, ...]:
    """Return the outcome, its reason and what stands against it."""
    (change,) = decision.changes
    return msgspec.structs.astuple(change)


def error(decision: Decision) -> tuple[int, str]:
    """Return status and code of a refusal, which changes nothing."""
    assert decision.error is not None
    assert not decision.changes
    return decision.error.status, decision.error.code


def test_an_alias_is_applied_where_nothing_stands_against_it() -> None:
    decision = process(view_of(ASKED))
    assert outcome(decision) == (10, SOURCE, DESTINATION, "applied", "", 0)
    assert (decision.mpid, decision.trace.why) == (DESTINATION, "alias_applied")


@pytest.mark.parametrize(
    ("against", "why"),
    [
        (other(SOURCE, OTHER), "source_overlaps"),
        (other(SOURCE, DESTINATION), "source_overlaps"),
        (other(SOURCE, OTHER, start_ms=2_000, end_ms=9_000), "source_overlaps"),
        (other(SOURCE, OTHER, start_ms=0, end_ms=1_000), "source_overlaps"),
        (other(SOURCE, OTHER, scope="device", device="d"), "source_overlaps"),
        (other(OTHER, SOURCE), "source_was_destination"),
        (other(OTHER, SOURCE, start_ms=5_000, end_ms=6_000), "source_was_destination"),
        (other(DESTINATION, OTHER), "destination_was_source"),
        (other(DESTINATION, OTHER, start_ms=5_000, end_ms=6_000), "destination_was_source"),
        (other(DESTINATION, SOURCE), "source_was_destination"),
    ],
)
def test_an_alias_is_dropped_where_an_applied_one_stands_against_it(against: AliasRow, why: str) -> None:
    decision = process(view_of(ASKED, against))
    assert outcome(decision) == (10, SOURCE, DESTINATION, "dropped", why, 5)
    assert decision.trace.why == "alias_dropped"


@pytest.mark.parametrize("state", ["waiting", "dropped", "undone"])
@pytest.mark.parametrize("between", [(SOURCE, OTHER), (OTHER, SOURCE), (DESTINATION, OTHER)])
def test_an_alias_that_is_not_in_effect_stands_against_nothing(between: tuple[int, int], state: AliasState) -> None:
    assert outcome(process(view_of(ASKED, other(*between, outcome=state))))[3] == "applied"


@pytest.mark.parametrize(
    "beside",
    [
        other(SOURCE, OTHER, start_ms=0, end_ms=999),
        other(SOURCE, OTHER, start_ms=2_001, end_ms=3_000),
        other(OTHER, DESTINATION),
        other(OTHER, FOURTH),
    ],
)
def test_an_alias_beside_others_is_applied(beside: AliasRow) -> None:
    assert outcome(process(view_of(ASKED, beside)))[3] == "applied"


def test_of_several_that_stand_against_it_the_latest_is_told() -> None:
    rows = [
        other(SOURCE, OTHER, 5, start_ms=100),
        other(SOURCE, OTHER, 6, start_ms=1_500),
        other(SOURCE, OTHER, 7, start_ms=900),
    ]
    assert outcome(process(view_of(ASKED, *rows)))[5] == 6
    rows = [
        other(OTHER, SOURCE, 5, end_ms=100),
        other(OTHER, SOURCE, 6, end_ms=1_500),
        other(OTHER, SOURCE, 7, end_ms=900),
    ]
    assert outcome(process(view_of(ASKED, *rows)))[4:] == ("source_was_destination", 6)


@pytest.mark.parametrize(("without", "why"), [(SOURCE, "source_unknown"), (DESTINATION, "destination_unknown")])
def test_an_alias_is_dropped_where_a_profile_is_gone(without: int, why: str) -> None:
    assert outcome(process(view_of(ASKED, without=without)))[3:] == ("dropped", why, 0)


def test_an_alias_is_decided_once_and_not_before_it_is_due() -> None:
    assert error(process(view_of())) == (404, "NOT_FOUND_ERROR")
    assert error(process(view_of(ASKED), now_ms=NOW_MS - 1)) == (409, "NOT_DUE")
    for state in ("applied", "dropped", "undone"):
        row = msgspec.structs.replace(ASKED, outcome=state)
        assert error(process(view_of(row))) == (409, "ALREADY_PROCESSED")


def test_an_applied_alias_can_be_undone_once() -> None:
    view = view_of(msgspec.structs.replace(ASKED, outcome="applied"))
    decision = undo(view)
    assert outcome(decision) == (10, SOURCE, DESTINATION, "undone", "", 0)
    assert decision.trace.why == "alias_undone"
    apply(view, decision.changes[0], 30)
    assert view.aliases[10] == msgspec.structs.replace(ASKED, outcome="undone", processed=30)
    assert error(undo(view)) == (409, "NOT_APPLIED")
    for state in ("waiting", "dropped"):
        assert error(undo(view_of(msgspec.structs.replace(ASKED, outcome=state)))) == (409, "NOT_APPLIED")
    assert error(undo(view_of())) == (404, "NOT_FOUND_ERROR")


def test_the_only_device_is_named_as_devices_are() -> None:
    stamp = "0B5BBF8B-91DC-4F3C-9D6A-5D9C5A9D3F11"
    assert only_device(msgspec.structs.replace(ASKED, scope="device", device=stamp)) == stamp.lower()
    assert only_device(msgspec.structs.replace(ASKED, scope="mpid", device=stamp)) == ""
    assert only_device(msgspec.structs.replace(ASKED, device=stamp)) == ""


def test_the_scope_of_a_device_needs_its_stamp() -> None:
    for device, status in (("", 400), ("d", None)):
        asked = AliasRequest(SOURCE, DESTINATION, scope="device", device=device)
        decision = decide(prepare(POLICY, Request("alias", alias=asked)), view_of(), NOW_MS, 0)
        assert (decision.error and decision.error.status) == status
        assert len(decision.changes) == (status is None)
