"""New known users and logout: what tells the strategies apart."""

from __future__ import annotations

from typing import Literal

import pytest

from identity_world import World
from oneself.identity import PolicySettings
from oneself.identity.policy import Strategy

LOGIN_STRATEGIES: tuple[Strategy, ...] = ("default", "profile_conversion", "profile_link", "profile_isolation")


@pytest.mark.parametrize("strategy", ["default", "profile_conversion"])
def test_convert_gives_the_anonymous_profile_the_login_identity(strategy: Strategy) -> None:
    world = World(PolicySettings(strategy=strategy))
    visitor = world.identify(ios_idfv="v")
    user = world.login(customerid="c", ios_idfv="v")
    assert (user.mpid, user.known, user.trace.why) == (visitor.mpid, True, "new_known_converted")
    assert world.held(user.mpid) == {"customerid": {"c"}, "ios_idfv": {"v"}}


@pytest.mark.parametrize("strategy", ["profile_link", "profile_isolation"])
def test_create_makes_a_new_profile_whatever_anonymous_profile_was_found(strategy: Strategy) -> None:
    world = World(PolicySettings(strategy=strategy))
    visitor = world.identify(ios_idfv="v")
    user = world.login(customerid="c", email="a@x", ios_idfv="v")
    assert (user.mpid != visitor.mpid, user.known, user.trace.why) == (True, True, "new_known_created")
    assert world.held(user.mpid) == {"customerid": {"c"}, "email": {"a@x"}, "ios_idfv": {"v"}}
    assert world.held(visitor.mpid) == {"ios_idfv": {"v"}}


@pytest.mark.parametrize("strategy", LOGIN_STRATEGIES)
def test_a_returning_user_is_found_on_any_device_and_the_device_is_added(strategy: Strategy) -> None:
    world = World(PolicySettings(strategy=strategy))
    user = world.login(customerid="c", ios_idfv="v")
    visitor = world.identify(roku_aid="r")
    again = world.login(customerid="c", roku_aid="r")
    assert (again.mpid, again.trace.why, again.matched) == (user.mpid, "matched", ["customerid"])
    assert world.held(user.mpid)["roku_aid"] == {"r"}
    assert world.held(visitor.mpid) == {"roku_aid": {"r"}}


@pytest.mark.parametrize("strategy", LOGIN_STRATEGIES)
@pytest.mark.parametrize("kind", ["identify", "login", "logout"])
def test_a_login_identity_acts_the_same_in_every_kind_of_request(strategy: Strategy, kind: str) -> None:
    world = World(PolicySettings(strategy=strategy))
    visitor = world.identify(ios_idfv="v")
    user = world.resolve(kind, customerid="c", ios_idfv="v")  # type: ignore[arg-type]
    assert (user.mpid == visitor.mpid) == (world.policy.on_new_known == "convert")
    assert world.resolve(kind, customerid="c", ios_idfv="v").mpid == user.mpid  # type: ignore[arg-type]


def test_with_no_candidate_at_all_a_new_profile_takes_every_identity() -> None:
    for strategy in LOGIN_STRATEGIES:
        world = World(PolicySettings(strategy=strategy))
        visitor = world.identify(ios_idfv="v", push_token="p")
        assert (visitor.known, visitor.trace.why, visitor.matched) == (False, "new", [])
        assert world.held(visitor.mpid) == {"ios_idfv": {"v"}, "push_token": {"p"}}
        user = world.login(customerid="c")
        assert (user.known, user.trace.why, user.matched) == (True, "new_known_created", [])


def test_under_convert_a_second_user_of_a_device_does_not_get_the_first_users_profile() -> None:
    world = World(PolicySettings(strategy="profile_conversion"))
    first = world.login(customerid="c1", ios_idfv="v")
    second = world.login(customerid="c2", ios_idfv="v")
    assert second.mpid != first.mpid
    assert world.held(second.mpid) == {"customerid": {"c2"}, "ios_idfv": {"v"}}
    assert world.held(first.mpid) == {"customerid": {"c1"}, "ios_idfv": {"v"}}


@pytest.mark.parametrize("on_new_known", ["convert", "create"])
def test_a_shared_login_identity_makes_a_new_user_under_create_and_a_known_one_of_the_visitor_under_convert(
    on_new_known: Literal["convert", "create"],
) -> None:
    settings = PolicySettings(login=("customerid", "email"), unique=("customerid",), on_new_known=on_new_known)
    world = World(settings)
    world.login(customerid="c", email="family@x")
    visitor = world.identify(ios_idfv="v")
    user = world.login(email="family@x", ios_idfv="v")  # customerid protects the other holder of the address
    assert user.known
    assert world.held(user.mpid) == {"email": {"family@x"}, "ios_idfv": {"v"}}
    assert (user.mpid == visitor.mpid) is (on_new_known == "convert")
    assert user.trace.why == {"convert": "matched", "create": "new_known_created"}[on_new_known]


