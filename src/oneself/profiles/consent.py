"""Reads what a batch says of consent (docs/profiles.md, "Consent")."""

from __future__ import annotations

from typing import Any, Final

from oneself.profiles.limits import MAX_NAME, MAX_PURPOSES
from oneself.profiles.model import Consent, Ignored
from oneself.profiles.values import short, time_of

_REGULATIONS: Final = frozenset({"gdpr", "ccpa"})
_CCPA_PURPOSE: Final = "data_sale_opt_out"


def read_consent(
    sent: dict[str, Any], at_ms: int, received_ms: int, ignored: list[Ignored]
) -> dict[str, dict[str, Consent]]:
    """Return regulation to purpose to consent; ``at_ms`` is the batch's time, for a consent that has none."""
    consent = {}
    for regulation, purposes in sent.items():
        where = f"consent_state.{regulation}"
        if not purposes:
            continue  # null, {} and a language's empty array all say nothing
        if regulation not in _REGULATIONS:
            ignored.append(Ignored(where, "unknown"))
        elif type(purposes) is not dict:
            ignored.append(Ignored(where, "not_an_object"))
        else:
            if type(purposes.get("consented")) is bool:
                if regulation != "ccpa":
                    ignored.append(Ignored(where, "purpose_missing"))
                    continue
                purposes = {_CCPA_PURPOSE: purposes}
            read = _purposes(purposes, where, at_ms, received_ms, ignored)
            if read:
                consent[regulation] = read
    return consent


def _purposes(
    sent: dict[str, Any], where: str, at_ms: int, received_ms: int, ignored: list[Ignored]
) -> dict[str, Consent]:
    purposes: dict[str, Consent] = {}
    for name, said in sent.items():
        if said is None:
            continue
        purpose = name.strip().lower()
        told = said.get("timestamp_unixtime_ms") if type(said) is dict else None
        since = at_ms if told is None else time_of(told, received_ms)
        if type(said) is not dict:
            ignored.append(Ignored(f"{where}.{name}", "not_an_object"))
        elif not purpose or len(purpose) > MAX_NAME:
            ignored.append(Ignored(f"{where}.{name}", "not_a_name"))
        elif where == "consent_state.ccpa" and purpose != _CCPA_PURPOSE:
            ignored.append(Ignored(f"{where}.{name}", "unknown"))
        elif type(said.get("consented")) is not bool:
            ignored.append(Ignored(f"{where}.{name}.consented", "not_a_boolean"))
        elif not since:
            ignored.append(Ignored(f"{where}.{name}.timestamp_unixtime_ms", "not_a_time"))
        elif len(purposes) >= MAX_PURPOSES:
            ignored.append(Ignored(f"{where}.{name}", "too_many"))
        else:
            purposes[purpose] = Consent(
                since,
                said["consented"],
                _detail(said.get("document")),
                _detail(said.get("location")),
                _detail(said.get("hardware_id")),
            )
    return purposes


def _detail(value: Any) -> str | None:
    return None if value is None else short(value)
