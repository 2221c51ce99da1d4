"""The fields that several request bodies have (docs/http.md, "Bodies")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from oneself.http.wire import HttpError
from oneself.identity.names import FROM_EVENTS

__all__ = [
    "ALLOWED",
    "Client",
    "Environment",
    "Milliseconds",
    "Mpid",
    "RequestId",
    "Text",
    "TypeName",
    "mpid_of",
]

_EXACT: Final = 2**53
_MPIDS: Final = range(-(2**63), 2**63)
_NO_NUL: Final = {"pattern": r"^[^\u0000]*$"}
_MPID_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string", "pattern": "^-?[0-9]{1,19}$|^$"},
        {"type": "integer", "minimum": _MPIDS[0], "maximum": _MPIDS[-1]},
    ]
}
_NOT_AN_MPID: Final = "it is not an MPID, a signed 64-bit integer."

Environment = Literal["production", "development"]
Text = Annotated[str, msgspec.Meta(extra_json_schema=_NO_NUL)]
Client = Annotated[dict[Text, Text | None] | None, msgspec.Meta(description="What client sends the request.")]
Mpid = Annotated[str | int | float, msgspec.Meta(description="An MPID.", extra_json_schema={"allOf": [_MPID_SCHEMA]})]
Milliseconds = Annotated[
    float, msgspec.Meta(ge=-_EXACT, le=_EXACT, multiple_of=1, description="Unix time, ms; a whole number.")
]
RequestId = Annotated[
    str,
    msgspec.Meta(
        max_length=256,
        description="Makes the request repeatable: with the same id it is answered as before and done once.",
        extra_json_schema=_NO_NUL,
    ),
]

if TYPE_CHECKING:
    TypeName = str
else:
    TypeName = Literal[tuple(sorted(FROM_EVENTS))]

_TYPE_NAMES: Final = ", ".join(sorted(FROM_EVENTS))

ALLOWED: Final = {
    "environment": "production, development",
    "known_identities": _TYPE_NAMES,
    "identity_type": _TYPE_NAMES,
    "scope": "device, mpid",
    "request_type": "alias",
}
"""What a field takes, by its last name; of an object, its members' names."""


def mpid_of(value: str | float | None, field: str) -> int | None:
    """Return the MPID that a field gives as string or number; None for null, empty or 0.

    Raises ``HttpError`` 400. A number with a fraction, or one that is not exact as a float, is no MPID.
    """
    if not value:
        return None
    if isinstance(value, str):
        digits = value[1:] if value[0] == "-" else value
        if not digits.isdecimal() or not digits.isascii() or len(digits) > 19:
            raise HttpError(400, f"{field}: {_NOT_AN_MPID}")
        value = int(value)
    elif isinstance(value, float):
        if not value.is_integer() or abs(value) >= _EXACT:
            raise HttpError(400, f"{field}: {_NOT_AN_MPID}")
        value = int(value)
    if value not in _MPIDS:
        raise HttpError(400, f"{field}: {_NOT_AN_MPID}")
    return value or None
