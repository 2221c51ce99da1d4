"""What a job is, what it works with, and what it counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import ClassVar, NamedTuple

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from oneself.config import Config
from oneself.engine import ENVIRONMENTS, Engine

__all__ = ["Counts", "Job", "Work"]


class Counts(Collector):
    """How much was done, and how often a job failed."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        done = CounterMetricFamily("oneself_upkeep", "Aliases, batches and profiles dealt with.", labels=["what"])
        for what, count in self.done.items():
            done.add_metric([what], count)
        failures = CounterMetricFamily("oneself_job_failures", "Rounds of a job that failed.", labels=["job"])
        for job, count in self.failures.items():
            failures.add_metric([job], count)
        return [done, failures]


class Work(NamedTuple):
    """What jobs work with; ``clock`` gives unix ms."""

    engine: Engine
    config: Config
    clock: Callable[[], int]
    counts: Counts

    @property
    def spaces(self) -> list[str]:
        """The spaces that the engine decides in."""
        return [f"{scope}/{environment}" for scope in self.config.scopes for environment in ENVIRONMENTS]


class Job(ABC):
    """Something to be done from time to time, a step at a time.

    Between two steps it pauses, and after a round it rests; both are seconds. A round that fails is begun again
    later, so every step must be one that may be repeated.
    """

    name: ClassVar[str]
    pause_seconds: float = 0.05
    rest_seconds: float = 600.0

    def __init__(self, work: Work) -> None:
        self.work = work

    @abstractmethod
    def round(self) -> AsyncGenerator[None]:
        """Do what there is to do now; yields after each step. Raises what the engine and the store raise."""
