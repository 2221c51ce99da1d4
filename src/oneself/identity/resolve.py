"""Resolving identify, login, logout and search requests: the walk and the link (docs/identity.md)."""

from __future__ import annotations

from collections.abc import Mapping

from oneself.identity.model import (
    HOLDERS_READ,
    Create,
    Decision,
    Dropped,
    Guard,
    Identity,
    Kind,
    Link,
    Profile,
    Refusal,
    Refused,
    Seen,
    Step,
    Trace,
    Unlink,
    View,
)
from oneself.identity.names import IDENTITY_TYPES
from oneself.identity.policy import Policy
from oneself.identity.values import MAX_VALUE_LENGTH, normalise

__all__ = ["Usable", "count_values", "is_over_shared", "resolve"]

_NO_RANK = len(IDENTITY_TYPES)


class Usable:
    """The identities of a request that count, and those that do not.

    ``walk`` are the look-ups in priority order, ``login`` and ``immutable`` those of them of such a type,
    ``carried`` the values that a profile may hold but that find nobody.
    """

    __slots__ = ("carried", "dropped", "immutable", "login", "walk")

    def __init__(self) -> None:
        self.walk: list[Identity] = []
        self.login: list[Identity] = []
        self.immutable: list[Identity] = []
        self.carried: list[Identity] = []
        self.dropped: list[Dropped] = []

    def all(self) -> list[Identity]:
        """Return every identity that counts, look-ups first."""
        return [*self.walk, *self.carried] if self.carried else self.walk


def count_values(policy: Policy, identities: Mapping[str, str | None]) -> Usable:
    """Normalise a request's identities, drop junk and sort the rest by priority (docs/identity.md, "Values").

    ``identities`` maps identity types to values as sent; None counts as not sent.
    """
    usable = Usable()
    found: list[tuple[int, Identity]] = []
    rank, junk, region = policy.rank, policy.junk, policy.phone_region
    for type_, sent in identities.items():
        if sent is None:
            continue
        value = normalise(type_, sent, region)
        if len(value) > MAX_VALUE_LENGTH:
            usable.dropped.append(Dropped(type_, value[:MAX_VALUE_LENGTH], "too_long"))
            continue
        plain = value.strip().lower()
        if plain in junk:
            usable.dropped.append(Dropped(type_, value, "junk" if plain else "empty"))
            continue
        found.append((rank.get(type_, _NO_RANK), (type_, value)))
    found.sort()
    for place, identity in found:
        if place == _NO_RANK:
            usable.carried.append(identity)
            continue
        usable.walk.append(identity)
        if identity[0] in policy.login:
            usable.login.append(identity)
            if identity[0] in policy.immutable:
                usable.immutable.append(identity)
    return usable


def resolve(
    policy: Policy, kind: Kind, usable: Usable, previous_mpid: int | None, view: View, fresh_mpid: int
) -> Decision:
    """Decide which profile a request belongs to, and what it changes.

    ``fresh_mpid`` names the profile that is made if one must be. A search never creates or links; it answers
    with an error where nobody is found. Raises nothing: refusals are decisions with an ``error``.
    """
    if not usable.walk and not usable.carried:
        message = "known_identities has no usable value"
        if usable.dropped:
            listed = ", ".join(f"{d.type} ({d.why.replace('_', ' ')})" for d in usable.dropped)
            message += f"; these do not count: {listed}"
        return Decision(Trace("refused", dropped=usable.dropped), error=Refusal(400, "LOOKUP_ERROR", message + "."))
    guarded = False
    if view.guarded:
        usable, guarded = _without_guarded(policy, usable, view)
    trace = Trace("matched", dropped=usable.dropped)
    if kind == "search":
        return _search(policy, usable, previous_mpid, view, trace)
    deciding: Identity | None = None
    answer: Profile | None = None
    if kind == "logout" and policy.on_logout == "create" and not usable.login:
        trace.why = "logout_created"
    else:
        answer, deciding = _walk(policy, usable, usable.walk, previous_mpid, view, trace, guards=True)
        if answer is None:
            trace.why = "guarded_created" if guarded and not usable.walk else "new"
    if usable.login and (answer is None or not _known(policy, answer)):
        answer = _new_known(policy, usable, answer, view, trace)
    if answer is None:
        created = Profile(fresh_mpid, 0)
        decision = Decision(trace, fresh_mpid, changes=[Create(fresh_mpid)])
        _link(policy, usable, created, None, view, decision)
        return decision
    decision = Decision(trace, answer.mpid)
    _link(policy, usable, answer, deciding, view, decision)
    return decision


