"""Decisions in words for a report, with a digest in the place of each identity value unless they may be shown."""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import Any

import msgspec

from oneself.explain import explain
from oneself.identity import Decision, Policy, Request
from oneself.identity.values import normalise

__all__ = ["Words"]

_DIGEST_BYTES = 5


class Words:
    """Says decisions in words.

    A digest is the same for the same value in one report, and another in every other one: its key is forgotten.
    """

    def __init__(self, *, show_values: bool) -> None:
        self.show_values = show_values
        self._key = secrets.token_bytes(16)

    def tell(self, policy: Policy, request: Request, decision: Decision) -> list[str]:
        """Return a decision under a policy in words, one line a fact."""
        if not self.show_values:
            request, decision = self._hidden_request(policy, request), self._hidden_decision(policy, decision)
        return explain(request, decision)

    def _digest(self, policy: Policy, type_: str, value: str | None) -> str | None:
        """Return what stands for a value: equal for values that the policy takes to be equal."""
        if value is None:
            return None
        plain = normalise(type_, value, policy.phone_region).encode("utf-8", "surrogatepass")
        return "#" + blake2b(type_.encode() + b"\0" + plain, digest_size=_DIGEST_BYTES, key=self._key).hexdigest()

    def _hidden_request(self, policy: Policy, request: Request) -> Request:
        identities = {type_: self._digest(policy, type_, value) for type_, value in request.identities.items()}
        changes = tuple(
            msgspec.structs.replace(
                change,
                old_value=self._digest(policy, change.identity_type, change.old_value),
                new_value=self._digest(policy, change.identity_type, change.new_value),
            )
            for change in request.changes
        )
        return msgspec.structs.replace(request, identities=identities, changes=changes)

    def _hidden_decision(self, policy: Policy, decision: Decision) -> Decision:
        def hidden(part: Any) -> Any:
            if not hasattr(part, "value"):
                return part
            return msgspec.structs.replace(part, value=self._digest(policy, part.type, part.value))

        trace = msgspec.structs.replace(
            decision.trace,
            dropped=[hidden(dropped) for dropped in decision.trace.dropped],
            refused=[hidden(refused) for refused in decision.trace.refused],
        )
        changes = [hidden(change) for change in decision.changes]
        return msgspec.structs.replace(decision, trace=trace, changes=changes)
