"""What a decision sees of the state as a pattern: over the same pattern it comes out the same (docs/whatif.md).

The rules ask of the profiles that hold a request's identities which ones hold which, in what order, and which types
each of them holds; hardly ever for a value, a number of values, or a position. So whatever the policy is, most
requests are alike but for the names, and one of them is decided for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import msgspec

from oneself.history.world import LARGE, World
from oneself.identity import INLINE_VALUES, Create, Decision, Link, Policy, Profile, Request, View, decide, prepare
from oneself.identity.names import PHONE_TYPES
from oneself.identity.values import normalise, why_dropped

__all__ = ["Match", "Outcome", "Pattern", "Patterns", "decide_pattern"]

_KINDS: Final = frozenset({"identify", "login", "logout", "batch"})
"""The kinds of request that have patterns: those that name users by identities."""

_MOST_PROFILES: Final = 4
"""A request whose identities more profiles hold has no pattern: hardly any other one would have the same."""

_MOST_PATTERNS: Final = 100_000
_ANOTHER: Final = 0
_END: Final = None
_ELSE: Final = ""
"""Stands for the values of a type that are none of the request's; no value that counts is empty."""


class Pattern(msgspec.Struct, frozen=True, array_like=True):
    """Who holds the identities of a request, as far as decisions look at it.

    ``holders`` has, for each identity in the order in which they were sent, its holders, the most recently linked
    first, by their places among all the holders. ``types`` has the bits of the types that each of these holds.
    """

    holders: tuple[tuple[int, ...], ...]
    types: tuple[int, ...]


class Outcome(NamedTuple):
    """What comes of every request with a pattern.

    ``answer`` is the place of the profile among those of the pattern, -1 for a new one; ``links`` are the places of
    the identities, among those of the request, that are linked to it; ``refused`` says why others are not.
    """

    answer: int
    known: bool
    links: tuple[int, ...]
    refused: tuple[str, ...]
    pattern: Pattern


Match = tuple[Outcome, list[int], list[int]]
"""What comes of a request, and the numbers of the profiles in its pattern and of its identities."""


class Patterns:
    """The patterns of requests over a world, under a policy.

    They are the paths of a tree, from the kind of a request to what comes of it: for each identity its type, which
    leads to the identities of that type as well, then its holders, each ``_ANOTHER`` or the inverted place of one
    that was there before; and at last the types that each profile holds. ``found`` counts those that were decided.
    """

    def __init__(self, policy: Policy, world: World) -> None:
        self._policy = policy
        self._world = world
        self._tree: dict[str, dict[Any, Any]] = {}
        self.found = 0
        # Only a profile with as many values as a type may have at the most could have as many of one type.
        self._most_held = policy.max_values_per_profile or 1 << 62
        self._counted = LARGE if self._most_held >= INLINE_VALUES else 0

    def match(self, request: Request) -> Match | None:
        """Return what comes of a request that has a pattern; None where it must be decided by itself."""
        world, links = self._world, self._world.links
        newest, profile_of, older, guarded = links.newest, links.profile, links.older, world.guarded
        profiles: list[int] = []
        identities: list[int] = []
        try:
            node = self._tree[request.kind]
            for type_, sent in request.identities.items():
                of_type, node = node[type_]
                identity = of_type.get(sent) or self._number(type_, sent)
                if not identity or (guarded and (type_, links.value_of[identity]) in guarded):
                    return None
                identities.append(identity)
                link = newest[identity]
                while link:
                    profile = profile_of[link]
                    if profile in profiles:
                        node = node[~profiles.index(profile)]
                    else:
                        node = node[_ANOTHER]
                        profiles.append(profile)
                    link = older[link]
            for profile in profiles:
                types = links.types[profile]
                if types >= self._counted and links.count[profile] >= self._most_held:
                    return None
                node = node[types]
            outcome = node[_END]
        except KeyError:
            return self._learn(request)
        if outcome is None or (request.kind == "batch" and not _is_by_identities(request)):
            return None
        return outcome, profiles, identities

    def _number(self, type_: str, sent: str | None) -> int:
        """Return the number of an identity as it was sent, 0 where it does not count."""
        if sent is None:
            return 0
        value = normalise(type_, sent, self._policy.phone_region)
        if why_dropped(value, sent, self._policy.junk):
            return 0
        links = self._world.links
        return links.number(links.place(type_), value)

    def _learn(self, request: Request) -> Match | None:
        """Decide a request for all that have its pattern, if it has one."""
        if request.kind not in _KINDS or not request.identities or not _is_by_identities(request):
            return None
        links, guarded = self._world.links, self._world.guarded
        profiles: list[int] = []
        identities: list[int] = []
        holders: list[tuple[int, ...]] = []
        for type_, sent in request.identities.items():
            identity = self._number(type_, sent)
            if not identity or (type_, links.value_of[identity]) in guarded:
                return None
            identities.append(identity)
            places = []
            for link in links.holders(identity):
                profile = links.profile[link]
                if profile not in profiles:
                    if len(profiles) == _MOST_PROFILES:
                        return None
                    profiles.append(profile)
                places.append(profiles.index(profile))
            holders.append(tuple(places))
        if any(links.count[profile] >= self._most_held for profile in profiles):
            return None
        pattern = Pattern(tuple(holders), tuple(links.types[profile] for profile in profiles))
        mpids = [links.numbers.mpids[profile] for profile in profiles]
        decision = decide_pattern(self._policy, request, pattern, mpids, links.names, 0)
        outcome = _outcome(self._policy, request, decision, pattern, mpids)
        self._put(request, pattern, outcome)
        return None if outcome is None else (outcome, profiles, identities)

    def _put(self, request: Request, pattern: Pattern, outcome: Outcome | None) -> None:
        """Put a pattern in the tree."""
        self.found += 1
        if self.found % _MOST_PATTERNS == 0:
            self._tree.clear()
        links = self._world.links
        node = self._tree.setdefault(request.kind, {})
        seen = 0
        for type_, places in zip(request.identities, pattern.holders, strict=True):
            # It is not certain of telephone numbers that one in its usual form has that very form.
            of_type = {} if type_ in PHONE_TYPES else links.of_type[links.place(type_)]
            node = node.setdefault(type_, (of_type, {}))[1]
            for place in places:
                node = node.setdefault(_ANOTHER if place == seen else ~place, {})
                seen += place == seen
        for types in pattern.types:
            node = node.setdefault(types, {})
        node[_END] = outcome


