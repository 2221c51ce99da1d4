"""The metrics of all workers of one server, whichever of them is asked (docs/operations.md, "Workers").

Workers share a port, and nobody can choose which one answers. So each gives its metrics to the others through a
socket in a folder that only their user can enter, and the one that is asked tells them all, by ``worker``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

__all__ = ["Family", "Siblings", "families_of"]

_log = structlog.get_logger("oneself.http")

_ANSWER_SECONDS: Final = 2.0
_MOST_BYTES: Final = 64 * 1024 * 1024


class Family(msgspec.Struct, frozen=True):
    """A metric: each sample is its name, its labels and its value."""

    name: str
    documentation: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Family]).decode


class Siblings:
    """One of several workers: ``number`` of ``count``, counted from 0; ``folder`` is theirs."""

    def __init__(self, folder: Path, number: int, count: int) -> None:
        self._folder = folder
        self._number = number
        self.count = count
        self._registry: CollectorRegistry | None = None
        self._server: asyncio.Server | None = None

    async def start(self, registry: CollectorRegistry) -> None:
        """Begin to give a registry's metrics to the others."""
        self._registry = registry
        path = self._path(self._number)
        path.unlink(missing_ok=True)  # of a worker of this number that died
        self._server = await asyncio.start_unix_server(self._give, path)

    async def stop(self) -> None:
        """Stop giving them."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
            self._path(self._number).unlink(missing_ok=True)

    async def told(self) -> dict[int, list[Family]]:
        """Return the metrics of every worker that answers, by its number."""
        assert self._registry is not None
        others = [number for number in range(self.count) if number != self._number]
        told = dict(zip(others, await asyncio.gather(*map(self._ask, others)), strict=True))
        told[self._number] = families_of(self._registry)
        return {number: families for number, families in told.items() if families}

    async def exposition(self) -> bytes:
        """Return the metrics of every worker that answers, in Prometheus' text format."""
        merged: dict[str, Metric] = {}
        for number, families in sorted((await self.told()).items()):
            for family in families:
                metric = merged.get(family.name)
                if metric is None:
                    metric = merged[family.name] = Metric(family.name, family.documentation, family.type)
                for name, labels, value in family.samples:
                    metric.add_sample(name, {"worker": str(number), **labels}, value)
        registry = CollectorRegistry()
        registry.register(_Merged(merged.values()))
        return generate_latest(registry)

    def _path(self, number: int) -> Path:
        return self._folder / f"worker-{number}.sock"

    async def _give(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._registry is not None
        try:
            writer.write(_encode(families_of(self._registry)))
            await writer.drain()
        except OSError as error:
            _log.warning("metrics could not be given to another worker", reason=str(error))
        finally:
            writer.close()

    async def _ask(self, number: int) -> list[Family]:
        """Return the metrics of another worker; none of one that is starting, has died or does not answer."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                try:
                    told = await reader.read(_MOST_BYTES)
                    while piece := await reader.read(_MOST_BYTES):
                        told += piece
                    return _decode(told)
                finally:
                    writer.close()
        except (OSError, TimeoutError, msgspec.DecodeError) as error:
            _log.warning("a worker does not tell its metrics", worker=number, reason=str(error) or "it took too long")
            return []


class _Merged(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def families_of(registry: CollectorRegistry) -> list[Family]:
    """Return the metrics of a registry."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, dict(sample.labels), float(sample.value)) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]
