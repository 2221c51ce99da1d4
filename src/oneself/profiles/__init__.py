"""The profile core: profile + batch → profile. Pure: no store, HTTP, clock or randomness.

- ``read_batch(document, source, received_ms, *, ip="", historical=False) -> (Batch, tuple[Quarantined, ...])``
  raises ``BatchError``.
- ``update(parts, batch, position) -> Update``.
"""

from oneself.profiles.model import (
    AttributeChange,
    AttributeValue,
    Attribution,
    Batch,
    BatchError,
    Changed,
    Consent,
    Device,
    Event,
    Flag,
    Ignored,
    Parts,
    Person,
    Protection,
    PushChange,
    Quarantined,
    Range,
    Refused,
    Scalar,
    Snapshot,
    Source,
    Text,
    Update,
    WorkspaceProfile,
    Write,
)

__all__ = [
    "AttributeChange",
    "AttributeValue",
    "Attribution",
    "Batch",
    "BatchError",
    "Changed",
    "Consent",
    "Device",
    "Event",
    "Flag",
    "Ignored",
    "Parts",
    "Person",
    "Protection",
    "PushChange",
    "Quarantined",
    "Range",
    "Refused",
    "Scalar",
    "Snapshot",
    "Source",
    "Text",
    "Update",
    "WorkspaceProfile",
    "Write",
]
