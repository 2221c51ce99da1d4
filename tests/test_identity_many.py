"""Profiles with more values than their record keeps, and values with more holders than a walk reads."""

from __future__ import annotations

import random

from identity_world import World
from oneself.identity import (
    HOLDERS_READ,
    INLINE_VALUES,
    IdentityChange,
    PolicySettings,
    Profile,
    Request,
    View,
    build,
    decide,
    prepare,
)

MANY = INLINE_VALUES + 5
OPEN = PolicySettings(strategy="best_match", max_values_per_profile=0, max_known_profiles_per_value=0)


def with_many_addresses(settings: PolicySettings = OPEN) -> tuple[World, int]:
    """Make a profile with more addresses than its record keeps."""
    world = World(settings)
    for n in range(MANY):
        world.identify(customerid="c", email=f"{n}@x")
    assert world.decided[0].mpid is not None
    return world, world.decided[0].mpid


# -- values -----------------------------------------------------------------------------------------------------


def test_a_profile_is_found_by_each_of_its_values_also_by_those_its_record_does_not_keep() -> None:
    world, mpid = with_many_addresses()
    assert len(world.state.profiles[mpid].held["email"]) == INLINE_VALUES
    assert world.state.profiles[mpid].more == {"email": MANY - INLINE_VALUES}
    for n in range(MANY):
        found = world.identify(customerid="c", email=f"{n}@x")
        assert (found.mpid, found.matched, found.changes) == (mpid, ["customerid", "email"], [])
        assert world.identify(email=f"{n}@x").mpid == mpid


def test_a_login_value_that_the_record_does_not_keep_opens_and_does_not_contradict() -> None:
    settings = PolicySettings(
        priority=("email", "customerid", "ios_idfv"), login=("email", "customerid"), unique=("customerid",),
        immutable=(), max_values_per_profile=0, max_known_profiles_per_value=0,
    )  # fmt: skip
    world = World(settings)
    mpid = world.login(customerid="c", ios_idfv="v").mpid
    for n in range(MANY):
        world.modify(mpid, ("email", None, f"{n}@x"))
    last = f"{MANY - 1}@x"
    assert last not in world.state.profiles[mpid or 0].held["email"]
    assert world.login(email=last, customerid="c", ios_idfv="v").mpid == mpid
    assert world.login(email="other@x", customerid="c").mpid != mpid


def test_a_full_profile_counts_the_values_that_its_record_does_not_keep() -> None:
    limited = PolicySettings(strategy="best_match", max_values_per_profile=MANY)
    world, mpid = with_many_addresses(limited)
    assert world.identify(customerid="c", email=f"{MANY - 1}@x").trace.refused == []
    decision = world.identify(customerid="c", email="new@x")
    assert decision.mpid == mpid
    assert [refused.why for refused in decision.trace.refused] == ["max_values_per_profile"]


def test_values_can_be_unlinked_down_to_none_in_any_order_and_linked_again() -> None:
    for seed in range(8):
        world, mpid = with_many_addresses()
        addresses = [f"{n}@x" for n in range(MANY)]
        random.Random(seed).shuffle(addresses)
        for n, address in enumerate(addresses, 1):
            world.modify(mpid, ("email", address, None))
            assert world.state.profiles[mpid].count("email") == MANY - n
            assert world.search(email=address).error is not None
        assert world.held(mpid) == {"customerid": {"c"}}
        assert world.state.further == {}
        for address in addresses:
            world.identify(customerid="c", email=address)
        assert world.held(mpid)["email"] == set(addresses)


def test_a_room_that_an_unlinked_value_leaves_is_taken_by_the_next_one() -> None:
    world, mpid = with_many_addresses()
    world.modify(mpid, ("email", "0@x", "new@x"))
    profile = world.state.profiles[mpid]
    assert "new@x" in profile.held["email"]
    assert len(profile.held["email"]) == INLINE_VALUES
    assert profile.more == {"email": MANY - INLINE_VALUES}


def test_a_record_emptied_of_a_type_still_has_its_further_values() -> None:
    world, mpid = with_many_addresses()
    kept = list(world.state.profiles[mpid].held["email"])
    world.run(Request("modify", mpid=mpid, changes=tuple(IdentityChange("email", value) for value in kept)))
    assert world.state.profiles[mpid].held["email"] == {}
    assert world.state.profiles[mpid].count("email") == MANY - INLINE_VALUES
    assert world.identify(email=f"{MANY - 1}@x").mpid == mpid
    world.identify(customerid="c", email="new@x")
    assert world.held(mpid)["email"] == {f"{n}@x" for n in range(INLINE_VALUES, MANY)} | {"new@x"}


