"""MPIDs numbered from 1, so that what is known of millions of profiles fits in arrays."""

from __future__ import annotations

from array import array

__all__ = ["Numbers"]


class Numbers:
    """Numbers of MPIDs; ``mpids`` has the MPID of each number, and 0 at 0."""

    __slots__ = ("mpids", "numbers")

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.mpids = array("q", [0])

    def __len__(self) -> int:
        return len(self.mpids) - 1

    def of(self, mpid: int) -> int:
        """Return the number of an MPID, a new one where it has none."""
        number = self.numbers.get(mpid)
        if number is None:
            number = self.numbers[mpid] = len(self.mpids)
            self.mpids.append(mpid)
        return number
