"""Guards: values that are shared by too many known profiles, and profiles that gather too many values."""

from __future__ import annotations

import pytest

from identity_world import World
from oneself.identity import PolicySettings
from oneself.identity.model import Dropped, Guard, Link, Refused, Release


def sharing(limit: int) -> World:
    """Make a space in which so many known profiles as may be share the device ``kiosk``."""
    world = World(PolicySettings(strategy="profile_isolation", max_known_profiles_per_value=limit))
    for n in range(limit):
        assert world.login(customerid=f"c{n}", ios_idfv="kiosk").trace.refused == []
    return world


def gathering(limit: int) -> tuple[World, int]:
    """Make a space and in it a known profile with as many e-mail addresses as may be."""
    world = World(PolicySettings(max_values_per_profile=limit))
    for n in range(limit):
        world.login(customerid="c", email=f"{n}@x")
    assert world.decided[-1].mpid is not None
    return world, world.decided[-1].mpid


# -- max_known_profiles_per_value -------------------------------------------------------------------------------


def test_a_value_is_not_linked_to_one_known_profile_too_many_and_is_guarded() -> None:
    world = sharing(2)
    decision = world.login(customerid="c9", ios_idfv="kiosk")
    assert decision.known
    assert decision.trace.refused == [Refused("ios_idfv", "kiosk", "max_known_profiles_per_value")]
    assert Guard("ios_idfv", "kiosk", "max_known_profiles_per_value") in decision.changes
    assert world.held(decision.mpid) == {"customerid": {"c9"}}


def test_the_kiosk_gets_a_fresh_anonymous_profile_and_never_an_error() -> None:
    world = sharing(2)
    world.login(customerid="c9", ios_idfv="kiosk")
    visitors = [world.identify(ios_idfv="kiosk"), world.identify(ios_idfv="kiosk"), world.logout(ios_idfv="kiosk")]
    assert len({visitor.mpid for visitor in visitors}) == 3
    for visitor in visitors:
        assert (visitor.error, visitor.known, world.held(visitor.mpid)) == (None, False, {})
        assert visitor.trace.dropped == [Dropped("ios_idfv", "kiosk", "guarded")]
    assert [visitor.trace.why for visitor in visitors] == ["guarded_created"] * 3


def test_a_guarded_value_is_as_absent_beside_others() -> None:
    world = sharing(2)
    world.login(customerid="c9", ios_idfv="kiosk")
    assert world.login(customerid="c0", ios_idfv="kiosk").matched == ["customerid"]
    assert world.held(world.login(customerid="c10", ios_idfv="kiosk").mpid) == {"customerid": {"c10"}}
    first = world.identify(ios_idfv="kiosk", android_aaid="g")
    assert world.held(first.mpid) == {"android_aaid": {"g"}}
    assert world.identify(ios_idfv="kiosk", android_aaid="g").mpid == first.mpid


def test_a_search_by_a_guarded_value_alone_finds_nobody() -> None:
    world = sharing(2)
    world.login(customerid="c9", ios_idfv="kiosk")
    miss = world.search(ios_idfv="kiosk").error
    assert miss is not None
    assert miss.status == 404


def test_those_who_hold_a_guarded_value_keep_it() -> None:
    world = sharing(2)
    world.login(customerid="c9", ios_idfv="kiosk")
    assert len(world.state.holders["ios_idfv", "kiosk"]) == 2


def test_anonymous_profiles_may_share_a_value_without_limit() -> None:
    world = World(PolicySettings(max_known_profiles_per_value=2))
    for _ in range(30):
        world.logout(ios_idfv="v")
    assert not world.state.guarded
    assert world.login(customerid="c", ios_idfv="v").trace.refused == []


def test_a_unique_value_is_never_guarded_for_being_shared() -> None:
    world = World(PolicySettings(max_known_profiles_per_value=1))
    world.login(customerid="c", email="a@x")
    for _ in range(3):
        world.login(customerid="c")
    assert not world.state.guarded


def test_a_type_outside_the_priority_fuses_nobody_and_needs_no_guard() -> None:
    world = World(PolicySettings(max_known_profiles_per_value=1))
    for n in range(4):
        assert not world.login(customerid=f"c{n}", push_token="p").trace.refused
    assert not world.state.guarded


