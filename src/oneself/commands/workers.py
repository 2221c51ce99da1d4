"""Several server processes on one port: started, watched, replaced when they die, and stopped together."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Final

import msgspec
import structlog

from oneself.errors import OneselfError

__all__ = ["Worker", "run_workers"]

_log = structlog.get_logger("oneself.serve")

_STABLE_SECONDS: Final = 30.0
"""A worker that ran for so long is replaced at once; one that died sooner is waited for longer each time, …"""

_LONGEST_PAUSE_SECONDS: Final = 30.0
"""… up to this."""

_STOP_SECONDS: Final = 40.0
"""So long a stop waits for the workers, which have their own time for the answers to what they accepted."""

_fork = multiprocessing.get_context("fork")


class Worker(msgspec.Struct, frozen=True):
    """What one worker needs to know: its number of ``count``, from 0, and where it meets the others.

    ``alive`` is readable as soon as the process that started it is gone; through ``started`` it says that it serves.
    """

    number: int
    count: int
    folder: Path
    port: int
    alive: int
    started: Connection


class _Place(msgspec.Struct):
    """A worker's place: the process that has it, when that was started, and how often one died soon."""

    number: int
    process: ForkProcess | None = None
    serving: bool = False
    since: float = 0.0
    deaths: int = 0
    due: float = 0.0


def run_workers(
    count: int, host: str, port: int, run: Callable[[Worker], None], on_serving: Callable[[int], None]
) -> None:
    """Run so many workers until SIGTERM or SIGINT; ``on_serving`` is called with the port when all of them serve.

    Raises ``OneselfError`` where the address cannot be had, or where a worker ends before all of them ever served.
    """
    with _reserved(host, port) as taken, _folder() as folder:
        _Workers(count, taken, folder, run, on_serving).run()


class _Workers:
    def __init__(
        self, count: int, port: int, folder: Path, run: Callable[[Worker], None], on_serving: Callable[[int], None]
    ) -> None:
        self._places = [_Place(number) for number in range(count)]
        self._port = port
        self._folder = folder
        self._run = run
        self._on_serving = on_serving
        self._alive, self._living = os.pipe()  # the second end is open as long as this process lives
        self._signals = socket.socketpair()
        self._starting: dict[Connection, int] = {}
        self._serving = False
        self._stopping = False

    def run(self) -> None:
        """Start the workers and watch them, until they are to stop or cannot start."""
        with self._signalled():
            failed = False
            for place in self._places:
                self._start(place)
            while not self._stopping:
                wait([*self._sentinels(), *self._starting, self._signals[0]], self._pause())
                self._hear()
                failed = not self._mend()
                if failed:
                    break
            self._stop()
        if failed:
            raise OneselfError("A worker ended before it served; what it said above tells why.")

    @contextlib.contextmanager
    def _signalled(self) -> Iterator[None]:
        def stop(number: int, _: object) -> None:
            self._stopping = True
            self._signals[1].send(bytes([number]))

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._alive)
            os.close(self._living)
            for end in self._signals:
                end.close()

    def _start(self, place: _Place) -> None:
        ours, theirs = _fork.Pipe(duplex=False)
        worker = Worker(place.number, len(self._places), self._folder, self._port, self._alive, theirs)
        place.process = _fork.Process(target=self._begin, args=(worker,), name=f"oneself worker {place.number}")
        place.since = time.monotonic()
        place.process.start()
        theirs.close()
        self._starting[ours] = place.number
        _log.info("worker started", worker=place.number, pid=place.process.pid)

    def _begin(self, worker: Worker) -> None:
        """Be a worker: from here on in a process of its own."""
        os.close(self._living)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        try:
            self._run(worker)
        except OneselfError as error:
            sys.stderr.write(f"Error: {error}\n")
            sys.exit(1)

    def _sentinels(self) -> list[int]:
        return [place.process.sentinel for place in self._places if place.process is not None]

    def _pause(self) -> float | None:
        """Return for how long there is nothing to do but to wait for a worker; None for ever."""
        due = [place.due for place in self._places if place.process is None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _hear(self) -> None:
        """Take note of workers that serve now."""
        for started in list(self._starting):
            if started.poll():
                with contextlib.suppress(EOFError):  # it died, as its place will tell
                    started.recv()
                    self._places[self._starting[started]].serving = True
                del self._starting[started]
                started.close()

    def _mend(self) -> bool:
        """Replace workers that died; return False where one did before all of them had ever served."""
        for place in self._places:
            process = place.process
            if process is not None and process.exitcode is not None:
                place.process, place.serving = None, False
                if self._stopping:
                    continue
                if not self._serving:
                    return False
                lived = time.monotonic() - place.since
                place.deaths = 0 if lived >= _STABLE_SECONDS else place.deaths + 1
                pause = min(2.0 ** (place.deaths - 1), _LONGEST_PAUSE_SECONDS) if place.deaths > 1 else 0.0
                place.due = time.monotonic() + pause
                _log.error(
                    "worker died", worker=place.number, pid=process.pid, status=process.exitcode, again_in=pause
                )
                process.close()
            if place.process is None and not self._stopping and time.monotonic() >= place.due:
                self._start(place)
        if not self._serving and all(place.serving for place in self._places):
            self._serving = True
            self._on_serving(self._port)
        return True

    def _stop(self) -> None:
        """Stop every worker, the slow ones by force."""
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.terminate()
        end = time.monotonic() + _STOP_SECONDS
        for process in running:
            process.join(max(0.0, end - time.monotonic()))
            if process.exitcode is None:
                _log.error("a worker did not stop and is killed", pid=process.pid)
                process.kill()
                process.join()


@contextlib.contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """Hold a port for the workers, which listen on it themselves; raise ``OneselfError`` where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as alone:  # another server's port is not to be shared with it
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            address = alone.getsockname()
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError as error:
        raise OneselfError(f"Cannot serve {host}:{port}: {error.strerror or error}.") from error
    with held:
        yield held.getsockname()[1]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that only this user can enter, for as long as the workers run."""
    folder = Path(tempfile.mkdtemp(prefix="oneself-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
