"""What a group of requests sees of the state, and what its decisions make of it (docs/storage.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from oneself.identity import (
    Alias,
    AliasOutcome,
    AliasRow,
    Change,
    Create,
    Discard,
    Expire,
    Forget,
    Guard,
    Identity,
    Link,
    Profile,
    Release,
    Trim,
    Unlink,
    View,
    apply,
)
from oneself.journal import BatchRecord, Entry
from oneself.profiles import Batch, Device, Parts, Person, WorkspaceProfile, update
from oneself.store.keys import batch_key, event_key, holder_key, request_key
from oneself.store.revising import REVISIONS, UNDOING, UNDONE, Rewritten, owner_of, revise, rewrite

__all__ = [
    "NAMED_EVENTS",
    "REQUESTS",
    "UNDONE",
    "Activity",
    "Effects",
    "History",
    "QuarantinedBatch",
    "Reading",
    "Rewritten",
    "Touched",
    "Trimmed",
    "Trimming",
    "Wanted",
    "activity_of",
    "event_keys",
    "events_of",
    "rows_touched",
]


NAMED_EVENTS = frozenset({"custom_event", "screen_view"})
"""The events whose names are counted in a workspace."""

REQUESTS = "requests"
"""What is swept where the ids of requests, batches and events are forgotten …"""


def events_of(workspace: str) -> str:
    """Return what is swept where a workspace's batches lose their events."""
    return f"events/{workspace}"


class Wanted:
    """What a group must see of one space.

    ``aliases`` are positions of accepted aliases, each of which is seen with its profiles and what stands against
    it; ``stored`` are MPIDs of which the group must know when data last came to each workspace.
    """

    __slots__ = ("aliases", "identities", "mpids", "stored")

    def __init__(
        self,
        identities: Iterable[Identity] = (),
        mpids: Iterable[int] = (),
        aliases: Iterable[int] = (),
        stored: Iterable[int] = (),
    ) -> None:
        self.identities: set[Identity] = set(identities)
        self.mpids: set[int] = set(mpids)
        self.aliases: set[int] = set(aliases)
        self.stored: set[int] = set(stored)


class History(msgspec.Struct, frozen=True, gc=False):
    """An identity that a profile held: linked and ended at journal positions; ``moved_to`` 0 where nobody got it."""

    mpid: int
    ended: int
    type: str
    value: str
    linked: int
    why: str
    moved_to: int


class Touched(NamedTuple):
    """The rows that a batch touches: those of a profile, in a workspace, on a device (empty where it has none)."""

    mpid: int
    workspace: str
    device: str


def rows_touched(batches: Iterable[tuple[int, Entry, BatchRecord]]) -> list[Touched]:
    """Return the rows that batches touch, given ``(position, entry, record)``."""
    return [
        Touched(mpid, record.batch.source.workspace, record.batch.device)
        for _, entry, record in batches
        if record.batch is not None and (mpid := owner_of(record, entry.decision.mpid)) is not None
    ]


def event_keys(batch: Batch) -> list[bytes]:
    """Return the keys by which a batch's events are taken in once, of those that have an id."""
    return [event_key(batch.source.input, event.id) for event in batch.events if event.id]


class Activity(msgspec.Struct, frozen=True, gc=False):
    """One batch on a profile's timeline: the times of its first and last event (unix ms) and how many it has."""

    mpid: int
    at_ms: int
    position: int
    first_ms: int
    workspace: str
    input: str
    device: str
    events: int


def activity_of(mpid: int, position: int, batch: Batch) -> Activity:
    """Return the row of a batch on a profile's timeline."""
    source = batch.source
    return Activity(
        mpid, batch.at_ms, position, batch.first_ms, source.workspace, source.input, batch.device, len(batch.events)
    )


class QuarantinedBatch(msgspec.Struct, frozen=True, gc=False):
    """A batch that was set aside, or events of one: how many; ``reason`` is that of the batch or its first event."""

    position: int
    workspace: str
    input: str
    at_ms: int
    events: int
    reason: str


class Trimmed(NamedTuple):
    """A batch on a timeline whose events are no longer kept; ``at_ms`` is its time, None where that is not known."""

    mpid: int
    workspace: str
    at_ms: int | None
    position: int


