"""The report of guards: what was held off, what is shared by many, and what to do (docs/guards.md)."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from heapq import nlargest
from typing import Final

import msgspec

from oneself.history.guards.heavy import Counting, Heavy
from oneself.history.guards.notes import Deciding, Notes, Place, deciding_value
from oneself.history.guards.report import (
    CrowdedProfile,
    DecidingValue,
    GuardedValue,
    GuardsSeen,
    HeldOff,
    Quarantine,
    SharedValue,
    TypeCount,
    ValueCount,
)
from oneself.history.recorded import Span, newest_policies, policies_of
from oneself.history.why.told import entries_of
from oneself.identity import HOLDERS_READ, INLINE_VALUES, Policy, PolicySettings
from oneself.store import PARTS, Store, StoredProfile, Wanted
from oneself.store.keys import holder_key

__all__ = ["NEAR", "guards_seen", "scan_steps"]

NEAR: Final = 0.8
"""What comes to this part of a limit is near it."""

_USUAL: Final = PolicySettings()
_VALUES: Final = 500
_PROFILES: Final = 50
_DECISIONS: Final = 1_000
_SHOWN: Final = 5
_REASONS: Final = 200
_ROWS: Final = 1_000
_BATCH: Final = b'"kind":"batch"'

_WEIGHT: Final = 20
"""A part of the tables takes about as long as so many entries of the journal."""

Progress = Callable[[int], None]


def scan_steps(span: Span) -> int:
    """Return how many steps a report takes."""
    return span.last - span.first + 1 + PARTS * _WEIGHT


class _Limits:
    """The limits of a scope, and what is near them; where a guard is off, the usual limit is what is looked at."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.known = policy.max_known_profiles_per_value or _USUAL.max_known_profiles_per_value
        self.values = policy.max_values_per_profile or _USUAL.max_values_per_profile
        self.near_known = max(2, round(self.known * NEAR))
        self.near_values = max(2, round(self.values * NEAR))


async def guards_seen(
    store: Store,
    span: Span,
    scopes: Collection[str] = (),
    *,
    top: int = 10,
    progress: Progress = lambda _: None,
) -> GuardsSeen:
    """Look through a store's tables and a span of its journal, of some scopes or of all.

    The memory that it takes depends on neither. The store is only read.
    """
    report = _Report(store, span, await newest_policies(store), set(scopes), top)
    notes = Notes(await policies_of(store))
    workspaces = await report.read_journal(notes, progress)
    values, profiles = await report.scan(progress)
    guarded, guarded_total = await report.guarded(notes)
    return GuardsSeen(
        first=span.first,
        last=span.last,
        guarded=guarded,
        guarded_total=guarded_total,
        shared=await report.shared(values),
        deciding=await report.deciding(notes),
        profiles=await report.profiles(profiles),
        held_off=report.held_off(notes),
        quarantine=await report.quarantine(workspaces),
    )


