"""A commit under way, and what is read beside it (docs/storage.md).

The next group reads and decides while the one before it is on its way to the database. What it reads is as it was
before that; so it may not look at anything that the one before changes, else it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from oneself.store.postgres.views import Seen
from oneself.store.reading import Effects

__all__ = ["UnderWay"]


class UnderWay:
    """A group on its way to the database, from ``begin`` on; ``failed`` and ``moved`` say how it ended.

    ``names`` are the ``(workspace, name)`` of events that it brings and nobody brought before.
    """

    def __init__(self, reading: Seen) -> None:
        effects = reading.effects
        self.future: asyncio.Future[None]
        self.first = effects.entries[0][0]
        self.last = effects.entries[-1][0]
        self.moved = 0
        self.failed = False
        self.ended = False
        self.names: list[tuple[str, str]] = []
        self._rare = _is_rare(effects)
        self._keys = {key for key, _, _ in effects.linked} | {key for key, _, _ in effects.unlinked}
        self._keys.update(effects.guarded)
        self._effects = effects

    async def wait(self) -> None:
        """Wait for its end, whichever that is."""
        if not self.ended:
            await asyncio.wait([self.future])

    def touches(self, reading: Seen) -> bool:
        """Tell whether it changes anything that a reading looked at."""
        effects = self._effects
        if self._rare:
            return True
        return not (
            self._keys.isdisjoint(reading.holder_keys)
            and effects.requests.keys().isdisjoint(reading.request_keys)
            and effects.profiles.keys().isdisjoint(reading.mpids)
            and effects.people.keys().isdisjoint(reading.touched)
        )

    def touches_people(self, mpids: Iterable[int]) -> bool:
        """Tell whether it changes what is known of some people."""
        return self._rare or not self._effects.people.keys().isdisjoint(mpids)

    def is_between(self, reading: Seen) -> bool:
        """Tell whether a reading that was made beside it sees all that came before it, and nothing came since.

        Then what stands between the reading and its own commit is this group alone, or nothing.
        """
        return self.ended and not self.failed and self.moved == 0 and reading.read_at in (self.first - 1, self.last)


def _is_rare(effects: Effects) -> bool:
    """Tell whether a group does what is not to be compared thing by thing."""
    return bool(
        effects.aliases or effects.expired or effects.swept or effects.remainders or effects.discarded
        or effects.rewrites or effects.cleared or effects.nobody
    )  # fmt: skip
