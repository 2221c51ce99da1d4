"""Serving an application over HTTP or HTTPS in this process (docs/http.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from oneself.http.connection import Connection, Limits, Watch

__all__ = ["ServerSettings", "serve"]

_TLS_GOODBYE_SECONDS: Final = 1.0
"""How long a TLS client may take to say goodbye, when the server has."""

_CHECK_EVERY: Final = 5
"""Connections are checked at each so many of uvicorn's ticks, which are 0.1 s apart."""

_FILES_KEPT: Final = 64
"""So many files may be open beside the connections."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server listens and what one client may use; times are seconds.

    With port 0 the machine chooses one. ``tls_cert`` and ``tls_key`` are PEM files, given together.
    ``grace_seconds`` is how long a stop waits for the answers to what was accepted. With ``reuse_port`` other
    processes that do so, too, may listen on the same port, and each gets a part of the connections.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    reuse_port: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_header_bytes: int = 16 * 1024
    max_body_bytes: int = 16 * 1024 * 1024
    max_connections: int = 4_096
    header_seconds: float = 10
    body_seconds: float = 30
    idle_seconds: int = 75
    stuck_seconds: float = 30
    grace_seconds: int = 15


async def serve(
    app: Any,
    settings: ServerSettings,
    *,
    on_bound: Callable[[int], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve an ASGI application until SIGTERM, SIGINT or ``stop``, then answer what was accepted and return.

    ``on_bound`` is called with the port once connections are taken. Raises ``OSError`` where the address
    cannot be had, or a TLS file cannot be read. Run it on uvloop where that is to be had.
    """
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.idle_seconds,
        timeout_graceful_shutdown=settings.grace_seconds,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    await _Server(config, settings, on_bound, stop).serve()


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        settings: ServerSettings,
        on_bound: Callable[[int], None] | None,
        stop: asyncio.Event | None,
    ) -> None:
        super().__init__(config)
        self._settings = settings
        self._on_bound = on_bound
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._watch = Watch(_limits(settings), self._loop.time())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Listen; what cannot be had is raised to the caller."""
        settings, config = self._settings, self.config
        server = await self._loop.create_server(
            lambda: Connection(self._watch, config, self.server_state, self._loop),
            settings.host,
            settings.port,
            reuse_port=settings.reuse_port or None,
            ssl=config.ssl,
            backlog=config.backlog,
            ssl_handshake_timeout=settings.header_seconds if config.ssl else None,
            ssl_shutdown_timeout=_TLS_GOODBYE_SECONDS if config.ssl else None,
        )
        self.servers = [server]
        self.started = True
        if self._on_bound is not None:
            self._on_bound(server.sockets[0].getsockname()[1])

    async def on_tick(self, counter: int) -> bool:
        """Check the connections now and then."""
        watch = self._watch
        watch.now = self._loop.time()
        if counter % _CHECK_EVERY == 0:
            for connection in self._connections():
                connection.check(watch.now)
        if self._stop is not None and self._stop.is_set():
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer what was accepted within the grace time, and close what is left."""
        self._watch.stopping = True
        end_streams: Callable[[], None] | None = getattr(self.config.loaded_app, "end_streams", None)
        if end_streams is not None:
            end_streams()
        await super().shutdown(sockets)
        if self.server_state.connections:
            for connection in self._connections():
                connection.cancel_direct()
            await asyncio.sleep(0.1)  # the requests that were just cancelled say so
            for connection in self._connections():
                connection.transport.abort()

    def _connections(self) -> list[Connection]:
        return [c for c in self.server_state.connections if isinstance(c, Connection)]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, and then return: what the caller has open is to be closed, too."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _limits(settings: ServerSettings) -> Limits:
    return Limits(
        header_bytes=settings.max_header_bytes,
        body_bytes=settings.max_body_bytes,
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        idle_seconds=settings.idle_seconds,
        stuck_seconds=settings.stuck_seconds,
        connections=_most_connections(settings.max_connections),
    )


def _most_connections(asked: int) -> int:
    """Return how many connections the open files of this process allow, at most ``asked``."""
    try:
        import resource
    except ImportError:
        return asked
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return asked if files == resource.RLIM_INFINITY else max(1, min(asked, files - _FILES_KEPT))
