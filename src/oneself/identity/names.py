"""The identity types and their names on every surface (docs/identity.md, "Types").

Inside Oneself an identity type always has its Identity API name. Every other surface is translated at the
edge by the one table in this module.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple


class Names(NamedTuple):
    """One identity type under each surface's name; ``None`` where the surface does not know the type."""

    identity: str
    events: str | None
    dsr: str | None
    profile: str | None
    csv: str | None


_USER: Final = (
    Names("customerid", "customer_id", "controller_customer_id", "customer_id", "user_identities.customerid"),
    Names("mobile_number", "mobile_number", "mobile_number", "mobile_number", None),
    Names("phone_number_2", "phone_number_2", "phone_number_2", "phone_number_2", None),
    Names("phone_number_3", "phone_number_3", "phone_number_3", "phone_number_3", None),
    Names("email", "email", "email", "email", "user_identities.email"),
    Names("other", "other", "other", "other", "user_identities.other"),
    Names("other2", "other_id_2", "other2", "other2", "user_identities.other2"),
    Names("other3", "other_id_3", "other3", "other3", "user_identities.other3"),
    Names("other4", "other_id_4", "other4", "other4", "user_identities.other4"),
    *(Names(f"other{n}", f"other_id_{n}", f"other{n}", f"other{n}", None) for n in range(5, 11)),
    Names("facebook", "facebook", None, "facebook_id", "user_identities.facebook"),
    Names("facebookcustomaudienceid", "facebook_custom_audience_id", None, "facebook_custom_audience_id", None),
    Names("google", "google", None, "google_id", "user_identities.google"),
    Names("twitter", "twitter", None, "twitter_id", "user_identities.twitter"),
    Names("microsoft", "microsoft", None, "microsoft_id", "user_identities.microsoft"),
    Names("yahoo", "yahoo", None, "yahoo_id", "user_identities.yahoo"),
    Names("alias", "alias", None, None, None),
)

_DEVICE: Final = (
    Names(
        "ios_idfa", "ios_advertising_id", "ios_advertising_id", "ios_advertising_id", "device_info.ios_advertising_id"
    ),
    Names("ios_idfv", "ios_idfv", "ios_vendor_id", "ios_vendor_id", "device_info.ios_idfv"),
    Names(
        "android_aaid",
        "android_advertising_id",
        "android_advertising_id",
        "google_advertising_id",
        "device_info.android_advertising_id",
    ),
    Names(
        "fire_aid",
        "fire_advertising_id",
        "fire_advertising_id",
        "fire_advertising_id",
        "device_info.fire_advertising_id",
    ),
    Names("android_uuid", "android_uuid", "android_id", "android_id", "device_info.android_uuid"),
    Names(
        "roku_aid",
        "roku_advertising_id",
        "roku_advertising_id",
        "roku_advertising_id",
        "device_info.roku_advertising_id",
    ),
    Names(
        "roku_publisher_id",
        "roku_publisher_id",
        "roku_publisher_id",
        "roku_publisher_id",
        "device_info.roku_publisher_id",
    ),
    Names(
        "microsoft_publisher_id", "microsoft_publisher_id", "microsoft_publisher_id", "microsoft_publisher_id", None
    ),
    Names(
        "microsoft_aid",
        "microsoft_advertising_id",
        "microsoft_advertising_id",
        "microsoft_advertising_id",
        "device_info.microsoft_advertising_id",
    ),
    Names("amp_id", "amp_id", None, "amp_id", None),
    Names("push_token", "push_token", None, "push_notification_token", None),
    Names("device_application_stamp", "mp_deviceid", None, "device_application_stamp", None),
)

TABLE: Final = _USER + _DEVICE
"""Every identity type, user types first."""

USER_TYPES: Final = frozenset(row.identity for row in _USER)
DEVICE_TYPES: Final = frozenset(row.identity for row in _DEVICE)
IDENTITY_TYPES: Final = USER_TYPES | DEVICE_TYPES
PHONE_TYPES: Final = frozenset({"mobile_number", "phone_number_2", "phone_number_3"})

FROM_EVENTS: Final = MappingProxyType(
    {row.identity: row.identity for row in TABLE} | {row.events: row.identity for row in TABLE if row.events}
)
"""Events API name (either vocabulary that clients use) to identity type."""

DEFAULT_PRIORITY: Final = tuple(
    row.identity for row in TABLE if row.identity not in {"facebookcustomaudienceid", "alias", "amp_id", "push_token"}
)
"""The documented 18-entry order, with phone numbers, ``other2`` … ``other10`` and ``fire_aid`` expanded."""
