"""Linking: what of a request becomes the answer's, and what is refused."""

from __future__ import annotations

from identity_world import World
from oneself.identity import PolicySettings
from oneself.identity.model import Link, Refused, Unlink

TWO_LOGINS = PolicySettings(strategy="profile_link", priority=("customerid", "email", "other", "ios_idfv"))


def test_all_of_the_request_is_linked_to_the_answer() -> None:
    world = World()
    user = world.login(customerid="c")
    found = world.identify(customerid="c", email="a@x", ios_idfv="v", push_token="p")
    mpid = user.mpid or 0
    assert found.changes == [Link(mpid, "email", "a@x"), Link(mpid, "ios_idfv", "v"), Link(mpid, "push_token", "p")]
    assert found.matched == ["customerid"]
    assert world.held(mpid) == {"customerid": {"c"}, "email": {"a@x"}, "ios_idfv": {"v"}, "push_token": {"p"}}


def test_what_the_answer_holds_already_is_matched_and_not_linked_again() -> None:
    world = World()
    world.login(customerid="c", ios_idfv="v")
    again = world.login(customerid="c", ios_idfv="v")
    assert set(again.matched) == {"customerid", "ios_idfv"}
    assert not again.changes


def test_a_unique_value_that_another_profile_holds_stays_there() -> None:
    world = World(TWO_LOGINS)
    first = world.login(customerid="c1", email="a@x")
    second = world.login(customerid="c2")
    found = world.login(customerid="c2", email="a@x")
    assert found.mpid == second.mpid
    assert found.trace.refused == [Refused("email", "a@x", "unique", first.mpid or 0)]
    assert not found.changes
    assert "email" not in world.held(second.mpid)


def test_a_new_profile_does_not_take_a_unique_value_either() -> None:
    world = World(TWO_LOGINS)
    first = world.login(customerid="c1", email="a@x")
    second = world.login(customerid="c2", email="a@x")
    assert world.held(second.mpid) == {"customerid": {"c2"}}
    assert world.held(first.mpid) == {"customerid": {"c1"}, "email": {"a@x"}}


def test_a_unique_type_holds_one_value_and_a_newer_one_replaces_it() -> None:
    world = World(TWO_LOGINS)
    user = world.login(customerid="c", email="old@x")
    mpid = user.mpid or 0
    found = world.login(customerid="c", email="new@x")
    assert found.changes == [Unlink(mpid, "email", "old@x", "replaced"), Link(mpid, "email", "new@x")]
    assert world.held(mpid)["email"] == {"new@x"}
    assert world.search(email="old@x").error is not None
    assert world.login(email="old@x").mpid != mpid


def test_a_type_that_is_not_unique_may_hold_several_values() -> None:
    world = World()
    user = world.login(customerid="c", email="a@x")
    world.login(customerid="c", email="b@x")
    assert world.held(user.mpid)["email"] == {"a@x", "b@x"}


def test_one_value_of_such_a_type_may_stand_on_several_profiles() -> None:
    world = World()
    first, second = world.login(customerid="c1", email="a@x"), world.login(customerid="c2", email="a@x")
    assert first.mpid != second.mpid
    assert {mpid for _, mpid in world.state.holders["email", "a@x"]} == {first.mpid, second.mpid}


def test_an_immutable_type_keeps_its_value_and_the_trace_says_so() -> None:
    settings = PolicySettings(
        priority=("email", "customerid", "other"),
        login=("email", "customerid"),
        unique=("email", "customerid"),
        immutable=("email", "customerid"),
    )
    world = World(settings)
    user = world.login(customerid="c1", email="a@x")
    found = world.login(customerid="c2", email="a@x", other="o")
    assert found.mpid == user.mpid
    assert found.trace.refused == [Refused("customerid", "c2", "immutable", user.mpid or 0)]
    assert world.held(user.mpid) == {"customerid": {"c1"}, "email": {"a@x"}, "other": {"o"}}


def test_every_refusal_leaves_the_rest_to_be_linked() -> None:
    world = World(TWO_LOGINS)
    world.login(customerid="c0", email="taken@x")
    user = world.login(customerid="c", email="taken@x", other="o", ios_idfv="v")
    assert world.held(user.mpid) == {"customerid": {"c"}, "other": {"o"}, "ios_idfv": {"v"}}
    assert [refused.type for refused in user.trace.refused] == ["email"]


def test_a_profile_that_gains_a_login_identity_is_known_from_that_answer_on() -> None:
    world = World(PolicySettings(strategy="profile_conversion"))
    assert not world.identify(ios_idfv="v").known
    assert world.login(customerid="c", ios_idfv="v").known
    assert world.search(customerid="c").known
