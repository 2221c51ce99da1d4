"""The fields of a batch that columns may name, and what their cells may be (docs/import-export.md, "Columns")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from oneself.bulk.documents import Unfit, decoded
from oneself.identity.names import FROM_EVENTS, USER_TYPES

__all__ = [
    "BOOLEANS",
    "FIELDS",
    "ONE_OF",
    "STRUCTURED",
    "WAREHOUSE",
    "BadCell",
    "Convert",
    "converter",
    "leaf",
    "path",
    "sample",
]

FIELDS: Final = frozenset({
    "events", "environment", "user_identities", "user_attributes", "deleted_user_attributes", "device_info",
    "application_info", "context", "consent_state", "integration_attributes", "partner_identities",
    "source_request_id", "mpid", "ip", "mp_deviceid", "attribution_info", "timestamp_unixtime_ms", "sdk_version",
    "source_info", "batch_id", "origin_mpid",
})  # fmt: skip
"""The fields of a batch that a column may name or lead into."""

WAREHOUSE: Final[Mapping[str, str]] = MappingProxyType({
    **{name: f"user_identities.{name}" for name, type_ in FROM_EVENTS.items() if type_ in USER_TYPES - {"alias"}},
    **{name: f"device_info.{name}" for name, type_ in FROM_EVENTS.items() if type_ not in USER_TYPES},
    "mp_deviceid": "mp_deviceid",
    "device_application_stamp": "mp_deviceid",
})  # fmt: skip
"""The plain column names of a warehouse's tables, which are the names of identity types, and their fields."""

ONE_OF: Final = frozenset({"events", "products", "promotions", "product_impressions"})
"""Arrays, of which a row has one item."""

STRUCTURED: Final = frozenset({
    "events", "user_identities", "user_attributes", "deleted_user_attributes", "device_info", "application_info",
    "context", "consent_state", "gdpr", "ccpa", "integration_attributes", "partner_identities", "attribution_info",
    "source_info", "data_plan", "location", "data", "custom_attributes", "custom_flags", "product_action",
    "products", "promotion_action", "promotions", "product_impressions", "shopping_cart", "device_current_state",
})  # fmt: skip
"""Objects and arrays: a cell of one is JSON."""

_KEYED: Final = frozenset({
    "user_attributes", "user_identities", "device_info", "custom_attributes", "custom_flags", "partner_identities",
})  # fmt: skip
"""In these objects the rest of a path is one key."""

_TEXTS: Final = frozenset({
    "user_attributes", "user_identities", "custom_attributes", "custom_flags", "partner_identities",
    "integration_attributes",
})  # fmt: skip
"""In these objects every cell is text."""

_INTEGERS: Final = frozenset({
    "screen_height", "screen_width", "screen_dpi", "quantity", "position", "checkout_step", "event_num",
    "session_id", "event_id", "batch_id", "origin_mpid", "session_number", "plan_version",
})  # fmt: skip
_NUMBERS: Final = frozenset({
    "price", "total_product_amount", "total_amount", "tax_amount", "shipping_amount", "latitude", "longitude",
    "accuracy", "timezone_offset", "lifetime_value_change", "battery_level",
})  # fmt: skip
BOOLEANS: Final = frozenset({
    "is_opted_out", "register", "is_first_run", "is_upgrade", "deleted", "is_new_attribute", "is_non_interactive",
    "consented", "limit_ad_tracking", "is_tablet", "is_dst", "has_nfc", "bluetooth_enabled", "supports_telephony",
    "push_notification_sound_enabled", "push_notification_vibrate_enabled", "is_goal_defined", "is_main_thread",
    "successfully_closed", "exception_handled", "is_historical",
})  # fmt: skip
"""Fields that are true or false, and in text also 1 or 0."""
_YES: Final = {"true": True, "false": False, "1": True, "0": False}

_LONGEST_SHOWN: Final = 40

Convert = Callable[[str], Any]


class BadCell(ValueError):
    """A cell that its field cannot have; the message says which and why."""


def path(field: str) -> Iterator[str]:
    """Yield the names that lead to a field; the last has dots where the keys of an object are anybody's."""
    names = field.split(".")
    for index, name in enumerate(names):
        if index and names[index - 1] in _KEYED:
            yield ".".join(names[index:])
            return
        if index == 2 and names[:2] == ["consent_state", "gdpr"] and len(names) > 3:
            yield ".".join(names[2:-1])
            yield names[-1]
            return
        yield name


def leaf(field: str) -> str:
    """Return the last name of a field's path; empty where any text may stand there."""
    names = list(path(field))
    return "" if _TEXTS.intersection(names[:-1]) else names[-1]


def converter(field: str) -> Convert | None:
    """Return what makes a cell's text the field's value; None where the text is the value.

    It raises ``BadCell`` where the text is no such value.
    """
    name = leaf(field)
    if name in STRUCTURED:
        return _json(field)
    if name in _INTEGERS or name.endswith("_ms"):
        return _integer(field)
    if name in _NUMBERS:
        return _number(field)
    if name in BOOLEANS:
        return _boolean(field)
    return None


def sample(field: str) -> Any:
    """Return a value that a field may have."""
    name = leaf(field)
    if name in STRUCTURED:
        return None
    if name in BOOLEANS:
        return True
    if name in _INTEGERS or name in _NUMBERS or name == "mpid":
        return 1
    if name == "environment":
        return "production"
    return 1_700_000_000_000 if name.endswith("_ms") else "1"


def _integer(field: str) -> Convert:
    def convert(cell: str) -> int:
        try:
            return int(cell)
        except ValueError:
            raise BadCell(f"{field}: {_shown(cell)} is no whole number") from None

    return convert


def _number(field: str) -> Convert:
    def convert(cell: str) -> int | float:
        try:
            number = msgspec.json.decode(cell)
        except msgspec.MsgspecError:
            number = None
        if type(number) is not int and type(number) is not float:
            raise BadCell(f"{field}: {_shown(cell)} is no number")
        return number

    return convert


def _boolean(field: str) -> Convert:
    def convert(cell: str) -> bool:
        said = _YES.get(cell.lower())
        if said is None:
            raise BadCell(f"{field}: {_shown(cell)} is neither true nor false")
        return said

    return convert


def _json(field: str) -> Convert:
    names = field.rpartition(".")[2] == "deleted_user_attributes"

    def convert(cell: str) -> Any:
        if names and not cell.lstrip().startswith("["):
            return [cell]
        try:
            value = decoded(cell.encode())
        except Unfit as error:
            raise BadCell(f"{field}: it {error}") from None
        if type(value) is not dict and type(value) is not list:
            raise BadCell(f"{field}: it must be a JSON object or array")
        return value

    return convert


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= _LONGEST_SHOWN else cell[:_LONGEST_SHOWN] + "…")
