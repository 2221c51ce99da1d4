"""The OpenAPI description of the admin API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from oneself.engine import ENVIRONMENTS
from oneself.http.admin.alias_view import AliasView
from oneself.http.admin.aliases import MOST_ALIASES, AliasPage
from oneself.http.admin.description_history import HISTORY_TYPES, history_paths
from oneself.http.admin.live import LiveMessage, LiveNote
from oneself.http.admin.quarantine import MOST_ROWS, QuarantineItem, QuarantinePage, Replayed
from oneself.http.admin.query import MOST_CHARACTERS, MOST_MS
from oneself.http.admin.timeline import MOST_BATCHES, TimelinePage
from oneself.http.admin.user_view import DevicePage, UserDetails
from oneself.http.admin.users import MOST_DEVICES, FoundUsers
from oneself.http.admin.workspaces import Workspaces
from oneself.http.tokens import LIFETIME_SECONDS
from oneself.identity.names import FROM_EVENTS
from oneself.profiles import EVENT_TYPES

__all__ = ["ADMIN_TYPES", "admin_paths"]

ADMIN_TYPES: Final = [
    Workspaces, FoundUsers, UserDetails, DevicePage, TimelinePage, LiveMessage, LiveNote, QuarantinePage,
    QuarantineItem, Replayed, AliasPage, AliasView, *HISTORY_TYPES,
]  # fmt: skip

_TOKEN: Final[list[dict[str, list[str]]]] = [{"token": []}]
_READ: Final = ("400", "401", "403", "404", "408", "413", "431", "503")
_LIVE: Final = (*_READ, "429")
_WRITE: Final = (*_READ, "415", "429")
_UNDO: Final = (*_READ, "409", "429")

_STRING: Final = {"type": "string", "minLength": 1, "maxLength": MOST_CHARACTERS, "pattern": r"^[^\u0000]*$"}
_MOMENT: Final = {
    "anyOf": [
        {"type": "string", "format": "date"},
        {"type": "string", "format": "date-time"},
        {"type": "integer", "minimum": -MOST_MS, "maximum": MOST_MS},
    ]
}
_POSITION: Final = {"type": "integer", "minimum": 1, "maximum": MOST_MS}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _number(least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


_WORKSPACE: Final = {
    "name": "workspace",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "The workspace's name.",
}
_INPUT: Final = _query("input", _STRING, "Only of this input, by its name.")
_TYPE: Final = _query("type", {"type": "string", "enum": sorted(EVENT_TYPES)}, "Only events of this type.")
_ENVIRONMENT: Final = {"type": "string", "enum": list(ENVIRONMENTS)}

_SEARCH: Final = [
    _query(
        "value", _STRING, "An identity's value; with no type it may be of any, or an MPID. This or mpid is needed."
    ),
    _query("type", {"type": "string", "enum": sorted(FROM_EVENTS)}, "The type that the value is of."),
    _query("environment", _ENVIRONMENT, "Only users of this environment."),
]
_TIMELINE: Final = [
    _query("from", _MOMENT, "Only events from this time on. Without a zone it is UTC."),
    _query("to", _MOMENT, "Only events up to this time; of a date, up to its end."),
    _INPUT,
    _TYPE,
    _query("device", _STRING, "Only of this device, by its name."),
    _query("name", _STRING, "Only events of this name."),
    _query("limit", _number(1, MOST_BATCHES), "At most so many batches."),
    _query("before", _STRING, "The next of an earlier answer."),
]
_LIVE_QUERY: Final = [
    _INPUT,
    _query("device", _STRING, "Only of this device, by its name or one of its identities; of both environments."),
    _query("environment", _ENVIRONMENT, "Only of this environment; without it, device and mpid: development."),
    _TYPE,
    _query("seconds", _number(0, LIFETIME_SECONDS), "End after so many seconds."),
    {
        "name": "Last-Event-ID",
        "in": "header",
        "schema": {"type": "integer", "minimum": 0, "maximum": MOST_MS},
        "description": "The id of the last event that was seen: what came since is sent first.",
    },
]
_STREAM: Final = {
    "description": "Server-sent events: batch, whose data is a LiveMessage; gap and end, whose data is a LiveNote.",
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "required": ["event", "data"],
                "properties": {
                    "event": {"enum": ["batch", "gap", "end"]},
                    "id": {"type": "string", "pattern": "^[0-9]+$"},
                    "data": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {
                            "anyOf": [
                                {"$ref": "#/components/schemas/LiveMessage"},
                                {"$ref": "#/components/schemas/LiveNote"},
                            ]
                        },
                    },
                },
            }
        }
    },
}


def admin_paths(errors: Callable[[tuple[str, ...]], dict[str, Any]], mpid: dict[str, Any]) -> dict[str, Any]:
    """Return the paths; ``errors`` describes the answers with some statuses, ``mpid`` an MPID in a path."""

    def get(summary: str, answer: dict[str, Any], *parameters: Any, statuses: tuple[str, ...] = _READ) -> Any:
        return {
            "get": {
                "summary": summary,
                "security": _TOKEN,
                "parameters": list(parameters),
                "responses": {"200": answer, **errors(statuses)},
            }
        }

    by_mpid = _query("mpid", mpid["schema"], "The user's MPID.")
    batch = {"application/json": {"schema": {"type": "object", "description": "A batch, as an input sends it."}}}
    replay = {
        "summary": "Take in again what was set aside, as it was or as the body has it.",
        "security": _TOKEN,
        "requestBody": {"required": False, "content": batch},
        "responses": {"200": _json("Replayed", "What became of it."), **errors(_WRITE)},
    }
    here, user = "/admin/workspaces/{workspace}", "/admin/workspaces/{workspace}/users/{mpid}"
    aside = f"{here}/quarantine/{{position}}"
    users = get("Users who hold an identity.", _json("FoundUsers", "The users."), *_SEARCH, by_mpid)
    devices = [_query("after", _STRING, "The next of an earlier answer."), _limit(MOST_DEVICES, "devices")]
    aliases = [_query("before", _POSITION, "The next of an earlier answer."), _limit(MOST_ALIASES, "aliases")]
    rows = [_query("before", _POSITION, "The next of an earlier answer."), _limit(MOST_ROWS, "rows"), _INPUT]
    return {
        "/admin/workspaces": get("The client's workspaces.", _json("Workspaces", "The workspaces.")),
        f"{here}/users": {"parameters": [_WORKSPACE], **users},
        user: {
            "parameters": [_WORKSPACE, mpid],
            **get("All that is known of a user.", _json("UserDetails", "The user.")),
        },
        f"{user}/devices": {
            "parameters": [_WORKSPACE, mpid],
            **get("A user's devices, by name.", _json("DevicePage", "Devices."), *devices),
        },
        f"{user}/timeline": {
            "parameters": [_WORKSPACE, mpid],
            **get("What a user did, the latest first.", _json("TimelinePage", "Batches."), *_TIMELINE),
        },
        f"{user}/aliases": {
            "parameters": [_WORKSPACE, mpid],
            **get("A user's aliases, the latest first.", _json("AliasPage", "Aliases."), *aliases),
        },
        f"{here}/aliases/{{position}}/undo": {
            "parameters": [_WORKSPACE, _place("the alias's request")],
            "post": {
                "summary": "Take an alias out of effect.",
                "security": _TOKEN,
                "responses": {"200": _json("AliasView", "What it is now."), **errors(_UNDO)},
            },
        },
        f"{here}/live": {
            "parameters": [_WORKSPACE],
            **get("Batches as they come in.", _STREAM, *_LIVE_QUERY, by_mpid, statuses=_LIVE),
        },
        f"{here}/quarantine": {
            "parameters": [_WORKSPACE],
            **get("What was set aside, the latest first.", _json("QuarantinePage", "What was set aside."), *rows),
        },
        aside: {
            "parameters": [_WORKSPACE, _place("what was set aside")],
            **get("One thing that was set aside.", _json("QuarantineItem", "It, with its reasons.")),
        },
        f"{aside}/replay": {"parameters": [_WORKSPACE, _place("what was set aside")], "post": replay},
        **history_paths(errors, mpid),
    }


def _place(what: str) -> dict[str, Any]:
    description = f"The place in the journal of {what}."
    return {"name": "position", "in": "path", "required": True, "schema": _POSITION, "description": description}


def _limit(most: int, what: str) -> dict[str, Any]:
    return _query("limit", _number(1, most), f"At most so many {what}.")


def _json(name: str, description: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
