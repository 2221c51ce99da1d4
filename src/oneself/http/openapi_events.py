"""The OpenAPI description of the paths that take batches of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["BATCH_SCHEMAS", "event_paths"]

_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}


def _maybe(schema: dict[str, Any], empty: dict[str, Any]) -> dict[str, Any]:
    """Allow null, and the empty form that some languages write for a map or a list."""
    return {"anyOf": [schema, {"type": "null"}, empty]}


def _object(values: dict[str, Any] | None = None) -> dict[str, Any]:
    return _maybe({"type": "object", "additionalProperties": values or {}}, {"type": "array", "maxItems": 0})


def _array(items: dict[str, Any] | None = None) -> dict[str, Any]:
    return _maybe({"type": "array", "items": items or {}}, {"type": "object", "maxProperties": 0})


BATCH_SCHEMAS: Final[dict[str, Any]] = {
    "Event": {
        "type": "object",
        "description": "What happened; one that cannot be used is set aside, and the rest of its batch goes on.",
        "properties": {"event_type": {"type": "string"}, "data": {"type": "object"}},
    },
    "Batch": {
        "type": "object",
        "description": "One user, at most one device, any number of events. Fields that are not known mean nothing.",
        "properties": {
            "environment": {"enum": ["production", "development", None]},
            "mpid": {
                "description": "The user, where it is known; then identities change nothing.",
                "anyOf": [
                    {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1, "not": {"const": 0}},
                    {"type": "string", "pattern": "^(-?[1-9][0-9]{0,17})?$"},
                    {"type": "null"},
                ],
            },
            "source_request_id": _SCALAR,
            "mp_deviceid": _SCALAR,
            "ip": _SCALAR,
            "user_identities": _object(_SCALAR),
            "user_attributes": _object(),
            "deleted_user_attributes": _array(),
            "device_info": _object(),
            "application_info": _object(),
            "context": _object(),
            "consent_state": _object(),
            "integration_attributes": _object(),
            "attribution_info": _object(),
            "events": _array({"anyOf": [{"$ref": "#/components/schemas/Event"}, {}]}),
            "timestamp_unixtime_ms": {},
        },
    },
}

_ACCEPTED: Final = {"202": {"description": "It is on disk. What could not be used of it is set aside."}}
_SENT: Final = ("400", "401", "403", "404", "408", "413", "415", "429", "431", "503")


def event_paths(
    errors: Callable[[tuple[str, ...]], dict[str, Any]],
    credentials: list[dict[str, list[str]]],
    key: dict[str, Any],
) -> dict[str, Any]:
    """Return the paths; ``errors`` describes the answers with some statuses, ``key`` the key in a path."""

    def post(summary: str, schema: dict[str, Any], statuses: tuple[str, ...], security: list[Any]) -> dict[str, Any]:
        return {
            "summary": summary,
            "security": security,
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {**_ACCEPTED, **errors(statuses)},
        }

    batch = {"$ref": "#/components/schemas/Batch"}
    batches = {"type": "array", "items": {"anyOf": [batch, {}]}, "maxItems": 100}
    paths: dict[str, Any] = {}
    for prefix in ("/v2", "/s2s/v2"):
        paths[f"{prefix}/events"] = {"post": post("Take in a batch of events.", batch, _SENT, credentials)}
        paths[f"{prefix}/bulkevents"] = {"post": post("Take in many batches.", batches, _SENT, credentials)}
        paths[f"{prefix}/bulkevents/historical"] = {
            "post": post("Take in many batches of events older than three days.", batches, _SENT, credentials)
        }
    anything: dict[str, Any] = {}
    web = (*_SENT, "422")
    for prefix in ("", "/webevents"):
        paths[f"{prefix}/v3/JS/{{key}}/events"] = {
            "parameters": [key],
            "post": post(
                "Take in a batch of a web page; what is none is set aside.", anything, web, [{}, *credentials]
            ),
        }
        for version in ("v1", "v2"):
            paths[f"{prefix}/{version}/JS/{{key}}/Forwarding"] = {
                "parameters": [key],
                "post": post("Take note of what kits forwarded.", anything, web, [{}, *credentials]),
            }
    answer = {"application/json": {"schema": {"$ref": "#/components/schemas/AudienceAnswer"}}}
    paths["/v1/{key}/audience"] = {
        "parameters": [key],
        "get": {
            "summary": "The audiences that a user is in.",
            "responses": {
                "200": {"description": "The audiences.", "content": answer},
                **errors(("401", "404", "408", "413", "431", "503")),
            },
        },
    }
    return paths
