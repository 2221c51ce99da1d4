"""The paths of the admin API and what answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from oneself.config import Config
from oneself.http.admin.access import Access
from oneself.http.admin.aliases import AliasRoutes
from oneself.http.admin.feed import Feed
from oneself.http.admin.follow import Follower
from oneself.http.admin.guards import GuardRoutes
from oneself.http.admin.live import LiveRoutes
from oneself.http.admin.policies import PolicyRoutes
from oneself.http.admin.quarantine import QuarantineRoutes
from oneself.http.admin.runner import Runner
from oneself.http.admin.timeline import TimelineRoutes
from oneself.http.admin.undo import UndoRoutes
from oneself.http.admin.users import UserRoutes
from oneself.http.admin.whatif import ReportRoutes
from oneself.http.admin.why import WhyRoutes
from oneself.http.admin.workspaces import WorkspaceRoutes
from oneself.http.exchange import Handler
from oneself.http.metrics import Ingested
from oneself.http.ports import Engine
from oneself.http.tokens import Tokens

__all__ = ["AdminRoutes"]

_WORKSPACE: Final = "/admin/workspaces/{workspace}"
_USER: Final = f"{_WORKSPACE}/users/{{mpid}}"
_ASIDE: Final = f"{_WORKSPACE}/quarantine/{{position}}"

_GET: Final = frozenset({"GET", "HEAD"})
_POST: Final = frozenset({"POST"})


class AdminRoutes:
    """What answers the admin API: ``paths`` are path, methods and handler.

    ``clock`` gives unix seconds, ``counted`` what became of batches in all workers.
    """

    def __init__(
        self,
        config: Config,
        tokens: Tokens,
        engine: Engine,
        clock: Callable[[], float],
        counted: Callable[[], Awaitable[Ingested]],
    ) -> None:
        self._feed = Feed()
        if engine.store.shared:
            self._follower = Follower(engine, self._feed)
        else:
            engine.listeners.append(self._feed.note)
        access = Access(config, tokens, engine)
        workspaces = WorkspaceRoutes(config, access, counted)
        users, timeline = UserRoutes(access, engine, clock), TimelineRoutes(access, engine)
        aliases = AliasRoutes(access, engine)
        live = LiveRoutes(access, tokens, engine, self._feed)
        quarantine = QuarantineRoutes(config, access, engine)
        policies = PolicyRoutes(config, access, engine, clock)
        why, guards = WhyRoutes(access, engine), GuardRoutes(access, engine)
        undo = UndoRoutes(config, access, engine)
        self._runner = Runner(engine, clock)
        reports = ReportRoutes(access, self._runner)
        self.paths: list[tuple[str, frozenset[str], Handler]] = [
            ("/admin/workspaces", _GET, workspaces.workspaces),
            (f"{_WORKSPACE}/users", _GET, users.search),
            (_USER, _GET, users.details),
            (f"{_USER}/devices", _GET, users.devices),
            (f"{_USER}/timeline", _GET, timeline.timeline),
            (f"{_USER}/aliases", _GET, aliases.aliases),
            (f"{_WORKSPACE}/aliases/{{position}}/undo", _POST, aliases.undo),
            (f"{_WORKSPACE}/live", _GET, live.live),
            (f"{_WORKSPACE}/quarantine", _GET, quarantine.rows),
            (_ASIDE, _GET, quarantine.item),
            (f"{_ASIDE}/replay", _POST, quarantine.replay),
            (f"{_WORKSPACE}/policies", _GET | _POST, policies.policies),
            (f"{_WORKSPACE}/policies/{{version}}", _GET, policies.policy),
            (f"{_WORKSPACE}/policies/{{version}}/restore", _POST, policies.restore),
            (f"{_USER}/why", _GET, why.life),
            (f"{_WORKSPACE}/why", _GET, why.why),
            (f"{_WORKSPACE}/undo", _POST, undo.undo),
            (f"{_WORKSPACE}/split", _POST, undo.split),
            (f"{_WORKSPACE}/whatif", _GET | _POST, reports.whatif),
            (f"{_WORKSPACE}/whatif/report", _GET, reports.whatif_report),
            (f"{_WORKSPACE}/whatif/stop", _POST, reports.whatif_stop),
            (f"{_WORKSPACE}/guards/report", _GET | _POST, reports.guards),
            (f"{_WORKSPACE}/guards/report/result", _GET, reports.guards_report),
            (f"{_WORKSPACE}/guards/report/stop", _POST, reports.guards_stop),
            (f"{_WORKSPACE}/guards", _GET, guards.guarded),
            (f"{_WORKSPACE}/guards/release", _POST, guards.release),
        ]

    def end_streams(self) -> None:
        """End every live stream, and a report that is being made: the server stops."""
        self._feed.end()
        self._runner.end()