class _Report:
    """A report in the making."""

    def __init__(self, store: Store, span: Span, policies: Mapping[str, Policy], scopes: set[str], top: int) -> None:
        self.store = store
        self.span = span
        self.top = top
        self.limits = {scope: _Limits(of) for scope, of in policies.items() if not scopes or scope in scopes}

    def limits_of(self, space: str) -> _Limits | None:
        """Return the limits of a space, None where it is not looked at."""
        return self.limits.get(space.rpartition("/")[0])

    async def read_journal(self, notes: Notes, progress: Progress) -> set[str]:
        """Note what the journal says; return the workspaces whose batches it has."""
        workspaces: set[str] = set()
        first, last = self.span.first, self.span.last
        marks = [f'"space":"{scope}/'.encode() for scope in self.limits]
        async for rows in self.store.bodies(first - 1):
            for position, body in rows:
                if position > last:
                    break
                if any(mark in body for mark in marks):
                    notes.take(position, body)
                    if _BATCH in body:
                        workspaces.add(_decode_input(body).input.partition("/")[0])
            progress(min(len(rows), last - rows[0][0] + 1))
            if rows[-1][0] >= last:
                break
        return workspaces

    async def scan(self, progress: Progress) -> tuple[list[tuple[bytes, int, int]], list[int]]:
        """Look through the tables; return the most shared values, as digest, count and a link, and profiles."""
        holders = min((one.near_known for one in self.limits.values()), default=2)
        values = min((one.near_values for one in self.limits.values()), default=2)
        shared: list[tuple[bytes, int, int]] = []
        crowded: Counter[int] = Counter()
        for part in range(PARTS):
            found = await self.store.crowds(part, holders=holders, values=max(1, values - INLINE_VALUES))
            shared += [(key, count, at) for key, (count, at) in found.values.items()]
            shared = nlargest(_VALUES, shared, key=lambda row: row[1])
            for mpid in {mpid for mpid, _ in (*found.further, *found.replaced)}:
                counts = [count for (of, _), count in (*found.further.items(), *found.replaced.items()) if of == mpid]
                crowded[mpid] = max(counts)
            crowded = Counter(dict(crowded.most_common(2 * _PROFILES)))
            progress(_WEIGHT)
        return shared, [mpid for mpid, _ in crowded.most_common()]

    # -- values ------------------------------------------------------------------------------------------------

    async def guarded(self, notes: Notes) -> tuple[list[GuardedValue], int]:
        """Return guarded values, those that were sent most often since first, and how many there are."""
        rows = []
        for scope in sorted(self.limits):
            for environment in ("production", "development"):
                space = f"{scope}/{environment}"
                rows += [(space, *row) for row in await self.store.guarded(space)]
        held_off: dict[tuple[str, str, str], Counting] = {}
        for (what, space, type_, why), group in notes.groups.items():
            if what == "dropped" and why == "guarded":
                held_off |= {(space, type_, value): counting for value, counting in group.values.counts.items()}

        def often(row: tuple[str, str, str, str, int]) -> tuple[int, int]:
            counting = held_off.get(row[:3])
            return (-counting.count if counting else 0), row[4]

        rows.sort(key=often)
        return [await self._guarded(row, held_off.get(row[:3])) for row in rows[: self.top]], len(rows)

    async def _guarded(self, row: tuple[str, str, str, str, int], held_off: Counting | None) -> GuardedValue:
        space, type_, value, why, since = row
        entry = (await entries_of(self.store, [since]))[since]
        holders, known = await self._holders(space, type_, value)
        return GuardedValue(
            space, type_, value, why, since, entry.at_ms, entry.input, entry.request_id,
            [str(mpid) for mpid in holders], known, held_off, _for_guarded(space, type_, value),
        )  # fmt: skip

    async def _holders(self, space: str, type_: str, value: str) -> tuple[list[int], int]:
        """Return who holds a value, as far as decisions look, and how many of them are known."""
        view = (await self.store.read({space: Wanted([(type_, value)])})).views[space]
        limits = self.limits_of(space)
        login = limits.policy.login if limits else frozenset()
        holders = [mpid for _, mpid in view.holders[type_, value][:HOLDERS_READ]]
        return holders, sum(not login.isdisjoint(view.profiles[mpid].held) for mpid in holders)

    async def shared(self, found: list[tuple[bytes, int, int]]) -> list[SharedValue]:
        """Return the values that as many known users share as may, or nearly."""
        told: list[SharedValue] = []
        guarded = {
            (space, type_, value)
            for scope in self.limits
            for space in (f"{scope}/production", f"{scope}/development")
            for type_, value, *_ in await self.store.guarded(space)
        }
        for key, count, at in found:
            identity = await self._identity_of(key, at)
            if identity is None or identity in guarded:
                continue
            space, type_, value = identity
            limits = self.limits_of(space)
            if limits is None or type_ not in limits.policy.rank or type_ in limits.policy.unique:
                continue
            _, known = await self._holders(space, type_, value)
            if known >= limits.near_known:
                guard = limits.policy.max_known_profiles_per_value > 0
                advice = _for_shared(type_, value)
                told.append(SharedValue(space, type_, value, count, known, limits.known, guard, advice))
        return nlargest(self.top, told, key=lambda one: (one.known, one.holders))

    async def _identity_of(self, key: bytes, position: int) -> Deciding | None:
        """Return the identity of a digest, which a decision linked."""
        entry = (await entries_of(self.store, [position])).get(position)
        for change in entry.decision.changes if entry else ():
            type_, value = getattr(change, "type", ""), getattr(change, "value", "")
            if entry is not None and type_ and holder_key(entry.space, type_, value) == key:
                return entry.space, type_, value
        return None

    async def deciding(self, notes: Notes) -> list[DecidingValue]:
        """Return the values that found a profile for many requests which brought more identities."""
        told = []
        least = min((one.near_values for one in self.limits.values()), default=2)
        for (space, type_, value), counting in notes.deciding.most(self.top, least):
            holders, _ = await self._holders(space, type_, value)
            mpid = str(holders[0]) if len(holders) == 1 else None
            advice = _for_sentinel(space, type_, value)
            told.append(DecidingValue(space, type_, value, counting, notes.deciding.missed > 0, mpid, advice))
        return told

    # -- profiles ----------------------------------------------------------------------------------------------

    async def profiles(self, mpids: list[int]) -> list[CrowdedProfile]:
        """Return the profiles that hold or held unusually many values of a type."""
        told = []
        for mpid in mpids:
            stored = await self.store.profile(mpid)
            limits = None if stored is None else self.limits_of(stored.space)
            if stored is None or limits is None:
                continue
            held = Counter(type_ for type_, *_ in stored.identities)
            replaced = Counter(row.type for row in stored.history if row.why == "replaced")
            types = [TypeCount(type_, held[type_], replaced[type_]) for type_ in held.keys() | replaced.keys()]
            many = [one for one in types if one.held + one.replaced >= limits.near_values]
            if many:
                many.sort(key=lambda one: (-one.held - one.replaced, one.type))
                told.append(await self._profile(stored, many, limits))
            if len(told) == _PROFILES:
                break
        return nlargest(self.top, told, key=lambda one: one.types[0].held + one.types[0].replaced)

    async def _profile(self, stored: StoredProfile, types: list[TypeCount], limits: _Limits) -> CrowdedProfile:
        read = stored.decisions[-_DECISIONS:]
        found: Counter[Deciding] = Counter()
        for entry in (await entries_of(self.store, read)).values():
            value = deciding_value(
                entry.request, entry.decision.trace.steps, entry.decision.changes, entry.space, limits.policy
            )
            if value is not None and entry.decision.mpid == stored.mpid:
                found[value] += 1
        deciding = [(type_, value, count) for (_, type_, value), count in found.most_common(3)]
        advice = [f"oneself why {stored.mpid}"]
        if deciding:
            advice += _for_sentinel(stored.space, *deciding[0][:2])
        return CrowdedProfile(
            str(stored.mpid), stored.space, types, limits.values, limits.policy.max_values_per_profile > 0,
            stored.created, stored.decisions[-1], len(read), deciding, advice,
        )  # fmt: skip

    # -- what was held off -------------------------------------------------------------------------------------

    def held_off(self, notes: Notes) -> list[HeldOff]:
        """Return what did not count, what was refused and what was contradicted, the most often first."""
        rows = []
        for place, group in notes.groups.items():
            if self.limits_of(place[1]) is None:
                continue
            values = [
                ValueCount(value, counting.count, group.values.missed > 0)
                for value, counting in group.values.most(_SHOWN)
            ]
            rows.append(_held_off(place, group.counting, values))
        rows.sort(key=lambda row: (row.what, -row.counting.count, row.counting.first))
        return rows

    async def quarantine(self, workspaces: set[str]) -> list[Quarantine]:
        """Return what was set aside in the span, by workspace and reason."""
        told = []
        for workspace in sorted(workspaces):
            found: Heavy[str] = Heavy(_REASONS)
            events: Counter[str] = Counter()
            before = self.span.last + 1
            while rows := await self.store.quarantined(workspace, before=before, limit=_ROWS):
                before = rows[-1].position
                for row in rows:
                    if row.position >= self.span.first:
                        found.add(row.reason, row.position, row.at_ms, row.input)
                        events[row.reason] += row.events
                if before < self.span.first:
                    break
            for reason, counting in found.most(self.top):
                counting.first, counting.last = counting.last, counting.first  # they came latest first
                counting.first_ms, counting.last_ms = counting.last_ms, counting.first_ms
                told.append(Quarantine(workspace, reason, counting, events[reason], [_MEND.format(workspace)]))
        return told


