"""The identities of a request that count: normalised, no junk, sorted by priority (docs/identity.md, "Values")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from oneself.identity.model import Dropped, Identity, View
from oneself.identity.names import IDENTITY_TYPES
from oneself.identity.policy import Policy
from oneself.identity.values import MAX_VALUE_LENGTH, NORMALISERS, why_dropped

__all__ = ["NO_RANK", "Usable", "count_values", "without_guarded"]

NO_RANK: Final = len(IDENTITY_TYPES)
"""Stands after every place in a priority."""


class Usable(msgspec.Struct, gc=False):
    """The identities of a request that count, and those that do not.

    ``walk`` are the look-ups in priority order, ``login`` and ``immutable`` those of them of such a type,
    ``carried`` the values that a profile may hold but that find nobody.
    """

    walk: list[Identity] = []
    login: list[Identity] = []
    immutable: list[Identity] = []
    carried: list[Identity] = []
    dropped: list[Dropped] = []

    def all(self) -> list[Identity]:
        """Return every identity that counts, look-ups first."""
        return [*self.walk, *self.carried] if self.carried else self.walk


def count_values(policy: Policy, identities: Mapping[str, str | None]) -> Usable:
    """Normalise a request's identities, drop junk and sort the rest by priority.

    ``identities`` maps identity types to values as sent; None counts as not sent.
    """
    walk: list[Identity] = []
    login: list[Identity] = []
    immutable: list[Identity] = []
    carried: list[Identity] = []
    dropped: list[Dropped] = []
    found: list[tuple[int, Identity]] = []
    rank, junk, region, login_types = policy.rank, policy.junk, policy.phone_region, policy.login
    for type_, sent in identities.items():
        if sent is None:
            continue
        normaliser = NORMALISERS.get(type_)
        value = sent if normaliser is None else normaliser(sent, region)
        why = why_dropped(value, sent, junk)
        if why:
            dropped.append(Dropped(type_, value[:MAX_VALUE_LENGTH], why))
        else:
            found.append((rank.get(type_, NO_RANK), (type_, value)))
    if len(found) > 1:
        found.sort()
    for place, identity in found:
        if place == NO_RANK:
            carried.append(identity)
            continue
        walk.append(identity)
        if identity[0] in login_types:
            login.append(identity)
            if identity[0] in policy.immutable:
                immutable.append(identity)
    return Usable(walk, login, immutable, carried, dropped)


def without_guarded(usable: Usable, view: View) -> tuple[Usable, bool]:
    """Treat guarded look-ups as absent; tell whether there were any (docs/identity.md, "Guards")."""
    guarded = [identity for identity in usable.walk if identity in view.guarded]
    if not guarded:
        return usable, False
    walk, login, immutable = (
        [identity for identity in part if identity not in guarded]
        for part in (usable.walk, usable.login, usable.immutable)
    )
    dropped = [*usable.dropped, *(Dropped(*identity, "guarded") for identity in guarded)]
    return Usable(walk, login, immutable, usable.carried, dropped), True
