"""The whole identity state of a space in memory, for deciding long histories again (docs/replay.md).

It is the state that ``oneself.identity`` works on: requests are decided over one ``View`` that has everything,
so that nothing is read or copied for them. What has not been touched for some time is kept packed, in about a
third of the memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, cast

import msgspec

from oneself.history.numbers import Numbers
from oneself.identity import (
    HOLDERS_READ,
    Alias,
    Change,
    Create,
    Decision,
    Guard,
    Identity,
    Link,
    Policy,
    Prepared,
    Profile,
    Reguard,
    Release,
    Remove,
    Request,
    Restore,
    Unlink,
    View,
    Withdraw,
    apply,
    decide,
    prepare,
)

__all__ = ["UNPACKED", "World"]

UNPACKED = 1_000_000
"""So many profiles and identities are kept ready; with more, all are packed."""

_CROWD = 4 * HOLDERS_READ
"""Of the holders of one value so many are kept ready, those that were linked most recently."""

_BLOCK = 4_096

_Rows = list[tuple[int, int]]
_Held = tuple[int, dict[str, dict[str, int]], dict[str, int]]

_pack = msgspec.msgpack.Encoder().encode
_profile = msgspec.msgpack.Decoder(_Held).decode
_rows = msgspec.msgpack.Decoder(_Rows).decode


_NOBODY: _Rows = []
"""The holders of an identity that nobody holds; never changed, as changes make new lists."""

_NO_MORE: Final[dict[str, int]] = {}


class World:
    """One space's identity state, whole.

    ``view`` is the state as the core sees it, but for what is packed. ``settled`` has the key of a request
    (``settle``) by the number of a profile, 0 where there is none: it stands as long as the profile is the answer
    to that request, without a change.
    """

    def __init__(self, numbers: Numbers | None = None, unpacked: int = UNPACKED) -> None:
        self.view = View()
        self.settled = array("q", [0])
        self._limit = unpacked
        self._numbers = Numbers() if numbers is None else numbers
        self._packed: list[bytes] = []  # the profiles by their numbers, empty where there is none
        self._count = 0  # of them
        self._holders: dict[str, dict[str, int | bytes]] = {}  # by type and value: the only one's number, or all rows
        self._crowds: dict[Identity, _Rows] = {}  # the holders beyond those that are ready, oldest first
        self._aliases: dict[int, list[int]] = {}  # by source and destination: positions

    def __contains__(self, mpid: int) -> bool:
        return mpid in self.view.profiles or bool(self._packed_of(mpid))

    def __len__(self) -> int:
        return self._count + sum(1 for mpid in self.view.profiles if not self._packed_of(mpid))

    def profile(self, mpid: int) -> Profile | None:
        """Return a profile."""
        found = self.view.profiles.get(mpid)
        return found or self._unpack_profile(mpid)

    def profiles(self) -> Iterator[Profile]:
        """Yield every profile, in no order."""
        ready = self.view.profiles
        yield from ready.values()
        for mpid, packed in zip(self._numbers.mpids, self._packed, strict=False):
            if packed and mpid not in ready:
                yield Profile(mpid, *_profile(packed))

    def sizes(self, types: Collection[str]) -> Iterator[tuple[int, int, bool]]:
        """Yield of every profile its number, how many identities it holds, and whether one has some type."""
        types, number_of = frozenset(types), self._numbers.of
        for profile in self.profiles():
            held, count = profile.held, 0
            for values in held.values():
                count += len(values)
            if profile.more:
                count += sum(profile.more.values())
            yield number_of(profile.mpid), count, not types.isdisjoint(held)

    def holders(self, identity: Identity) -> _Rows:
        """Return ``(position, mpid)`` of every holder of an identity, most recently linked first."""
        self._ready(identity)
        rows = self.view.holders.get(identity, _NOBODY)
        crowd = self._crowds.get(identity, ())
        if not crowd:
            return rows
        return sorted([*rows, *(row for row in crowd if self._is_linked(identity, row))], reverse=True)

    def identities(self) -> Iterator[Identity]:
        """Yield every identity that somebody holds, and some that nobody does any more, in no order."""
        ready = self.view.holders
        yield from ready
        for type_, packed in self._holders.items():
            for value in packed:
                if (type_, value) not in ready:
                    yield type_, value

    def linked_at(self, mpid: int, identity: Identity) -> int:
        """Return the position at which a profile was linked to an identity that it holds.

        Raises ``KeyError`` where there is no such profile, or it does not hold the identity.
        """
        profile = self.profile(mpid)
        if profile is None:
            raise KeyError(mpid)
        at = profile.held[identity[0]].get(identity[1])
        return self.view.further[mpid, identity] if at is None else at

    # -- deciding ----------------------------------------------------------------------------------------------

    def decide(self, policy: Policy, request: Request, now_ms: int, fresh_mpid: int) -> Decision:
        """Decide a request as ``oneself.identity.decide`` does, over all there is; nothing is changed."""
        prepared = prepare(policy, request)
        return decide(prepared, self.seen(prepared), now_ms, fresh_mpid)

    def seen(self, prepared: Prepared) -> View:
        """Return a view that has all that a prepared request must see."""
        if prepared.aliases:
            return self._about(prepared.aliases)
        if self._count or self._crowds:
            margin = HOLDERS_READ + 1 + len(prepared.request.changes)
            for identity in prepared.identities:
                self._ready(identity)
                if identity in self._crowds:
                    self._refill(identity, margin)
            for mpid in prepared.mpids:
                self.profile(mpid)
        holders = self.view.holders
        for identity in prepared.identities:
            if identity not in holders:
                holders[identity] = _NOBODY
        return self.view

    def sole_holder(self, identities: Sequence[Identity]) -> Profile | None:
        """Return the profile that holds every one of some identities alone, none of which is guarded, if one does."""
        view, packed, found = self.view, self._count, 0
        for identity in identities:
            if packed:
                self._ready(identity)
            rows = view.holders.get(identity, _NOBODY)
            if len(rows) != 1 or (view.guarded and identity in view.guarded) or identity in self._crowds:
                return None
            if rows[0][1] != found:
                if found:
                    return None
                found = rows[0][1]
        return view.profiles[found] if found else None

    def settle(self, mpid: int, key: int) -> None:
        """Mark a profile as the answer to a request whose identities it holds alone, and that changes nothing.

        The same request then has the same answer until the profile, or who holds one of the identities, changes; a
        guard counts as a change of its holder.
        """
        number = self._numbers.of(mpid)
        if number >= len(self.settled):
            self.settled.frombytes(bytes(8 * (len(self._numbers) + _BLOCK - len(self.settled))))
        self.settled[number] = key

    def _unsettle(self, mpid: int) -> None:
        number = self._numbers.numbers.get(mpid, 0)
        if number < len(self.settled):
            self.settled[number] = 0

    def is_unheard(self, identities: Iterable[Identity]) -> bool:
        """Tell whether nobody holds any of some identities, and none of them is guarded."""
        ready, packed, guarded = self.view.holders, self._holders, self.view.guarded
        for identity in identities:
            if ready.get(identity) or (guarded and identity in guarded):
                return False
            if packed and identity not in ready and identity[1] in packed.get(identity[0], ()):
                return False
        return True

    def make(self, mpid: int, identities: Sequence[Identity], position: int) -> None:
        """Make a profile that holds identities of different types, which nobody holds, as its changes would."""
        holders = self.view.holders
        held: dict[str, dict[str, int]] = {}
        for identity in identities:
            held[identity[0]] = {identity[1]: position}
            holders[identity] = [(position, mpid)]
        self.view.profiles[mpid] = Profile(mpid, position, held, _NO_MORE)

    def keep(self, changes: Sequence[Change], position: int) -> bool:
        """Make the changes of a decision, which may be one that this state was not asked for.

        Tells whether they are all new profiles and identities of profiles.
        """
        view, ordinary, created = self.view, True, 0
        packed = self._count > 0
        for change in changes:
            kind = type(change)
            if kind is Create:
                created = cast(Create, change).mpid
                apply(view, change, position)
            elif kind is Link or kind is Unlink:
                change = cast("Link | Unlink", change)
                identity = (change.type, change.value)
                if packed:
                    self._ready(identity)
                    self.profile(change.mpid)
                if change.mpid != created:
                    self._unsettle(change.mpid)
                rows = view.holders.get(identity)
                if rows and len(rows) == 1:
                    self._unsettle(rows[0][1])
                apply(view, change, position)
                if rows and len(rows) >= _CROWD:
                    self._spill(identity)
            else:
                ordinary = False
                self._keep_rare(change, position)
                apply(view, change, position)
        return ordinary

    def _keep_rare(self, change: Change, position: int) -> None:
        """Get ready for a change that is neither a new profile nor one of a profile's identities."""
        if isinstance(change, Restore | Withdraw | Remove):
            self._keep_revision(change)
        elif isinstance(change, Guard | Release | Reguard):
            identity = (change.type, change.value)
            self._ready(identity)
            rows = self.view.holders.get(identity, _NOBODY)
            if len(rows) == 1:
                self._unsettle(rows[0][1])
        elif isinstance(change, Alias):
            for mpid in {change.source, change.destination}:
                self._aliases.setdefault(mpid, []).append(position)

    def _keep_revision(self, change: Restore | Withdraw | Remove) -> None:
        """Get ready for a change that an undo makes to what was."""
        self.profile(change.mpid)
        self._unsettle(change.mpid)
        if isinstance(change, Remove):
            if self._packed_of(change.mpid):
                self._packed[self._numbers.numbers[change.mpid]] = b""
                self._count -= 1
            return
        identity = (change.type, change.value)
        self._ready(identity)
        for _, mpid in self.view.holders.get(identity, _NOBODY):
            self._unsettle(mpid)

    def rest(self) -> bool:
        """Pack everything where more than the limit is ready; tell whether that was done."""
        view = self.view
        if len(view.profiles) + len(view.holders) <= self._limit:
            return False
        numbers, all_packed = self._numbers, self._packed
        for mpid, profile in view.profiles.items():
            number = numbers.of(mpid)
            if number >= len(all_packed):
                all_packed += [b""] * (len(numbers) + 1 - len(all_packed))
            self._count += not all_packed[number]
            all_packed[number] = _pack((profile.created, profile.held, profile.more))
        for identity, rows in view.holders.items():
            of_type = self._holders.setdefault(identity[0], {})
            if len(rows) == 1:
                of_type[identity[1]] = numbers.of(rows[0][1])
            elif rows:
                of_type[identity[1]] = _pack(rows)
            else:
                of_type.pop(identity[1], None)
        view.profiles.clear()
        view.holders.clear()
        return True

    # -- what is packed ----------------------------------------------------------------------------------------

    def _unpack_profile(self, mpid: int) -> Profile | None:
        packed = self._packed_of(mpid)
        if not packed:
            return None
        profile = self.view.profiles[mpid] = Profile(mpid, *_profile(packed))
        return profile

    def _packed_of(self, mpid: int) -> bytes:
        number = self._numbers.numbers.get(mpid, 0)
        return self._packed[number] if number < len(self._packed) else b""

    def _ready(self, identity: Identity) -> None:
        """Have the holders of an identity in the view, and their profiles."""
        if identity in self.view.holders:
            return
        of_type = self._holders.get(identity[0])
        packed = None if of_type is None else of_type.get(identity[1])
        if packed is None:
            return
        if isinstance(packed, bytes):
            self._put(identity, _rows(packed))
        else:
            mpid = self._numbers.mpids[packed]
            self.view.holders[identity] = [(self.linked_at(mpid, identity), mpid)]

    def _put(self, identity: Identity, rows: _Rows) -> None:
        self.view.holders[identity] = rows
        ready = self.view.profiles
        for _, mpid in rows:
            if mpid not in ready:
                self._unpack_profile(mpid)

    # -- values with a crowd of holders ------------------------------------------------------------------------

    def _spill(self, identity: Identity) -> None:
        """Take those holders of a value out of the view that were linked longest ago; no decision looks at them."""
        rows = self.view.holders[identity]
        keep = _CROWD // 2
        self._crowds.setdefault(identity, []).extend(reversed(rows[keep:]))
        self.view.holders[identity] = rows[:keep]

    def _refill(self, identity: Identity, least: int) -> None:
        """Have so many holders of a value in the view, as far as there are."""
        rows, crowd = self.view.holders[identity], self._crowds[identity]
        if len(rows) >= least:
            return
        rows = list(rows)
        while crowd and len(rows) < least + HOLDERS_READ:
            row = crowd.pop()
            if self._is_linked(identity, row):
                rows.append(row)
        self._put(identity, rows)
        if not crowd:
            del self._crowds[identity]

    def _is_linked(self, identity: Identity, row: tuple[int, int]) -> bool:
        """Tell whether a holder that was taken out of the view still holds the value by that link."""
        position, mpid = row
        profile = self.profile(mpid)
        assert profile is not None
        at = profile.held.get(identity[0], {}).get(identity[1])
        return (self.view.further.get((mpid, identity)) if at is None else at) == position

    # -- aliases -----------------------------------------------------------------------------------------------

    def _about(self, positions: Iterable[int]) -> View:
        """Return a view of some aliases, of those that could stand against them, and of their profiles."""
        view, every = View(), self.view.aliases
        for position in positions:
            row = every.get(position)
            if row is None:
                continue
            for mpid in (row.source, row.destination):
                profile = self.profile(mpid)
                if profile is not None:
                    view.profiles[mpid] = profile
                view.aliases.update((at, every[at]) for at in self._aliases[mpid])
        return view
