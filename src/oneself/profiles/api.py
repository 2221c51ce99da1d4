"""The Profile API's answer, made of a profile's rows (docs/profiles.md, "Profile API")."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from oneself.identity.names import TABLE, USER_TYPES
from oneself.profiles.model import AttributeValue, Attribution, Consent, Person, WorkspaceProfile
from oneself.profiles.priority import values_of

FIELDS: Final = (
    "device_identities", "user_identities", "user_attributes", "audience_memberships", "attribution",
    "consent_state",
)  # fmt: skip
"""What may be asked for; ``consent_state`` is Oneself's own."""

_PLACES: Final = {row.identity: place for place, row in enumerate(TABLE)}
_NAMES: Final = [row.profile for row in TABLE]
_FIRST_DEVICE: Final = len(USER_TYPES)
"""The place of each type among those that a profile tells, and its name there; user types come first."""


class Membership(msgspec.Struct, frozen=True):
    """One audience that a profile is in; ``expiration_timestamp_ms`` is None where it does not expire."""

    audience_id: int
    audience_name: str
    expiration_timestamp_ms: int | None = None


class Shown(msgspec.Struct, frozen=True):
    """What a workspace shows of what it knows; ``attributes`` has those with a value, as JSON where it is at hand."""

    stored_ms: int
    attributes: Mapping[str, AttributeValue] | msgspec.Raw
    consent: Mapping[str, Mapping[str, Consent]]
    attribution: Attribution | None


def shown_of(known: WorkspaceProfile) -> Shown:
    """Return what a workspace shows of what it knows."""
    return Shown(known.stored_ms, values_of(known.attributes), known.consent, known.attribution)


class FieldsError(ValueError):
    """A ``fields`` parameter that cannot be answered; the message names the field and what is allowed."""


def read_fields(text: str) -> frozenset[str]:
    """Return the fields of a comma-separated list; raise ``FieldsError`` where it is empty or names another."""
    fields = frozenset(field.strip() for field in text.split(",") if field.strip())
    if not fields:
        raise FieldsError(f"fields is missing; it names one or more of {', '.join(FIELDS)}")
    unknown = sorted(fields.difference(FIELDS))
    if unknown:
        raise FieldsError(f"fields names {unknown[0]!r}; it may name {', '.join(FIELDS)}")
    return fields


def render(
    mpid: int,
    person: Person,
    workspace: Shown | None,
    identities: Iterable[tuple[str, str]],
    memberships: Iterable[Membership],
    fields: Collection[str],
) -> dict[str, Any]:
    """Return a profile as the Profile API gives it, with those ``fields`` that were asked for.

    ``identities`` are ``(type, value)``, as many of a type as the profile holds.
    """
    answer: dict[str, Any] = {
        "mpid": mpid,
        "created_timestamp_ms": person.first_seen_ms,
        "last_stored_timestamp_ms": person.stored_ms,
        "is_opted_out": person.opted_out is not None and person.opted_out.value,
        "limit_ad_tracking": None if person.limit_ad_tracking is None else person.limit_ad_tracking.value,
    }
    if "device_identities" in fields or "user_identities" in fields:
        of_devices: list[dict[str, str]] = []
        of_users: list[dict[str, str]] = []
        for place, value in sorted([(_PLACES[type_], value) for type_, value in identities]):
            name = _NAMES[place]
            if name is not None:
                shown = {"type": name, "encoding": "none", "value": value}
                (of_users if place < _FIRST_DEVICE else of_devices).append(shown)
        if "device_identities" in fields:
            answer["device_identities"] = of_devices
        if "user_identities" in fields:
            answer["user_identities"] = of_users
    if "user_attributes" in fields:
        answer["account_userattributes"] = None
        answer["user_attributes"] = {} if workspace is None else workspace.attributes
    if "audience_memberships" in fields:
        answer["audience_memberships"] = list(memberships)
    if "attribution" in fields:
        answer["attribution"] = None if workspace is None else _attribution(workspace.attribution)
    if "consent_state" in fields:
        consent: Mapping[str, Mapping[str, Consent]] = {} if workspace is None else workspace.consent
        answer["consent_state"] = {
            regulation: {purpose: _consent(said) for purpose, said in purposes.items()}
            for regulation, purposes in consent.items()
        }
    return answer


def _attribution(attribution: Attribution | None) -> dict[str, Any] | None:
    if attribution is None:
        return None
    return {
        "service_provider": attribution.service_provider or None,
        "publisher": attribution.publisher,
        "campaign": attribution.campaign,
        "timestamp_unixtime_ms": attribution.at_ms,
    }


def _consent(said: Consent) -> dict[str, Any]:
    told: dict[str, Any] = {"consented": said.consented, "timestamp_unixtime_ms": said.at_ms}
    for name in ("document", "location", "hardware_id"):
        value = getattr(said, name)
        if value is not None:
            told[name] = value
    return told
