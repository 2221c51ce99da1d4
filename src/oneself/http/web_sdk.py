"""What the web SDK asks for before anything else: its configuration (docs/clients.md)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from oneself.config import Workspace
from oneself.http.auth import Gate
from oneself.http.exchange import Exchange
from oneself.http.wire import HttpError, Reply, json_reply

__all__ = ["WebConfig", "WebSdkRoutes"]


class WebConfig(msgspec.Struct, frozen=True):
    """The web SDK's configuration. It merges this over the page's own, so no address is ever in it.

    ``workspaceToken`` names the SDK's local storage; flags are strings.
    """

    appName: str
    workspaceToken: str
    kitConfigs: list[dict[str, Any]]
    pixelConfigs: list[dict[str, Any]]
    flags: dict[str, str]


class WebSdkRoutes:
    """Answers what the web SDK asks of its own accord."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def config(self, exchange: Exchange) -> Reply:
        """Answer the request for the configuration of the input whose key the path names."""
        caller = self._gate.public(exchange.scope["path_params"]["key"])
        if caller is None:
            raise HttpError(404, "No web input has this key.")
        workspace = caller.workspace
        flags = {"eventsV3": "100", "eventBatchingIntervalMillis": "0"}
        config = WebConfig(workspace.name, _token(workspace), [], [], flags)
        return json_reply(200, msgspec.json.encode(config))


def _token(workspace: Workspace) -> str:
    """Return a token that is the same for all inputs of a workspace and says nothing of it."""
    name = f"{workspace.organization}/{workspace.account}/{workspace.id}/{workspace.name}"
    return hashlib.sha256(name.encode()).hexdigest()[:32].upper()
