"""The bodies of rows: JSON, whose positions below 0 count back from the ``changed`` of their row."""

from __future__ import annotations

from typing import Final

import msgspec

from oneself.identity import Profile
from oneself.profiles import Device, Person, WorkspaceProfile
from oneself.store.renumber import settled_device, settled_person, settled_profile, settled_workspace

__all__ = ["device_of", "encoded", "person_of", "profile_body", "profile_of", "workspace_of"]

_profile: Final = msgspec.json.Decoder(tuple[dict[str, dict[str, int]], dict[str, int]])
_person: Final = msgspec.json.Decoder(Person)
_workspace: Final = msgspec.json.Decoder(WorkspaceProfile)
_device: Final = msgspec.json.Decoder(Device)

encoded = msgspec.json.Encoder().encode
"""Return the body of a person, of what a workspace knows, or of a device."""


def profile_body(profile: Profile) -> bytes:
    """Return the body of a profile's row."""
    return encoded((profile.held, profile.more))


def profile_of(mpid: int, created: int, changed: int, body: bytes) -> Profile:
    """Return the profile of a row."""
    profile = Profile(mpid, created, *_profile.decode(body))
    return settled_profile(profile, changed) if _counts_back(body) else profile


def person_of(changed: int | None, body: bytes | None) -> Person | None:
    """Return the person of a row; None where there is none."""
    if body is None or changed is None:
        return None
    person = _person.decode(body)
    return settled_person(person, changed) if _counts_back(body) else person


def workspace_of(changed: int | None, body: bytes | None) -> WorkspaceProfile | None:
    """Return what a workspace knows, of a row; None where there is none."""
    if body is None or changed is None:
        return None
    known = _workspace.decode(body)
    return settled_workspace(known, changed) if _counts_back(body) else known


def device_of(changed: int | None, body: bytes | None) -> Device | None:
    """Return the device of a row; None where there is none."""
    if body is None or changed is None:
        return None
    device = _device.decode(body)
    return settled_device(device, changed) if _counts_back(body) else device


def _counts_back(body: bytes) -> bool:
    """Tell whether a body may have a position below 0: most have none, and are not gone through."""
    return b",-" in body or b":-" in body