def _without_guarded(policy: Policy, usable: Usable, view: View) -> tuple[Usable, bool]:
    """Treat guarded values as absent; tell whether there were any (docs/identity.md, "Guards")."""
    if not any(identity in view.guarded for identity in usable.all()):
        return usable, False
    left = Usable()
    left.dropped = list(usable.dropped)
    for identity in usable.walk:
        if identity in view.guarded:
            left.dropped.append(Dropped(*identity, "guarded"))
        else:
            left.walk.append(identity)
    left.login = [identity for identity in left.walk if identity[0] in policy.login]
    left.immutable = [identity for identity in left.walk if identity[0] in policy.immutable]
    left.carried = usable.carried
    return left, True


def _known(policy: Policy, profile: Profile) -> bool:
    return not policy.login.isdisjoint(profile.held)


def _search(policy: Policy, usable: Usable, previous_mpid: int | None, view: View, trace: Trace) -> Decision:
    walk = usable.immutable if policy.search_immutable_only else usable.walk
    answer, _ = _walk(policy, usable, walk, previous_mpid, view, trace, guards=False)
    if answer is None:
        trace.why = "not_found"
        return Decision(trace, error=Refusal(404, "NOT_FOUND_ERROR", "No user has these identities."))
    matched = [type_ for type_, value in usable.all() if view.holds(answer, type_, value)]
    return Decision(trace, answer.mpid, _known(policy, answer), matched)


def _walk(
    policy: Policy,
    usable: Usable,
    walk: list[Identity],
    previous_mpid: int | None,
    view: View,
    trace: Trace,
    *,
    guards: bool,
) -> tuple[Profile | None, Identity | None]:
    """Go through the priority; return the answer and the identity that decided (docs/identity.md, "Walk").

    ``guards`` is off for a search, to which the login and immutable guards do not apply.
    """
    left: list[tuple[int, int]] = []  # (position, mpid) of the candidates, in the deciding value's order
    deciding: Identity | None = None
    verdicts: dict[int, tuple[str, int, str]] = {}
    profiles = view.profiles
    for identity in walk:
        type_ = identity[0]
        taken: list[tuple[int, int]] = []
        seen: list[Seen] = []
        place = policy.rank[type_]
        among = {mpid for _, mpid in left}
        for row in view.holders[identity][:HOLDERS_READ]:
            mpid = row[1]
            verdict = verdicts.get(mpid)
            if verdict is None:
                verdict = verdicts[mpid] = _judge(policy, usable, profiles[mpid], view, guards)
            passed, contradicted_at, contradicted_by = verdict
            if not passed and contradicted_at < place:
                passed = contradicted_by
            elif not passed:
                if not left or mpid in among:
                    taken.append(row)
                else:
                    passed = "outside"
            seen.append(Seen(mpid, passed))
        if not taken:
            trace.steps.append(Step(type_, "none", seen))
        elif not left:
            left, deciding = taken, identity
            trace.steps.append(Step(type_, "found", seen))
        elif len(taken) < len(left):
            left, deciding = taken, identity
            trace.steps.append(Step(type_, "narrowed", seen))
        else:
            trace.steps.append(Step(type_, "unchanged", seen))
        if len(left) == 1:
            break
    if not left:
        return None, None
    if len(left) == 1:
        return profiles[left[0][1]], deciding
    trace.among = [mpid for _, mpid in left]
    if previous_mpid is not None and previous_mpid in trace.among:
        trace.tie = "previous_mpid"
        return profiles[previous_mpid], deciding
    newest = max(position for position, _ in left)
    latest = [mpid for position, mpid in left if position == newest]
    trace.tie = "latest" if len(latest) == 1 else "lowest"
    return profiles[min(latest)], deciding


