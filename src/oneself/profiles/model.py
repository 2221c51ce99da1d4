"""The words of the profile core: inputs, batches and the rows that make up a profile (docs/profiles.md).

Everything here is a value that encodes to JSON. Times are unix ms. Positions are places in the journal: larger is
later. Of two writes at the same time the one with the larger position counts. What can be in no cycle is kept from
the garbage collector (``gc=False``): a profile has many of them.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from oneself.identity import Protection

Scalar = str | int | float | bool
AttributeValue = str | tuple[str, ...] | None
"""A user attribute as a profile has it: a string, a list of strings, or None (a tag)."""


class Source(msgspec.Struct, frozen=True):
    """The input that a batch came in by; ``input`` is ``WORKSPACE/INPUT``.

    ``rank`` is its place in the order of source kinds, 0 the strongest (``rank_of``). ``platform`` inputs write
    attributes by change events, all others by the batch's map.
    """

    input: str
    workspace: str
    kind: str
    rank: int
    platform: bool
    protection: Protection = "create_and_update"


class BatchError(ValueError):
    """A batch that cannot be read at all; ``field`` names what is wrong and the message says what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


# -- values with a time: of two, the later counts --------------------------------------------------------------


class Text(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A text that was last set at a time."""

    at_ms: int
    value: str
    position: int = 0


class Flag(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A yes or no that was last set at a time."""

    at_ms: int
    value: bool
    position: int = 0


class Consent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a user said about one purpose; ``at_ms`` is the consent's own timestamp.

    For the CCPA's only purpose, ``data_sale_opt_out``, ``consented`` means opted out.
    """

    at_ms: int
    consented: bool
    document: str | None = None
    location: str | None = None
    hardware_id: str | None = None
    position: int = 0


class Attribution(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Which campaign a device's installation is owed to."""

    at_ms: int
    publisher: str = ""
    campaign: str = ""
    service_provider: str = ""
    position: int = 0


class Write(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The latest operation of one rank on an attribute; ``position`` is the journal entry that asked for it."""

    rank: int
    at_ms: int
    position: int
    value: AttributeValue = None
    deleted: bool = False


class Range(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The earliest and the latest time at which something was seen."""

    first_ms: int
    last_ms: int


class Snapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Fields of one batch's device information, under their Events API names; None where one was taken back."""

    at_ms: int
    position: int
    fields: dict[str, Scalar | None]


# -- a batch, as read ------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One event. ``name`` is what its type calls it by, ``id`` its ``source_message_id``, both may be empty.

    ``data`` is what was sent, in the documented limits.
    """

    type: str
    at_ms: int
    name: str = ""
    id: str = ""
    data: dict[str, Any] = {}


class Quarantined(msgspec.Struct, frozen=True, gc=False):
    """An event that cannot be used: its place in the batch, why, and all of it as it was sent."""

    index: int
    reason: str
    event: Any


class Ignored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of a batch that did not count, while the rest did: where it stood (dotted) and why."""

    field: str
    why: str


class AttributeChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One ``user_attribute_change`` event of a platform batch."""

    name: str
    at_ms: int
    value: AttributeValue = None
    deleted: bool = False


class PushChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One ``push_registration`` event: a token was registered or given up."""

    token: str
    at_ms: int
    registered: bool


class Batch(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One batch, normalised: everything that its effects depend on.

    ``at_ms`` is its time: its latest event's, else its own timestamp, else ``received_ms``; ``first_ms`` is its
    earliest event's, else the same. ``mpid`` is None where the batch has to be resolved by its identities.
    ``identities`` (identity type to value) come from the user identities, the device information and the
    application stamp; ``device`` is the stamp, one derived from the device's identities, or empty.
    ``attributes`` is the map as values of a profile; of a platform it is only shown, and ``changes`` count.
    ``opted_out``, ``limit_ad_tracking``, ``att``, ``push``, ``attribution`` and ``installed`` are what the
    events and the device information say of them. The other dictionaries are as they were sent.
    """

    source: Source
    environment: Literal["production", "development"]
    received_ms: int
    at_ms: int
    first_ms: int
    request_id: str = ""
    mpid: int | None = None
    historical: bool = False
    identities: dict[str, str] = {}
    device: str = ""
    ip: str = ""
    events: tuple[Event, ...] = ()
    attributes: dict[str, AttributeValue] = {}
    deleted_attributes: tuple[str, ...] = ()
    changes: tuple[AttributeChange, ...] = ()
    consent: dict[str, dict[str, Consent]] = {}
    opted_out: Flag | None = None
    limit_ad_tracking: bool | None = None
    att: Text | None = None
    push: tuple[PushChange, ...] = ()
    attribution: Attribution | None = None
    installed: Text | None = None
    device_info: dict[str, Scalar | None] = {}
    application_info: dict[str, Any] = {}
    context: dict[str, Any] = {}
    integration_attributes: dict[str, Any] = {}
    partner_identities: dict[str, Any] = {}
    sdk_version: str = ""
    ignored: tuple[Ignored, ...] = ()


# -- a profile: one row each ------------------------------------------------------------------------------------


class Person(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known of a profile over all workspaces. One for each MPID.

    ``stored_ms`` is when its latest batch was received.
    """

    first_seen_ms: int
    last_seen_ms: int
    stored_ms: int
    ip: Text | None = None
    opted_out: Flag | None = None
    limit_ad_tracking: Flag | None = None


class WorkspaceProfile(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known of a profile in one workspace. One for each MPID and workspace.

    ``attributes`` has for each name the operations that can still count (``value_of`` reads them); ``consent`` is
    regulation to purpose to consent; ``inputs`` are those that sent data (``WORKSPACE/INPUT``); ``device`` is the
    one seen last; ``attribution`` the latest of all devices.
    """

    first_seen_ms: int
    last_seen_ms: int
    stored_ms: int
    attributes: dict[str, tuple[Write, ...]] = {}
    consent: dict[str, dict[str, Consent]] = {}
    inputs: dict[str, Range] = {}
    device: Text | None = None
    attribution: Attribution | None = None


class Device(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known of one device of a profile. One for each MPID, workspace and device.

    ``info`` has the latest value of every field, newest snapshot first (``info_of`` reads it); the device's
    identities are among its fields. ``installed`` is the latest installation and its referrer, ``push`` maps
    tokens to whether they are registered.
    """

    first_seen_ms: int
    last_seen_ms: int
    info: tuple[Snapshot, ...] = ()
    att: Text | None = None
    installed: Text | None = None
    attribution: Attribution | None = None
    push: dict[str, Flag] = {}


class Parts(msgspec.Struct, frozen=True, gc=False):
    """The rows of a profile that one batch touches; None where there is none yet.

    ``device`` belongs to the batch's ``device``, and stays None where that is empty.
    """

    person: Person | None = None
    workspace: WorkspaceProfile | None = None
    device: Device | None = None


class Changed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change that a batch made.

    ``what`` is ``attribute`` (``name`` its key), ``consent`` (``REGULATION.PURPOSE``), ``device_info`` (a field),
    ``push_token`` (the token), or one of ``ip`` ``opted_out`` ``limit_ad_tracking`` ``att`` ``installed``
    ``attribution`` without a name.
    """

    what: str
    name: str = ""
    how: Literal["set", "deleted"] = "set"


class Refused(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change that a batch asked for and did not get.

    ``why``: ``priority`` (a stronger source holds or has freed the attribute later), ``older`` (a later value is
    there already), ``too_many`` (the profile has as many as it may have), ``only_read`` (the input may not write).
    """

    what: str
    name: str
    why: Literal["priority", "older", "too_many", "only_read"]


class Update(msgspec.Struct, frozen=True, gc=False):
    """What became of a profile: its new rows (the same objects where nothing changed), changes and refusals."""

    parts: Parts
    changed: tuple[Changed, ...] = ()
    refused: tuple[Refused, ...] = ()
