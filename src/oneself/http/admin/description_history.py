"""The OpenAPI description of the part of the admin API that is about decisions: why, policies and guards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from oneself.engine import ENVIRONMENTS
from oneself.history import GuardsSeen, Life, Report
from oneself.history.undo.report import UndoReport
from oneself.http.admin.guards import MOST_GUARDED, GuardedPage, ReleaseBody, Released
from oneself.http.admin.policies import MOST_VERSIONS, PolicyVersions, PolicyView, PromoteBody, RestoreBody
from oneself.http.admin.query import MOST_CHARACTERS, MOST_MS
from oneself.http.admin.undo import SplitBody, UndoBody
from oneself.http.admin.whatif import GuardReport, GuardReportBody, WhatIf, WhatIfBody
from oneself.http.admin.why import MOST_DECISIONS, Decisions, IdentityLives
from oneself.identity.names import FROM_EVENTS

__all__ = ["HISTORY_TYPES", "history_paths"]

HISTORY_TYPES: Final = [
    Life, Decisions, IdentityLives, PolicyVersions, PolicyView, PromoteBody, RestoreBody, GuardedPage, Released,
    ReleaseBody, UndoReport, UndoBody, SplitBody,
    Report, WhatIf, WhatIfBody, GuardsSeen, GuardReport, GuardReportBody,
]  # fmt: skip

_TOKEN: Final[list[dict[str, list[str]]]] = [{"token": []}]
_READ: Final = ("400", "401", "403", "404", "408", "413", "431", "503")
_WRITE: Final = (*_READ, "415", "429")
_CONFLICT: Final = (*_WRITE, "409")

_HERE: Final = "/admin/workspaces/{workspace}"
_WORKSPACE: Final = {
    "name": "workspace",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "The workspace's name.",
}
_VERSION: Final = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_VERSIONS},
    "description": "The number of a policy version of the workspace's scope.",
}
_STRING: Final = {"type": "string", "minLength": 1, "maxLength": MOST_CHARACTERS, "pattern": r"^[^\u0000]*$"}
_POSITION: Final = {"type": "integer", "minimum": 1, "maximum": MOST_MS}

Errors = Callable[[tuple[str, ...]], dict[str, Any]]


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


_LIFE: Final = [
    _query("before", _POSITION, "The next of an earlier answer."),
    _query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_DECISIONS}, "At most so many decisions."),
]
_GUARDED: Final = [
    _query("environment", {"type": "string", "enum": list(ENVIRONMENTS)}, "Only of this environment."),
    _query("before", _POSITION, "The next of an earlier answer."),
    _query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_GUARDED}, "At most about so many values."),
]
_WHY: Final = [
    _query("request_id", _STRING, "A request's id. Give this, or decision, or type and value."),
    _query("decision", _POSITION, "A decision's place in the journal."),
    _query("type", {"type": "string", "enum": sorted(FROM_EVENTS)}, "An identity's type."),
    _query("value", _STRING, "An identity's value."),
]


def history_paths(errors: Errors, mpid: dict[str, Any]) -> dict[str, Any]:
    """Return the paths; ``errors`` describes the answers with some statuses, ``mpid`` an MPID in a path."""
    return {
        f"{_HERE}/users/{{mpid}}/why": {
            "parameters": [_WORKSPACE, mpid],
            "get": _get(errors, "The life of a user, decision by decision.", _json("Life", "The life."), *_LIFE),
        },
        f"{_HERE}/why": {
            "parameters": [_WORKSPACE],
            "get": _get(
                errors, "Why a request was answered as it was, or who held an identity when.", _why_answer(), *_WHY
            ),
        },
        f"{_HERE}/policies": {
            "parameters": [_WORKSPACE],
            "get": _get(errors, "The policy versions of the scope.", _json("PolicyVersions", "The versions.")),
            "post": _post(
                errors, "Put settings in force as the next version.", _json("PolicyView", "What is in force."),
                "PromoteBody", required=True,
            ),
        },
        f"{_HERE}/guards": {
            "parameters": [_WORKSPACE],
            "get": _get(errors, "The guarded values of the scope.", _json("GuardedPage", "The values."), *_GUARDED),
        },
        f"{_HERE}/guards/release": {
            "parameters": [_WORKSPACE],
            "post": _post(
                errors, "Let a guarded value find profiles again.", _json("Released", "What became of it."),
                "ReleaseBody", required=True,
            ),
        },
        f"{_HERE}/undo": {
            "parameters": [_WORKSPACE],
            "post": _post(
                errors, "Undo decisions, or tell what that would change.", _json("UndoReport", "What has changed."),
                "UndoBody", required=True, statuses=_CONFLICT,
            ),
        },
        f"{_HERE}/split": {
            "parameters": [_WORKSPACE],
            "post": _post(
                errors, "Move identities off a user into a new one.", _json("UndoReport", "What has changed."),
                "SplitBody", required=True, statuses=_CONFLICT,
            ),
        },
        **_report_paths(errors),
        f"{_HERE}/policies/{{version}}": {
            "parameters": [_WORKSPACE, _VERSION],
            "get": _get(errors, "One policy version.", _json("PolicyView", "The version.")),
        },
        f"{_HERE}/policies/{{version}}/restore": {
            "parameters": [_WORKSPACE, _VERSION],
            "post": _post(
                errors, "Put the settings of an earlier version in force.", _json("PolicyView", "What is in force."),
                "RestoreBody", required=False,
            ),
        },
    }  # fmt: skip


def _report_paths(errors: Errors) -> dict[str, Any]:
    report = _json("Report", "The report.")
    report["content"]["text/html"] = {"schema": {"type": "string"}}
    form = _query("format", {"type": "string", "enum": ["json", "html"]}, "As JSON, or as a page of its own.")
    whatif, guards = f"{_HERE}/whatif", f"{_HERE}/guards/report"
    found = _get(errors, "What the latest report of guards found.", _json("GuardsSeen", "The report."))
    return {
        **_run_paths(errors, whatif, "WhatIf", "a what-if: another policy on the record"),
        f"{whatif}/report": {
            "parameters": [_WORKSPACE],
            "get": _get(errors, "What the latest what-if found.", report, form),
        },
        **_run_paths(errors, guards, "GuardReport", "a report of guards"),
        f"{guards}/result": {"parameters": [_WORKSPACE], "get": found},
    }


def _run_paths(errors: Errors, path: str, name: str, what: str) -> dict[str, Any]:
    """Return the paths that start, follow and stop what runs beside the server."""
    started = _post(errors, f"Start {what}.", {}, f"{name}Body", required=True)
    started["responses"] = {"202": _json(name, "It has begun."), **errors(_CONFLICT)}
    stopped = {"200": _json(name, "What became of it."), **errors((*_READ, "409"))}
    return {
        path: {
            "parameters": [_WORKSPACE],
            "get": _get(errors, f"How far {what} is.", _json(name, "The latest one.")),
            "post": started,
        },
        f"{path}/stop": {
            "parameters": [_WORKSPACE],
            "post": {"summary": f"Stop {what}.", "security": _TOKEN, "responses": stopped},
        },
    }


def _get(errors: Errors, summary: str, answer: dict[str, Any], *parameters: Any) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": _TOKEN,
        "parameters": list(parameters),
        "responses": {"200": answer, **errors(_READ)},
    }


def _post(
    errors: Errors,
    summary: str,
    answer: dict[str, Any],
    body: str,
    *,
    required: bool,
    statuses: tuple[str, ...] = _WRITE,
) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": _TOKEN,
        "requestBody": {"required": required, "content": {"application/json": {"schema": _ref(body)}}},
        "responses": {"200": answer, **errors(statuses)},
    }


def _why_answer() -> dict[str, Any]:
    schema = {"anyOf": [_ref("Decisions"), _ref("IdentityLives")]}
    return {
        "description": "The decisions, or what became of the identity.",
        "content": {"application/json": {"schema": schema}},
    }


def _json(name: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(name)}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