def test_a_profile_whose_login_values_are_all_further_ones_is_still_known() -> None:
    settings = PolicySettings(login=("email",), unique=(), immutable=(), max_values_per_profile=0)
    world = World(settings)
    mpid = world.login(email="0@x", ios_idfv="v").mpid or 0
    for n in range(1, MANY):
        world.modify(mpid, ("email", None, f"{n}@x"))
    for value in list(world.state.profiles[mpid].held["email"]):
        assert world.modify(mpid, ("email", value, None)).known
    assert world.identify(ios_idfv="v").mpid != mpid
    assert world.login(email=f"{MANY - 1}@x").mpid == mpid


# -- holders ----------------------------------------------------------------------------------------------------


def crowd(settings: PolicySettings, size: int) -> tuple[World, list[int]]:
    """Make profiles that share the device ``v``, each with an address of its own; return them, oldest first."""
    world = World(settings)
    for n in range(size):
        world.logout(ios_idfv="v")
        world.modify(world.decided[-1].mpid, ("other", None, f"o{n}"))
    return world, [mpid for _, mpid in reversed(world.state.holders["ios_idfv", "v"])]


def test_only_the_most_recently_linked_holders_take_part_in_a_walk() -> None:
    world, mpids = crowd(PolicySettings(priority=("ios_idfv", "other", "customerid")), HOLDERS_READ + 3)
    found = world.identify(ios_idfv="v")
    assert (found.mpid, found.trace.tie) == (mpids[-1], "latest")
    assert len(found.trace.steps[0].seen) == HOLDERS_READ
    assert world.identify(ios_idfv="v", other="o3").mpid == mpids[3]
    assert world.identify(ios_idfv="v", other="o2").mpid != mpids[2]
    assert world.resolve("identify", mpids[2], ios_idfv="v").trace.tie == "latest"
    assert world.resolve("identify", mpids[3], ios_idfv="v").mpid == mpids[3]


def test_an_older_holder_takes_part_again_when_newer_ones_let_go() -> None:
    world, mpids = crowd(PolicySettings(priority=("ios_idfv", "other", "customerid")), HOLDERS_READ + 1)
    assert world.resolve("identify", mpids[0], ios_idfv="v").mpid != mpids[0]
    world.modify(mpids[7], ("ios_idfv", "v", None))
    assert world.resolve("identify", mpids[0], ios_idfv="v").mpid == mpids[0]


def test_a_holder_that_a_walk_does_not_read_is_still_found_by_its_other_values_and_not_linked_twice() -> None:
    world, mpids = crowd(PolicySettings(priority=("other", "ios_idfv", "customerid")), HOLDERS_READ + 3)
    found = world.identify(other="o0", ios_idfv="v")
    assert (found.mpid, found.changes) == (mpids[0], [])
    assert set(found.matched) == {"other", "ios_idfv"}


def test_known_holders_beyond_those_that_a_walk_reads_are_not_counted() -> None:
    settings = PolicySettings(max_known_profiles_per_value=2)
    world, mpids = crowd(settings, 3)
    world.modify(mpids[0], ("customerid", None, "c0"))
    world.modify(mpids[1], ("customerid", None, "c1"))
    for _ in range(HOLDERS_READ - 2):
        world.logout(ios_idfv="v")
    assert world.login(customerid="c2", ios_idfv="v").trace.refused == []
    assert not world.state.guarded


def test_a_limit_above_what_a_walk_reads_is_never_reached() -> None:
    settings = PolicySettings(strategy="profile_isolation", max_known_profiles_per_value=HOLDERS_READ + 1)
    world = World(settings)
    for n in range(HOLDERS_READ + 5):
        world.login(customerid=f"c{n}", ios_idfv="v")
    assert not world.state.guarded


def test_a_limit_as_large_as_what_a_walk_reads_is_reached() -> None:
    settings = PolicySettings(strategy="profile_isolation", max_known_profiles_per_value=HOLDERS_READ)
    world = World(settings)
    for n in range(HOLDERS_READ + 1):
        assert not world.state.guarded
        world.login(customerid=f"c{n}", ios_idfv="v")
    assert world.state.guarded == {("ios_idfv", "v")}


def test_a_modify_does_not_depend_on_how_many_more_holders_its_view_happens_to_have() -> None:
    """A type may become unique after many profiles came to share a value of it; replay reads other groups."""
    policy = build(PolicySettings(unique=("customerid", "other")))
    prepared = prepare(policy, Request("modify", mpid=1, changes=(IdentityChange("other", None, "x"),)))
    decisions = []
    for count in (HOLDERS_READ, HOLDERS_READ + 1, HOLDERS_READ + 50):
        view = View()
        view.profiles[1] = Profile(1, 1)
        rows = [(at, at) for at in range(1000, 1000 - count, -1)]
        view.holders["other", "x"] = rows
        view.profiles |= {mpid: Profile(mpid, at, {"other": {"x": at}}) for at, mpid in rows}
        decisions.append(decide(prepared, view, 0, 2))
    assert decisions[0] == decisions[1] == decisions[2]
    assert len(decisions[0].changes) == HOLDERS_READ + 1
