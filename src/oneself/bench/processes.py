"""The servers under measurement: started and ended as processes, their CPU time and memory read."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ServerFailed", "cpu_seconds", "free_port", "machine_seconds", "peak_memory", "serving"]

_PATIENCE = 120.0  # s for a server to get ready, or to end


class ServerFailed(Exception):
    """A server under measurement did not start, or did not end cleanly; the message has its last words."""


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and those it started have used, in seconds; NaN where it is not told."""
    family = [_stat(one) for one in _family(pid)]
    if not family[0]:
        return math.nan
    return sum(int(fields[11]) + int(fields[12]) for fields in family if fields) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """Return what the system tells of a process, from its state on; nothing where it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _family(pid: int) -> list[int]:
    """Return a process and those that it started and that still run."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    started = [one for one in pids if _stat(one)[1:2] == [str(pid)]]
    return [pid, *started]


def machine_seconds() -> float:
    """Return the CPU time that everything on the machine has used so far, in seconds; NaN where it is not told."""
    try:
        fields = [int(one) for one in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    except (OSError, ValueError):
        return math.nan
    user, nice, system, _idle, _waiting, irq, softirq, _stolen = fields
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> int | None:
    """Return the largest resident memory so far of a process and of each that it started, added up, in bytes.

    None where it is not told.
    """
    peaks = [_peak_of(one) for one in _family(pid)]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if peaks[0] is not None else None


def _peak_of(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on just now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


@contextmanager
def serving(command: Sequence[str], ready: str, log: Path, also: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a server, wait until GET of the URL ``ready`` answers 200, give its pid, and end it at the close.

    Its output goes to the file ``log``. Its environment is this one without Oneself's own settings, with ``also``.
    Raises ``ServerFailed`` where it does not get ready, or does not end with exit code 0 on SIGTERM.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONESELF_")}
    environment |= also or {}
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        _await_ready(server, ready, log)
        yield server.pid
    except BaseException:
        server.kill()
        server.wait()
        raise
    server.send_signal(signal.SIGTERM)
    try:
        code = server.wait(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
        raise ServerFailed(f"{_name(command)} did not end within {_PATIENCE:.0f} s.{_last_words(log)}") from None
    if code not in (0, -signal.SIGTERM):  # a server that re-raises the signal ended cleanly, too
        raise ServerFailed(f"{_name(command)} ended with exit code {code}.{_last_words(log)}")


def _await_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerFailed(f"{_name(server.args)} ended with exit code {server.returncode}.{_last_words(log)}")
        try:
            with direct.open(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise ServerFailed(f"{_name(server.args)} was not ready within {_PATIENCE:.0f} s.{_last_words(log)}")


def _name(command: object) -> str:
    return " ".join(str(part) for part in command[:4]) if isinstance(command, list | tuple) else str(command)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-15:]
    return " Its last words:\n" + "\n".join(lines) if lines else ""
