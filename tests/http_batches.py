"""Batches sent to the HTTP edge over an engine of straw, and what reached that."""

from __future__ import annotations

from typing import Any

import msgspec

from http_edge import (
    BASIC,
    BULK_PATHS,
    CONFIG,
    NOW,
    ONE_BATCH_PATHS,
    SHOP,
    WEB_EVENT_PATHS,
    Answer,
    Headers,
    StrawEngine,
    ask,
    batch,
    happening,
)
from oneself.engine.calls import Call, Delivery
from oneself.http import App, create_app

BATCH_PATHS = [*ONE_BATCH_PATHS, *BULK_PATHS]
CREDENTIALS: dict[str, Headers] = dict.fromkeys(BATCH_PATHS, BASIC) | {path: {} for path in WEB_EVENT_PATHS}
"""What is enough on each path that takes batches."""

OLD = happening(timestamp_unixtime_ms=(NOW - 80 * 3600) * 1000)


def body_for(path: str, one: Any = None) -> Any:
    """Return the body that takes one batch to a path."""
    one = batch(OLD) if one is None else one
    return [one] if path in BULK_PATHS else one


def brought(call: Call) -> Delivery:
    assert call.delivery is not None
    return call.delivery


def send(path: str, body: Any, headers: Any = BASIC, **workspace: Any) -> tuple[Answer, list[Call]]:
    """Send a body, and return the answer and what reached the engine; ``workspace`` changes the shop's settings."""
    engine = StrawEngine()
    return ask(limited(engine, **workspace), "POST", path, body, headers), engine.calls


def limited(engine: StrawEngine, **workspace: Any) -> App:
    """Return the application, with other settings of the shop."""
    workspaces = (msgspec.structs.replace(SHOP, **workspace), *CONFIG.workspaces[1:])
    return create_app(msgspec.structs.replace(CONFIG, workspaces=workspaces), engine, clock=lambda: NOW)
