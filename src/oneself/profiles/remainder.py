"""What stays of a batch whose events are no longer kept (docs/retention.md)."""

from __future__ import annotations

from oneself.profiles.model import Batch

__all__ = ["remainder"]


def remainder(batch: Batch) -> Batch:
    """Return of a batch just what ``update`` makes of a profile, so that the profile can be made again."""
    platform = batch.source.platform
    return Batch(
        source=batch.source,
        environment=batch.environment,
        received_ms=batch.received_ms,
        at_ms=batch.at_ms,
        first_ms=batch.first_ms,
        device=batch.device,
        ip=batch.ip,
        attributes={} if platform else batch.attributes,
        deleted_attributes=() if platform else batch.deleted_attributes,
        changes=batch.changes if platform else (),
        consent=batch.consent,
        opted_out=batch.opted_out,
        limit_ad_tracking=batch.limit_ad_tracking,
        att=batch.att,
        push=batch.push,
        attribution=batch.attribution,
        installed=batch.installed,
        device_info=batch.device_info,
    )
