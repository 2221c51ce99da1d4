"""The HTTP edge: parses, authenticates and translates; nothing is decided here (docs/http.md)."""

from oneself.http.app import App, create_app
from oneself.http.metrics import Conflicts, Gauge, Groups
from oneself.http.ports import Engine
from oneself.http.server import ServerSettings, serve
from oneself.http.siblings import Siblings

__all__ = ["App", "Conflicts", "Engine", "Gauge", "Groups", "ServerSettings", "Siblings", "create_app", "serve"]
