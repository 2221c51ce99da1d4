"""How often something may happen: a token bucket for each caller (docs/http.md, "Limits")."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["Rate"]


class Rate:
    """Allows ``per_second`` on average and one second's worth at once; 0 allows any number.

    ``clock`` gives seconds that never go back.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._clock = clock
        self._left = self._most = max(per_second, 1.0)
        self._since = clock()

    def take(self, count: int = 1) -> int:
        """Take so many; return 0, or the whole seconds to wait where they are too many now.

        More than a second's worth at once is allowed when nothing was taken for a second, and has to be made up
        for by what comes next.
        """
        if not self.per_second:
            return 0
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._since) * self.per_second)
        self._since = now
        need = min(float(count), self._most)
        if self._left < need:
            return math.ceil((need - self._left) / self.per_second)
        self._left -= count
        return 0

    def used(self) -> int:
        """Return how much of the present second's worth is taken, in percent."""
        if not self.per_second:
            return 0
        left = min(self._most, self._left + (self._clock() - self._since) * self.per_second)
        return min(100, round(100 * (1 - left / self._most)))