class _Input(msgspec.Struct):
    input: str


_decode_input: Final = msgspec.json.Decoder(_Input).decode


# -- what to do ---------------------------------------------------------------------------------------------------

_MEND: Final = "mend the input; look at and take in again: GET /admin/workspaces/{}/quarantine"


def _named(type_: str, value: str) -> str:
    """Return an identity as a shell takes it."""
    if value.isprintable():
        return shlex.quote(f"{type_}={value}")
    escaped = value.encode("unicode_escape").decode().replace("'", "\\'")
    return f"$'{type_}={escaped}'"


def _where(space: str) -> str:
    scope, _, environment = space.rpartition("/")
    return f"--scope {shlex.quote(scope)}" + ("" if environment == "production" else f" --environment {environment}")


def _junk(value: str) -> str:
    listed = f"junk_also = [{msgspec.json.encode(value).decode()}]"
    return f"if it stands for nobody: {listed} in the scope's settings; oneself whatif, oneself policy promote"


def _for_guarded(space: str, type_: str, value: str) -> list[str]:
    return [
        f"if it is a person's after all: oneself guards release {_named(type_, value)} {_where(space)}",
        _junk(value),
        f"look at it: oneself why {_named(type_, value)}",
    ]


def _for_shared(type_: str, value: str) -> list[str]:
    return [_junk(value), f"look at it: oneself why {_named(type_, value)}"]