def _judge(policy: Policy, usable: Usable, profile: Profile, view: View, guards: bool) -> tuple[str, int, str]:
    """Say why a profile is not eligible, and from which place in the priority on it is contradicted."""
    held = profile.held
    passed = ""
    if guards:
        if not policy.login.isdisjoint(held) and not any(view.holds(profile, *i) for i in usable.login):
            passed = "login"
        elif not policy.immutable.isdisjoint(held) and not any(view.holds(profile, *i) for i in usable.immutable):
            passed = "immutable"
    for type_, value in usable.login:  # in priority order, so the first contradiction stands highest
        if type_ in held and not view.holds(profile, type_, value):
            return passed, policy.rank[type_], f"contradicted:{type_}"
    return passed, _NO_RANK, ""


def _new_known(policy: Policy, usable: Usable, answer: Profile | None, view: View, trace: Trace) -> Profile | None:
    """Apply ``on_new_known`` where nobody is known through the request (docs/identity.md, "New known user").

    Under ``create`` an anonymous profile never gains a login identity, so any login identity that could be
    linked makes the new profile, not only one that no profile holds.
    """
    if policy.on_new_known == "create":
        free = any(i[0] not in policy.unique or not view.holders[i] for i in usable.login)
    else:
        free = any(not view.holders[i] for i in usable.login)
    if not free:
        return answer
    if answer is None or policy.on_new_known == "create":
        trace.why = "new_known_created"
        return None
    trace.why = "new_known_converted"
    return answer


def _link(
    policy: Policy, usable: Usable, answer: Profile, deciding: Identity | None, view: View, decision: Decision
) -> None:
    """Link the request's identities to the answer, refusing what must be (docs/identity.md, "Link").

    ``deciding`` is the identity that found the answer; None where it is a new profile.
    """
    changes, refused, matched = decision.changes, decision.trace.refused, decision.matched
    mpid, held = answer.mpid, answer.held
    was_known = not policy.login.isdisjoint(held)
    known = decision.known = was_known or any(
        not _refusal(policy, answer, i, view) and not is_over_shared(policy, i, mpid, view) for i in usable.login
    )
    for identity in usable.all():
        type_, value = identity
        if type_ in held and view.holds(answer, type_, value):
            matched.append(type_)
            if known and not was_known and is_over_shared(policy, identity, mpid, view):
                changes.append(Guard(type_, value, "max_known_profiles_per_value"))
            continue
        refusal = _refusal(policy, answer, identity, view)
        if refusal:
            refused.append(refusal)
            if refusal.why == "max_values_per_profile" and deciding is not None:
                guard = Guard(*deciding, "max_values_per_profile")
                if guard not in changes:
                    changes.append(guard)
        elif (known or type_ in policy.login) and is_over_shared(policy, identity, mpid, view):
            refused.append(Refused(type_, value, "max_known_profiles_per_value"))
            changes.append(Guard(type_, value, "max_known_profiles_per_value"))
        else:
            if type_ in policy.unique and type_ in held:
                changes += [Unlink(mpid, type_, old, "replaced") for old in held[type_]]
            changes.append(Link(mpid, type_, value))


def _refusal(policy: Policy, answer: Profile, identity: Identity, view: View) -> Refused | None:
    """Say why an identity that the answer does not hold may not be linked to it, whoever else is known by it."""
    type_, value = identity
    if type_ in policy.immutable and type_ in answer.held:
        return Refused(type_, value, "immutable", answer.mpid)
    if type_ in policy.unique:
        holders = view.holders[identity]
        return Refused(type_, value, "unique", holders[0][1]) if holders else None
    if 0 < policy.max_values_per_profile <= answer.count(type_):
        return Refused(type_, value, "max_values_per_profile", answer.mpid)
    return None


def is_over_shared(policy: Policy, identity: Identity, mpid: int, view: View) -> bool:
    """Tell whether a known profile would be one too many to share a value (docs/identity.md, "Guards").

    Only the holders that a walk reads are counted, so a limit above ``HOLDERS_READ`` is never reached.
    """
    limit = policy.max_known_profiles_per_value
    type_ = identity[0]
    if not limit or type_ in policy.unique or type_ not in policy.rank:
        return False
    holders = view.holders[identity][:HOLDERS_READ]
    if len(holders) < limit:
        return False
    login, profiles = policy.login, view.profiles
    others = sum(1 for _, other in holders if other != mpid and not login.isdisjoint(profiles[other].held))
    return others >= limit
