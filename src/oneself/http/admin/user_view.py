"""Users as the admin API shows them (docs/admin-api.md, "One user")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from oneself.http.admin.access import Place
from oneself.http.admin.alias_view import NoteView
from oneself.http.admin.batch_view import ConsentView, consent_views
from oneself.journal import Entry
from oneself.profiles import Attribution, Device, Flag, Scalar, Text, Write, deciding, info_identities, info_of
from oneself.store import History, KnownUser

__all__ = ["DevicePage", "DeviceView", "UserDetails", "details_view", "device_view", "first_value", "positions_of"]

MOST_IDENTITIES: Final = 200
"""So many identities, and so many that left, are listed with one user."""

_RESERVED: Final = {
    name: place
    for place, name in enumerate((
        "$age", "$firstname", "$lastname", "$gender", "$mobile", "$address", "$city", "$state", "$zip", "$country",
    ))
}  # fmt: skip
"""The attributes that are shown before all others, in this order."""

_DEVICE_IDS: Final = (
    "ios_advertising_id", "android_advertising_id", "fire_advertising_id", "roku_advertising_id",
    "microsoft_advertising_id", "ios_idfv", "android_uuid", "roku_publisher_id", "microsoft_publisher_id",
)  # fmt: skip
"""The fields by which people know a device, the best known first."""


class TextView(msgspec.Struct, frozen=True):
    """A text that was last said at a time."""

    value: str
    at_ms: int


class FlagView(msgspec.Struct, frozen=True):
    """A yes or no that was last said at a time."""

    value: bool
    at_ms: int


class LinkedView(msgspec.Struct, frozen=True):
    """An identity of a user: when it was linked, and by which decision of the journal."""

    type: str
    value: str
    linked_ms: int | None
    position: int


class FormerView(msgspec.Struct, frozen=True):
    """An identity that a user had: when it came and went, why, and who has got it.

    ``why`` is ``replaced``, ``modified``, ``removed`` or ``moved``; ``position`` is the decision that ended it.
    """

    type: str
    value: str
    linked_ms: int | None
    ended_ms: int | None
    why: str
    moved_to: str | None
    position: int


class AttributeView(msgspec.Struct, frozen=True):
    """A user attribute (null is a tag), and the source that set it: its input, kind and rank, and when.

    Rank 0 is the strongest, as it was when the data arrived; ``position`` is the batch in the journal.
    """

    name: str
    value: str | list[str] | None
    input: str
    kind: str
    rank: int
    at_ms: int
    position: int


class InputView(msgspec.Struct, frozen=True):
    """An input that sent data of a user, with the times of the first and the last of it."""

    input: str
    kind: str
    first_ms: int
    last_ms: int


class AttributionView(msgspec.Struct, frozen=True):
    """Which campaign an installation is owed to."""

    publisher: str
    campaign: str
    service_provider: str
    at_ms: int


class MembershipView(msgspec.Struct, frozen=True):
    """One audience that a user is in."""

    audience_id: int
    audience_name: str
    expiration_timestamp_ms: int | None


class DeviceView(msgspec.Struct, frozen=True):
    """A device of a user. ``name`` is its application stamp, or one that was made of its identities."""

    name: str
    platform: str | None
    first_seen_ms: int
    last_seen_ms: int
    limit_ad_tracking: bool | None
    att: TextView | None
    identities: dict[str, str]
    info: dict[str, Scalar | None]
    installed: TextView | None
    attribution: AttributionView | None
    push_tokens: dict[str, bool]


class DevicePage(msgspec.Struct, frozen=True):
    """Devices by name; ``next`` is to be sent as ``after`` for those that follow, null where there are none."""

    devices: list[DeviceView]
    next: str | None


class UserDetails(msgspec.Struct, frozen=True):
    """All that is known of one user.

    The first part is over all workspaces, from ``workspace`` on it is this one's. Times are null where no batch was
    seen. Of identities and of those that left the latest 200 are listed, and ``…_total`` counts all.
    """

    mpid: str
    environment: str
    known: bool
    customer_id: str | None
    email: str | None
    created_ms: int | None
    first_seen_ms: int | None
    last_seen_ms: int | None
    ip: TextView | None
    opted_out: FlagView | None
    limit_ad_tracking: FlagView | None
    identities: list[LinkedView]
    identities_total: int
    former_identities: list[FormerView]
    former_identities_total: int
    notes: list[NoteView]
    workspace: str
    workspace_first_seen_ms: int | None
    workspace_last_seen_ms: int | None
    inputs: list[InputView]
    device_id: str | None
    devices: list[DeviceView]
    devices_next: str | None
    attributes: list[AttributeView]
    consent: list[ConsentView]
    attribution: AttributionView | None
    memberships: list[MembershipView]


def positions_of(user: KnownUser, history: Sequence[History]) -> set[int]:
    """Return the journal positions that tell when and by whom what is shown of a user came about."""
    profile = user.profile
    positions = {profile.created}
    positions.update(at for _, _, at in profile.identities[-MOST_IDENTITIES:])
    for former in history[-MOST_IDENTITIES:]:
        positions |= {former.linked, former.ended}
    if user.workspace is not None:
        positions.update(write.position for _, write in _standing(user.workspace.attributes))
    return positions


def details_view(
    place: Place,
    environment: str,
    user: KnownUser,
    history: Sequence[History],
    entries: Mapping[int, Entry],
    devices: DevicePage,
    latest_device: Device | None,
    notes: list[NoteView],
) -> UserDetails:
    """Return all that is known of a user; ``entries`` has those at ``positions_of`` the user."""

    def ms_at(position: int) -> int | None:
        entry = entries.get(position)
        return None if entry is None else entry.at_ms

    profile, person, known = user.profile, user.person, user.workspace
    held = [(type_, value) for type_, value, _ in reversed(profile.identities)]
    return UserDetails(
        mpid=str(profile.mpid),
        environment=environment,
        known=any(type_ in place.policy.login for type_, _ in held),
        customer_id=first_value(held, "customerid"),
        email=first_value(held, "email"),
        created_ms=ms_at(profile.created),
        first_seen_ms=person.first_seen_ms if person else None,
        last_seen_ms=person.last_seen_ms if person else None,
        ip=_text(person.ip if person else None),
        opted_out=_flag(person.opted_out if person else None),
        limit_ad_tracking=_flag(person.limit_ad_tracking if person else None),
        identities=[
            LinkedView(type_, value, ms_at(at), at)
            for type_, value, at in reversed(profile.identities[-MOST_IDENTITIES:])
        ],
        identities_total=len(profile.identities),
        former_identities=[
            FormerView(
                old.type, old.value, ms_at(old.linked), ms_at(old.ended), old.why,
                str(old.moved_to) if old.moved_to else None, old.ended,
            )
            for old in reversed(history[-MOST_IDENTITIES:])
        ],
        former_identities_total=len(history),
        notes=notes,
        workspace=place.name,
        workspace_first_seen_ms=known.first_seen_ms if known else None,
        workspace_last_seen_ms=known.last_seen_ms if known else None,
        inputs=[
            InputView(input_, place.kinds.get(input_, ""), seen.first_ms, seen.last_ms)
            for input_, seen in sorted(known.inputs.items())
        ]
        if known
        else [],
        device_id=_device_id(known.device if known else None, latest_device),
        devices=devices.devices,
        devices_next=devices.next,
        attributes=_attributes(place, known.attributes, entries) if known else [],
        consent=consent_views(known.consent) if known else [],
        attribution=_attribution(known.attribution if known else None),
        memberships=[],
    )  # fmt: skip


def first_value(held: Iterable[tuple[str, str]], type_: str) -> str | None:
    """Return the first value of an identity type among ``(type, value)``; None where there is none."""
    return next((value for its_type, value in held if its_type == type_), None)


def device_view(name: str, device: Device) -> DeviceView:
    """Return a device."""
    info = info_of(device.info)
    platform, limited = info.get("platform"), info.get("limit_ad_tracking")
    return DeviceView(
        name=name,
        platform=None if platform is None else str(platform),
        first_seen_ms=device.first_seen_ms,
        last_seen_ms=device.last_seen_ms,
        limit_ad_tracking=limited if isinstance(limited, bool) else None,
        att=_text(device.att),
        identities=info_identities(info),
        info=info,
        installed=_text(device.installed),
        attribution=_attribution(device.attribution),
        push_tokens={token: said.value for token, said in device.push.items()},
    )


def _device_id(seen: Text | None, device: Device | None) -> str | None:
    """Return what the device that was seen last is known by: an advertising id, else another, else its name."""
    if seen is None:
        return None
    info = {} if device is None else info_of(device.info)
    return next((str(info[field]) for field in _DEVICE_IDS if info.get(field) is not None), seen.value)


def _standing(attributes: Mapping[str, tuple[Write, ...]]) -> list[tuple[str, Write]]:
    """Return the attributes that have a value, with what gives it: reserved ones first, the others by name."""
    standing = [(name, write) for name, writes in attributes.items() if (write := deciding(writes)) is not None]
    return sorted(standing, key=lambda one: (_RESERVED.get(one[0], len(_RESERVED)), one[0]))


def _attributes(
    place: Place, attributes: Mapping[str, tuple[Write, ...]], entries: Mapping[int, Entry]
) -> list[AttributeView]:
    order: Sequence[str] = place.workspace.source_priority
    views = []
    for name, write in _standing(attributes):
        entry = entries.get(write.position)
        input_ = "" if entry is None else entry.input
        kind = place.kinds.get(input_) or (order[write.rank] if write.rank < len(order) else "")
        value = list(write.value) if isinstance(write.value, tuple) else write.value
        views.append(AttributeView(name, value, input_, kind, write.rank, write.at_ms, write.position))
    return views


def _text(said: Text | None) -> TextView | None:
    return None if said is None else TextView(said.value, said.at_ms)


def _flag(said: Flag | None) -> FlagView | None:
    return None if said is None else FlagView(said.value, said.at_ms)


def _attribution(attribution: Attribution | None) -> AttributionView | None:
    if attribution is None:
        return None
    return AttributionView(
        attribution.publisher, attribution.campaign, attribution.service_provider, attribution.at_ms
    )  # fmt: skip
