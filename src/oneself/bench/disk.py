"""What the disk itself takes to sync, with nothing else going on: what no server on it can be faster than."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from time import perf_counter

import msgspec

from oneself.bench.load import percentile

__all__ = ["DiskReport", "measure_disk"]

_BLOCK = b"\x5a" * 16_384  # about what a small group of requests writes
_BLOCKS = 256  # written over and over, as a log is


class DiskReport(msgspec.Struct, frozen=True):
    """How long it took to write 16 KiB and sync them, again and again, in ms."""

    syncs: int
    p50: float
    p99: float
    max: float


def measure_disk(folder: Path, seconds: float) -> DiskReport:
    """Write and sync in a folder for a time."""
    took: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        number = file.fileno()
        os.pwrite(number, _BLOCK * _BLOCKS, 0)
        os.fsync(number)
        end = perf_counter() + seconds
        while (began := perf_counter()) < end or not took:
            os.pwrite(number, _BLOCK, len(took) % _BLOCKS * len(_BLOCK))
            os.fdatasync(number)
            took.append((perf_counter() - began) * 1e3)
    took.sort()
    return DiskReport(len(took), percentile(took, 0.5), percentile(took, 0.99), took[-1])
