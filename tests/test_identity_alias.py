"""Alias: which requests are accepted, and the window and due time of those that are."""

from __future__ import annotations

import pytest

from identity_world import NOW_MS, World
from oneself.identity import Decision, PolicySettings
from oneself.identity.model import Alias
from oneself.identity.policy import Strategy

DAY_MS = 86_400_000


def pair(settings: PolicySettings | None = None) -> tuple[World, int, int]:
    """Make an anonymous and a known profile."""
    world = World(settings)
    visitor, user = world.identify(ios_idfv="v").mpid, world.login(customerid="c").mpid
    assert visitor is not None
    assert user is not None
    return world, visitor, user


def refusal(decision: Decision) -> tuple[int, str]:
    """Return status and code of a refused request."""
    assert decision.error is not None
    assert not decision.changes
    return decision.error.status, decision.error.code


@pytest.mark.parametrize("strategy", ["default", "profile_conversion", "profile_link"])
def test_an_alias_links_the_longest_window_up_to_now_and_is_due_a_day_later(strategy: Strategy) -> None:
    world, source, destination = pair(PolicySettings(strategy=strategy))
    decision = world.alias(source, destination)
    assert (decision.mpid, decision.trace.why) == (destination, "alias_accepted")
    assert decision.changes == [Alias(source, destination, NOW_MS - 90 * DAY_MS, NOW_MS, NOW_MS + DAY_MS)]


def test_delay_and_longest_window_are_settings() -> None:
    world, source, destination = pair(PolicySettings(alias_delay=0, alias_window="7d"))
    decision = world.alias(source, destination)
    assert decision.changes == [Alias(source, destination, NOW_MS - 7 * DAY_MS, NOW_MS, NOW_MS)]


def test_a_window_of_the_request_is_kept() -> None:
    world, source, destination = pair()
    decision = world.alias(source, destination, NOW_MS - 500, NOW_MS - 100)
    assert decision.changes == [Alias(source, destination, NOW_MS - 500, NOW_MS - 100, NOW_MS + DAY_MS)]
    assert world.alias(source, destination, NOW_MS, NOW_MS).error is None


def test_a_start_before_the_longest_window_is_moved_up_to_it() -> None:
    world, source, destination = pair()
    decision = world.alias(source, destination, 0, NOW_MS)
    assert decision.changes == [Alias(source, destination, NOW_MS - 90 * DAY_MS, NOW_MS, NOW_MS + DAY_MS)]


def test_an_end_in_the_future_is_moved_back_to_now() -> None:
    world, source, destination = pair()
    decision = world.alias(source, destination, NOW_MS - 500, NOW_MS + 10 * DAY_MS)
    assert decision.changes == [Alias(source, destination, NOW_MS - 500, NOW_MS, NOW_MS + DAY_MS)]
    assert refusal(world.alias(source, destination, NOW_MS + 1, NOW_MS + 2)) == (400, "INVALID_DATA")


def test_an_alias_changes_no_identity() -> None:
    world, source, destination = pair()
    world.alias(source, destination)
    assert world.held(source) == {"ios_idfv": {"v"}}
    assert world.held(destination) == {"customerid": {"c"}}


@pytest.mark.parametrize("strategy", ["profile_isolation", "best_match"])
def test_strategies_that_keep_users_apart_take_no_alias(strategy: Strategy) -> None:
    world, source, destination = pair(PolicySettings(strategy=strategy))
    assert refusal(world.alias(source, destination)) == (403, "ALIAS_NOT_ALLOWED")


def test_impossible_aliases_are_refused() -> None:
    world, source, destination = pair()
    for asked in (
        (source, source, None, None),
        (source, destination, NOW_MS, NOW_MS - 1),
        (source, destination, NOW_MS + 1, None),
        (source, destination, None, NOW_MS - 91 * DAY_MS),
        (source, destination, 0, NOW_MS - 91 * DAY_MS),
        (source, 999, None, None),
        (999, destination, None, None),
    ):
        assert refusal(world.alias(*asked)) == (400, "INVALID_DATA")
