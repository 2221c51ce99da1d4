"""A whole space in memory decides as a store's view does (docs/replay.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_histories import History, histories, request_of
from identity_world import NOW_MS
from identity_world import World as Reference
from oneself.history.world import World
from oneself.identity import (
    HOLDERS_READ,
    Alias,
    AliasOutcome,
    Change,
    Create,
    Decision,
    Link,
    PolicySettings,
    Profile,
    Remove,
    Request,
    Unlink,
    apply,
    build,
    decide,
    prepare,
)

SENTINEL = ("other", "shared")


@given(history=histories(), ready=st.sampled_from((0, 2, 1_000)))
def test_a_world_decides_and_becomes_what_the_rules_say(history: History, ready: int) -> None:
    reference, world = Reference(history.policy), World(ready=ready)
    mpids: list[int] = []
    for code in history.codes:
        request = request_of(code, history.types, mpids)
        expected = reference.run(request)
        fresh = 100 + reference.position
        assert world.decide(history.policy, request, NOW_MS, fresh) == expected
        world.keep(expected.changes, reference.position)
        mpids += [change.mpid for change in expected.changes if isinstance(change, Create)]
    state = reference.state
    assert {profile.mpid: profile for profile in world.profiles()} == state.profiles
    assert len(world) == len(state.profiles)
    held = {identity: rows for identity, rows in state.holders.items() if rows}
    assert set(held) <= set(world.identities())
    assert {identity: world.holders(identity) for identity in held} == held
    assert world.guarded == state.guarded
    for mpid in mpids:
        assert mpid in world
        assert world.profile(mpid) == state.profiles[mpid]
    assert 999 not in world
    assert world.profile(999) is None


def test_of_a_value_with_a_crowd_of_holders_the_latest_take_part_and_none_is_lost() -> None:
    policy = build(PolicySettings("best_match", max_known_profiles_per_value=0))
    reference, world = Reference(policy), World()
    crowd = 12 * HOLDERS_READ
    for number in range(1, crowd + 1):
        for view in (world.keep, reference_keeper(reference)):
            view([Create(number), Link(number, *SENTINEL), Link(number, "customerid", f"c{number}")], number)
    assert world.holders(SENTINEL) == [(number, number) for number in range(crowd, 0, -1)]
    for number in range(crowd, 60, -1):  # the latest leave, one after another, and some from the middle
        request = Request("identify", {"other": "shared", "customerid": "new"}, previous_mpid=number - 60)
        position = 2 * crowd - number
        assert world.decide(policy, request, NOW_MS, -1) == reference_decision(reference, request), number
        for mpid in (number, number - 50) if number % 7 == 0 else (number,):
            if any(row[1] == mpid for row in reference.state.holders[SENTINEL]):
                gone = [Unlink(mpid, *SENTINEL, "removed")]
                world.keep(gone, position)
                reference_keeper(reference)(gone, position)
    assert world.holders(SENTINEL) == reference.state.holders[SENTINEL]


def test_a_profile_that_comes_back_to_a_value_holds_it_by_its_new_link() -> None:
    world = World()
    crowd = 6 * HOLDERS_READ
    for number in range(1, crowd + 1):
        world.keep([Create(number), Link(number, *SENTINEL)], number)
    world.keep([Unlink(5, *SENTINEL, "removed")], crowd + 1)
    world.keep([Link(5, *SENTINEL)], crowd + 2)
    rows = world.holders(SENTINEL)
    assert rows[0] == (crowd + 2, 5)
    assert [row for row in rows if row[1] == 5] == [(crowd + 2, 5)]
    assert len(rows) == crowd


def test_a_change_of_what_is_not_there_is_an_error_and_changes_nothing() -> None:
    world = World()
    world.keep([Create(1), Link(1, "other", "a"), Create(2), Link(2, "other", "b")], 1)
    changes = (
        Link(3, "other", "a"),
        Unlink(1, "other", "b", "removed"),
        Unlink(3, "other", "a", "removed"),
        Remove(3),
    )
    for change in changes:
        with pytest.raises(KeyError):
            world.keep([change], 2)
    assert world.holders(("other", "a")) == [(1, 1)]
    assert world.profile(1) == Profile(1, 1, {"other": {"a": 1}})
    with pytest.raises(KeyError):
        world.linked_at(3, ("other", "a"))


def test_an_alias_is_judged_by_those_of_its_profiles_alone() -> None:
    policy, world = build(PolicySettings(alias_delay=0)), World()
    for mpid in range(1, 9):
        world.keep([Create(mpid)], mpid)
    for position, (source, destination) in enumerate(((1, 2), (3, 4), (2, 5), (6, 2)), 11):
        world.keep([Alias(source, destination, 0, NOW_MS, 0)], position)
    outcomes = []
    for position, accepted in enumerate((11, 12, 13, 14), 21):
        decision = world.decide(policy, Request("alias_process", position=accepted), NOW_MS, -1)
        world.keep(decision.changes, position)
        (change,) = decision.changes
        assert isinstance(change, AliasOutcome)
        outcomes.append((change.outcome, change.why, change.other))
    assert outcomes == [
        ("applied", "", 0), ("applied", "", 0), ("dropped", "source_was_destination", 11), ("applied", "", 0),
    ]  # fmt: skip
    unknown = world.decide(policy, Request("alias_process", position=99), NOW_MS, -1)
    assert unknown.error is not None


Keep = Callable[[Sequence[Change], int], None]


def reference_keeper(reference: Reference) -> Keep:
    """Return what makes changes in a reference's state, past its judge."""

    def keep(changes: Sequence[Change], position: int) -> None:
        for change in changes:
            apply(reference.state, change, position)

    return keep


def reference_decision(reference: Reference, request: Request) -> Decision:
    """Return what is decided over a reference's state, past its judge."""
    prepared = prepare(reference.policy, request)
    return decide(prepared, reference.seen(prepared), NOW_MS, -1)