def _for_sentinel(space: str, type_: str, value: str) -> list[str]:
    return [
        f"if it fused people: oneself undo --identity {_named(type_, value)} {_where(space)}",
        _junk(value),
        f"look at it: oneself why {_named(type_, value)}",
    ]


def _held_off(place: Place, counting: Counting, values: list[ValueCount]) -> HeldOff:
    what, space, type_, why = place
    advice = [_ADVICE[what, why] if (what, why) in _ADVICE else _ADVICE[what, ""]]
    if values:
        advice.append(f"look at the most frequent: oneself why {_named(type_, values[0].value)}")
    return HeldOff(what, space, type_, why, counting, values, advice)  # type: ignore[arg-type]


_ADVICE: Final = {
    ("dropped", "junk"): "mend the inputs: they send a placeholder where they have no value",
    ("dropped", "too_long"): "mend the inputs: a value of over 256 characters is no identity",
    ("dropped", "empty"): "mend the inputs: they send an empty value",
    ("dropped", "guarded"): "see the guarded values: release them or list them as junk",
    ("refused", "unique"): "the value stays with its profile; a modify request moves it, if it should be another's",
    ("refused", "immutable"): "an input names another value for somebody who has one for good; see whose it is",
    ("refused", "max_known_profiles_per_value"): "see the guarded values: release them or list them as junk",
    ("refused", "max_values_per_profile"): "see the profiles with many values; raise the limit if they are right",
    ("contradicted", ""): "usual on shared devices, where each account keeps its own profile; nothing to do",
}