def test_a_login_identity_that_only_could_be_refused_makes_no_new_user() -> None:
    settings = PolicySettings(login=("customerid", "email"), on_new_known="create")
    world = World(settings)
    world.login(customerid="c", email="a@x")
    visitor = world.identify(ios_idfv="v")
    again = world.identify(email="a@x", ios_idfv="v")  # customerid protects the holder of the address
    assert (again.mpid, again.known) == (visitor.mpid, False)
    assert [refused.why for refused in again.trace.refused] == ["unique"]


# -- logout -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["default", "profile_conversion", "profile_link"])
def test_logout_always_makes_a_new_anonymous_profile(strategy: Strategy) -> None:
    world = World(PolicySettings(strategy=strategy))
    visitor = world.identify(ios_idfv="v")
    user = world.login(customerid="c", ios_idfv="v")
    outs = [world.logout(ios_idfv="v") for _ in range(2)]
    assert len({visitor.mpid, user.mpid, *(out.mpid for out in outs)}) == 3 + (visitor.mpid != user.mpid)
    for out in outs:
        assert (out.known, out.trace.why) == (False, "logout_created")
        assert world.held(out.mpid) == {"ios_idfv": {"v"}}


def test_isolation_returns_to_the_anonymous_profile_of_the_device() -> None:
    world = World(PolicySettings(strategy="profile_isolation"))
    visitor = world.identify(ios_idfv="v")
    world.login(customerid="c", ios_idfv="v")
    out = world.logout(ios_idfv="v")
    assert (out.mpid, out.known) == (visitor.mpid, False)
    assert world.logout(ios_idfv="v").mpid == visitor.mpid


def test_isolation_makes_an_anonymous_profile_where_there_is_none_to_return_to() -> None:
    world = World(PolicySettings(strategy="profile_isolation"))
    user = world.login(customerid="c", ios_idfv="v")
    out = world.logout(ios_idfv="v")
    assert (out.mpid != user.mpid, out.known) == (True, False)
    assert world.logout(ios_idfv="v").mpid == out.mpid


@pytest.mark.parametrize("strategy", LOGIN_STRATEGIES)
def test_logout_to_a_user_that_the_request_names_is_as_identify(strategy: Strategy) -> None:
    world = World(PolicySettings(strategy=strategy))
    user = world.login(customerid="c1", ios_idfv="v")
    world.login(customerid="c2", ios_idfv="v")
    assert world.logout(customerid="c1", ios_idfv="v").mpid == user.mpid


def test_a_junk_login_identity_does_not_turn_a_logout_into_an_identify() -> None:
    world = World(PolicySettings(strategy="default"))
    visitor = world.identify(ios_idfv="v")
    out = world.logout(customerid="null", ios_idfv="v")
    assert (out.mpid != visitor.mpid, out.trace.why) == (True, "logout_created")


def test_best_match_has_neither_login_nor_logout_nor_known_users() -> None:
    world = World(PolicySettings(strategy="best_match"))
    first = world.identify(customerid="c", ios_idfv="v")
    assert world.login(customerid="c").mpid == first.mpid
    assert world.logout(ios_idfv="v").mpid == first.mpid
    assert not first.known
    assert world.identify(customerid="c2", ios_idfv="v").mpid == first.mpid
    assert world.held(first.mpid)["customerid"] == {"c", "c2"}


def test_the_worked_example_of_isolation() -> None:
    world = World(
        PolicySettings(strategy="profile_isolation", priority=("customerid", "email", "ios_idfv", "roku_aid"))
    )
    one = world.identify(ios_idfv="9876").mpid
    two = world.login(customerid="ABC123", email="ed.hyde@example.com", ios_idfv="9876").mpid
    assert world.logout(ios_idfv="9876").mpid == one
    three = world.identify(email="h.jekyll.md@example.com").mpid
    assert world.login(customerid="ABC123", email="ed.hyde@example.com", ios_idfv="9876").mpid == two
    world.modify(two, ("email", "ed.hyde@example.com", "h.jekyll.md@example.com"))
    four = world.identify(roku_aid="8765").mpid
    assert world.login(customerid="ABC123", email="h.jekyll.md@example.com", roku_aid="8765").mpid == two
    assert len({one, two, three, four}) == 4
    assert world.held(one) == {"ios_idfv": {"9876"}}
    assert world.held(two) == {
        "customerid": {"ABC123"},
        "email": {"h.jekyll.md@example.com"},
        "ios_idfv": {"9876"},
        "roku_aid": {"8765"},
    }
    assert world.held(three) == {}
    assert world.held(four) == {"roku_aid": {"8765"}}
