"""What docs/alias.md says, written down a second time: slowly, and from the page alone.

It keeps every event and every request in lists, and looks through all of them for every question.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Happened:
    """An event of a profile."""

    mpid: int
    at_ms: int
    name: str
    device: str


@dataclass
class Asked:
    """An alias that was asked for, and what became of it."""

    position: int
    source: int
    destination: int
    start_ms: int
    end_ms: int
    due_ms: int
    device: str = ""
    outcome: str = "waiting"
    why: str = ""


@dataclass
class AliasModel:
    """Everything that happened and was asked for."""

    events: list[Happened] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def applied(self) -> list[Asked]:
        """Return the aliases in effect."""
        return [alias for alias in self.asked if alias.outcome == "applied"]

    def decide_due(self, now_ms: int) -> None:
        """Decide those that are due, longest due first."""
        for alias in sorted(self.asked, key=lambda alias: (alias.due_ms, alias.position)):
            self.decide(alias, now_ms)

    def decide(self, alias: Asked, now_ms: int) -> bool:
        """Decide one alias; tell whether it was due."""
        due = alias.outcome == "waiting" and alias.due_ms <= now_ms
        if due:
            alias.why = self._against(alias)
            alias.outcome = "dropped" if alias.why else "applied"
        return due

    def _against(self, alias: Asked) -> str:
        applied = self.applied()
        for other in applied:
            common = range(max(alias.start_ms, other.start_ms), min(alias.end_ms, other.end_ms) + 1)
            if other.source == alias.source and common:
                return "source_overlaps"
        if alias.source in [other.destination for other in applied]:
            return "source_was_destination"
        if alias.destination in [other.source for other in applied]:
            return "destination_was_source"
        return ""

    def undo(self, position: int) -> bool:
        """Take an alias back; tell whether it was in effect."""
        for alias in self.applied():
            if alias.position == position:
                alias.outcome, alias.why = "undone", ""
                return True
        return False

    def shown(self, mpid: int) -> list[tuple[int, str]]:
        """Return ``(time, name)`` of the events on a profile's timeline, latest first."""
        seen = [(event.at_ms, event.name) for event in self.events if event.mpid == mpid]
        for alias in self.applied():
            for event in self.events:
                between = (alias.destination, alias.source) == (mpid, event.mpid)
                inside = alias.start_ms <= event.at_ms <= alias.end_ms and alias.device in ("", event.device)
                if between and inside:
                    seen.append((event.at_ms, event.name))
        return sorted(seen, reverse=True)

    def first_seen(self, mpid: int) -> int:
        """Return when a profile was first seen."""
        times = [event.at_ms for event in self.events if event.mpid == mpid]
        for alias in self.applied():
            if alias.destination == mpid:
                times += [
                    event.at_ms
                    for event in self.events
                    if event.mpid == alias.source and alias.device in ("", event.device)
                ]
        return min(times)
