"""A copy that was not finished must never pass for a whole store: its version says so (docs/copy.md)."""

from __future__ import annotations

__all__ = ["is_unfinished", "unfinished_copy"]


def is_unfinished(version: int) -> bool:
    """Tell whether the version of a schema, one below 0, is that of a store that is being copied into."""
    return version < 0


def unfinished_copy(where: str) -> str:
    """Say that a place holds a part of a copy, and how to go on."""
    return (
        f"{where} holds a copy that was not finished. Make it anew with `oneself copy --restart` and the same --from "
        "and --to; nothing of it can be used before."
    )
