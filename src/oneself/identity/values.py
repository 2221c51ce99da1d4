"""Which identity values count: normalisers and junk (docs/identity.md, "Values")."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Literal

import phonenumbers

from oneself.identity.names import DEVICE_TYPES, PHONE_TYPES

MAX_VALUE_LENGTH: Final = 256
"""Identity values longer than this many characters are junk."""

DEFAULT_JUNK: Final = frozenset({
    "", "null", "undefined", "none", "nan", "nil", "0", "-1", "true", "false", "anonymous", "guest", "unknown",
    "user", "test", "n/a", "[object object]", "not_authenticated",
    "00000000-0000-0000-0000-000000000000", "00000000000000000000000000000000",
})  # fmt: skip
"""Values that never become a look-up, as compared: trimmed and lower-cased."""

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-?)[0-9A-Fa-f]{4}\1[0-9A-Fa-f]{4}\1[0-9A-Fa-f]{4}\1[0-9A-Fa-f]{12}")


def normalise_email(value: str, _region: str | None = None) -> str:
    """Trim and lower-case an e-mail address."""
    return value.strip().lower()


@lru_cache(maxsize=65_536)
def normalise_phone(value: str, region: str | None) -> str:
    """Return a phone number as E.164 where it parses, else untouched.

    ``region`` is the ISO 3166 country whose national notation is understood; without it only numbers that
    start with ``+`` parse.
    """
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return value
    if not phonenumbers.is_possible_number(number):
        return value
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def normalise_device(value: str, _region: str | None = None) -> str:
    """Lower-case a device identifier that has the shape of a UUID; leave any other untouched."""
    lowered = value.lower()
    return lowered if lowered != value and _UUID.fullmatch(value) else value


NORMALISERS: Final[Mapping[str, Callable[[str, str | None], str]]] = {
    "email": normalise_email,
    **dict.fromkeys(PHONE_TYPES, normalise_phone),
    **dict.fromkeys(DEVICE_TYPES - {"amp_id", "push_token"}, normalise_device),
}
"""What brings a value of a type, given the phone region, into the form that is compared; others are untouched."""


def normalise(type_: str, value: str, phone_region: str | None = None) -> str:
    """Return the form under which a value of an identity type is compared."""
    normaliser = NORMALISERS.get(type_)
    return normaliser(value, phone_region) if normaliser else value


def why_dropped(value: str, sent: str, junk: frozenset[str]) -> Literal["", "empty", "too_long", "junk"]:
    """Say why a normalised value may never become a look-up, or return the empty string.

    ``junk`` is compared with the value in any case and trimmed, both as it is compared and as it was sent.
    """
    if len(value) > MAX_VALUE_LENGTH:
        return "too_long"
    plain = value.strip().lower()
    if not plain:
        return "empty"
    if plain in junk or (value != sent and sent.strip().lower() in junk):
        return "junk"
    return ""
