"""A decision on what was, made ready beside the path of answers (docs/undo.md)."""

from __future__ import annotations

import msgspec

from oneself.identity import AliasOutcome, Decision, Mentioned, Profile
from oneself.store.revising import Rewritten

__all__ = ["Plan"]


class Plan(msgspec.Struct, frozen=True):
    """The decision of an undo or a split, and the rows that it makes anew.

    It was made over what was durable through ``position``, with the ``profiles`` as they were then, None for those
    that there were not: it holds as long as no later decision has to do with what it is ``about``.
    """

    position: int
    decision: Decision
    about: Mentioned
    profiles: dict[int, Profile | None]
    rows: Rewritten = Rewritten()

    @property
    def aliases(self) -> list[int]:
        """The positions of the aliases that become something else."""
        return [change.position for change in self.decision.changes if isinstance(change, AliasOutcome)]