class Trimming(msgspec.Struct, frozen=True):
    """A step of retention, made ready beside the path of answers: the batches that lose their events.

    ``through`` is the last position that was looked at, ``at`` the journal's last by then. ``rewrites`` are the new
    records of the batches, encoded, None for those of which nothing is left; ``rows`` are those that stand on a
    timeline. ``events`` counts what goes, ``names`` are the ``(workspace, name)`` of named events among it.
    """

    through: int
    batches: int = 0
    events: int = 0
    names: tuple[tuple[str, str], ...] = ()
    rewrites: dict[int, bytes | None] = {}
    rows: tuple[Trimmed, ...] = ()
    at: int = 0


class Effects:
    """The rows that a group of decisions changes; every engine writes these and nothing else.

    They say how the group ends: what came and went within it is in neither ``linked`` nor ``unlinked``, and of
    a further or guarded value only the last word counts. ``expired`` and ``gone`` map workspace rows and people
    to the position at which they went: what else there is of them came after. ``cleared`` places and ``nobody`` have
    no other rows than those that are here, since an undo made them anew.
    """

    __slots__ = (
        "activity",
        "aliases",
        "batches",
        "cleared",
        "concerned",
        "devices",
        "discarded",
        "entries",
        "event_names",
        "expired",
        "further",
        "gone",
        "guarded",
        "guarding",
        "history",
        "history_gone",
        "inputs",
        "left",
        "linked",
        "nobody",
        "people",
        "profiles",
        "quarantined",
        "remainders",
        "remainders_left",
        "requests",
        "rewrites",
        "swept",
        "trimmed",
        "unlinked",
        "workspaces",
    )

    def __init__(self) -> None:
        self.entries: list[tuple[int, Entry]] = []
        self.requests: dict[bytes, int] = {}
        self.profiles: dict[int, tuple[str, Profile]] = {}
        self.linked: dict[tuple[bytes, int, int], None] = {}  # (key, position, mpid), in the order of positions
        self.unlinked: dict[tuple[bytes, int, int], None] = {}
        self.further: dict[tuple[int, str, str], int | None] = {}  # mpid, type, value: position, None where gone
        self.history: list[History] = []
        # key: (space, type, value, why, position), None where released
        self.guarded: dict[bytes, tuple[str, str, str, str, int] | None] = {}
        self.guarding: list[tuple[bytes, int]] = []  # key, position of what guarded or released it
        self.aliases: dict[int, tuple[str, AliasRow]] = {}  # by position: space, alias
        self.concerned: list[tuple[int, int]] = []  # mpid, position
        self.inputs: set[str] = set()
        self.batches: dict[int, BatchRecord] = {}
        self.people: dict[int, Person] = {}
        self.workspaces: dict[tuple[int, str], WorkspaceProfile] = {}
        self.devices: dict[Touched, Device] = {}
        self.activity: list[Activity] = []
        self.quarantined: list[QuarantinedBatch] = []
        self.event_names: set[tuple[str, str]] = set()  # workspace, name
        self.rewrites: dict[int, bytes | None] = {}  # new records of batches, encoded; None where one goes
        self.trimmed: list[Trimmed] = []
        self.remainders: list[tuple[int, int]] = []  # mpid, position of a batch without events
        self.expired: dict[tuple[int, str], int] = {}
        self.gone: dict[int, int] = {}
        self.discarded: list[int] = []
        self.swept: dict[str, int] = {}  # what, through which position
        # What only an undo brings about: rows that are not what they were (docs/undo.md).
        self.history_gone: list[tuple[int, int, str, str]] = []  # mpid, ended, type, value
        self.left: list[Activity] = []
        self.remainders_left: list[tuple[int, int]] = []
        self.cleared: set[tuple[int, str]] = set()
        self.nobody: set[int] = set()