def test_a_profile_that_becomes_known_keeps_its_shared_value_but_the_value_is_guarded() -> None:
    world = World(PolicySettings(strategy="profile_conversion", max_known_profiles_per_value=1))
    world.login(customerid="c1", ios_idfv="v")
    visitor = world.identify(ios_idfv="v")
    user = world.login(customerid="c2", ios_idfv="v")
    assert (user.mpid, user.trace.why) == (visitor.mpid, "new_known_converted")
    assert Guard("ios_idfv", "v", "max_known_profiles_per_value") in user.changes
    assert world.held(user.mpid) == {"customerid": {"c2"}, "ios_idfv": {"v"}}
    assert world.search(ios_idfv="v").error is not None


def test_a_shared_login_value_that_would_be_the_only_one_leaves_the_new_profile_anonymous() -> None:
    settings = PolicySettings(login=("customerid", "email"), unique=("customerid",), max_known_profiles_per_value=1)
    world = World(settings)
    world.login(customerid="c", email="a@x")
    other = world.login(email="a@x")  # customerid protects the holder
    assert not other.known
    assert other.trace.refused == [Refused("email", "a@x", "max_known_profiles_per_value")]
    assert world.held(other.mpid) == {}


def test_zero_switches_the_guard_off() -> None:
    world = World(PolicySettings(strategy="profile_isolation", max_known_profiles_per_value=0))
    for n in range(30):
        world.login(customerid=f"c{n}", ios_idfv="kiosk")
    assert len(world.state.holders["ios_idfv", "kiosk"]) == 30


# -- max_values_per_profile -------------------------------------------------------------------------------------


def test_a_full_profile_gets_no_further_value_and_what_found_it_is_guarded() -> None:
    world, mpid = gathering(3)
    decision = world.login(customerid="c", email="new@x", other="o")
    assert decision.mpid == mpid
    assert decision.trace.refused == [Refused("email", "new@x", "max_values_per_profile", mpid)]
    assert Guard("customerid", "c", "max_values_per_profile") in decision.changes
    assert Link(mpid, "other", "o") in decision.changes
    assert world.held(mpid)["email"] == {"0@x", "1@x", "2@x"}
    assert world.login(customerid="c").mpid != mpid


def test_a_full_profile_is_still_found_by_what_it_holds() -> None:
    world, mpid = gathering(3)
    again = world.login(customerid="c", email="1@x")
    assert (again.mpid, again.changes) == (mpid, [])
    assert not world.state.guarded


def test_the_value_that_found_the_profile_is_guarded_once_however_many_types_are_full() -> None:
    world = World(PolicySettings(max_values_per_profile=1))
    world.login(customerid="c", email="a@x", other="o")
    decision = world.login(customerid="c", email="b@x", other="p")
    assert len(decision.trace.refused) == 2
    assert decision.changes == [Guard("customerid", "c", "max_values_per_profile")]


def test_the_value_that_decided_is_guarded_and_not_the_first_that_found() -> None:
    world = World(PolicySettings(strategy="best_match", max_values_per_profile=2))
    first = world.identify(email="a@x", other="o1")
    world.modify(first.mpid, ("other", None, "o2"))
    second = world.identify(google="g")
    world.modify(second.mpid, ("email", None, "a@x"))
    world.modify(first.mpid, ("facebook", None, "f"))
    decision = world.identify(email="a@x", facebook="f", other="o3")
    assert decision.mpid == first.mpid
    assert decision.changes == [Guard("facebook", "f", "max_values_per_profile")]


def test_a_unique_type_is_replaced_and_never_full() -> None:
    world = World(PolicySettings(strategy="profile_link", max_values_per_profile=1))
    user = world.login(customerid="c", email="a@x")
    world.login(customerid="c", email="b@x")
    assert world.held(user.mpid)["email"] == {"b@x"}
    assert not world.state.guarded


# -- modify -----------------------------------------------------------------------------------------------------


def test_a_modify_value_stopped_by_a_guard_is_refused_in_the_trace_and_the_rest_applies() -> None:
    world = sharing(2)
    user = world.login(customerid="c9")
    decision = world.modify(user.mpid, ("ios_idfv", None, "kiosk"), ("other", None, "o"))
    assert decision.error is None
    assert decision.trace.refused == [Refused("ios_idfv", "kiosk", "max_known_profiles_per_value")]
    assert world.held(user.mpid) == {"customerid": {"c9"}, "other": {"o"}}
    assert ("ios_idfv", "kiosk") in world.state.guarded


