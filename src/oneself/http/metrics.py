"""Counting requests for Prometheus: plain numbers on the way of a request, metrics when they are asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Measures"]

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the latency histogram, seconds."""


class Measures(Collector):
    """Requests by route and status, and how long each route takes."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._slots: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def record(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request; ``route`` is one of a fixed set, never a path that a client chose."""
        key = (route, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        slots = self._slots.get(route)
        if slots is None:
            slots = self._slots[route] = [0] * (len(BUCKETS) + 1)
            self._sums[route] = 0.0
        slots[bisect_left(BUCKETS, seconds)] += 1
        self._sums[route] += seconds

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        requests = CounterMetricFamily(
            "oneself_http_requests", "Requests answered, by route and status.", labels=["route", "status"]
        )
        for (route, status), count in self._counts.items():
            requests.add_metric([route, str(status)], count)
        seconds = HistogramMetricFamily(
            "oneself_http_request_seconds", "Seconds from a request's headers to its answer.", labels=["route"]
        )
        bounds = [*map(str, BUCKETS), "+Inf"]
        for route, slots in self._slots.items():
            buckets = list(zip(bounds, accumulate(slots), strict=True))
            seconds.add_metric([route], buckets, self._sums[route])
        return [requests, seconds]
