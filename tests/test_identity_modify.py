"""Modify: adding, replacing, removing and moving identities of a named profile."""

from __future__ import annotations

import pytest

from identity_world import World
from oneself.identity import Decision, PolicySettings
from oneself.identity.model import Dropped, Link, Note, Unlink

LINK = PolicySettings(strategy="profile_link")


def user_of(world: World, **identities: str) -> int:
    """Log a user in and return the MPID."""
    mpid = world.login(**identities).mpid
    assert mpid is not None
    return mpid


def refusal(decision: Decision) -> tuple[int, str]:
    """Return status and code of a refused request, of which nothing happened."""
    assert decision.error is not None
    assert decision.mpid is None
    assert not decision.changes
    assert not decision.trace.notes
    return decision.error.status, decision.error.code


def test_no_old_value_adds() -> None:
    world = World(LINK)
    mpid = user_of(world, customerid="c")
    decision = world.modify(mpid, ("other", None, "o"))
    assert (decision.mpid, decision.known, decision.trace.why) == (mpid, True, "modified")
    assert decision.changes == [Link(mpid, "other", "o")]
    assert world.held(mpid) == {"customerid": {"c"}, "other": {"o"}}


def test_no_new_value_removes() -> None:
    world = World(LINK)
    mpid = user_of(world, customerid="c", other="o")
    assert world.modify(mpid, ("other", "o", None)).changes == [Unlink(mpid, "other", "o", "removed")]
    assert world.search(other="o").error is not None


def test_both_replace() -> None:
    world = World(LINK)
    mpid = user_of(world, customerid="c", email="old@x")
    decision = world.modify(mpid, ("email", " OLD@x", "New@x "))
    assert decision.changes == [Unlink(mpid, "email", "old@x", "modified"), Link(mpid, "email", "new@x")]
    assert world.login(email="new@x").mpid == mpid


def test_replacing_one_of_several_values_leaves_the_others() -> None:
    world = World(PolicySettings(strategy="best_match"))
    mpid = user_of(world, customerid="c", email="a@x")
    world.modify(mpid, ("email", None, "b@x"))
    world.modify(mpid, ("email", "a@x", "c@x"))
    assert world.held(mpid)["email"] == {"b@x", "c@x"}


def test_adding_to_a_unique_type_replaces_its_value() -> None:
    world = World(LINK)
    mpid = user_of(world, email="old@x")
    decision = world.modify(mpid, ("email", None, "new@x"))
    assert decision.changes[0] == Unlink(mpid, "email", "old@x", "replaced")
    assert world.held(mpid) == {"email": {"new@x"}}


def test_a_stale_old_value_adds_the_new_one_and_the_trace_says_so() -> None:
    world = World(LINK)
    mpid = user_of(world, customerid="c", other="o")
    decision = world.modify(mpid, ("other", "stale", "o2"))
    assert decision.trace.notes == [Note("other", "added")]
    assert world.held(mpid)["other"] == {"o", "o2"}


def test_a_stale_old_value_of_a_unique_type_still_leaves_one_value() -> None:
    world = World(LINK)
    mpid = user_of(world, customerid="c", email="current@x")
    decision = world.modify(mpid, ("email", "stale@x", "new@x"))
    assert decision.trace.notes == [Note("email", "added")]
    assert world.held(mpid)["email"] == {"new@x"}


def test_removing_what_is_not_there_changes_nothing_and_succeeds() -> None:
    world = World(LINK)
    mpid = user_of(world, customerid="c", other="o")
    decision = world.modify(mpid, ("other", "gone", None), ("email", "gone@x", None))
    assert decision.trace.notes == [Note("other", "absent"), Note("email", "absent")]
    assert (decision.mpid, decision.changes) == (mpid, [])


def test_a_value_that_is_there_already_changes_nothing_and_succeeds() -> None:
    world = World(LINK)
    mpid = user_of(world, customerid="c", other="o")
    decision = world.modify(mpid, ("other", None, "o"), ("other", "o", "o"), ("customerid", "stale", "c"))
    assert {note.why for note in decision.trace.notes} == {"unchanged"}
    assert (decision.mpid, decision.changes) == (mpid, [])


def test_replacing_a_value_by_one_that_is_there_already_removes_the_old_one() -> None:
    world = World(PolicySettings(strategy="best_match"))
    mpid = user_of(world, customerid="c", email="a@x")
    world.modify(mpid, ("email", None, "b@x"))
    world.modify(mpid, ("email", "a@x", "b@x"))
    assert world.held(mpid)["email"] == {"b@x"}


# -- moving -----------------------------------------------------------------------------------------------------


def test_a_unique_value_held_elsewhere_moves_here_and_both_histories_say_why() -> None:
    world = World(LINK)
    loser, taker = user_of(world, customerid="c1", email="a@x"), user_of(world, customerid="c2", email="b@x")
    decision = world.modify(taker, ("email", "b@x", "a@x"))
    assert decision.changes == [
        Unlink(taker, "email", "b@x", "modified"),
        Unlink(loser, "email", "a@x", "moved", taker),
        Link(taker, "email", "a@x"),
    ]
    assert decision.trace.notes == [Note("email", "moved", loser)]
    assert world.login(email="a@x").mpid == taker
    assert world.held(loser) == {"customerid": {"c1"}}


def test_the_profile_that_a_value_moves_from_may_become_an_orphan_and_anonymous() -> None:
    world = World(LINK)
    loser, taker = user_of(world, email="a@x"), user_of(world, customerid="c")
    world.modify(taker, ("email", None, "a@x"))
    assert world.held(loser) == {}
    assert world.modify(loser, ("other", None, "o")).mpid == loser
    assert world.identify(other="o").mpid == loser
    assert not world.identify(other="o").known


