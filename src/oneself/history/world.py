"""The whole identity state of a space in memory, for deciding long histories again (docs/replay.md).

It is kept in arrays (``Links``). What a decision must see of it is made into a view for that decision alone; of the
profiles in it those are kept ready that were seen lately.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from oneself.history.links import Links
from oneself.history.numbers import Numbers
from oneself.identity import (
    HOLDERS_READ,
    INLINE_VALUES,
    Alias,
    Change,
    Create,
    Decision,
    Identity,
    Link,
    Policy,
    Prepared,
    Profile,
    Remove,
    Request,
    Restore,
    Revive,
    Unlink,
    View,
    Withdraw,
    apply,
    decide,
    prepare,
)

__all__ = ["LARGE", "World"]

LARGE: Final = 1 << 63
"""Stands among the bits of its types for a profile that holds much."""

READY: Final = 50_000
"""So many profiles are kept ready for decisions."""


class World:
    """One space's identity state, whole.

    ``links`` has the profiles and who holds what. ``guarded`` are the guarded values, ``aliases`` the accepted
    aliases by their positions, and ``further`` what profiles hold beyond their record, as in a ``View``.
    """

    def __init__(self, numbers: Numbers | None = None, ready: int = READY) -> None:
        self._numbers = Numbers() if numbers is None else numbers
        self.links = Links(self._numbers)
        self._rest = View()  # all that is no link
        self.guarded = self._rest.guarded
        self.aliases = self._rest.aliases
        self.further = self._rest.further
        self._large: dict[int, Profile] = {}  # those with more links than are gone through for a decision
        self._most_ready = ready
        self._ready: dict[int, Profile] = {}  # by number, as long as they stay as they are
        self._aliases: dict[int, list[int]] = {}  # by source and destination: positions

    def __contains__(self, mpid: int) -> bool:
        number = self._numbers.numbers.get(mpid, 0)
        return number < len(self.links.created) and self.links.created[number] > 0

    def __len__(self) -> int:
        return len(self.links.created) - self.links.created.count(0)

    def profile(self, mpid: int) -> Profile | None:
        """Return a profile."""
        return self._profile(self._numbers.numbers[mpid]) if mpid in self else None

    def profiles(self) -> Iterator[Profile]:
        """Yield every profile."""
        for number, created in enumerate(self.links.created):
            if created:
                yield self._profile(number)

    def holders(self, identity: Identity) -> list[tuple[int, int]]:
        """Return ``(position, mpid)`` of every holder of an identity, most recently linked first."""
        links, mpids = self.links, self._numbers.mpids
        return [(links.position[link], mpids[links.profile[link]]) for link in links.holders(links.known(*identity))]

    def identities(self) -> Iterator[Identity]:
        """Yield every identity that somebody holds, and those that nobody does any more."""
        for type_, values in zip(self.links.names, self.links.of_type, strict=True):
            for value in values:
                yield type_, value

    def linked_at(self, mpid: int, identity: Identity) -> int:
        """Return the position at which a profile was linked to an identity that it holds.

        Raises ``KeyError`` where there is no such profile, or it does not hold the identity.
        """
        profile = self.profile(mpid)
        if profile is None:
            raise KeyError(mpid)
        at = profile.held[identity[0]].get(identity[1])
        return self.further[mpid, identity] if at is None else at

    # -- deciding ----------------------------------------------------------------------------------------------

    def decide(self, policy: Policy, request: Request, now_ms: int, fresh_mpid: int) -> Decision:
        """Decide a request as ``oneself.identity.decide`` does, over all there is; nothing is changed."""
        prepared = prepare(policy, request)
        return decide(prepared, self.seen(prepared), now_ms, fresh_mpid)

    def seen(self, prepared: Prepared) -> View:
        """Return a view that has all that a prepared request must see."""
        view, links = View(), self.links
        if prepared.aliases:
            self._put_aliases(view, prepared.aliases)
            return view
        view.guarded, view.further = self.guarded, self.further
        most = HOLDERS_READ + 1 + len(prepared.request.changes)
        if len(self._ready) > self._most_ready:
            self._ready.clear()
        ready, profiles = self._ready, view.profiles
        profile_of, position, older = links.profile, links.position, links.older
        for identity in prepared.identities:
            rows = view.holders[identity] = []
            link = links.newest[links.known(*identity)]
            while link and len(rows) < most:
                number = profile_of[link]
                profile = ready.get(number)
                if profile is None:
                    profile = ready[number] = self._profile(number)
                rows.append((position[link], profile.mpid))
                profiles[profile.mpid] = profile
                link = older[link]
        self._put_profiles(view, prepared.mpids)
        return view

    def _profile(self, number: int) -> Profile:
        """Return the profile of a number."""
        links = self.links
        if links.types[number] >= LARGE:
            return self._large[number]
        held: dict[str, dict[str, int]] = {}
        for link in links.held(number):
            identity = links.identity[link]
            values = held.setdefault(links.names[links.type_of[identity]], {})
            values[links.value_of[identity]] = links.position[link]
        return Profile(self._numbers.mpids[number], links.created[number], held, {})

    def _put_profiles(self, view: View, mpids: Iterable[int]) -> None:
        for mpid in mpids:
            profile = self.profile(mpid)
            if profile is not None:
                view.profiles[mpid] = profile

    def _put_aliases(self, view: View, positions: Iterable[int]) -> None:
        """Put some aliases in a view, those that could stand against them, and their profiles."""
        every = self.aliases
        for position in positions:
            row = every.get(position)
            for mpid in () if row is None else (row.source, row.destination):
                self._put_profiles(view, (mpid,))
                view.aliases.update((at, every[at]) for at in self._aliases[mpid])

    # -- changing ----------------------------------------------------------------------------------------------

    def keep(self, changes: Sequence[Change], position: int) -> bool:
        """Make the changes of a decision, which may be one that this state was not asked for.

        Tells whether they are all new profiles and identities of profiles. Raises ``KeyError`` where one touches
        what is not there.
        """
        ordinary = True
        for change in changes:
            if type(change) is Link:
                self._link(change, position)
            elif type(change) is Create:
                self.links.make(self._numbers.of(change.mpid), position)
            elif type(change) is Unlink:
                self._unlink(change, position)
            else:
                ordinary = False
                self._keep_rare(change, position)
        return ordinary

    def link(self, profile: int, identity: int, position: int) -> None:
        """Link a profile to an identity, by their numbers."""
        links = self.links
        self._ready.pop(profile, None)
        if links.types[profile] >= LARGE or links.count[profile] >= INLINE_VALUES:
            type_ = links.names[links.type_of[identity]]
            self._resize(profile, Link(self._numbers.mpids[profile], type_, links.value_of[identity]), position)
        links.link(profile, identity, position)

    def _link(self, change: Link, position: int) -> None:
        profile = self._numbers.numbers.get(change.mpid, 0)
        self.links.check(profile)
        self.link(profile, self.links.number(self.links.place(change.type), change.value), position)

    def _unlink(self, change: Unlink | Withdraw, position: int) -> None:
        links, profile = self.links, self._numbers.numbers.get(change.mpid, 0)
        links.unlink(profile, links.known(change.type, change.value))
        self._ready.pop(profile, None)
        if links.types[profile] >= LARGE:
            self._resize(profile, change, position)
            links.types[profile] = LARGE | links.bits(self._large[profile].held)
        else:
            held = {links.names[links.type_of[links.identity[link]]] for link in links.held(profile)}
            links.types[profile] = links.bits(held)

    def _resize(self, profile: int, change: Link | Restore | Unlink | Withdraw, position: int) -> None:
        """Make a change of a profile that holds much, or is about to, in what decisions see of it."""
        part = View()
        part.further = self.further
        part.profiles[change.mpid] = self._profile(profile)
        apply(part, change, position)
        self._large[profile] = part.profiles[change.mpid]
        self.links.types[profile] |= LARGE

    def _keep_rare(self, change: Change, position: int) -> None:
        """Make a change that is neither a new profile nor one of a profile's identities."""
        links, numbers = self.links, self._numbers.numbers
        if isinstance(change, Restore):
            profile = numbers.get(change.mpid, 0)
            links.check(profile)
            self._ready.pop(profile, None)
            if links.types[profile] >= LARGE or links.count[profile] >= INLINE_VALUES:
                self._resize(profile, change, position)
            links.link_as_of(profile, links.number(links.place(change.type), change.value), change.linked)
        elif isinstance(change, Withdraw):
            self._unlink(change, position)
        elif isinstance(change, Remove):
            number = numbers.get(change.mpid, 0)
            links.remove(number)
            links.types[number] = 0
            self._large.pop(number, None)
            self._ready.pop(number, None)
        elif isinstance(change, Revive):
            links.make(self._numbers.of(change.mpid), change.created)
        else:
            if isinstance(change, Alias):
                for mpid in {change.source, change.destination}:
                    self._aliases.setdefault(mpid, []).append(position)
            apply(self._rest, change, position)
