"""What docs/profiles.md says of batches, written down a second time: slowly, and from the page alone.

It knows nothing of rows, positions or ranks kept: it holds every batch that ever came, and works out from all of
them what a user's profile shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

HOUR_MS = 3_600_000
STRONGEST_FIRST = ("platform", "server", "partner_feed", "custom_feed", "csv")
PLATFORMS = ("web", "ios", "android")


class Came(NamedTuple):
    """A batch that came: the kind of its input, what that may do, when, and the address of the request."""

    document: dict[str, Any]
    kind: str
    protection: str
    received_ms: int
    ip: str = ""


class Said(NamedTuple):
    """Something that a batch says, in the order in which it counts: its time, then the order of arrival."""

    at_ms: int
    arrival: int
    what: Any


class Taken(NamedTuple):
    """A batch that was taken in, with those of its events that had not come before."""

    arrival: int
    came: Came
    at_ms: int
    first_ms: int
    events: list[tuple[int, dict[str, Any]]]


class Shop:
    """One workspace: takes batches in one after the other, and tells what each user's profile shows."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.known = set(known)
        self.batches: dict[str, list[Taken]] = {}
        self._requests: set[tuple[str, str]] = set()
        self._messages: set[tuple[str, str]] = set()
        self._arrivals = 0

    def take(self, came: Came) -> Taken | None:
        """Take a batch in; return what there is of it, None where nothing is."""
        document, user = came.document, came.document["user_identities"]["customer_id"]
        request_id = document.get("source_request_id")
        if request_id:
            if (came.kind, request_id) in self._requests:
                return None
            self._requests.add((came.kind, request_id))
        self._arrivals += 1
        if came.protection == "only_update" and user not in self.known:
            return None
        good = [event for event in document.get("events") or [] if not is_bad(event)]
        sent = [(event_time(event, came.received_ms), event) for event in good]
        times = [at_ms for at_ms, _ in sent]
        own = document.get("timestamp_unixtime_ms")
        if not times:
            times = [came.received_ms if own is None else in_time(own, came.received_ms)]
        fresh = [event for event in sent if self._is_fresh(came.kind, event[1])]
        taken = Taken(self._arrivals, came, max(times), min(times), fresh)
        if came.protection != "only_read":
            self.known.add(user)
            self.batches.setdefault(user, []).append(taken)
        return taken

    def _is_fresh(self, input_: str, event: dict[str, Any]) -> bool:
        id_ = event["data"].get("source_message_id")
        if not id_:
            return True
        if (input_, id_) in self._messages:
            return False
        self._messages.add((input_, id_))
        return True

    def shows(self, user: str) -> dict[str, Any]:
        """Return what a user's profile shows; empty where there is none."""
        batches = self.batches.get(user, [])
        if not batches:
            return {}
        devices = {device_name(taken.came.document) for taken in batches} - {""}
        inputs = {taken.came.kind for taken in batches}
        return {
            "attributes": attributes(batches),
            "consent": consent(batches),
            "opted_out": last(opt_outs(batches)),
            "limit_ad_tracking": last(
                Said(one.at_ms, one.arrival, tracking(one.came.document.get("device_info") or {})) for one in batches
            ),
            "ip": last(Said(one.at_ms, one.arrival, address(one.came)) for one in batches),
            "seen": span(batches),
            "stored": max(taken.came.received_ms for taken in batches),
            "inputs": {kind: span([one for one in batches if one.came.kind == kind]) for kind in inputs},
            "devices": {
                name: device([one for one in batches if device_name(one.came.document) == name]) for name in devices
            },
            "timeline": sorted(
                ((one.at_ms, one.arrival, [kept["event_type"] for _, kept in one.events]) for one in batches),
                reverse=True,
            ),
        }


def is_bad(event: dict[str, Any]) -> bool:
    """A custom event needs a name; a bad event is set aside, and the rest goes on."""
    return event["event_type"] == "custom_event" and not event["data"].get("event_name")


# -- times ----------------------------------------------------------------------------------------------------------


def in_time(at_ms: int, received_ms: int) -> int:
    """A time more than an hour after its arrival is the fault of a clock, and counts as the arrival."""
    return received_ms if at_ms > received_ms + HOUR_MS else at_ms


def event_time(event: dict[str, Any], received_ms: int) -> int:
    """An event without a time happened when it arrived."""
    at_ms = event["data"].get("timestamp_unixtime_ms")
    return received_ms if at_ms is None else in_time(at_ms, received_ms)


def span(batches: list[Taken]) -> tuple[int, int]:
    """Return when something was first and last seen."""
    return min(taken.first_ms for taken in batches), max(taken.at_ms for taken in batches)


def last(said: Iterable[Said]) -> Any:
    """The latest counts; of two things at the same time, the one that arrived last."""
    latest = None
    for one in said:
        if one.what is not None and (latest is None or one[:2] >= latest[:2]):
            latest = one
    return None if latest is None else latest.what


# -- attributes -----------------------------------------------------------------------------------------------------


class Operation(NamedTuple):
    """One source sets or deletes one key at one time."""

    at_ms: int
    arrival: int
    place: int
    strength: int
    key: str
    deletes: bool
    value: Any


