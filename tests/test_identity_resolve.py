"""Resolving: eligibility, contradiction, the walk, ties and search."""

from __future__ import annotations

import pytest

from identity_world import NOW_MS, World
from oneself.identity import PolicySettings, Profile, Request, View, build, decide, prepare
from oneself.identity.model import Seen, Step

TWO_LOGINS = PolicySettings(strategy="profile_link", priority=("customerid", "email", "other", "ios_idfv"))
NO_LOGINS = PolicySettings(strategy="best_match", priority=("email", "other", "ios_idfv", "android_aaid"))


# -- eligible ---------------------------------------------------------------------------------------------------


def test_a_known_profile_is_not_found_without_one_of_its_login_identities() -> None:
    world = World(TWO_LOGINS)
    known = world.login(email="a@x", ios_idfv="v")
    anonymous = world.identify(ios_idfv="v")
    assert known.known
    assert not anonymous.known
    assert anonymous.mpid != known.mpid
    assert anonymous.trace.steps == [Step("ios_idfv", "none", [Seen(known.mpid or 0, "login")])]


def test_any_one_of_its_login_identities_is_enough() -> None:
    world = World(TWO_LOGINS)
    known = world.login(email="a@x", customerid="c", ios_idfv="v")
    assert world.identify(email="a@x").mpid == known.mpid
    assert world.identify(customerid="c").mpid == known.mpid


def test_a_login_identity_of_another_user_does_not_open_a_known_profile() -> None:
    world = World(TWO_LOGINS)
    first = world.login(email="a@x", ios_idfv="v")
    second = world.login(email="b@x", ios_idfv="v")
    assert second.mpid != first.mpid
    assert world.login(email="b@x", ios_idfv="v").mpid == second.mpid


def test_a_protected_profile_is_not_found_without_its_immutable_identity() -> None:
    world = World(PolicySettings(login=("customerid", "email")))
    protected = world.login(customerid="c", email="a@x")
    other = world.identify(email="a@x")
    assert other.mpid != protected.mpid
    assert other.trace.steps == [Step("email", "none", [Seen(protected.mpid or 0, "immutable")])]
    assert world.identify(customerid="c").mpid == protected.mpid


def test_an_orphan_is_never_returned() -> None:
    world = World(TWO_LOGINS)
    orphan = world.login(email="a@x")
    taker = world.login(customerid="c")
    world.modify(taker.mpid, ("email", None, "a@x"))
    assert world.held(orphan.mpid) == {}
    assert world.login(email="a@x").mpid == taker.mpid
    assert world.resolve("identify", orphan.mpid, other="o").mpid != orphan.mpid


# -- contradicted -----------------------------------------------------------------------------------------------


def test_a_candidate_with_another_login_value_in_a_higher_type_is_another_account() -> None:
    world = World(PolicySettings(strategy="profile_link", unique=("customerid",)))
    first = world.login(customerid="c1", email="shared@x")
    second = world.login(customerid="c2", email="shared@x")
    assert second.mpid != first.mpid
    assert second.trace.steps[-1] == Step("email", "none", [Seen(first.mpid or 0, "contradicted:customerid")])
    assert world.login(customerid="c1", email="shared@x").mpid == first.mpid
    assert world.login(customerid="c2", email="shared@x").mpid == second.mpid


def test_a_lower_login_type_contradicts_nobody() -> None:
    world = World(TWO_LOGINS)
    first = world.login(customerid="c", email="old@x")
    again = world.login(customerid="c", email="new@x")
    assert again.mpid == first.mpid
    assert world.held(first.mpid)["email"] == {"new@x"}


def test_a_type_that_is_no_login_type_contradicts_nobody() -> None:
    world = World(NO_LOGINS)
    first = world.identify(email="a@x", ios_idfv="v")
    assert world.identify(email="b@x", ios_idfv="v").mpid == first.mpid


