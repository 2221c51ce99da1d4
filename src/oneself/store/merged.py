"""A profile as its aliases make it look: the timeline and the user with what their sources add (docs/alias.md).

Nothing of this is stored: an alias that is undone leaves no trace here.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from oneself.identity import AliasRow, only_device
from oneself.profiles import Attribution, Parts, WorkspaceProfile
from oneself.store.contract import KnownUser, Store
from oneself.store.reading import Activity, Touched

__all__ = ["Moment", "is_expired", "merged_user", "timeline"]

MERGED_SOURCES = 100
"""Of the sources of one profile, this many whose windows end first say when it was first seen."""

_PAGE = 100


class Moment(msgspec.Struct, frozen=True):
    """A batch on a timeline; ``alias`` is the one that it is seen through, None where it is the profile's own.

    Of a batch that is seen through an alias only the events that ``shows`` allows belong to the timeline.
    """

    activity: Activity
    alias: AliasRow | None = None

    def shows(self, at_ms: int) -> bool:
        """Tell whether an event of the batch that happened at a time (unix ms) belongs to the timeline."""
        return self.alias is None or self.alias.start_ms <= at_ms <= self.alias.end_ms


async def timeline(
    store: Store,
    mpid: int,
    workspace: str,
    *,
    before: tuple[int, int] | None = None,
    limit: int = 100,
    window: tuple[int, int] | None = None,
    device: str = "",
) -> list[Moment]:
    """Return the batches of a profile and of its sources in a workspace, latest first.

    ``before`` is the ``(at_ms, position)`` of the last one of the page before. A batch whose last event is beyond
    the end of an alias stands at that end. ``window`` (unix ms, both ends in it) and ``device`` are filters.
    """
    own = await store.activity(mpid, workspace, before=before, limit=limit, window=window, device=device)
    moments = [Moment(row) for row in own]
    after: tuple[int, int] | None = None
    while True:
        aliases = await store.sources(mpid, after=after, limit=_PAGE)
        for alias in aliases:
            if len(moments) >= limit and moments[limit - 1].activity.at_ms > alias.end_ms:
                return moments[:limit]  # the windows that follow end no later
            asked = _within(alias, before, window, device)
            if asked is None:
                continue
            start_ms, end_ms, only = asked
            rows = await store.activity(
                alias.source, workspace, before=before, limit=limit, window=(start_ms, end_ms), device=only
            )
            moments += [Moment(row, alias) for row in rows]
            moments.sort(key=_place, reverse=True)
            del moments[limit:]
        if len(aliases) < _PAGE:
            return moments[:limit]
        after = aliases[-1].end_ms, aliases[-1].position


def _place(moment: Moment) -> tuple[int, int]:
    return moment.activity.at_ms, moment.activity.position


def _within(
    alias: AliasRow, before: tuple[int, int] | None, window: tuple[int, int] | None, device: str
) -> tuple[int, int, str] | None:
    """Return the window and the device that an alias adds to what is asked for; None where it adds nothing."""
    start_ms, end_ms, only = alias.start_ms, alias.end_ms, only_device(alias)
    if window is not None:
        start_ms, end_ms = max(start_ms, window[0]), min(end_ms, window[1])
    if start_ms > end_ms or (before is not None and start_ms > before[0]):
        return None
    if only and device and only != device:
        return None
    return start_ms, end_ms, only or device


async def merged_user(
    store: Store, mpid: int, workspace: str, *, lifetime_ms: int = 0, now_ms: int = 0
) -> KnownUser | None:
    """Return what a workspace knows of a profile, with what its sources add; None where there is no such profile.

    First seen is the earliest of all, and an install attribution is taken over where the profile has none. What is
    older than ``lifetime_ms`` (0: for ever) at ``now_ms`` is left out, whether it has been removed already or not.
    """
    user = await store.user(mpid, workspace)
    if user is None:
        return None
    if is_expired(user.workspace, lifetime_ms, now_ms):
        user = msgspec.structs.replace(user, workspace=None)
    if user.person is None:
        return user
    aliases = await store.sources(mpid, limit=MERGED_SOURCES, oldest=True)
    if not aliases:
        return user
    found = await store.parts([Touched(alias.source, workspace, only_device(alias)) for alias in aliases])
    adding = [
        (alias, parts)
        for alias, parts in zip(aliases, found, strict=True)
        if not is_expired(parts.workspace, lifetime_ms, now_ms)
    ]
    return _merged(user, adding)


def _merged(user: KnownUser, adding: Sequence[tuple[AliasRow, Parts]]) -> KnownUser:
    person, known = user.person, user.workspace
    for alias, parts in adding:
        only = only_device(alias)
        seen = parts.device if only else parts.person
        if person is not None and seen is not None:
            person = msgspec.structs.replace(person, first_seen_ms=min(person.first_seen_ms, seen.first_seen_ms))
        here = parts.device if only else parts.workspace
        if known is not None and here is not None:
            known = msgspec.structs.replace(known, first_seen_ms=min(known.first_seen_ms, here.first_seen_ms))
    if known is not None and known.attribution is None:
        known = msgspec.structs.replace(known, attribution=_attribution(adding))
    return KnownUser(user.profile, person, known)


def _attribution(adding: Sequence[tuple[AliasRow, Parts]]) -> Attribution | None:
    """Return the latest install attribution of some sources."""
    rows = [parts.device if only_device(alias) else parts.workspace for alias, parts in adding]
    found = [row.attribution for row in rows if row is not None and row.attribution is not None]
    return max(found, key=lambda one: (one.at_ms, one.position), default=None)


def is_expired(known: WorkspaceProfile | None, lifetime_ms: int, now_ms: int) -> bool:
    """Tell whether a workspace has heard nothing of a profile for longer than ``lifetime_ms`` (0: for ever)."""
    return known is not None and lifetime_ms > 0 and known.stored_ms < now_ms - lifetime_ms
