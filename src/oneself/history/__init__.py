"""Recorded histories: decided again as they were, and under other policies (docs/replay.md, docs/whatif.md)."""

from oneself.history.as_of import AsOf, as_of
from oneself.history.guard_report import GuardsSeen
from oneself.history.guard_text import guards_text
from oneself.history.guards import guards_seen, scan_steps
from oneself.history.holding import IdentityLife, identity_life
from oneself.history.life import Life, life
from oneself.history.page import page
from oneself.history.recorded import Span, position_of, span_of
from oneself.history.replay import Replay, replay
from oneself.history.report import Report, SpaceReport
from oneself.history.reporting import what_if
from oneself.history.text import as_of_text, replay_text, whatif_text
from oneself.history.told import Told, decisions_told, request_told
from oneself.history.told_text import decision_text, identity_text, life_text

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
