"""Recorded histories: decided again as they were, and under other policies (docs/replay.md, docs/whatif.md)."""

from oneself.history.as_of import AsOf, as_of
from oneself.history.page import page
from oneself.history.recorded import Span, position_of, span_of
from oneself.history.replay import Replay, replay
from oneself.history.report import Report, SpaceReport
from oneself.history.reporting import what_if
from oneself.history.text import as_of_text, replay_text, whatif_text

__all__ = [
    "AsOf",
    "Replay",
    "Report",
    "SpaceReport",
    "Span",
    "as_of",
    "as_of_text",
    "page",
    "position_of",
    "replay",
    "replay_text",
    "span_of",
    "what_if",
    "whatif_text",
]
