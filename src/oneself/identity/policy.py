"""Identity policies: the five presets, every override, and what makes a policy impossible (docs/policies.md)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from oneself.identity.names import DEFAULT_PRIORITY, IDENTITY_TYPES
from oneself.identity.values import DEFAULT_JUNK

Strategy = Literal["default", "profile_conversion", "profile_link", "profile_isolation", "best_match"]
OnNewKnown = Literal["convert", "create"]
OnLogout = Literal["create", "return_anonymous", "none"]

_DURATION: Final = re.compile(r"(\d{1,15})\s*(ms|s|m|h|d)?")
_UNIT_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, None: 1000}


class PolicyError(ValueError):
    """A policy that cannot work; ``field`` names the setting and the message says what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A policy as configured: a preset and what is overridden of it (``[scope.NAME]`` in the configuration).

    Durations are strings such as ``"24h"`` or whole seconds.
    """

    strategy: Strategy = "default"
    priority: tuple[str, ...] | None = None
    login: tuple[str, ...] | None = None
    unique: tuple[str, ...] | None = None
    immutable: tuple[str, ...] | None = None
    on_new_known: OnNewKnown | None = None
    on_logout: OnLogout | None = None
    search_immutable_only: bool = False
    junk: tuple[str, ...] | None = None
    junk_also: tuple[str, ...] = ()
    max_known_profiles_per_value: int = 20
    max_values_per_profile: int = 100
    phone_region: str | None = None
    alias_delay: str | int = "24h"
    alias_window: str | int = "90d"


class Policy(msgspec.Struct, frozen=True):
    """The rules of one scope, complete and known to be possible.

    ``rank`` gives each look-up type its place in the priority, 0 first. Build one with ``build``.
    """

    strategy: Strategy
    priority: tuple[str, ...]
    login: frozenset[str]
    unique: frozenset[str]
    immutable: frozenset[str]
    on_new_known: OnNewKnown
    on_logout: OnLogout
    search_immutable_only: bool
    junk: frozenset[str]
    max_known_profiles_per_value: int
    max_values_per_profile: int
    phone_region: str | None
    alias_delay_ms: int
    alias_window_ms: int
    rank: dict[str, int]

    @property
    def alias_allowed(self) -> bool:
        """Whether this strategy takes alias requests (docs/alias.md)."""
        return self.strategy in ("default", "profile_conversion", "profile_link")


class _Preset(msgspec.Struct, frozen=True):
    login: tuple[str, ...]
    immutable: tuple[str, ...]
    on_new_known: OnNewKnown
    on_logout: OnLogout


PRESETS: Final = MappingProxyType(
    {
        "default": _Preset(("customerid",), ("customerid",), "convert", "create"),
        "profile_conversion": _Preset(("customerid",), (), "convert", "create"),
        "profile_link": _Preset(("customerid", "email"), (), "create", "create"),
        "profile_isolation": _Preset(("customerid", "email"), (), "create", "return_anonymous"),
        "best_match": _Preset((), (), "convert", "none"),
    }
)
"""What each strategy fills in; its unique types are its login types."""


def parse_duration(value: str | int, field: str) -> int:
    """Return milliseconds for ``"24h"``, ``"90d"``, ``"10s"`` or whole seconds; raise ``PolicyError``."""
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise PolicyError(field, f"{value!r} is no duration; write for example 30s, 15m, 24h or 90d")
    return int(match[1]) * _UNIT_MS[match[2]]


def build(settings: PolicySettings | None = None) -> Policy:
    """Complete settings from their preset and return the policy, or raise ``PolicyError`` naming the field.

    Rules: docs/policies.md. Login, unique and immutable types must be look-ups (in the priority); immutable
    types must be login and unique; ``return_anonymous`` needs login types to tell users apart.
    """
    given = settings or PolicySettings()
    preset = PRESETS[given.strategy]
    priority = _types(given.priority, DEFAULT_PRIORITY, "priority")
    if not priority:
        raise PolicyError("priority", "needs at least one identity type")
    look_up = frozenset(priority)
    login = _types(given.login, preset.login, "login")
    unique = _types(given.unique, login if given.login is not None else preset.login, "unique")
    inherited = tuple(t for t in preset.immutable if t in login and t in unique)
    immutable = _types(given.immutable, inherited, "immutable")
    for field, types in (("login", login), ("unique", unique), ("immutable", immutable)):
        for type_ in types:
            if type_ not in look_up:
                raise PolicyError(field, f"{type_} must be in priority, or it could never be looked up")
    for type_ in immutable:
        if type_ not in login or type_ not in unique:
            raise PolicyError("immutable", f"{type_} must also be in login and in unique")
    on_logout = given.on_logout or preset.on_logout
    if given.strategy == "best_match" and login:
        raise PolicyError("login", "best_match has no login types; leave it empty or choose another strategy")
    if not login and on_logout == "return_anonymous":
        raise PolicyError("on_logout", "return_anonymous needs at least one login type; use none or create")
    if given.search_immutable_only and not immutable:
        raise PolicyError("search_immutable_only", "needs at least one immutable type, or search finds nobody")
    for field in ("max_known_profiles_per_value", "max_values_per_profile"):
        if not 0 <= getattr(given, field) <= 1_000_000_000:
            raise PolicyError(field, "must be 0 (off) or a whole number up to 1000000000")
    if given.phone_region is not None and not re.fullmatch("[A-Z]{2}", given.phone_region):
        raise PolicyError("phone_region", "must be a two-letter country code such as US, or left out")
    junk = DEFAULT_JUNK if given.junk is None else frozenset(_plain(v) for v in given.junk)
    delay = parse_duration(given.alias_delay, "alias_delay")
    if delay > 365 * 86_400_000:
        raise PolicyError("alias_delay", "must be at most 365d")
    window = parse_duration(given.alias_window, "alias_window")
    if not 0 < window <= 90 * 86_400_000:
        raise PolicyError("alias_window", "must be more than 0 and at most 90d")
    return Policy(
        strategy=given.strategy,
        priority=priority,
        login=frozenset(login),
        unique=frozenset(unique),
        immutable=frozenset(immutable),
        on_new_known=given.on_new_known or preset.on_new_known,
        on_logout=on_logout,
        search_immutable_only=given.search_immutable_only,
        junk=junk | {_plain(v) for v in given.junk_also},
        max_known_profiles_per_value=given.max_known_profiles_per_value,
        max_values_per_profile=given.max_values_per_profile,
        phone_region=given.phone_region,
        alias_delay_ms=delay,
        alias_window_ms=window,
        rank={type_: place for place, type_ in enumerate(priority)},
    )


def _plain(value: str) -> str:
    return value.strip().lower()


def _types(given: Sequence[str] | None, preset: Sequence[str], field: str) -> tuple[str, ...]:
    types = tuple(preset if given is None else given)
    for type_ in types:
        if type_ not in IDENTITY_TYPES:
            raise PolicyError(field, f"{type_!r} is no identity type; allowed: {', '.join(sorted(IDENTITY_TYPES))}")
    if len(set(types)) != len(types):
        raise PolicyError(field, "names a type twice")
    return types


def settings_from(document: dict[str, object]) -> PolicySettings:
    """Return settings from a plain mapping; a wrong name or type raises ``PolicyError`` naming the key."""
    try:
        return msgspec.convert(document, PolicySettings)
    except msgspec.ValidationError as error:
        text = str(error)
        place = re.search(r"`\$\.([^`]*)`$", text)
        unknown = re.search(r"unknown field `([^`]*)`", text)
        field = unknown[1] if unknown else place[1] if place else "policy"
        if unknown:
            names = ", ".join(f.encode_name for f in msgspec.structs.fields(PolicySettings))
            raise PolicyError(field, f"is no setting of a scope; allowed: {names}") from None
        raise PolicyError(field, text.split(" - at")[0]) from None