def attributes(batches: list[Taken]) -> dict[str, Any]:
    """Go through everything that was ever asked for, in the order of its time."""
    holders: dict[str, int] = {}
    values: dict[str, Any] = {}
    for asked in sorted(
        (operation for taken in batches for operation in operations(taken)), key=lambda operation: operation[:3]
    ):
        if asked.key in holders and holders[asked.key] < asked.strength:
            continue  # once a source has set a key, weaker sources can neither set nor delete it
        if asked.deletes:
            holders.pop(asked.key, None)
            values.pop(asked.key, None)
        else:
            holders[asked.key], values[asked.key] = asked.strength, asked.value
    return values


def operations(taken: Taken) -> Iterator[Operation]:
    """Platforms write by change events, each at its own time; all others by their map, at the batch's time."""
    document, kind = taken.came.document, taken.came.kind
    if kind in PLATFORMS:
        for place, (at_ms, event) in enumerate(taken.events):
            if event["event_type"] == "user_attribute_change":
                data = event["data"]
                deletes = bool(data.get("deleted"))
                name = spelled(data["user_attribute_name"])
                yield Operation(at_ms, taken.arrival, place, 0, name, deletes, None if deletes else form(data["new"]))
        return
    strength = STRONGEST_FIRST.index(kind)
    sets = {spelled(name): form(value) for name, value in (document.get("user_attributes") or {}).items()}
    for name in document.get("deleted_user_attributes") or []:
        if spelled(name) not in sets:
            yield Operation(taken.at_ms, taken.arrival, 0, strength, spelled(name), True, None)
    for name, value in sets.items():
        yield Operation(taken.at_ms, taken.arrival, 0, strength, name, False, value)


def spelled(name: str) -> str:
    """Of names that begin with ``$``, upper and lower case are the same."""
    return name.lower() if name[0] == "$" else name


def form(value: Any) -> Any:
    """Return a value as it is shown: numbers and booleans are written as JSON spells them, null makes a tag."""
    if isinstance(value, list):
        return [form(entry) for entry in value]
    if isinstance(value, bool):
        return {True: "true", False: "false"}[value]
    return f"{value}" if isinstance(value, int | float) else value


# -- everything else goes by time -----------------------------------------------------------------------------------


def consent(batches: list[Taken]) -> dict[tuple[str, str], bool]:
    """For each purpose the latest timestamp counts; undated, the batch's time. A partner feed cannot set consent."""
    said: dict[tuple[str, str], list[Said]] = {}
    for taken in batches:
        if taken.came.kind == "partner_feed":
            continue
        for regulation, purposes in (taken.came.document.get("consent_state") or {}).items():
            for purpose, told in (purposes or {}).items():
                at_ms = told.get("timestamp_unixtime_ms")
                at_ms = taken.at_ms if at_ms is None else in_time(at_ms, taken.came.received_ms)
                name = regulation, purpose.strip().lower()
                said.setdefault(name, []).append(Said(at_ms, taken.arrival, told["consented"]))
    return {name: last(several) for name, several in said.items()}


def opt_outs(batches: list[Taken]) -> Iterator[Said]:
    """Yield what ``opt_out`` events said; of one batch's at the same time the last counts."""
    for taken in batches:
        for at_ms, event in taken.events:
            if event["event_type"] == "opt_out":
                yield Said(at_ms, taken.arrival, bool(event["data"].get("is_opted_out")))


def tracking(info: dict[str, Any]) -> bool | None:
    """An all-zero advertising id means yes."""
    if info.get("ios_advertising_id") == "0" * 32:
        return True
    return info.get("limit_ad_tracking")


def address(came: Came) -> str | None:
    """For platforms the address is that of the request, for all others the batch's."""
    return (came.ip if came.kind in PLATFORMS else came.document.get("ip")) or None


def device_name(document: dict[str, Any]) -> str:
    """A device is named by its stamp; without one, a name is made of its identity: the same id, the same device."""
    stamp = document.get("mp_deviceid")
    if stamp:
        return str(stamp)
    id_ = (document.get("device_info") or {}).get("ios_advertising_id")
    return f"made of {id_}" if id_ and id_.strip("0") else ""


def device(batches: list[Taken]) -> dict[str, Any]:
    """Device information is merged field by field; of each push token the latest word counts."""
    fields: dict[str, list[Said]] = {}
    tokens: dict[str, list[Said]] = {}
    for taken in batches:
        info = dict(taken.came.document.get("device_info") or {})
        for name in ("att_authorization_status", "att_timestamp_unixtime_ms"):
            info.pop(name, None)
        if tracking(info) is not None:
            info["limit_ad_tracking"] = tracking(info)
        if info.get("ios_advertising_id") == "0" * 32:
            info["ios_advertising_id"] = ""  # the id is taken back
        for name, value in info.items():
            fields.setdefault(name, []).append(Said(taken.at_ms, taken.arrival, value))
        for at_ms, event in taken.events:
            if event["event_type"] == "push_registration":
                data = event["data"]
                tokens.setdefault(data["registration_token"], []).append(Said(at_ms, taken.arrival, data["register"]))
    info = {name: last(several) for name, several in fields.items()}
    return {
        "seen": span(batches),
        "info": {name: value for name, value in info.items() if value != ""},
        "push": {token: last(several) for token, several in tokens.items()},
    }
