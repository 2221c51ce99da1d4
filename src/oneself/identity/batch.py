"""Batches: which profile the data of one belongs to, and whether it may make one (docs/profiles.md)."""

from __future__ import annotations

from oneself.identity.model import Create, Decision, Refusal, Request, Trace, View
from oneself.identity.policy import Policy
from oneself.identity.resolve import resolve
from oneself.identity.usable import Usable

__all__ = ["decide_batch"]


def decide_batch(policy: Policy, request: Request, usable: Usable, view: View, fresh_mpid: int) -> Decision:
    """Decide whose data a batch has.

    An MPID that is given wins over identities, which then change nothing. An input that may only read finds
    nobody; one that may only update gets no answer (``user_unknown``) where a profile would have to be made.
    """
    if request.protection == "only_read":
        return Decision(Trace("only_read"))
    mpid = request.mpid
    if mpid is not None:
        profile = view.profiles.get(mpid)
        if profile is not None:
            return Decision(Trace("mpid_given"), mpid, not policy.login.isdisjoint(profile.held))
        if request.protection == "only_update":
            return Decision(Trace("user_unknown"))
        return Decision(Trace("refused"), error=Refusal(400, "UNKNOWN_MPID", f"mpid: no user has the MPID {mpid}."))
    decision = resolve(policy, "identify", usable, None, view, fresh_mpid)
    if decision.error is not None:
        message = decision.error.message.replace("known_identities has", "user_identities and device_info have", 1)
        return Decision(decision.trace, error=Refusal(decision.error.status, decision.error.code, message))
    if request.protection == "only_update" and any(isinstance(change, Create) for change in decision.changes):
        trace = decision.trace
        return Decision(Trace("user_unknown", trace.steps, trace.tie, trace.among, trace.dropped))
    return decision