def test_a_value_that_need_not_be_unique_is_shared_and_not_moved() -> None:
    world = World()
    first, second = user_of(world, customerid="c1", email="a@x"), user_of(world, customerid="c2")
    assert not world.modify(second, ("email", None, "a@x")).trace.notes
    assert world.held(first)["email"] == world.held(second)["email"] == {"a@x"}


def test_two_users_can_swap_their_unique_values() -> None:
    world = World(LINK)
    first, second = user_of(world, customerid="c1", email="a@x"), user_of(world, customerid="c2", email="b@x")
    world.modify(first, ("email", "a@x", "b@x"))
    assert world.held(second) == {"customerid": {"c2"}}
    world.modify(second, ("email", "b@x", "a@x"))
    assert world.held(first)["email"] == {"b@x"}
    assert world.held(second)["email"] == {"a@x"}


def test_each_change_of_a_request_sees_what_the_ones_before_it_did() -> None:
    world = World(PolicySettings(strategy="best_match"))
    mpid = user_of(world, customerid="c", email="a@x")
    decision = world.modify(mpid, ("email", "a@x", "b@x"), ("email", "b@x", "c@x"), ("email", "a@x", None))
    assert world.held(mpid)["email"] == {"c@x"}
    assert decision.trace.notes == [Note("email", "absent")]


def test_a_value_can_be_swapped_for_another_and_back_in_one_request() -> None:
    world = World(LINK)
    mpid = user_of(world, customerid="c", email="a@x")
    world.modify(mpid, ("email", "a@x", "b@x"), ("email", "b@x", "a@x"))
    assert world.held(mpid)["email"] == {"a@x"}


def test_only_modify_makes_an_anonymous_profile_known_under_create() -> None:
    world = World(LINK)
    visitor = world.identify(ios_idfv="v")
    assert world.modify(visitor.mpid, ("email", None, "a@x")).known
    assert world.login(email="a@x").mpid == visitor.mpid
    assert not world.modify(visitor.mpid, ("email", "a@x", None)).known


def test_types_outside_the_priority_can_be_modified_too() -> None:
    world = World()
    mpid = user_of(world, customerid="c", push_token="p1")
    world.modify(mpid, ("push_token", "p1", "p2"))
    assert world.held(mpid)["push_token"] == {"p2"}


# -- immutable --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [("customerid", "c", "d"), ("customerid", "c", None), ("customerid", None, "d"), ("customerid", "stale", "d")],
)
def test_changing_or_removing_an_immutable_value_is_refused(change: tuple[str, str | None, str | None]) -> None:
    world = World()
    mpid = user_of(world, customerid="c")
    assert refusal(world.modify(mpid, change)) == (400, "IMMUTABLE_IDENTITY")
    assert world.held(mpid) == {"customerid": {"c"}}


@pytest.mark.parametrize("change", [("customerid", None, "c"), ("customerid", "x", "c"), ("customerid", "x", None)])
def test_what_leaves_an_immutable_value_as_it_is_succeeds(change: tuple[str, str | None, str | None]) -> None:
    world = World()
    mpid = user_of(world, customerid="c")
    decision = world.modify(mpid, change)
    assert (decision.mpid, decision.changes) == (mpid, [])


def test_an_immutable_value_can_be_given_once() -> None:
    world = World()
    visitor = world.identify(ios_idfv="v")
    assert world.modify(visitor.mpid, ("customerid", None, "c")).known
    assert refusal(world.modify(visitor.mpid, ("customerid", "c", "d"))) == (400, "IMMUTABLE_IDENTITY")


def test_an_immutable_value_does_not_move_off_another_profile() -> None:
    world = World()
    holder, visitor = user_of(world, customerid="c"), world.identify(ios_idfv="v")
    assert refusal(world.modify(visitor.mpid, ("customerid", None, "c"))) == (400, "IMMUTABLE_IDENTITY")
    assert world.held(holder) == {"customerid": {"c"}}


def test_all_of_a_request_applies_or_none() -> None:
    world = World()
    mpid = user_of(world, customerid="c", other="o")
    decision = world.modify(mpid, ("email", None, "a@x"), ("other", "o", None), ("customerid", "c", "d"))
    assert refusal(decision) == (400, "IMMUTABLE_IDENTITY")
    assert world.held(mpid) == {"customerid": {"c"}, "other": {"o"}}


# -- values that do not count -----------------------------------------------------------------------------------


def test_a_change_to_junk_is_dropped_and_the_rest_applies() -> None:
    world = World()
    mpid = user_of(world, customerid="c", other="o")
    decision = world.modify(mpid, ("other", "o", "null"), ("facebook", None, "x" * 257), ("email", None, "a@x"))
    assert decision.trace.dropped == [Dropped("other", "null", "junk"), Dropped("facebook", "x" * 256, "too_long")]
    assert world.held(mpid) == {"customerid": {"c"}, "other": {"o"}, "email": {"a@x"}}


def test_nothing_usable_left_is_a_lookup_error() -> None:
    world = World()
    mpid = user_of(world, customerid="c", other="o")
    assert refusal(world.modify(mpid, ("other", "o", " "))) == (400, "LOOKUP_ERROR")
    assert refusal(world.modify(mpid)) == (400, "LOOKUP_ERROR")
    assert world.held(mpid)["other"] == {"o"}


def test_an_unknown_mpid_is_not_found_and_nothing_is_made() -> None:
    world = World()
    assert refusal(world.modify(77, ("email", None, "a@x"))) == (404, "NOT_FOUND_ERROR")
    assert world.state.profiles == {}
