"""The versions of a scope's policy: where each came from, and which settings make a new one (docs/policies.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

__all__ = ["CONFIGURED", "PolicyOrigin", "PolicyVersion", "next_version"]


class PolicyOrigin(msgspec.Struct, frozen=True):
    """Where a policy version comes from: from whom (``author``), and why (``note``).

    ``restores`` is the version whose settings a restoration brings back, 0 for the other origins.
    """

    origin: Literal["configuration", "promotion", "restoration"] = "configuration"
    author: str = ""
    note: str = ""
    restores: int = 0


CONFIGURED: Final = PolicyOrigin()


class PolicyVersion(msgspec.Struct, frozen=True):
    """The settings that a scope's decisions were made by, from a journal position on; versions count from 1.

    ``position`` is the first that it may decide: servers take a version over within about a second. The rest is as
    in ``PolicyOrigin``.
    """

    scope: str
    version: int
    at_ms: int
    position: int
    settings: str
    origin: Literal["configuration", "promotion", "restoration"] = "configuration"
    author: str = ""
    note: str = ""
    restores: int = 0


def next_version(
    versions: Sequence[PolicyVersion], scope: str, at_ms: int, position: int, settings: str, made: PolicyOrigin
) -> PolicyVersion:
    """Return the version that settings make of a scope, given its ``versions``, oldest first.

    That is the newest one where nothing is new: a configuration's settings that are those of the last configuration,
    or a promotion of what is in force (docs/policies.md, "Versions").
    """
    newest = versions[-1] if versions else None
    compared = newest
    if made.origin == "configuration":
        compared = next((one for one in reversed(versions) if one.origin == "configuration"), None)
    if newest is not None and compared is not None and compared.settings == settings:
        return newest
    number = 1 if newest is None else newest.version + 1
    return PolicyVersion(scope, number, at_ms, position, settings, *msgspec.structs.astuple(made))
