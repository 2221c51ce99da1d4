"""Several real `oneself serve` processes on one database, each with a port of its own, that tests may do harm to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

from contention import CONFIG
from load import clean_environ
from serving import free_port

START_SECONDS = 40
SECRET = "open-sesame"
"""The password in every URL that servers get; no log may ever tell it."""


def with_secret(url: str) -> str:
    """Return a URL with a password in it, which a server that trusts everybody does not ask for."""
    return url.replace("postgres@", f"postgres:{SECRET}@", 1)


class Servers:
    """Servers on a database; they are killed, at the latest, when the block ends."""

    def __init__(self, url: str, folder: Path, count: int = 2, config: str = CONFIG) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "oneself.toml"
        self.config.write_text(f"database = {json.dumps(with_secret(url))}\n{config}")
        self.ports = [free_port() for _ in range(count)]
        self._logs = [folder / f"serve {number}.log" for number in range(count)]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count

    async def __aenter__(self) -> Servers:
        try:
            for number in range(len(self.ports)):
                self.start(number)
            await self.all_ready()
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note("\n".join(f"{log.name} ends with:\n{_tail(log)}" for log in self._logs))
        self._end()

    def start(self, number: int) -> None:
        """Start one that does not run."""
        command = [sys.executable, "-m", "oneself", "serve", "--config", str(self.config)]
        with self._logs[number].open("ab") as log:
            self._processes[number] = subprocess.Popen(
                [*command, "--port", str(self.ports[number])],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_environ(), cwd=self.config.parent,
            )  # fmt: skip

    def kill(self, number: int) -> None:
        """Kill one, which has no time for anything."""
        process = self._process(number)
        process.kill()
        process.wait()

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to one."""
        os.kill(self._process(number).pid, what)

    def stop(self) -> None:
        """Stop all of them as they should be, and see that they do."""
        for number in range(len(self.ports)):
            self.signal(number, signal.SIGTERM)
        for number in range(len(self.ports)):
            assert self._process(number).wait(START_SECONDS) == 0, _tail(self._logs[number])

    async def ready(self, number: int) -> bool:
        """Tell whether one says that it is ready."""
        status, _ = await get(self.ports[number], "/readyz")
        return status == 200

    async def all_ready(self) -> None:
        """Wait until all say that they are ready."""
        for number in range(len(self.ports)):
            await self.until(number, ready=True)

    async def until(self, number: int, *, ready: bool) -> None:
        """Wait until one says that it is ready, or that it is not."""
        end = time.monotonic() + START_SECONDS
        while await self.ready(number) is not ready:
            assert self._process(number).poll() is None, f"it ended:\n{_tail(self._logs[number])}"
            assert time.monotonic() < end, f"readiness should be {ready}:\n{_tail(self._logs[number])}"
            await asyncio.sleep(0.05)

    def log_lines(self) -> list[str]:
        """Return all that the servers printed."""
        return [line for log in self._logs for line in log.read_text().splitlines()]

    def assert_logs_are_good(self) -> None:
        """Assert that nothing unexpected happened, and that nothing was told that must not be."""
        for line in self.log_lines():
            assert SECRET not in line
            assert "Traceback" not in line
            assert '"exception"' not in line, line

    def _process(self, number: int) -> subprocess.Popen[bytes]:
        process = self._processes[number]
        assert process is not None
        return process

    def _end(self) -> None:
        for process in self._processes:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""


async def get(port: int, path: str) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of an answer; 0 where there is none."""
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return 0, {}
    pairs = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


@asynccontextmanager
async def watched(servers: Servers, number: int) -> AsyncIterator[Callable[[], list[bool]]]:
    """Ask one for its readiness all the time; gives what it said so far, each change once."""
    said: list[bool] = []

    async def watch() -> None:
        while True:
            ready = await servers.ready(number)
            if not said or said[-1] is not ready:
                said.append(ready)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(watch())
    try:
        yield lambda: said
    finally:
        task.cancel()
        await asyncio.wait([task])
