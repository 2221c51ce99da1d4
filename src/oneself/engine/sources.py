"""Which sources a configuration has: its inputs, as the profile core knows them (docs/profiles.md)."""

from __future__ import annotations

from oneself.config import Config
from oneself.profiles import Source, is_platform, rank_of

__all__ = ["sources_of"]


def sources_of(config: Config) -> dict[str, Source]:
    """Return the source that each input is, by ``WORKSPACE/INPUT``; its rank is by its workspace's order."""
    orders = {workspace.name: workspace.source_priority for workspace in config.workspaces}
    return {
        one.id: Source(
            one.id,
            one.workspace,
            one.kind,
            rank_of(one.kind, orders[one.workspace]),
            is_platform(one.kind),
            one.protection,
        )
        for one in config.inputs
    }
