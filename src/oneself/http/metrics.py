"""Counting for Prometheus: plain numbers on the way of a request, metrics when they are asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Final

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from oneself.http.siblings import Family
from oneself.journal import BatchRecord, Entry

__all__ = ["Conflicts", "Gauge", "Groups", "Ingested", "Ingestion", "Measures", "ingested"]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

_SINCE: Final = "oneself_counts_since_seconds"
_BATCHES: Final = "oneself_batches"
_EVENTS: Final = "oneself_events"


class _Histogram:
    """How often a value fell below each bound, and the sum of all values."""

    __slots__ = ("bounds", "slots", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.slots = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.slots[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add_to(self, family: HistogramMetricFamily, labels: list[str]) -> HistogramMetricFamily:
        bounds = [*map(str, self.bounds), "+Inf"]
        family.add_metric(labels, list(zip(bounds, accumulate(self.slots), strict=True)), self.sum)
        return family


class Measures(Collector):
    """Requests by route and status, and how long each route takes."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._seconds: dict[str, _Histogram] = {}

    def record(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request; ``route`` is one of a fixed set, never a path that a client chose."""
        key = (route, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        histogram = self._seconds.get(route)
        if histogram is None:
            histogram = self._seconds[route] = _Histogram(SECONDS)
        histogram.observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        requests = CounterMetricFamily(
            "oneself_http_requests", "Requests answered, by route and status.", labels=["route", "status"]
        )
        for (route, status), count in self._counts.items():
            requests.add_metric([route, str(status)], count)
        seconds = HistogramMetricFamily(
            "oneself_http_request_seconds", "Seconds that a request took to answer.", labels=["route"]
        )
        for route, histogram in self._seconds.items():
            histogram.add_to(seconds, [route])
        return [requests, seconds]


class Gauge(Collector):
    """A number that is read when the metrics are asked for."""

    def __init__(self, name: str, description: str, read: Callable[[], float]) -> None:
        self._name = name
        self._description = description
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Return the metric."""
        return [GaugeMetricFamily(self._name, self._description, self._read())]


class Conflicts(Collector):
    """Groups that were decided again because of other servers; ``read`` gives how many, by what they had changed."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Return the metric."""
        family = CounterMetricFamily(
            "oneself_conflicts", "Groups decided again since another server changed what they saw.", labels=["what"]
        )
        for what, count in self._read().items():
            family.add_metric([what], count)
        return [family]


class Groups(Collector):
    """The groups in which an engine answers; give it ``record`` to call with each group's size and seconds.

    The seconds are those of all, and those of them for which the group was being made durable.
    """

    def __init__(self) -> None:
        self._sizes = _Histogram(SIZES)
        self._seconds = _Histogram(SECONDS)
        self._writing = _Histogram(SECONDS)

    def record(self, size: int, seconds: float, writing: float) -> None:
        """Count one group."""
        self._sizes.observe(size)
        self._seconds.observe(seconds)
        self._writing.observe(writing)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        sizes = HistogramMetricFamily("oneself_group_size", "Calls that were answered together.")
        seconds = HistogramMetricFamily("oneself_group_seconds", "Seconds from reading a group to its answers.")
        writing = HistogramMetricFamily("oneself_durable_seconds", "Seconds of these until a group was durable.")
        return [self._sizes.add_to(sizes, []), self._seconds.add_to(seconds, []), self._writing.add_to(writing, [])]


class Ingested(msgspec.Struct, frozen=True):
    """How many batches and events each input sent, by input and what became of them.

    They are the counts of so many ``workers``, all of which have counted since ``since_ms``.
    """

    workers: int
    since_ms: int
    batches: Counter[tuple[str, str]]
    events: Counter[tuple[str, str]]


def ingested(told: Iterable[Iterable[Family]]) -> Ingested:
    """Return what several servers counted together, from the metrics of each."""
    counts: dict[str, Counter[tuple[str, str]]] = {_BATCHES: Counter(), _EVENTS: Counter()}
    since = []
    for families in told:
        for family in families:
            if family.name == _SINCE:
                since.append(family.samples[0][2])
            elif family.name in counts:
                for _, labels, count in family.samples:
                    counts[family.name][labels["input"], labels["outcome"]] += int(count)
    return Ingested(len(since), round(max(since) * 1000), counts[_BATCHES], counts[_EVENTS])


class Ingestion(Collector):
    """Batches and events by what became of them; give an engine's listeners ``record``.

    Of a batch: ``taken``, ``kept`` (bound to no profile, by an input that may only read), ``dropped`` (its input may
    not make a profile), ``set_aside``, ``refused``, ``repeated``. Of an event in a batch that was taken or kept:
    ``taken`` or ``quarantined``. ``since`` is now, in unix seconds.
    """

    def __init__(self, since: float) -> None:
        self._since = since
        self._batches: dict[tuple[str, str], int] = {}
        self._events: dict[tuple[str, str], int] = {}

    def record(self, _: int, entry: Entry, record: BatchRecord | None) -> None:
        """Count a batch that was decided on."""
        if record is None:
            outcome = "dropped" if entry.decision.error is None else "refused"
        elif record.batch is None:
            outcome = "set_aside"
        else:
            outcome = "kept" if entry.decision.mpid is None else "taken"
            self._add(self._events, entry.input, "taken", len(record.batch.events))
            if record.quarantined:
                self._add(self._events, entry.input, "quarantined", len(record.quarantined))
        self._add(self._batches, entry.input, outcome)

    def repeat(self, input_: str) -> None:
        """Count a batch that had been taken in before."""
        self._add(self._batches, input_, "repeated")

    def _add(self, counts: dict[tuple[str, str], int], input_: str, outcome: str, count: int = 1) -> None:
        counts[input_, outcome] = counts.get((input_, outcome), 0) + count

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        labels = ["input", "outcome"]
        since = GaugeMetricFamily(_SINCE, "When the server began to count, in unix seconds.", self._since)
        batches = CounterMetricFamily(_BATCHES, "Batches, by input and what became of them.", labels=labels)
        events = CounterMetricFamily(_EVENTS, "Events, by input and what became of them.", labels=labels)
        for family, counts in ((batches, self._batches), (events, self._events)):
            for key, count in counts.items():
                family.add_metric(key, count)
        return [since, batches, events]