def test_a_candidate_that_holds_the_value_among_others_is_not_contradicted() -> None:
    world = World(PolicySettings(login=("email", "other"), unique=(), priority=("email", "other", "ios_idfv")))
    first = world.login(email="a@x", other="o")
    world.modify(first.mpid, ("email", None, "b@x"))
    assert world.held(first.mpid)["email"] == {"a@x", "b@x"}
    assert world.login(email="b@x", other="o").mpid == first.mpid


def test_contradiction_is_judged_at_each_step_by_the_types_above_it() -> None:
    world = World(PolicySettings(login=("customerid",), priority=("ios_idfv", "customerid", "other")))
    first = world.login(customerid="c1", ios_idfv="v", other="o")
    found_below = world.login(customerid="c2", other="o")
    assert found_below.mpid != first.mpid


def test_of_several_contradictions_the_one_that_stands_highest_counts() -> None:
    world = World(PolicySettings(strategy="profile_link", priority=("customerid", "other", "email")))
    user = world.login(customerid="c1", email="a@x", other="o")
    miss = world.search(customerid="c2", email="b@x", other="o")
    assert miss.error is not None
    assert miss.trace.steps[1] == Step("other", "none", [Seen(user.mpid or 0, "contradicted:customerid")])


# -- the walk ---------------------------------------------------------------------------------------------------


def test_the_walk_goes_down_the_priority_and_not_the_order_of_the_request() -> None:
    world = World(NO_LOGINS)
    by_email = world.identify(email="a@x")
    by_other = world.identify(other="o")
    assert by_other.mpid != by_email.mpid
    assert world.identify(other="o", email="a@x").mpid == by_email.mpid


def test_types_that_the_request_lacks_are_skipped() -> None:
    world = World(NO_LOGINS)
    first = world.identify(email="a@x", android_aaid="g")
    second = world.identify(android_aaid="h", other="o")
    world.modify(second.mpid, ("email", None, "a@x"))
    assert world.identify(email="a@x", android_aaid="g").mpid == first.mpid
    assert world.identify(email="a@x", android_aaid="h").mpid == second.mpid


def test_later_types_narrow_the_candidates() -> None:
    world = World(NO_LOGINS)
    first = world.identify(email="a@x", other="AAAA")
    second = world.identify(other="BBBB")
    world.modify(second.mpid, ("email", None, "a@x"))
    found = world.identify(email="a@x", other="AAAA")
    assert found.mpid == first.mpid
    assert [(step.type, step.outcome) for step in found.trace.steps] == [("email", "found"), ("other", "narrowed")]
    assert found.trace.tie == ""


def test_a_later_type_that_nobody_shares_leaves_the_candidates_as_they_are() -> None:
    world = World(NO_LOGINS)
    first, second = twins(world)
    stranger = world.identify(other="o")
    found = world.identify(email="a@x", other="o")
    assert found.mpid in (first, second)
    assert found.trace.steps[1] == Step("other", "none", [Seen(stranger.mpid or 0, "outside")])


def test_the_walk_stops_at_one_candidate() -> None:
    world = World(NO_LOGINS)
    world.identify(email="a@x", other="o")
    found = world.identify(email="a@x", other="o", ios_idfv="v")
    assert [step.type for step in found.trace.steps] == ["email"]


# -- ties -------------------------------------------------------------------------------------------------------


def twins(world: World) -> tuple[int, int]:
    """Make two profiles that share an e-mail address; the second came to it later."""
    first, second = world.identify(email="a@x", ios_idfv="v1").mpid, world.identify(ios_idfv="v2").mpid
    world.modify(second, ("email", None, "a@x"))
    assert first
    assert second
    return first, second


def test_a_tie_goes_to_the_previous_user_if_among_the_candidates() -> None:
    world = World(NO_LOGINS)
    first, second = twins(world)
    for previous in (first, second):
        found = world.resolve("identify", previous, email="a@x")
        assert (found.mpid, found.trace.tie) == (previous, "previous_mpid")
        assert set(found.trace.among) == {first, second}


