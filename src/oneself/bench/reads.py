"""The work of a load that only reads: one path again and again, or profiles from the Profile API."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from oneself.bench.mix import Cursor
from oneself.bench.users import BUSY, CROWDED, Users

__all__ = ["AT_ONE", "FIELDS", "PROFILE_PATH", "Get", "Reads", "one_at_a_time"]

AT_ONE: Final = 64
"""So many requests in a row go to one ordinary user, where a load is aimed at one user at a time."""

PROFILE_PATH: Final = "/userprofile/v1/1/1/1/"
"""What stands before the MPID: organization, account and workspace of the benchmarks' configuration."""

FIELDS: Final = "user_identities,device_identities,user_attributes,audience_memberships,attribution"
"""What is asked for: all that is documented of that API."""

_STEP: Final = 7_368_787  # a prime: users follow each other in no order


class Get(msgspec.Struct, frozen=True, tag="get"):
    """GET one path again and again."""

    path: str = "/healthz"

    def begin(self, host: str, cursor: Cursor, _seed: int) -> tuple[Callable[[], bytes], Cursor]:
        """Return what makes the next request, and the cursor, which stays where it is."""
        lines = f"GET {self.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: oneself-bench\r\nAccept: */*\r\n\r\n"
        head = lines.encode()
        return lambda: head, cursor


class Reads(msgspec.Struct, frozen=True, tag="reads"):
    """GET profiles, all of their documented parts, with an API client's token.

    ``aim`` is whose: ``any`` user's at random, one ``ordinary`` user's after the other, some in a row, or those of
    the ``busy`` or the ``crowded`` user alone.
    """

    users: Users
    token: str
    aim: Literal["any", "ordinary", "busy", "crowded"] = "any"

    def begin(self, host: str, cursor: Cursor, seed: int) -> tuple[Callable[[], bytes], Cursor]:
        """Return what makes the next request, and the cursor that it moves on."""
        tail = (
            f"?fields={FIELDS} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: oneself-bench\r\n"
            f"Accept: application/json\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        )
        choose = self._chooser(cursor, seed)
        mpid = self.users.mpid

        def make() -> bytes:
            cursor.requests += 1
            return f"GET {PROFILE_PATH}{mpid(choose())}{tail}".encode()

        return make, cursor

    def _chooser(self, cursor: Cursor, seed: int) -> Callable[[], int]:
        profiles = self.users.profiles
        if self.aim == "any":
            draw = random.Random(seed).random
            return lambda: int(draw() * profiles)
        if self.aim == "ordinary":
            return lambda: one_at_a_time(cursor, profiles)
        number = BUSY if self.aim == "busy" else CROWDED
        return lambda: number


def one_at_a_time(cursor: Cursor, profiles: int) -> int:
    """Return the user whose turn it is at a cursor."""
    return cursor.requests // AT_ONE * _STEP % profiles