def test_modify_cannot_give_a_guarded_value() -> None:
    world = sharing(2)
    world.login(customerid="c9", ios_idfv="kiosk")
    visitor = world.identify(other="o")
    decision = world.modify(visitor.mpid, ("ios_idfv", None, "kiosk"))
    assert decision.error is not None
    assert decision.error.code == "LOOKUP_ERROR"
    assert decision.trace.dropped == [Dropped("ios_idfv", "kiosk", "guarded")]


def test_modify_can_take_a_guarded_value_away() -> None:
    world = sharing(2)
    world.login(customerid="c9", ios_idfv="kiosk")
    holder = world.login(customerid="c0").mpid
    world.modify(holder, ("ios_idfv", "kiosk", None))
    assert world.held(holder) == {"customerid": {"c0"}}


def test_modify_fills_a_profile_no_further_but_replaces_within_it() -> None:
    world, mpid = gathering(2)
    decision = world.modify(mpid, ("email", None, "new@x"))
    assert decision.trace.refused == [Refused("email", "new@x", "max_values_per_profile", mpid)]
    assert not decision.changes
    world.modify(mpid, ("email", "0@x", "new@x"))
    assert world.held(mpid)["email"] == {"1@x", "new@x"}


@pytest.mark.parametrize("login_first", [True, False])
def test_in_whatever_order_a_modify_makes_a_profile_known_a_value_shared_by_too_many_is_guarded(
    *, login_first: bool
) -> None:
    world = sharing(2)
    visitor = world.identify(other="o")
    changes = [("customerid", None, "c9"), ("ios_idfv", None, "kiosk")]
    world.modify(visitor.mpid, *(changes if login_first else reversed(changes)))
    assert world.state.guarded == {("ios_idfv", "kiosk")}
    assert ("ios_idfv" in world.held(visitor.mpid)) is not login_first


def test_a_value_is_not_guarded_twice() -> None:
    world = World(PolicySettings(strategy="profile_isolation", max_known_profiles_per_value=2))
    visitor = world.identify(ios_idfv="kiosk")
    for n in range(3):
        world.login(customerid=f"c{n}", ios_idfv="kiosk")
    assert ("ios_idfv", "kiosk") in world.state.guarded
    decision = world.modify(visitor.mpid, ("customerid", None, "c9"), ("ios_idfv", None, "kiosk"))
    assert decision.changes == [Link(visitor.mpid or 0, "customerid", "c9")]


def test_the_trace_names_junk_and_guarded_values_alike() -> None:
    world = sharing(2)
    world.login(customerid="c9", ios_idfv="kiosk")
    decision = world.identify(ios_idfv="kiosk", email="null", android_aaid="g")
    assert decision.trace.dropped == [Dropped("email", "null", "junk"), Dropped("ios_idfv", "kiosk", "guarded")]


# -- release ----------------------------------------------------------------------------------------------------


def test_a_released_value_finds_profiles_again() -> None:
    world = sharing(2)
    world.login(customerid="c9", ios_idfv="kiosk")
    assert world.release(ios_idfv="kiosk").changes == [Release("ios_idfv", "kiosk")]
    assert world.login(customerid="c0", ios_idfv="kiosk").matched == ["customerid", "ios_idfv"]
    visitor = world.identify(ios_idfv="kiosk")
    assert world.identify(ios_idfv="kiosk").mpid == visitor.mpid


def test_a_released_value_is_not_guarded_again_for_those_who_hold_it_already() -> None:
    world = World(PolicySettings(strategy="profile_conversion", max_known_profiles_per_value=1))
    world.login(customerid="c1", ios_idfv="v")
    world.identify(ios_idfv="v")
    world.login(customerid="c2", ios_idfv="v")
    world.release(ios_idfv="v")
    for customer in ("c1", "c2"):
        user = world.login(customerid=customer, ios_idfv="v")
        assert user.changes == world.modify(user.mpid, ("ios_idfv", None, "v")).changes == []
    assert world.login(customerid="c3", ios_idfv="v").trace.refused != []


def test_releasing_what_is_not_guarded_is_not_found() -> None:
    for identities in ({"ios_idfv": "v"}, {}):
        decision = World().release(**identities)
        assert decision.error is not None
        assert (decision.error.status, decision.error.code) == (404, "NOT_FOUND_ERROR")
