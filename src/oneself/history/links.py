"""Which profile holds which identity, in arrays: some seventy bytes a link, beside the values themselves.

Identities and profiles go by numbers from 1, and so do the links between them; 0 is none. The links of an identity
are a chain from its newest one to older ones, and so are those of a profile.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Final

from oneself.history.numbers import Numbers

__all__ = ["Links"]

_BLOCK: Final = 4_096


class Links:
    """The identities of one space, its profiles, and the links between them.

    By number of an identity: ``type_of`` and ``value_of``, and its ``newest`` link. By number of a profile: the
    position at which it was ``created``, 0 where it is none, its ``newest_held`` link, their ``count``, and its
    ``types``, a bit for each type that it holds. By number of a link: its ``identity``, ``profile`` and ``position``,
    the ``older`` link of its identity, and the ``older_held`` one of its profile.
    """

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self.names: list[str] = []  # of the types; there are fewer than 64
        self.places: dict[str, int] = {}  # of the types in ``names``
        self.of_type: list[dict[str, int]] = []  # the identities of each type by their values
        self.type_of = array("B", [0])
        self.value_of = [""]
        self.newest = array("I", [0])
        self.created = array("q")
        self.newest_held = array("I")
        self.count = array("I")
        self.types = array("Q")
        self.identity = array("I", [0])
        self.profile = array("I", [0])
        self.position = array("q", [0])
        self.older = array("I", [0])
        self.older_held = array("I", [0])
        self._newer = array("I", [0])  # of the same identity, and of the same profile
        self._newer_held = array("I", [0])
        self.fit()

    def place(self, type_: str) -> int:
        """Return the place of a type, a new one where it has none."""
        place = self.places.get(type_)
        if place is None:
            place = self.places[type_] = len(self.names)
            self.names.append(type_)
            self.of_type.append({})
        return place

    def bits(self, types: Iterable[str]) -> int:
        """Return the bits of some types, as far as somebody ever held one."""
        places = self.places
        return sum(1 << places[type_] for type_ in types if type_ in places)

    def known(self, type_: str, value: str) -> int:
        """Return the number of an identity, 0 where nobody ever held it."""
        place = self.places.get(type_)
        return 0 if place is None else self.of_type[place].get(value, 0)

    def number(self, place: int, value: str) -> int:
        """Return the number of an identity, given the place of its type; a new one where it has none."""
        of_type = self.of_type[place]
        number = of_type.get(value)
        if number is None:
            number = of_type[value] = len(self.newest)
            self.type_of.append(place)
            self.value_of.append(value)
            self.newest.append(0)
        return number

    def make(self, profile: int, created: int) -> None:
        """Make an empty profile."""
        if profile >= len(self.created):
            self.fit()
        self.created[profile] = created

    def remove(self, profile: int) -> None:
        """Take a profile away, which holds nothing any more. Raises ``KeyError`` where there is none."""
        self.check(profile)
        self.created[profile] = 0

    def check(self, profile: int) -> None:
        """Raise ``KeyError`` where there is no profile of a number."""
        if not (profile < len(self.created) and self.created[profile]):
            raise KeyError(profile)

    def link(self, profile: int, identity: int, position: int) -> None:
        """Link a profile to an identity, later than all links of both so far."""
        link, newest, newest_held = len(self.profile), self.newest, self.newest_held
        older, older_held = newest[identity], newest_held[profile]
        self.profile.append(profile)
        self.identity.append(identity)
        self.position.append(position)
        self.older.append(older)
        self.older_held.append(older_held)
        self._newer.append(0)
        self._newer_held.append(0)
        if older:
            self._newer[older] = link
        if older_held:
            self._newer_held[older_held] = link
        newest[identity] = newest_held[profile] = link
        self.count[profile] += 1
        self.types[profile] |= 1 << self.type_of[identity]

    def link_as_of(self, profile: int, identity: int, position: int) -> None:
        """Link a profile to an identity among the links before and after a position."""
        self.link(profile, identity, position)
        link, position_of, mpids, profiles = len(self.profile) - 1, self.position, self.numbers.mpids, self.profile
        newer, older, mine = 0, self.older[link], (position, mpids[profile])
        while older and (position_of[older], mpids[profiles[older]]) > mine:
            newer, older = older, self.older[older]
        if newer:
            self._leave(link)
            self._join(identity, newer, link)
            self._join(identity, link, older)
        newer, older = 0, self.older_held[link]
        while older and position_of[older] > position:
            newer, older = older, self.older_held[older]
        if newer:
            self._leave_held(link)
            self._join_held(profile, newer, link)
            self._join_held(profile, link, older)

    def unlink(self, profile: int, identity: int) -> None:
        """End a link; ``types`` are left as they were. Raises ``KeyError`` where there is none.

        It is looked for in both of its chains at once, since either may be that of a crowd.
        """
        self.check(profile)
        one, other = self.newest_held[profile], self.newest[identity]
        while one and other:
            if self.identity[one] == identity:
                break
            if self.profile[other] == profile:
                one = other
                break
            one, other = self.older_held[one], self.older[other]
        if not (one and other):
            raise KeyError(identity)
        self._leave(one)
        self._leave_held(one)
        self.count[profile] -= 1

    def _join(self, identity: int, newer: int, older: int) -> None:
        """Let two links of an identity follow each other."""
        if newer:
            self.older[newer] = older
        else:
            self.newest[identity] = older
        if older:
            self._newer[older] = newer

    def _join_held(self, profile: int, newer: int, older: int) -> None:
        """Let two links of a profile follow each other."""
        if newer:
            self.older_held[newer] = older
        else:
            self.newest_held[profile] = older
        if older:
            self._newer_held[older] = newer

    def _leave(self, link: int) -> None:
        self._join(self.identity[link], self._newer[link], self.older[link])

    def _leave_held(self, link: int) -> None:
        self._join_held(self.profile[link], self._newer_held[link], self.older_held[link])

    def holders(self, identity: int) -> Iterator[int]:
        """Yield the links of an identity, newest first."""
        link = self.newest[identity]
        while link:
            yield link
            link = self.older[link]

    def held(self, profile: int) -> list[int]:
        """Return the links of a profile, oldest first."""
        links, link = [], self.newest_held[profile]
        while link:
            links.append(link)
            link = self.older_held[link]
        links.reverse()
        return links

    def fit(self) -> None:
        """Have room for the profile of every number."""
        for by_profile in (self.created, self.newest_held, self.count, self.types):
            while len(by_profile) <= len(self.numbers):
                by_profile.frombytes(bytes(_BLOCK * by_profile.itemsize))
