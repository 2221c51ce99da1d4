"""The profile benchmark: Profile API reads beside the bare endpoint, and of large profiles (docs/benchmarks.md)."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import msgspec

from oneself.bench.ingest import AIMS, Aim, filled, filling_steps
from oneself.bench.load import LoadReport
from oneself.bench.processes import peak_memory
from oneself.bench.reads import FIELDS, PROFILE_PATH, Reads
from oneself.bench.servers import BARE_SHARE, LoadOptions, Server, bare, oneself, profile, token
from oneself.bench.users import Users

__all__ = ["ProfileMeasured", "ProfileOptions", "measure_profile", "planned_profile_steps"]


class ProfileOptions(LoadOptions, frozen=True, kw_only=True):
    """What to measure, and over which users; without a crowd large profiles are left out."""

    users: Users


class ProfileMeasured(msgspec.Struct):
    """Every report of a run, by round: ``aimed`` by whose profile, all others of any user's.

    ``answer_bytes`` is the length of an ordinary user's answer, which the bare endpoint gives, too.
    ``peak_memory`` is the server's, in bytes, None where the system does not tell.
    """

    bare: list[LoadReport] = []
    reads: list[LoadReport] = []
    paced: list[LoadReport] = []
    aimed: dict[Aim, list[LoadReport]] = {}
    answer_bytes: int = 0
    peak_memory: int | None = None


def planned_profile_steps(options: ProfileOptions) -> int:
    """Return how many steps ``measure_profile`` will report, each of roughly the same time."""
    return filling_steps(options.users) + options.rounds * (3 + (len(AIMS) if options.users.crowd else 0))


def measure_profile(options: ProfileOptions, step: Callable[[int], None] = lambda _: None) -> ProfileMeasured:
    """Fill, serve, and read profiles and the bare endpoint in turns; then at half the rate.

    ``step`` is told of progress. Raises ``LoadError``, ``ServerFailed`` or ``NoRoom`` where no figures can be had.
    """
    measured = ProfileMeasured()
    users = options.users
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oneself-bench-", dir=options.folder)))
        filled(folder / "data", users, step)
        server = stack.enter_context(oneself(folder))
        bearer = token(server)
        answer = profile(server, f"{PROFILE_PATH}{users.mpid(0)}?fields={FIELDS}", bearer)
        measured.answer_bytes = len(answer)
        nothing = stack.enter_context(bare(folder, answer))

        def load(from_: Server, rate: float | None = None, aim: Literal["any"] | Aim = "any") -> LoadReport:
            work, share = Reads(users, bearer, aim), BARE_SHARE if from_ is nothing else 1.0
            report = from_.load(work, options, rate, expect='"user_attributes":', stores=False, share=share)
            step(1)
            return report

        for _ in range(options.rounds):
            measured.bare.append(load(nothing))
            measured.reads.append(load(server))
            for aim in AIMS if users.crowd else ():
                measured.aimed.setdefault(aim, []).append(load(server, aim=aim))
        rate = statistics.median(report.rate for report in measured.reads)
        for _ in range(options.rounds):
            measured.paced.append(load(server, max(rate / 2, 1.0)))
        measured.peak_memory = peak_memory(server.pid)
    return measured
