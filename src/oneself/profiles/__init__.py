"""The profile core: profile + batch → profile. Pure: no store, HTTP, clock or randomness."""

from oneself.identity.model import Protection
from oneself.profiles.api import FIELDS, FieldsError, Membership, Shown, read_fields, render, shown_of
from oneself.profiles.device import info_identities
from oneself.profiles.events import EVENT_TYPES
from oneself.profiles.kept import WorkspaceRow, apart, together
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
from oneself.profiles.priority import deciding, values_of
from oneself.profiles.reading import read_batch
from oneself.profiles.remainder import remainder
from oneself.profiles.sources import DEFAULT_ORDER, is_platform, rank_of
from oneself.profiles.update import info_of, update

__all__ = [
    "DEFAULT_ORDER",
    "EVENT_TYPES",
    "FIELDS",
    "AttributeChange",
    "AttributeValue",
    "Attribution",
    "Batch",
    "BatchError",
    "Changed",
    "Consent",
    "Device",
    "Event",
    "FieldsError",
    "Flag",
    "Ignored",
    "Membership",
    "Parts",
    "Person",
    "Protection",
    "PushChange",
    "Quarantined",
    "Range",
    "Refused",
    "Scalar",
    "Shown",
    "Snapshot",
    "Source",
    "Text",
    "Update",
    "WorkspaceProfile",
    "WorkspaceRow",
    "Write",
    "apart",
    "deciding",
    "info_identities",
    "info_of",
    "is_platform",
    "rank_of",
    "read_batch",
    "read_fields",
    "remainder",
    "render",
    "shown_of",
    "together",
    "update",
    "values_of",
]
