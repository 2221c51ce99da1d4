"""A TCP proxy before a database that cuts connections, swallows answers or holds requests back, as a test says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

_CHUNK = 65_536


class Proxy:
    """Listens on ``port``; what it does is changed by its attributes at any time.

    ``swallow`` is how probably an answer is thrown away, with its connection cut on the client's side only: the
    database has done what it was asked, and nobody is told. ``swallow_next`` does so once, with the answer to a
    request that has these bytes in it, and with ``then_refuse`` nobody gets in from then on, until ``refuse`` is off
    again. A request with ``hold_next`` in it is kept back until ``let_flow``, while its client is cut off at once.
    ``overhear`` is told of each piece that a connection sends.
    """

    def __init__(self, target: tuple[str, int], dice: random.Random) -> None:
        self.overhear: Callable[[object, bytes], None] = lambda connection, data: None
        self.port = 0
        self.swallow = 0.0
        self.swallow_next = b""
        self.hold_next = b""
        self.refuse = self.then_refuse = False
        self.swallowed = self.held = 0
        self._target = target
        self._dice = dice
        self._open: set[_Pair] = set()

    def let_flow(self) -> None:
        """Hand on what was kept back, though its client has gone."""
        for pair in self._open:
            pair.flowing.set()

    async def rest(self) -> None:
        """Wait until the database has done all that it was asked by clients who have gone."""
        while any(pair.client.is_closing() for pair in self._open):
            await asyncio.sleep(0.01)

    def cut(self) -> None:
        """Cut every connection, on both sides."""
        for pair in list(self._open):
            pair.cut()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        if self.refuse:
            writer.transport.abort()
            return
        try:
            upstream = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, upstream[1])
        self._open.add(pair)
        try:
            await asyncio.gather(self._ask(reader, pair), self._answer(upstream[0], pair))
        finally:
            self._open.discard(pair)
            pair.cut()
            pair.flowing.set()

    async def _ask(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        with suppress(OSError):
            while data := await self._read(reader):
                self.overhear(pair, data)
                if self.hold_next and self.hold_next in data:
                    self.hold_next = b""
                    self.held += 1
                    pair.flowing.clear()
                    pair.client.transport.abort()
                if self.swallow_next and self.swallow_next in data:
                    self.swallow_next = b""
                    pair.swallow = True
                await pair.flowing.wait()
                pair.upstream.write(data)
                await pair.upstream.drain()
            pair.upstream.write_eof()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """Return what a client sends; nothing where it has gone."""
        try:
            return await reader.read(_CHUNK)
        except OSError:
            return b""

    async def _answer(self, upstream: asyncio.StreamReader, pair: _Pair) -> None:
        with suppress(OSError):
            while data := await upstream.read(_CHUNK):
                if pair.swallow or self._dice.random() < self.swallow:
                    self.swallowed += 1
                    pair.client.transport.abort()
                    if pair.swallow and self.then_refuse:
                        self.refuse = True
                        self.cut()
                    while await upstream.read(_CHUNK):
                        pass
                    return
                pair.client.write(data)
                await pair.client.drain()
            pair.client.close()


class _Pair:
    def __init__(self, client: asyncio.StreamWriter, upstream: asyncio.StreamWriter) -> None:
        self.client = client
        self.upstream = upstream
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.swallow = False

    def cut(self) -> None:
        self.client.transport.abort()
        self.upstream.transport.abort()


@asynccontextmanager
async def proxied(port: int, dice: random.Random) -> AsyncIterator[Proxy]:
    """A proxy before a port of 127.0.0.1, at work while the block runs."""
    proxy = Proxy(("127.0.0.1", port), dice)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.let_flow()
        proxy.cut()
        await asyncio.sleep(0.05)
