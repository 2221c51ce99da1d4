"""Recorded histories: decided again as they were, and under other policies (docs/replay.md, docs/whatif.md)."""

from oneself.history.as_of import AsOf, as_of
from oneself.history.guards.report import GuardsSeen
from oneself.history.guards.seen import guards_seen, scan_steps
from oneself.history.guards.text import guards_text
from oneself.history.recorded import Span, position_of, span_of
from oneself.history.replay import Replay, replay
from oneself.history.whatif.page import page
from oneself.history.whatif.report import Report, SpaceReport
from oneself.history.whatif.reporting import what_if
from oneself.history.whatif.text import as_of_text, replay_text, whatif_text
from oneself.history.why.holding import IdentityLife, identity_life
from oneself.history.why.life import Life, life
from oneself.history.why.text import decision_text, identity_text, life_text
from oneself.history.why.told import Told, decisions_told, request_told

__all__ = [
    "AsOf",
    "GuardsSeen",
    "IdentityLife",
    "Life",
    "Replay",
    "Report",
    "SpaceReport",
    "Span",
    "Told",
    "as_of",
    "as_of_text",
    "decision_text",
    "decisions_told",
    "guards_seen",
    "guards_text",
    "identity_life",
    "identity_text",
    "life",
    "life_text",
    "page",
    "position_of",
    "replay",
    "replay_text",
    "request_told",
    "scan_steps",
    "span_of",
    "what_if",
    "whatif_text",
]