class Reading:
    """What a group sees, and what it has decided so far.

    ``answered`` maps the keys of requests that were answered before to their positions. ``position`` is that of
    the next decision. ``keys`` are those holder keys (by space, type and value) that ``read`` had to make.
    ``created`` are the MPIDs of profiles that its decisions made. ``people``, ``workspaces`` and ``devices`` are
    the rows that ``read_parts`` found and ``keep_batch`` made; None stands for a row that expired. ``moved`` is by
    how many positions later its entries stand, once they are durable, than they were kept at: other servers' came
    before them.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.views: dict[str, View] = {}
        self.answered: dict[bytes, int] = {}
        self.keys: dict[tuple[str, str, str], bytes] = {}
        self.effects = Effects()
        self.created: set[int] = set()
        self.people: dict[int, Person | None] = {}
        self.workspaces: dict[tuple[int, str], WorkspaceProfile | None] = {}
        self.devices: dict[Touched, Device | None] = {}
        self.moved = 0

    def keep(self, entry: Entry, key: bytes | None = None) -> int:
        """Make a decision's changes in the view, collect their rows, and return its journal position.

        ``key`` is that of the entry's request, where it is at hand.
        """
        position, effects = self.position, self.effects
        self.position = position + 1
        effects.entries.append((position, entry))
        effects.inputs.add(entry.input)
        if entry.request_id:
            if key is None:
                made = batch_key if entry.request.kind == "batch" else request_key
                key = made(entry.input, entry.request_id)
            self.answered[key] = effects.requests[key] = position
        if entry.request.kind in UNDOING:
            effects.swept[UNDONE] = position
        changes = entry.decision.changes
        refused = entry.decision.trace.refused
        if not changes and not refused:
            return position
        view, space = self.views[entry.space], entry.space
        concerned: set[int] = set()
        created = 0
        for change in changes:
            if type(change) is Link:
                concerned.add(change.mpid)
                key = self.keys.get((space, change.type, change.value))
                key = key or holder_key(space, change.type, change.value)
                effects.linked[key, position, change.mpid] = None
                apply(view, change, position)
                if (change.mpid, (change.type, change.value)) in view.further:
                    effects.further[change.mpid, change.type, change.value] = position
            elif type(change) is Create:
                created = change.mpid
                concerned.add(created)
                self.created.add(created)
                apply(view, change, position)
            elif type(change) is Unlink:
                concerned.add(change.mpid)
                linked = self.take_link(view, space, change.mpid, (change.type, change.value))
                if linked != position:  # what comes and goes within one decision was never held
                    identity = (change.type, change.value)
                    self.keep_past(change.mpid, position, identity, linked, change.why, change.moved_to)
                apply(view, change, position)
            elif isinstance(change, REVISIONS):
                concerned |= revise(self, view, space, change, position)
            else:
                apply(view, change, position)
                self._rare(entry, change, position)
        for mpid in concerned:
            if mpid in view.profiles:  # it is not where an undo removed it
                effects.profiles[mpid] = (space, view.profiles[mpid])
        if refused and entry.decision.mpid is not None:
            concerned.add(entry.decision.mpid)
        concerned.discard(created)
        effects.concerned += [(mpid, position) for mpid in concerned]
        return position

    def arrive(self, space: str, mpid: int, workspace: str, received_ms: int) -> None:
        """Let later decisions of the group see that a batch came for a profile, which then does not expire."""
        stored = self.views[space].stored
        if mpid in stored:
            known = stored[mpid]
            stored[mpid] = known | {workspace: max(received_ms, known.get(workspace, received_ms))}

    def trim(self, trimming: Trimming) -> None:
        """Collect what a step of retention does to records and timelines; its entry was kept before."""
        effects = self.effects
        effects.rewrites.update(trimming.rewrites)
        effects.trimmed += trimming.rows
        effects.remainders += [(row.mpid, row.position) for row in trimming.rows]

    def claim_events(self, keys: Iterable[bytes], position: int) -> None:
        """Remember that events were taken in at a position, so that they are not taken in again."""
        for key in keys:
            self.answered[key] = self.effects.requests[key] = position

    def keep_batch(self, position: int, entry: Entry, record: BatchRecord) -> None:
        """Make what a batch brought part of its profile, and collect the rows.

        ``entry`` is the one at its position, and ``read_parts`` has read the rows that it touches.
        """
        effects, batch, mpid = self.effects, record.batch, owner_of(record, entry.decision.mpid)
        effects.batches[position] = record
        if record.reason or record.quarantined:
            workspace = entry.input.partition("/")[0]
            reason = record.reason or record.quarantined[0].reason
            row = QuarantinedBatch(position, workspace, entry.input, entry.at_ms, len(record.quarantined), reason)
            effects.quarantined.append(row)
        if batch is None:
            return
        source = batch.source
        for event in batch.events:
            if event.type in NAMED_EVENTS:
                effects.event_names.add((source.workspace, event.name))
        if mpid is None:
            return
        place = (mpid, source.workspace)
        touched = Touched(*place, batch.device)
        device = self.devices.get(touched)
        parts = update(Parts(self.people.get(mpid), self.workspaces.get(place), device), batch, position).parts
        assert parts.person is not None
        assert parts.workspace is not None
        if position > effects.gone.get(mpid, 0):
            self.people[mpid] = effects.people[mpid] = parts.person
        if position > effects.expired.get(place, 0):
            self.workspaces[place] = effects.workspaces[place] = parts.workspace
            if parts.device is not None and parts.device is not device:
                self.devices[touched] = effects.devices[touched] = parts.device
        if record.trimmed:
            effects.remainders.append((mpid, position))
        else:
            effects.activity.append(activity_of(mpid, position, batch))

    def take_link(self, view: View, space: str, mpid: int, identity: Identity) -> int:
        """Collect the rows of an identity that leaves a profile, before it does; return where it was linked."""
        effects = self.effects
        linked = view.profiles[mpid].held[identity[0]].get(identity[1])
        if linked is None:
            linked = view.further[(mpid, identity)]
            effects.further[(mpid, *identity)] = None
        row = holder_key(space, *identity), linked, mpid
        if row in effects.linked:
            del effects.linked[row]
        else:
            effects.unlinked[row] = None
        return linked

    def keep_past(self, mpid: int, ended: int, identity: Identity, linked: int, why: str, moved_to: int) -> None:
        """Collect the row of an identity that left a profile at a position."""
        self.effects.history.append(History(mpid, ended, *identity, linked, why, moved_to))

    def rewrite(self, rows: Rewritten) -> None:
        """Collect what an undo does to batches and to what is made of them; its entry was kept before."""
        rewrite(self, rows, Touched)

    def _rare(self, entry: Entry, change: Change, position: int) -> None:
        """Collect the rows of a change that is made already."""
        effects, space = self.effects, entry.space
        if isinstance(change, Guard | Release):
            key = holder_key(space, change.type, change.value)
            effects.guarded[key] = None
            if isinstance(change, Guard):
                effects.guarded[key] = (space, change.type, change.value, change.why, position)
            effects.guarding.append((key, position))
        elif isinstance(change, Alias | AliasOutcome):
            named = position if isinstance(change, Alias) else change.position
            effects.aliases[named] = (space, self.views[space].aliases[named])
            effects.concerned += [(change.source, position), (change.destination, position)]
        elif isinstance(change, Expire):
            self._expire(change, position)
        elif isinstance(change, Trim):
            effects.swept |= {events_of(workspace): change.through for workspace in change.workspaces}
            effects.event_names.update(change.names)
        elif isinstance(change, Forget):
            effects.swept[REQUESTS] = change.through
        else:
            assert isinstance(change, Discard)
            effects.discarded += change.positions
            effects.rewrites |= dict.fromkeys(change.positions)

    def _expire(self, change: Expire, position: int) -> None:
        """Forget what a workspace knows of a profile; batches after this position find nothing of it."""
        effects, mpid, place = self.effects, change.mpid, (change.mpid, change.workspace)
        effects.concerned.append((mpid, position))
        effects.expired[place] = position
        effects.workspaces.pop(place, None)
        self.workspaces[place] = None
        for touched in [row for row in effects.devices if row[:2] == place]:
            del effects.devices[touched]
        for touched in [row for row in self.devices if row[:2] == place]:
            self.devices[touched] = None
        if change.last:
            effects.gone[mpid] = position
            effects.people.pop(mpid, None)
            self.people[mpid] = None
