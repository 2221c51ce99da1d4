"""Random histories of calls: few values, so that they collide; a few that gather many, so that records overflow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from oneself.engine import Call, Engine, Outcome
from oneself.identity import AliasRequest, IdentityChange, PolicySettings, Request

SCOPES = {
    "acme": PolicySettings(
        "profile_conversion", max_known_profiles_per_value=3, max_values_per_profile=0, alias_delay=0
    ),
    "solo": PolicySettings("profile_isolation", max_values_per_profile=11),
}
"""Two scopes of different rules; in one, the guards are reached soon."""

SPACES = ("acme/production", "acme/production", "acme/development", "solo/production")
INPUTS = ("shop/web", "shop/server", "solo/app")
TYPES = ("customerid", "email", "other", "device_application_stamp", "push_token", "mobile_number")


def mpid_of(number: int) -> int:
    """Return the MPID that the n-th new profile gets; they jump about, also below 0."""
    return (number * 7919 % 10_007 + 1) * (-1 if number % 2 else 1)


def counted() -> Callable[[], int]:
    """Return a source of MPIDs that gives ``mpid_of(1)``, ``mpid_of(2)`` and so on."""
    count = 0

    def following() -> int:
        nonlocal count
        count += 1
        return mpid_of(count)

    return following


def value(dice: random.Random, type_: str) -> str:
    """Return a value of a type."""
    if type_ == "other":
        return f"o{dice.randrange(30)}"
    return f"{type_[:2]}{dice.randrange(6)}" if dice.random() < 0.95 else "null"


def identities(dice: random.Random) -> dict[str, str | None]:
    """Return the identities of a request."""
    return {type_: value(dice, type_) for type_ in TYPES if dice.random() < 0.4}


def changes(dice: random.Random) -> tuple[IdentityChange, ...]:
    """Return the changes of a modify request, which often touch a value more than once."""
    few: list[str | None] = [None, "o1", "o2", *(f"o{dice.randrange(30)}" for _ in range(3))]
    listed = []
    for type_ in dice.choices(("other", "email", "customerid", "push_token"), (6, 2, 1, 1), k=dice.randrange(1, 6)):
        if type_ == "other":
            old, new = dice.sample(few, 2)
        else:
            old, new = (
                dice.choice((None, value(dice, type_))),
                dice.choice((None, value(dice, type_), value(dice, type_))),
            )
        if old is not None or new is not None:
            listed.append(IdentityChange(type_, old, new))
    return tuple(listed) or (IdentityChange("other", None, "o3"),)


def request(dice: random.Random, mpids: Sequence[int]) -> Request:
    """Return a request of any kind; ``mpids`` are those it may name, the first of them more often than others."""
    kind = dice.choices(
        ("identify", "login", "logout", "search", "modify", "release", "alias"), (24, 20, 10, 4, 30, 8, 4)
    )[0]

    def named() -> int:
        return dice.choice(mpids[:2] if dice.random() < 0.5 else mpids)

    if kind == "modify":
        return Request("modify", mpid=named(), changes=changes(dice))
    if kind == "alias":
        return Request("alias", alias=AliasRequest(named(), named()))
    previous = named() if dice.random() < 0.2 else None
    return Request(kind, identities(dice), previous)  # type: ignore[arg-type]


async def in_bursts(engine: Engine, dice: random.Random, calls: Sequence[Call]) -> list[Outcome | BaseException]:
    """Submit calls in a few bursts, so that groups are decided while others are on their way to the disk."""
    answers = []
    for asked in calls:
        answers.append(engine.submit(asked))
        if dice.random() < 0.3:
            for _ in range(dice.randrange(1, 8)):
                await asyncio.sleep(0)
    return await asyncio.gather(*answers, return_exceptions=True)


class Caller:
    """Makes random calls; ``learn`` tells it the MPIDs that it may name in later ones."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self._mpids: dict[str, list[int]] = {space: [404] for space in SPACES}

    def call(self) -> Call:
        """Return a call, one in ten read-only; most have a request id, and a few an id that was used before."""
        dice = self.dice
        id_ = "" if dice.random() < 0.2 else f"r{dice.randrange(60 if dice.random() < 0.1 else 1 << 40)}"
        space = dice.choice(SPACES)
        asked = request(dice, self._mpids[space])
        return Call(space, dice.choice(INPUTS), asked, id_, read_only=dice.random() < 0.1)

    def learn(self, asked: Call, mpid: int | None) -> None:
        """Remember whom a call was answered with."""
        known = self._mpids[asked.space]
        if mpid is not None and mpid not in known:
            known.insert(-1, mpid)
