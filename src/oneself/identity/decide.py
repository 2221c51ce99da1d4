"""The door of the core: what a request must see, and the decision on it."""

from __future__ import annotations

from typing import cast

import msgspec

from oneself.identity.alias import accept_alias, process_alias, undo_alias
from oneself.identity.batch import decide_batch
from oneself.identity.model import Change, Decision, Identity, Refusal, Release, Request, Trace, View
from oneself.identity.modify import modify, touched
from oneself.identity.policy import Policy
from oneself.identity.resolve import resolve
from oneself.identity.upkeep import UPKEEP, decide_upkeep
from oneself.identity.usable import Usable, count_values

__all__ = ["Prepared", "decide", "prepare"]


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A request with its values normalised, and the parts of the state that the decision on it must see.

    ``aliases`` are positions of accepted aliases, ``stored`` MPIDs that may expire.
    """

    policy: Policy
    request: Request
    usable: Usable
    identities: list[Identity]
    mpids: tuple[int, ...] = ()
    aliases: tuple[int, ...] = ()
    stored: tuple[int, ...] = ()


def prepare(policy: Policy, request: Request) -> Prepared:
    """Normalise a request's values and name the identities and MPIDs that its decision must see."""
    kind = request.kind
    if kind == "modify":
        return Prepared(policy, request, Usable(), touched(policy, request.changes), (cast(int, request.mpid),))
    if kind == "alias":
        assert request.alias is not None
        return Prepared(policy, request, Usable(), [], (request.alias.source, request.alias.destination))
    if kind == "batch" and (request.mpid is not None or request.protection == "only_read"):
        return Prepared(policy, request, Usable(), [], () if request.mpid is None else (request.mpid,))
    if kind in ("alias_process", "alias_undo"):
        return Prepared(policy, request, Usable(), [], aliases=(request.position,))
    if kind == "undo" or kind == "split":
        mpids = () if request.mpid is None else (request.mpid,)
        return Prepared(policy, request, Usable(), [], mpids)
    if kind in UPKEEP:
        stored = request.upkeep.mpids if request.upkeep is not None else ()
        return Prepared(policy, request, Usable(), [], stored=stored)
    usable = count_values(policy, request.identities)
    return Prepared(policy, request, usable, usable.all())


def decide(prepared: Prepared, view: View, now_ms: int, fresh_mpid: int) -> Decision:
    """Decide a prepared request over a view that has all it named.

    ``now_ms`` is unix ms; ``fresh_mpid`` names the profile that is made if one must be. The same arguments
    always give the same decision; nothing is changed, and nothing raised: refusals are decisions too.
    """
    policy, request = prepared.policy, prepared.request
    kind = request.kind
    if kind == "modify":
        return modify(policy, prepared.mpids[0], request.changes, view)
    if kind == "alias":
        assert request.alias is not None
        return accept_alias(policy, request.alias, view, now_ms)
    if kind == "release":
        return _release(prepared, view)
    if kind == "batch":
        return decide_batch(policy, request, prepared.usable, view, fresh_mpid)
    if kind == "alias_process":
        return process_alias(request.position, view, now_ms)
    if kind == "alias_undo":
        return undo_alias(request.position, view)
    if kind == "retention" or kind == "expiry" or kind == "forget" or kind == "discard":
        return decide_upkeep(request, view)
    if kind == "undo" or kind == "split":
        message = "What undoes or splits is decided by a plan, made over all that it touches."
        return Decision(Trace("refused"), error=Refusal(400, "BAD_REQUEST", message))
    return resolve(policy, kind, prepared.usable, request.previous_mpid, view, fresh_mpid)


def _release(prepared: Prepared, view: View) -> Decision:
    changes: list[Change] = [Release(*i) for i in prepared.identities if i in view.guarded]
    if not changes:
        return Decision(Trace("refused"), error=Refusal(404, "NOT_FOUND_ERROR", "No such value is guarded."))
    return Decision(Trace("released"), changes=changes)
