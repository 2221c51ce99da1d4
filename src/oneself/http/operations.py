"""What operators ask: is it alive, is it ready, how is it doing (docs/operations.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from oneself.http.exchange import Exchange
from oneself.http.metrics import Gauge, Ingested, ingested
from oneself.http.ports import Engine
from oneself.http.siblings import Siblings, families_of
from oneself.http.wire import CORS, HttpError, Reply, json_reply

__all__ = ["ALIVE", "Health", "OperationsRoutes", "Readiness"]


class Health(msgspec.Struct, frozen=True):
    """The server is running."""

    status: str


class Readiness(msgspec.Struct, frozen=True):
    """The server answers requests."""

    ready: bool


ALIVE: Final = json_reply(200, b'{"status":"alive"}')
_RETRY_SECONDS: Final = 1


class OperationsRoutes:
    """Answers what operators ask.

    ``collectors`` add metrics of the parts behind the edge. Of a worker that has ``siblings`` the metrics are those
    of all of them.
    """

    def __init__(self, engine: Engine, collectors: Iterable[Collector], siblings: Siblings | None = None) -> None:
        self._engine = engine
        self._siblings = siblings
        self._registry = CollectorRegistry()
        waiting = Gauge("oneself_waiting", "Calls that wait for their answer.", lambda: engine.waiting)
        ready = Gauge("oneself_ready", "1 where requests would be answered.", lambda: engine.ready)
        for collector in (waiting, ready, *collectors):
            self._registry.register(collector)

    async def start(self) -> None:
        """Begin to tell the siblings."""
        if self._siblings is not None:
            await self._siblings.start(self._registry)

    async def stop(self) -> None:
        """Stop telling them."""
        if self._siblings is not None:
            await self._siblings.stop()

    async def ready(self, _: Exchange) -> Reply:
        """Tell whether requests would be answered now."""
        if not self._engine.ready:
            raise HttpError(503, "The server cannot answer requests now.", retry_after=_RETRY_SECONDS)
        return json_reply(200, msgspec.json.encode(Readiness(True)))

    async def ingested(self) -> Ingested:
        """Return what became of batches, in all workers."""
        if self._siblings is None:
            return ingested([families_of(self._registry)])
        return ingested((await self._siblings.told()).values())

    async def metrics(self, _: Exchange) -> Reply:
        """Return every metric in Prometheus' text format."""
        body = generate_latest(self._registry) if self._siblings is None else await self._siblings.exposition()
        headers = [(b"content-type", CONTENT_TYPE_LATEST.encode()), *CORS]
        return Reply(200, [*headers, (b"content-length", b"%d" % len(body))], body)