def decide_pattern(
    policy: Policy, request: Request, pattern: Pattern, mpids: Sequence[int], types: Sequence[str], fresh: int
) -> Decision:
    """Decide a request over nothing but its pattern, the MPIDs of the profiles in it, and the types by their places.

    It comes out as over the whole state, unless that breaks a tie or replaces a value.
    """
    view = View()
    held: list[dict[str, dict[str, int]]] = [
        {type_: {} for place, type_ in enumerate(types) if bits >> place & 1} for bits in pattern.types
    ]
    for identity, holders in zip(_identities(policy, request), pattern.holders, strict=True):
        view.holders[identity] = [(-place, mpids[holder]) for place, holder in enumerate(holders)]
        for holder in holders:
            held[holder][identity[0]][identity[1]] = 0
    for mpid, values in zip(mpids, held, strict=True):
        for of_type in values.values():
            if not of_type:
                of_type[_ELSE] = 0
        view.profiles[mpid] = Profile(mpid, 0, values)
    return decide(prepare(policy, request), view, 0, fresh)


def _outcome(
    policy: Policy, request: Request, decision: Decision, pattern: Pattern, mpids: Sequence[int]
) -> Outcome | None:
    """Return what a decision comes to for every request with its pattern; None where it does not hold for all."""
    trace, changes = decision.trace, decision.changes
    if decision.mpid is None or trace.tie or trace.dropped:
        return None
    identities = _identities(policy, request)
    is_new = bool(changes) and type(changes[0]) is Create
    links = changes[1:] if is_new else changes
    if any(type(change) is not Link for change in links):
        return None
    return Outcome(
        -1 if is_new else mpids.index(decision.mpid),
        decision.known,
        tuple(identities.index((link.type, link.value)) for link in cast(list[Link], links)),
        tuple(refused.why for refused in trace.refused),
        pattern,
    )


def _identities(policy: Policy, request: Request) -> list[tuple[str, str]]:
    """Return the identities of a request, as they are compared, in the order in which they were sent."""
    return [
        (type_, normalise(type_, cast(str, sent), policy.phone_region)) for type_, sent in request.identities.items()
    ]


def _is_by_identities(request: Request) -> bool:
    """Tell whether a request finds its user by identities alone, as any but some batches do."""
    return request.mpid is None and request.protection == "create_and_update"
