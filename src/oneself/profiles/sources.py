"""How strong a source is (docs/profiles.md, "Who may write what")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

FEEDS: Final = frozenset({"server", "partner_feed", "custom_feed", "csv"})
"""The kinds of input that are not platforms."""

DEFAULT_ORDER: Final = ("platform", "server", "partner_feed", "custom_feed", "csv")
"""From the strongest to the weakest; ``platform`` stands for every kind that is no feed."""


def is_platform(kind: str) -> bool:
    """Tell whether an input of a kind is an app or a web page, which writes attributes by change events."""
    return kind not in FEEDS


def rank_of(kind: str, order: Sequence[str] = DEFAULT_ORDER) -> int:
    """Return the rank of a kind of input, 0 the strongest.

    An order may name a platform's kind by itself; others count as ``platform``. What the order leaves out is
    weaker than all that it names.
    """
    if kind in order:
        return order.index(kind)
    if is_platform(kind) and "platform" in order:
        return order.index("platform")
    return len(order)
