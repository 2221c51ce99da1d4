"""Reads a batch's events one by one; a bad one is set aside and the rest goes on (docs/profiles.md, "Events")."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final, NamedTuple

from oneself.profiles.limits import (
    EARLIEST_MS,
    HISTORICAL_AGE_MS,
    MAX_ATTRIBUTES,
    MAX_EVENT_ATTRIBUTES,
    MAX_NAME,
    MAX_VALUE,
)
from oneself.profiles.model import (
    AttributeChange,
    Attribution,
    BatchError,
    Event,
    Flag,
    Ignored,
    PushChange,
    Quarantined,
    Text,
)
from oneself.profiles.values import Unfit, attribute_name, attribute_value, short, text, time_of


class _Shape(NamedTuple):
    """What an event type calls its events by, and the fields it cannot do without."""

    name: str = ""
    required: tuple[str, ...] = ()


_SHAPES: Final = {
    "session_start": _Shape(),
    "session_end": _Shape(),
    "screen_view": _Shape("screen_name", ("screen_name",)),
    "custom_event": _Shape("event_name", ("event_name", "custom_event_type")),
    "crash_report": _Shape("class_name"),
    "opt_out": _Shape(),
    "first_run": _Shape(),
    "pre_attribution": _Shape(),
    "push_registration": _Shape("", ("register", "registration_token")),
    "application_state_transition": _Shape("application_transition_type", ("application_transition_type",)),
    "push_message": _Shape("push_message_type", ("push_message_type",)),
    "network_performance": _Shape("url"),
    "breadcrumb": _Shape("label", ("label",)),
    "profile": _Shape("profile_event_type"),
    "push_reaction": _Shape(),
    "commerce_event": _Shape(),
    "user_attribute_change": _Shape("user_attribute_name", ("user_attribute_name",)),
    "user_identity_change": _Shape(),
    "uninstall": _Shape(),
}

EVENT_TYPES: Final = frozenset(_SHAPES)
_EFFECTIVE: Final = frozenset({
    "custom_event", "opt_out", "first_run", "push_registration", "application_state_transition",
    "user_attribute_change",
})  # fmt: skip
"""Types of which one event can change a profile."""

_PROMOTION_NUMBERS: Final = {"1": "view", "2": "click"}
"""The web SDK writes the action of a promotion as a number."""


class Bad(ValueError):
    """An event that cannot be used; the message says why."""


class EventReader:
    """The events of one batch, and what they do to a profile, gathered event by event."""

    __slots__ = (
        "attribution", "changes", "events", "ignored", "installed", "names", "opted_out", "platform", "push",
        "quarantined", "received_ms", "referrer", "times",
    )  # fmt: skip

    def __init__(self, platform: bool, received_ms: int, referrer: str, ignored: list[Ignored]) -> None:
        self.platform = platform
        self.received_ms = received_ms
        self.referrer = referrer
        self.ignored = ignored
        self.events: list[Event] = []
        self.times: list[int] = []
        self.quarantined: list[Quarantined] = []
        self.changes: list[AttributeChange] = []
        self.push: list[PushChange] = []
        self.names: set[str] = set()
        self.opted_out: Flag | None = None
        self.attribution: Attribution | None = None
        self.installed: Text | None = None

    def read(self, events: list[Any], without: Container[int] = ()) -> None:
        """Take in a batch's events, in their order; of those at the places ``without`` only the times count."""
        for index, sent in enumerate(events):
            left_out = index in without
            try:
                event = self._event(index, sent)
                if event.type in _EFFECTIVE and not left_out:
                    self._take_effect(index, event)
            except Bad as bad:
                self.quarantined.append(Quarantined(index, str(bad), sent))
            else:
                self.times.append(event.at_ms)
                if not left_out:
                    self.events.append(event)

    def _event(self, index: int, sent: Any) -> Event:
        if type(sent) is not dict:
            raise Bad("an event must be an object")
        type_ = sent.get("event_type")
        if type(type_) is not str or type_ not in _SHAPES:
            raise Bad("event_type is missing" if type_ is None else "event_type is not one that is known")
        called, required = _SHAPES[type_]
        data = sent.get("data")
        if type(data) is not dict:
            if data is not None:
                raise Bad("data must be an object")
            data = {}
        for field in required:
            value = data.get(field)
            if value is None or value == "":
                raise Bad(f"data.{field} is missing")
        sent_time = data.get("timestamp_unixtime_ms")
        at_ms = self.received_ms
        if type(sent_time) is int and EARLIEST_MS <= sent_time <= at_ms:
            at_ms = sent_time
        elif sent_time is not None:
            at_ms = time_of(sent_time, at_ms)
        if not at_ms:
            raise Bad("data.timestamp_unixtime_ms is not a time in milliseconds")
        name = data.get(called) if called else ""
        if type(name) is not str:
            name = _name(called, name)
        elif type_ == "commerce_event":
            name = _commerce_name(data)
        if len(name) > MAX_NAME:
            name = name[:MAX_NAME]
            if type_ in ("custom_event", "screen_view"):
                data = {**data, called: name}
                self.ignored.append(Ignored(f"events[{index}].data.{called}", "truncated"))
        attributes = data.get("custom_attributes")
        if attributes:
            data = self._limited(index, data, attributes)
        id_ = data.get("source_message_id")
        return Event(type_, at_ms, name, id_ if type(id_) is str else text(id_) or "", data)

    def _limited(self, index: int, data: dict[str, Any], attributes: Any) -> dict[str, Any]:
        """Return an event's data with its attributes in the limits."""
        if type(attributes) is not dict:
            raise Bad("data.custom_attributes must be an object")
        where = f"events[{index}].data.custom_attributes"
        if len(attributes) > MAX_EVENT_ATTRIBUTES:
            self.ignored.append(Ignored(where, "too_many"))
            return {**data, "custom_attributes": None}
        for key, value in attributes.items():
            if len(key) > MAX_NAME or (type(value) is str and len(value) > MAX_VALUE):
                break
        else:
            return data
        kept: dict[str, Any] = {}
        for key, value in attributes.items():
            name = key[:MAX_NAME]
            if type(value) is str and len(value) > MAX_VALUE:
                self.ignored.append(Ignored(f"{where}.{name}", "value_too_long"))
                continue
            if name != key:
                self.ignored.append(Ignored(f"{where}.{name}", "truncated"))
            kept[name] = value
        return {**data, "custom_attributes": kept}

    # -- what an event does to a profile ------------------------------------------------------------------------

    def _take_effect(self, index: int, event: Event) -> None:
        data = event.data
        if event.type == "user_attribute_change":
            if self.platform:
                self._attribute(index, event)
        elif event.type == "custom_event":
            if data["custom_event_type"] == "attribution" and event.name.lower() == "attribution":
                self._attributed(event)
        elif event.type == "opt_out":
            said = _boolean(data, "is_opted_out")
            if self.opted_out is None or event.at_ms >= self.opted_out.at_ms:
                self.opted_out = Flag(event.at_ms, said)
        elif event.type == "push_registration":
            token = text(data["registration_token"])
            registered = _boolean(data, "register")
            if token is None or len(token) > MAX_VALUE:
                raise Bad("data.registration_token is not a token")
            self.push.append(PushChange(token, event.at_ms, registered))
        elif (event.type == "first_run" or _boolean(data, "is_first_run")) and (
            self.installed is None or event.at_ms >= self.installed.at_ms
        ):
            self.installed = Text(event.at_ms, self.referrer or short(data.get("launch_referral")))

    def _attribute(self, index: int, event: Event) -> None:
        deleted = _boolean(event.data, "deleted")
        name = attribute_name(event.name)
        try:
            value = None if deleted else attribute_value(event.data.get("new"))
        except Unfit as unfit:
            self.ignored.append(Ignored(f"events[{index}].data.new", str(unfit)))
            return
        if name not in self.names:
            if len(self.names) >= MAX_ATTRIBUTES:
                self.ignored.append(Ignored(f"events[{index}].data.user_attribute_name", "too_many"))
                return
            self.names.add(name)
        self.changes.append(AttributeChange(name, event.at_ms, value, deleted))

    def _attributed(self, event: Event) -> None:
        attributes = event.data.get("custom_attributes") or {}
        publisher, campaign = short(attributes.get("publisher")), short(attributes.get("campaign"))
        if not publisher or not campaign:
            return
        if self.attribution is None or event.at_ms >= self.attribution.at_ms:
            self.attribution = Attribution(event.at_ms, publisher, campaign)


