"""Aliases as the admin API shows them (docs/admin-api.md, "Aliases")."""

from __future__ import annotations

from typing import Literal

import msgspec

from oneself.identity import AliasRow, AliasState

__all__ = ["AliasView", "NoteView", "alias_view", "note_view"]


class AliasView(msgspec.Struct, frozen=True):
    """An alias: what the source did in a window (unix ms, both ends in it) is to be seen in the destination.

    ``position`` is that of the request and names it; ``device`` is the only one that counts where ``scope`` is
    ``device``. ``why`` says what it was dropped for; ``processed`` is the position of its latest outcome.
    """

    position: int
    source: str
    destination: str
    start_ms: int
    end_ms: int
    due_ms: int
    scope: str
    device: str
    outcome: AliasState
    why: str
    processed: int | None


class NoteView(msgspec.Struct, frozen=True):
    """A status note of a user: aliased to another, or merged from another, by an alias."""

    note: Literal["aliased_to", "merged_from"]
    mpid: str
    alias: AliasView


def alias_view(alias: AliasRow) -> AliasView:
    """Return an alias."""
    return AliasView(
        position=alias.position,
        source=str(alias.source),
        destination=str(alias.destination),
        start_ms=alias.start_ms,
        end_ms=alias.end_ms,
        due_ms=alias.due_ms,
        scope=alias.scope,
        device=alias.device,
        outcome=alias.outcome,
        why=alias.why,
        processed=alias.processed or None,
    )


def note_view(mpid: int, alias: AliasRow) -> NoteView:
    """Return what an alias says of one of its users."""
    if alias.source == mpid:
        return NoteView("aliased_to", str(alias.destination), alias_view(alias))
    return NoteView("merged_from", str(alias.source), alias_view(alias))
