"""Looking things up in a data folder: the tables, and over them the rows in memory that are on disk already."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec

from oneself.identity import Profile
from oneself.journal import BatchRecord
from oneself.profiles import Device, Parts
from oneself.store.contract import HeldProfile, KnownUser, ShownUser, StoredProfile
from oneself.store.embedded.base import Files
from oneself.store.embedded.pending import Generation
from oneself.store.keys import batch_key, request_key
from oneself.store.reading import Activity, QuarantinedBatch, Reading, Touched, events_of
from oneself.store.revising import is_removed

__all__ = ["Lookups"]

_END: Final = 1 << 62
_LOOK_UP: Final = object()
"""Stands for a row that memory says nothing of."""

_LINKED_AT: Final = itemgetter(2)
_NOTHING: Final[Sequence[Any]] = (None, None, None)


class Lookups(Files):
    """The part of the embedded store that is not in the path of an answer."""

    @abstractmethod
    def _read_requests(self, reading: Reading, keys: Sequence[bytes], generations: list[Generation]) -> None:
        """Tell in a reading which request keys were answered."""

    async def find_request(self, request_id: str) -> list[int]:
        """Return the positions of the decisions on a request id."""
        inputs = set(self._state.inputs()).union(*(rows.inputs for rows in self._generations()))
        reading = Reading(0)
        keys = [key(name, request_id) for name in sorted(inputs) for key in (request_key, batch_key)]
        self._read_requests(reading, keys, self._generations())
        return sorted(reading.answered.values())

    async def profile(self, mpid: int) -> StoredProfile | None:
        """Return a profile with all it holds and held, and the decisions that concern it."""
        held = self._held(mpid, self._generations())
        if held is None:
            return None
        history = {(row.ended, row.type, row.value): row for row in self._state.history_of(mpid)}
        decisions = {held.created, *self._state.decisions_of(mpid)}
        for rows in self._generations():
            for of, ended, type_, value in rows.history_gone:
                if of == mpid:
                    history.pop((ended, type_, value), None)
            history |= {(row.ended, row.type, row.value): row for row in rows.history.get(mpid, ())}
            decisions.update(rows.concerned.get(mpid, ()))
        return StoredProfile(
            mpid,
            held.space,
            held.created,
            held.identities,
            [history[key] for key in sorted(history)],
            sorted(decisions),
        )

    def _held(
        self, mpid: int, generations: Sequence[Generation], stored: tuple[str, Profile] | None = None
    ) -> HeldProfile | None:
        """Return a profile with all it holds; ``stored`` is its row of the tables, where that was read already."""
        found: tuple[str, Profile] | None = None
        for rows in generations:
            found = rows.profiles.get(mpid, found)
        if found is None:
            found = stored or next(iter(self._state.profiles([mpid])), None)
        if found is None:
            return None
        space, profile = found
        held = [(type_, value, at) for type_, values in profile.held.items() for value, at in values.items()]
        if profile.more:
            further = {(type_, value): at for type_, value, at in self._state.further_of(mpid)}
            for rows in generations:
                further |= rows.further.get(mpid, {})  # type: ignore[arg-type]
            held += [(type_, value, at) for (type_, value), at in further.items() if at is not None]
        held.sort(key=_LINKED_AT)
        return HeldProfile(mpid, space, profile.created, held)

    async def mpids(self, spaces: Collection[str], *, after: int | None = None, limit: int = 1_000) -> list[int]:
        """Return the MPIDs of profiles in some spaces, in their order."""
        first = -(2**63) if after is None else after + 1
        found = set(self._state.mpids(spaces, first, limit))
        for rows in self._generations():
            found.update(mpid for mpid, (space, _) in rows.profiles.items() if mpid >= first and space in spaces)
            found.difference_update(mpid for mpid, (space, _) in rows.profiles.items() if is_removed(space))
        return sorted(found)[:limit]

    async def user(self, mpid: int, workspace: str) -> KnownUser | None:
        """Return what a workspace knows of a profile."""
        newer = [
            rows
            for rows in self._generations()
            if mpid in rows.profiles or mpid in rows.users or mpid in rows.further
        ]
        person: Any = _LOOK_UP
        known: Any = _LOOK_UP
        if newer:
            person, known, _ = _parts_in_memory(Touched(mpid, workspace, ""), newer[::-1])
        stored = None
        if person is _LOOK_UP or known is _LOOK_UP:
            stored, in_tables = self._state.user(mpid, workspace)
            person = in_tables.person if person is _LOOK_UP else person
            known = in_tables.workspace if known is _LOOK_UP else known
        profile = self._held(mpid, newer, stored)
        return None if profile is None or is_removed(profile.space) else KnownUser(profile, person, known)

    async def shown(self, mpid: int, workspace: str) -> ShownUser | None:
        """Return what a workspace shows of a profile: as the tables have it, where memory has nothing newer."""
        for rows in self._generations():
            if mpid in rows.profiles or mpid in rows.users or mpid in rows.further:
                return await super().shown(mpid, workspace)
        found = self._state.shown(mpid, workspace)
        return None if found is None or is_removed(found.space) else found

    async def parts(self, wanted: Sequence[Touched]) -> list[Parts]:
        """Return, for each of some places, the rows of the profile there."""
        return self._parts(wanted, self._generations())

    def _parts(
        self, wanted: Sequence[Touched], generations: Sequence[Generation], created: Collection[int] = ()
    ) -> list[Parts]:
        """Return the rows of some places, the newest in memory first and else those of the tables.

        ``created`` are profiles that were made just now, of which the tables have nothing.
        """
        newest_first = generations[::-1]
        found = [_parts_in_memory(row, newest_first) for row in wanted]
        missing = [
            index
            for index, (person, known, seen) in enumerate(found)
            if (person is _LOOK_UP or known is _LOOK_UP or seen is _LOOK_UP) and wanted[index][0] not in created
        ]
        stored = self._state.parts([wanted[index] for index in missing]) if missing else ()
        in_tables = {missing[at]: row for at, *row in stored}
        return [Parts(*map(_newest, row, in_tables.get(index, _NOTHING))) for index, row in enumerate(found)]

    async def devices(
        self, mpid: int, workspace: str, *, after: str = "", limit: int = 100
    ) -> list[tuple[str, Device]]:
        """Return devices of a profile in a workspace, by name."""
        found = dict(self._state.devices(mpid, workspace, after, limit))
        for rows in self._generations():
            user = rows.users.get(mpid)
            if user is not None:
                if workspace in user.expired:
                    found = {}
                for (its_workspace, name), device in user.devices.items():
                    if its_workspace == workspace and name > after:
                        found[name] = device
        return sorted(found.items())[:limit]

    async def activity(
        self,
        mpid: int,
        workspace: str,
        *,
        before: tuple[int, int] | None = None,
        limit: int = 100,
        window: tuple[int, int] | None = None,
        device: str = "",
    ) -> list[Activity]:
        """Return batches of a profile in a workspace, latest first."""
        bound, (start_ms, end_ms) = before or (_END, _END), window or (-_END, _END)
        swept = self._swept.get(events_of(workspace), 0)
        users = [rows.users[mpid] for rows in self._generations() if mpid in rows.users]
        most = limit + sum(len(user.left) for user in users)
        stored = self._state.activity(mpid, workspace, (start_ms, end_ms), device, bound, swept, most)
        found = {row.position: row for row in stored}
        for user in users:
            for of, _, position in user.left:
                if of == workspace:
                    found.pop(position, None)
            for row in user.activity:
                if row.workspace != workspace or row.position <= swept or device not in ("", row.device):
                    continue
                if row.at_ms > end_ms >= row.first_ms:
                    row = msgspec.structs.replace(row, at_ms=end_ms)
                if start_ms <= row.at_ms <= end_ms and (row.at_ms, row.position) < bound:
                    found[row.position] = row
        return sorted(found.values(), key=lambda row: (row.at_ms, row.position), reverse=True)[:limit]

    async def made_of(self, mpid: int) -> list[int]:
        """Return the positions of the batches that a profile is made of."""
        return self._made_of(mpid)

    def _made_of(self, mpid: int) -> list[int]:
        found = set(self._state.made_of(mpid))
        for rows in self._generations():
            user = rows.users.get(mpid)
            if user is not None:
                found.difference_update(position for _, _, position in user.left)
                found.update(row.position for row in user.activity)
            found.difference_update(position for of, position in rows.remainders_left if of == mpid)
            found.update(position for of, position in rows.remainders if of == mpid)
        return sorted(found)

    async def batches(self, positions: Sequence[int]) -> dict[int, BatchRecord]:
        """Return what the batches at some positions brought."""
        return self._journal.batches(positions)

    async def quarantined(self, workspace: str, *, before: int = 0, limit: int = 100) -> list[QuarantinedBatch]:
        """Return what was set aside in a workspace, latest first."""
        bound, swept = before or _END, self._swept.get(events_of(workspace), 0)
        found = {row.position: row for row in self._state.quarantined(workspace, swept, bound, limit)}
        for rows in self._generations():
            found |= {
                row.position: row
                for row in rows.quarantined
                if row.workspace == workspace and swept < row.position < bound
            }
        return sorted(found.values(), key=lambda row: row.position, reverse=True)[:limit]

    async def event_names(self, workspace: str) -> set[str]:
        """Return the names of events and screens that a workspace has seen, with those on their way to the disk."""
        seen = self._event_names.get(workspace, set())
        staged = self._staged.event_names if self._staged is not None else ()
        new = {name for its_workspace, name in staged if its_workspace == workspace and name not in seen}
        return seen | new if new else seen

    async def setting(self, name: str) -> str | None:
        """Return a value that the server keeps for itself."""
        return self._journal.setting(name)

    async def set_setting(self, name: str, value: str) -> None:
        """Keep a value for the server itself."""
        self._journal.set_setting(name, value)

    async def first_setting(self, name: str, value: str) -> str:
        """Keep a value for the server itself unless there is one; return the one that is kept."""
        return self._journal.first_setting(name, value)

    async def lease(self, name: str, holder: str, seconds: float) -> bool:  # noqa: ARG002
        """Give any lease to whoever asks: a folder has one server."""
        return True

    async def end_lease(self, name: str, holder: str) -> None:
        """Do nothing: there are no leases."""

    async def guarded(self, space: str) -> list[tuple[str, str, str, int]]:
        """Return the guarded values of a space, oldest first."""
        rows = [row[1:] for row in self._guarded.values() if row[0] == space]
        return sorted(rows, key=lambda row: row[3])


def _newest(in_memory: Any, in_table: Any) -> Any:
    return in_table if in_memory is _LOOK_UP else in_memory


def _parts_in_memory(row: Touched, newest_first: Sequence[Generation]) -> tuple[Any, ...]:
    """Return person, workspace profile and device as the newest rows have them: None where they are gone."""
    mpid, workspace, device = row
    person: Any = _LOOK_UP
    known: Any = _LOOK_UP
    seen: Any = _LOOK_UP if device else None
    for rows in newest_first:
        user = rows.users.get(mpid)
        if user is None:
            continue
        ended = workspace in user.expired
        if person is _LOOK_UP and (user.person is not None or user.gone):
            person = user.person
        if known is _LOOK_UP and (workspace in user.workspaces or ended):
            known = user.workspaces.get(workspace)
        if seen is _LOOK_UP and ((workspace, device) in user.devices or ended):
            seen = user.devices.get((workspace, device))
    return person, known, seen