NO_EVENTS: Final = EventReader(False, 0, "", [])
"""What reading no event comes to; to be looked at only."""


def _name(field: str, value: Any) -> str:
    if value is None:
        return ""
    written = text(value)
    if written is None:
        raise Bad(f"data.{field} must be text")
    return written


def _commerce_name(data: dict[str, Any]) -> str:
    """Return the action of a commerce event, which must have one of three kinds of content."""
    action = data.get("product_action")
    if type(action) is dict:
        return text(action.get("action")) or ""
    promotion = data.get("promotion_action")
    if type(promotion) is dict:
        said = text(promotion.get("action")) or "view"
        return "promotion_" + _PROMOTION_NUMBERS.get(said, said)
    if type(data.get("product_impressions")) is list:
        return "impression"
    raise Bad("data needs product_action, promotion_action or product_impressions")


def _boolean(data: dict[str, Any], field: str) -> bool:
    value = data.get(field)
    if value is None:
        return False
    if type(value) is not bool:
        raise Bad(f"data.{field} must be true or false")
    return value


def check_historical(events: list[Any], received_ms: int) -> None:
    """Raise ``BatchError`` where a batch may not come as a historical one: each event dated, and old enough."""
    if not events:
        raise BatchError("events", "a historical batch must have events")
    for index, sent in enumerate(events):
        data = sent.get("data") if type(sent) is dict else None
        value = data.get("timestamp_unixtime_ms") if type(data) is dict else None
        field = f"events[{index}].data.timestamp_unixtime_ms"
        if value is None:
            raise BatchError(field, "every event of a historical batch must have a time")
        if time_of(value, received_ms) > received_ms - HISTORICAL_AGE_MS:
            raise BatchError(field, "every event of a historical batch must be at least 72 hours old")
