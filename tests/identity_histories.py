"""Random policies and random histories of requests, for properties of the identity core."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import reject
from hypothesis import strategies as st

from identity_world import NOW_MS
from oneself.identity import (
    PRESETS,
    AliasRequest,
    IdentityChange,
    Kind,
    Policy,
    PolicyError,
    PolicySettings,
    Request,
    build,
)
from oneself.identity.policy import Strategy

POOL: dict[str, tuple[str, ...]] = {
    "customerid": ("c1", "c2", "c3", "null"),
    "email": ("a@x.org", " A@X.org", "b@x.org", "undefined"),
    "other": ("o1", "O1", "o2", "sentinel"),
    "mobile_number": ("+1 650 253 0000", "+16502530000", "650 253 0001", "0"),
    "ios_idfv": ("F8BD2B1A-0B4C-4C1A-9D5E-0A1B2C3D4E5F", "f8bd2b1a-0b4c-4c1a-9d5e-0a1b2c3d4e5f", "v2", ""),
    "device_application_stamp": ("d1", "d2", "d3", "00000000-0000-0000-0000-000000000000"),
    "push_token": ("p1", "p2", "p3", "x" * 257),
}
"""Of each type few values, so that histories collide, and one that is junk (``sentinel`` by policy)."""

KINDS: tuple[Kind, ...] = ("identify", "login", "logout", "search")
STRATEGIES: tuple[Strategy, ...] = (
    "default",
    "profile_conversion",
    "profile_link",
    "profile_isolation",
    "best_match",
)
TIMES = (None, NOW_MS - 100 * 86_400_000, NOW_MS - 5, NOW_MS, NOW_MS + 5)
USUAL = ("customerid", "mobile_number", "email", "other", "ios_idfv", "device_application_stamp")


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Every preset, with or without overrides; few values and profiles are enough for the guards."""
    strategy: Strategy = draw(st.sampled_from(STRATEGIES))
    priority = draw(st.just(USUAL) | st.permutations(sorted(POOL)).flatmap(_beginnings))
    given_login: tuple[str, ...] | None = None
    given_unique: tuple[str, ...] | None = None
    immutable: tuple[str, ...] | None = None
    preset = PRESETS[strategy].login
    if strategy != "best_match" and (draw(st.booleans()) or not set(preset) <= set(priority)):
        given_login = draw(_some(priority))
    if draw(st.booleans()) or (given_login is None and not set(preset) <= set(priority)):
        given_unique = draw(_some(priority))
    login = preset if given_login is None else given_login
    unique = login if given_unique is None else given_unique
    if draw(st.booleans()):
        immutable = draw(_some([type_ for type_ in priority if type_ in login and type_ in unique]))
    try:
        return build(
            PolicySettings(
                strategy=strategy,
                priority=tuple(priority),
                login=given_login,
                unique=given_unique,
                immutable=immutable,
                on_new_known=draw(st.none() | st.sampled_from(("convert", "create"))),
                on_logout=draw(st.none() | st.sampled_from(("create", "return_anonymous", "none"))),
                search_immutable_only=draw(st.booleans()) and bool(immutable),
                junk_also=("sentinel",),
                max_known_profiles_per_value=draw(st.sampled_from((20, 0, 1, 2, 1, 2))),
                max_values_per_profile=draw(st.sampled_from((100, 0, 1, 2, 3))),
                phone_region=draw(st.sampled_from((None, "US"))),
            )
        )
    except PolicyError:
        reject()


def _beginnings(types: list[str]) -> st.SearchStrategy[list[str]]:
    return st.integers(1, len(types)).map(lambda length: types[:length])


def _some(types: list[str] | tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    if not types:
        return st.just(())
    return st.lists(st.sampled_from(sorted(types)), unique=True, max_size=3).map(tuple)


class History(NamedTuple):
    """A policy, the types that its requests use, and the requests, each as the bytes that choose it."""

    policy: Policy
    types: tuple[str, ...]
    codes: list[bytes]


CODE = st.binary(min_size=12, max_size=12)
"""Bytes enough to choose a request by; choosing in plain code is much faster than a strategy for each part."""


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Requests that use few types and few values, so that their profiles collide."""
    policy = draw(policies())
    some = draw(st.lists(st.sampled_from((*policy.priority, "push_token")), unique=True, max_size=3))
    types = tuple(sorted({*some, *policy.login})) or policy.priority
    codes = draw(st.lists(CODE, min_size=1, max_size=8) | st.lists(CODE, min_size=12, max_size=30))
    return History(policy, types, codes)


class Code:
    """The choices that a string of bytes makes; zero is always the plainest."""

    def __init__(self, code: bytes) -> None:
        self.rest = list(code)

    def below(self, limit: int) -> int:
        return self.rest.pop(0) % limit if self.rest else 0

    def value(self, type_: str) -> str | None:
        """Choose a value, each two in seven, or one of junk and none at all."""
        at = self.below(7)
        return (*POOL[type_][:3], *POOL[type_][:3], POOL[type_][3] if self.below(2) else None)[at]

    def identities(self, types: tuple[str, ...]) -> dict[str, str | None]:
        chosen = self.below(1 << len(types)) or 1
        return {type_: self.value(type_) for bit, type_ in enumerate(types) if chosen >> bit & 1}

    def mpid(self, mpids: list[int]) -> int:
        """Choose a profile, latest first, or rarely none that there is."""
        at = self.below(16)
        return mpids[-1 - at % len(mpids)] if mpids and at < 15 else 999


def request_of(code: bytes, types: tuple[str, ...], mpids: list[int]) -> Request:
    """Return the request that a string of bytes stands for where there are such profiles."""
    choose = Code(code)
    kind = choose.below(20)
    if kind < 14:
        previous = None if choose.below(3) else choose.mpid(mpids)
        return Request(KINDS[kind % 4], choose.identities(types), previous)
    if kind < 18:
        mpid = choose.mpid(mpids)
        changed = [types[choose.below(len(types))] for _ in range(choose.below(4))]
        changes = [IdentityChange(type_, choose.value(type_), choose.value(type_)) for type_ in changed]
        return Request("modify", mpid=mpid, changes=tuple(changes))
    if kind == 18:
        return Request("release", choose.identities(types))
    source, destination = choose.mpid(mpids), choose.mpid(mpids)
    start, end = TIMES[choose.below(5)], TIMES[choose.below(5)]
    return Request("alias", alias=AliasRequest(source, destination, start, end))
