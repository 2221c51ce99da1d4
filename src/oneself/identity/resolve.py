"""Resolving identify, login, logout and search requests: the walk and the link (docs/identity.md)."""

from __future__ import annotations

from oneself.identity.model import (
    HOLDERS_READ,
    Create,
    Decision,
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
from oneself.identity.policy import Policy
from oneself.identity.usable import NO_RANK, Usable, without_guarded

__all__ = ["is_over_shared", "resolve"]


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
        usable, guarded = without_guarded(usable, view)
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
    for identity in walk:
        type_ = identity[0]
        place = policy.rank[type_]
        taken: list[tuple[int, int]] = []
        seen: list[Seen] = []
        among = {mpid for _, mpid in left} if left else None
        rows = view.holders[identity]
        for row in rows if len(rows) <= HOLDERS_READ else rows[:HOLDERS_READ]:
            mpid = row[1]
            verdict = verdicts.get(mpid)
            if verdict is None:
                verdict = verdicts[mpid] = _judge(policy, usable, view.profiles[mpid], view, guards)
            passed, contradicted_at, contradicted_by = verdict
            if not passed:
                if contradicted_at < place:
                    passed = contradicted_by
                elif among is None or mpid in among:
                    taken.append(row)
                else:
                    passed = "outside"
            seen.append(Seen(mpid, passed))
        if not taken:
            trace.steps.append(Step(type_, "none", seen))
        elif left and len(taken) == len(left):
            trace.steps.append(Step(type_, "unchanged", seen))
        else:
            trace.steps.append(Step(type_, "narrowed" if left else "found", seen))
            left, deciding = taken, identity
            if len(left) == 1:
                break
    if not left:
        return None, None
    mpid = left[0][1] if len(left) == 1 else _break_tie(left, previous_mpid, trace)
    return view.profiles[mpid], deciding


def _break_tie(left: list[tuple[int, int]], previous_mpid: int | None, trace: Trace) -> int:
    """Choose among candidates, given as ``(position, mpid)`` on the deciding value (docs/identity.md, "Tie")."""
    trace.among = [mpid for _, mpid in left]
    if previous_mpid is not None and previous_mpid in trace.among:
        trace.tie = "previous_mpid"
        return previous_mpid
    newest = max(left)[0]
    latest = [mpid for position, mpid in left if position == newest]
    trace.tie = "latest" if len(latest) == 1 else "lowest"
    return min(latest)


def _judge(policy: Policy, usable: Usable, profile: Profile, view: View, guards: bool) -> tuple[str, int, str]:
    """Say why a profile is not eligible, and from which place in the priority on it is contradicted."""
    held = profile.held
    matched: list[str] = []
    contradicted_at, contradicted_by = NO_RANK, ""
    for type_, value in usable.login:  # in priority order, so the first contradiction stands highest
        if type_ in held:
            if view.holds(profile, type_, value):
                matched.append(type_)
            elif not contradicted_by:
                contradicted_at, contradicted_by = policy.rank[type_], f"contradicted:{type_}"
    passed = ""
    if guards:
        if not matched and not policy.login.isdisjoint(held):
            passed = "login"
        elif policy.immutable.isdisjoint(matched) and not policy.immutable.isdisjoint(held):
            passed = "immutable"
    return passed, contradicted_at, contradicted_by


def _new_known(policy: Policy, usable: Usable, answer: Profile | None, view: View, trace: Trace) -> Profile | None:
    """Apply ``on_new_known`` where nobody is known through the request (docs/identity.md, "New known user").

    Under ``create`` an anonymous profile never gains a login identity, so any login identity that could be
    linked makes the new profile, not only one that no profile holds.
    """
    for identity in usable.login:
        free = not view.holders[identity]
        if free or (policy.on_new_known == "create" and identity[0] not in policy.unique):
            break
    else:
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
    changes, refused = decision.changes, decision.trace.refused
    mpid, held = answer.mpid, answer.held
    was_known = not policy.login.isdisjoint(held)
    known = decision.known = was_known or _gains_login(policy, usable, answer, view)
    for identity in usable.all():
        type_, value = identity
        if type_ in held and view.holds(answer, type_, value):
            decision.matched.append(type_)
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
            if type_ in held and type_ in policy.unique:
                changes += [Unlink(mpid, type_, old, "replaced") for old in held[type_]]
            changes.append(Link(mpid, type_, value))


def _gains_login(policy: Policy, usable: Usable, answer: Profile, view: View) -> bool:
    """Tell whether a login identity of the request will be linked to an anonymous profile."""
    for identity in usable.login:
        if not _refusal(policy, answer, identity, view) and not is_over_shared(policy, identity, answer.mpid, view):
            return True
    return False


def _refusal(policy: Policy, answer: Profile, identity: Identity, view: View) -> Refused | None:
    """Say why an identity that the answer does not hold may not be linked to it, whoever else is known by it."""
    type_, value = identity
    if type_ in policy.immutable and type_ in answer.held:
        return Refused(type_, value, "immutable", answer.mpid)
    if type_ in policy.unique:
        holders = view.holders[identity]
        return Refused(type_, value, "unique", holders[0][1]) if holders else None
    if type_ in answer.held and 0 < policy.max_values_per_profile <= answer.count(type_):
        return Refused(type_, value, "max_values_per_profile", answer.mpid)
    return None


def is_over_shared(policy: Policy, identity: Identity, mpid: int, view: View) -> bool:
    """Tell whether a known profile would be one too many to share a value (docs/identity.md, "Guards").

    Only the holders that a walk reads are counted, so a limit above ``HOLDERS_READ`` is never reached.
    """
    limit = policy.max_known_profiles_per_value
    holders = view.holders[identity]
    if len(holders) < limit or not limit:  # nearly always
        return False
    if identity[0] in policy.unique or identity[0] not in policy.rank:
        return False
    login, profiles = policy.login, view.profiles
    counted = holders[:HOLDERS_READ]
    others = sum(1 for _, other in counted if other != mpid and not login.isdisjoint(profiles[other].held))
    return others >= limit