def test_else_to_the_latest_on_the_deciding_value() -> None:
    world = World(NO_LOGINS)
    first, second = twins(world)
    for previous in (None, 999):
        found = world.resolve("identify", previous, email="a@x")
        assert (found.mpid, found.trace.tie) == (second, "latest")
    world.modify(first, ("email", "a@x", None), ("email", None, "a@x"))
    assert world.identify(email="a@x").mpid == first


def test_seeing_a_value_again_does_not_make_its_link_later() -> None:
    world = World(NO_LOGINS)
    first, second = twins(world)
    assert world.resolve("identify", first, email="a@x").mpid == first
    assert world.identify(email="a@x").mpid == second


def test_the_deciding_value_is_the_last_that_narrowed() -> None:
    world = World(NO_LOGINS)
    first, second = twins(world)  # the second is later by e-mail address
    third = world.identify(ios_idfv="v3").mpid
    world.modify(third, ("email", None, "a@x"))
    world.modify(second, ("other", None, "o"))
    world.modify(first, ("other", None, "o"))  # the first is later by "other"
    found = world.identify(email="a@x", other="o")
    assert (found.mpid, found.trace.tie) == (first, "latest")
    assert [step.outcome for step in found.trace.steps] == ["found", "narrowed"]


def test_a_type_that_all_candidates_share_decides_nothing() -> None:
    world = World(NO_LOGINS)
    first, second = twins(world)
    world.modify(second, ("other", None, "o"))
    world.modify(first, ("other", None, "o"))
    found = world.identify(email="a@x", other="o")
    assert found.mpid == second
    assert [step.outcome for step in found.trace.steps] == ["found", "unchanged"]


def test_else_to_the_lowest_mpid() -> None:
    view = View()
    view.holders["email", "a@x"] = [(5, 30), (5, -20), (4, -40)]
    view.profiles = {mpid: Profile(mpid, 1, {"email": {"a@x": at}}) for at, mpid in view.holders["email", "a@x"]}
    prepared = prepare(build(NO_LOGINS), Request("identify", {"email": "a@x"}))
    decision = decide(prepared, view, NOW_MS, 1)
    assert (decision.mpid, decision.trace.tie) == (-20, "lowest")


# -- search -----------------------------------------------------------------------------------------------------


def test_search_never_writes() -> None:
    world = World(TWO_LOGINS)
    known = world.login(customerid="c", ios_idfv="v")
    found = world.search(customerid="c", email="new@x", ios_idfv="w")
    assert (found.mpid, found.known, found.matched) == (known.mpid, True, ["customerid"])
    assert not found.changes
    assert world.held(known.mpid) == {"customerid": {"c"}, "ios_idfv": {"v"}}


def test_search_answers_404_on_a_miss() -> None:
    decision = World().search(customerid="nobody")
    assert decision.error is not None
    assert (decision.error.status, decision.error.code, decision.mpid) == (404, "NOT_FOUND_ERROR", None)
    assert decision.trace.why == "not_found"


def test_search_finds_known_profiles_by_any_look_up() -> None:
    world = World(PolicySettings(login=("customerid", "email")))
    known = world.login(customerid="c", email="a@x", ios_idfv="v")
    assert world.search(ios_idfv="v").mpid == known.mpid
    assert world.search(email="a@x").mpid == known.mpid


def test_search_does_not_take_one_account_for_another() -> None:
    world = World(TWO_LOGINS)
    world.login(customerid="c1", ios_idfv="v")
    assert world.search(customerid="c2", ios_idfv="v").error is not None


def test_search_can_be_restricted_to_immutable_types() -> None:
    world = World(PolicySettings(search_immutable_only=True))
    known = world.login(customerid="c", email="a@x")
    assert world.search(email="a@x").error is not None
    assert world.search(email="a@x", customerid="c").mpid == known.mpid


@pytest.mark.parametrize("kind", ["identify", "login", "logout"])
def test_search_breaks_ties_as_resolving_does(kind: str) -> None:
    world = World(NO_LOGINS)
    first, second = twins(world)
    assert world.search(email="a@x").mpid == second
    assert world.resolve("search", first, email="a@x").mpid == first
    assert world.resolve(kind, email="a@x").mpid == second  # type: ignore[arg-type]
