"""Which identity values count: normalisers and junk (docs/identity.md, "Values")."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

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


def normalise_email(value: str) -> str:
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


def normalise_device(value: str) -> str:
    """Lower-case a device identifier that has the shape of a UUID; leave any other untouched."""
    if value.islower() or not _UUID.fullmatch(value):
        return value
    return value.lower()


_PLAIN: Final[Mapping[str, Callable[[str], str]]] = {
    "email": normalise_email,
    **dict.fromkeys(DEVICE_TYPES - {"amp_id", "push_token"}, normalise_device),
}


def normalise(type_: str, value: str, phone_region: str | None = None) -> str:
    """Return the form under which a value of an identity type is compared."""
    if type_ in PHONE_TYPES:
        return normalise_phone(value, phone_region)
    plain = _PLAIN.get(type_)
    return plain(value) if plain else value


def is_junk(value: str, junk: frozenset[str]) -> bool:
    """Tell whether a value may never become a look-up, in any case and trimmed."""
    return len(value) > MAX_VALUE_LENGTH or value.strip().lower() in junk
