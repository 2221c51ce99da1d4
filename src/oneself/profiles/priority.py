"""Which write of an attribute counts (docs/profiles.md, "Who may write what").

An attribute keeps the latest write of each rank, strongest rank first, and of a weaker rank only one that is later
than those of all stronger ranks: an earlier one can never count again, since a later write of a stronger rank
either gives the value or has deleted what was there. So the writes of an attribute stand in the order of their
times too, and the first that is no deletion gives the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from oneself.profiles.limits import MAX_ATTRIBUTES, MAX_FREED
from oneself.profiles.model import AttributeValue, Changed, Refused, Write

Attributes = dict[str, tuple[Write, ...]]


def deciding(writes: tuple[Write, ...]) -> Write | None:
    """Return the write that gives an attribute its value, None where it has none."""
    for write in writes:
        if not write.deleted:
            return write
    return None


def values_of(attributes: Mapping[str, tuple[Write, ...]]) -> dict[str, AttributeValue]:
    """Return the attributes that have a value, in the order in which they were first written."""
    values = {name: writes[0].value for name, writes in attributes.items() if not writes[0].deleted}
    if len(values) == len(attributes):  # as it nearly always is
        return values
    standing = ((name, deciding(writes)) for name, writes in attributes.items())
    return {name: write.value for name, write in standing if write is not None}


def insert(writes: tuple[Write, ...], write: Write) -> tuple[Write, ...]:
    """Return an attribute's writes with one more; the same object where that one can never count."""
    if not writes:
        return (write,)
    kept = []
    at = (write.at_ms, write.position)
    for other in writes:
        if other.rank > write.rank:
            break
        if (other.at_ms, other.position) > at:
            return writes
        if other.rank < write.rank:
            kept.append(other)
    kept.append(write)
    kept += [other for other in writes if other.rank > write.rank and (other.at_ms, other.position) > at]
    return tuple(kept)


def write_all(
    attributes: Attributes, writes: Iterable[tuple[str, Write]], changed: list[Changed], refused: list[Refused]
) -> Attributes:
    """Return a profile's attributes after some writes; tell what changed and what did not get through."""
    after = dict(attributes)
    for name, write in writes:
        standing = after.get(name, ())
        if not write.deleted and (_replaces(standing, write) if standing else len(after) < MAX_ATTRIBUTES):
            after[name] = (write,)
            if not standing or standing[0].value != write.value:
                changed.append(Changed("attribute", name))
            continue
        new = insert(standing, write)
        if new is standing:
            stronger = any(other.rank < write.rank and other.at_ms >= write.at_ms for other in standing)
            refused.append(Refused("attribute", name, "priority" if stronger else "older"))
            continue
        before, now = deciding(standing), deciding(new)
        if before is None and now is not None and _full(after):
            refused.append(Refused("attribute", name, "too_many"))
            continue
        after[name] = new
        if now is None:
            if before is not None:
                changed.append(Changed("attribute", name, "deleted"))
        elif before is None or before.value != now.value:
            changed.append(Changed("attribute", name))
        elif now.rank < write.rank:
            refused.append(Refused("attribute", name, "priority"))
    if len(after) > MAX_ATTRIBUTES + MAX_FREED:
        _forget(after)
    return after


def _replaces(writes: tuple[Write, ...], write: Write) -> bool:
    """Tell whether a value takes the place of the only one there is, of the same rank, as nearly always."""
    if len(writes) > 1:
        return False
    other = writes[0]
    later = other.at_ms < write.at_ms or (other.at_ms == write.at_ms and other.position <= write.position)
    return later and other.rank == write.rank and not other.deleted


def _full(attributes: Attributes) -> bool:
    """Tell whether a profile has as many attributes with a value as it may have."""
    if len(attributes) < MAX_ATTRIBUTES:
        return False
    return sum(1 for writes in attributes.values() if deciding(writes) is not None) >= MAX_ATTRIBUTES


def _forget(attributes: Attributes) -> None:
    """Forget the deletions that are longest ago, so that a profile cannot grow without end."""
    freed = sorted(
        (writes[-1].at_ms, writes[-1].position, name)
        for name, writes in attributes.items()
        if deciding(writes) is None
    )
    for _, _, name in freed[: len(attributes) - MAX_ATTRIBUTES - MAX_FREED]:
        del attributes[name]
