"""Trying another policy on the recorded history, beside the server (docs/whatif.md, "The admin API")."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Final, Literal

import msgspec
import structlog

from oneself.errors import OneselfError
from oneself.history.running import Asked, Said
from oneself.http.admin.access import ADMIN, NO_STORE, Access, Place, answer
from oneself.http.admin.query import Query
from oneself.http.body import decode, read_body
from oneself.http.exchange import Exchange
from oneself.http.ports import Engine
from oneself.http.wire import CORS, HttpError, Reply, json_reply
from oneself.identity import PolicyError, PolicySettings, build
from oneself.store import EmbeddedStore, Store

__all__ = ["WhatIf", "WhatIfBody", "WhatIfRoutes"]

_log = structlog.get_logger("oneself.http")

LONGEST_SECONDS: Final = 3_600.0
MOST_MEMORY: Final = 8 << 30
MOST_REPORT: Final = 64 << 20
"""So long, in so much memory, and with so large a report a what-if may run."""

BEAT_SECONDS: Final = 1.0
LOST_SECONDS: Final = 15.0
"""A what-if that was not heard of for so long is lost: its server has gone."""

_LEASE: Final = "whatif"
_REPORT: Final = "whatif/report"
_PAGE: Final = "whatif/page"
_STATUS: Final = "whatif/status"

_Moment = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[^\u0000]*$")]

State = Literal["running", "done", "failed", "stopped", "lost"]


class WhatIfBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that are to be tried: those of a ``[scope.NAME]`` table; on which part of the journal.

    ``from`` and ``to`` are places or times (ISO 8601). Values in the report are digests, unless they are to be shown.
    """

    settings: PolicySettings
    first: _Moment = msgspec.field(default="", name="from")
    last: _Moment = msgspec.field(default="", name="to")
    show_values: bool = False


class WhatIf(msgspec.Struct, frozen=True):
    """The latest what-if of a scope: who asked for it and when, how far it is (0 to 1) and what became of it."""

    id: str
    scope: str
    by: str
    settings: PolicySettings
    first: str = msgspec.field(name="from")
    last: str = msgspec.field(name="to")
    started_ms: int
    heard_ms: int
    state: State
    progress: float
    problem: str


class _Kept:
    """What is known of the latest what-if: by this server alone, or by all that share the data."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._values: dict[str, str] = {}

    async def get(self, name: str) -> str:
        if self._store.shared:
            return await self._store.setting(name) or ""
        return self._values.get(name, "")

    async def put(self, name: str, value: str) -> None:
        if self._store.shared:
            await self._store.set_setting(name, value)
        else:
            self._values[name] = value


_decoder: Final = msgspec.json.Decoder(WhatIfBody)
_status: Final = msgspec.json.Decoder(WhatIf)
_said: Final = msgspec.json.Decoder(Said)
_encode: Final = msgspec.json.Encoder().encode


class WhatIfRoutes:
    """Starts what-ifs, one at a time, and answers what became of them. ``clock`` gives unix seconds."""

    def __init__(self, access: Access, engine: Engine, clock: Callable[[], float]) -> None:
        self._access = access
        self._engine = engine
        self._clock = clock
        self._kept = _Kept(engine.store) if isinstance(getattr(engine, "store", None), Store) else None
        self._holder = secrets.token_hex(8)
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    def end(self) -> None:
        """End a what-if that runs here: the server stops."""
        if self._task is not None:
            self._task.cancel()

    async def whatif(self, exchange: Exchange) -> Reply:
        """Answer how far the latest what-if of the scope is, or start one."""
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        if exchange.scope["method"] != "POST":
            return answer(await self._latest(place))
        exchange.body = await read_body(exchange.headers, exchange.receive)
        asked = decode(_decoder, exchange.body, {})
        try:
            build(asked.settings)
        except PolicyError as error:
            raise HttpError(400, f"settings.{error.field}: {error.message}.") from None
        async with self._starting:
            reply = json_reply(202, _encode(await self._start(place, asked)))
        reply.headers.append(NO_STORE)
        return reply

    async def stop(self, exchange: Exchange) -> Reply:
        """Stop the what-if of the scope that runs on this server."""
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        latest = await self._latest(place)
        if latest.state != "running" or self._task is None or self._task.done():
            raise HttpError(409, "No what-if of this scope runs on this server.", code="NOT_RUNNING")
        self._task.cancel()
        await asyncio.wait([self._task])
        return answer(await self._latest(place))

    async def report(self, exchange: Exchange) -> Reply:
        """Answer the report of the latest what-if, as JSON or as a page."""
        place = await self._access.enter(exchange, ADMIN)
        html = Query(exchange, "format").choice("format", ("json", "html")) == "html"
        latest = await self._latest(place)
        if latest.state != "done":
            raise HttpError(404, "The latest what-if of this scope has no report.")
        body = (await self._store_of().get(_PAGE if html else _REPORT)).encode()
        if not html:
            reply = json_reply(200, body)
        else:
            type_ = (b"content-type", b"text/html; charset=utf-8")
            sniff = (b"x-content-type-options", b"nosniff")
            reply = Reply(200, [type_, *CORS, sniff, (b"content-length", b"%d" % len(body))], body)
        reply.headers.append(NO_STORE)
        return reply

    # -- what is known -----------------------------------------------------------------------------------------

    def _store_of(self) -> _Kept:
        assert self._kept is not None, "an engine over a store"
        return self._kept

    async def _any(self) -> WhatIf | None:
        """Return the latest what-if of any scope, as it is now."""
        kept = await self._store_of().get(_STATUS)
        if not kept:
            return None
        latest = _status.decode(kept)
        if latest.state == "running" and self._now_ms() - latest.heard_ms > 1_000 * LOST_SECONDS:
            return msgspec.structs.replace(latest, state="lost", problem="The server that ran it has gone.")
        return latest

    async def _latest(self, place: Place) -> WhatIf:
        latest = await self._any()
        if latest is None or latest.scope != place.workspace.scope:
            raise HttpError(404, "No what-if of this scope was made lately.")
        return latest

    async def _put(self, status: WhatIf) -> None:
        await self._store_of().put(_STATUS, _encode(status).decode())

    # -- running -----------------------------------------------------------------------------------------------

    async def _start(self, place: Place, asked: WhatIfBody) -> WhatIf:
        latest = await self._any()
        store = self._engine.store
        busy = latest is not None and latest.state == "running"
        if busy or not await store.lease(_LEASE, self._holder, LOST_SECONDS):
            raise HttpError(409, "Another what-if is being made; one is made at a time.", code="BUSY", retry_after=5)
        now_ms = self._now_ms()
        status = WhatIf(
            secrets.token_hex(8), place.workspace.scope, f"/admin/{place.caller.client}", asked.settings, asked.first,
            asked.last, now_ms, now_ms, "running", 0.0, "",
        )  # fmt: skip
        await self._put(status)
        self._task = asyncio.create_task(self._run(status, asked), name="whatif")
        await asyncio.sleep(0)  # one that never began could not say how it ended
        return status

    async def _run(self, status: WhatIf, asked: WhatIfBody) -> None:
        """Have a process do it, and keep what it says."""
        ended: tuple[State, str] = ("stopped", "")
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                said = await self._said(status, asked)
            ended = ("failed", said.problem) if said.problem else ("done", "")
        except TimeoutError:
            ended = "failed", f"It took longer than {LONGEST_SECONDS:.0f} s."
        except (OneselfError, OSError, ValueError, msgspec.MsgspecError) as error:
            ended = "failed", str(error)
        finally:
            state, problem = ended
            progress = 1.0 if state == "done" else status.progress
            with suppress(OneselfError):  # whoever asks is told that it is lost
                await self._put(
                    msgspec.structs.replace(
                        status, state=state, problem=problem, progress=progress, heard_ms=self._now_ms()
                    )
                )
                await self._engine.store.end_lease(_LEASE, self._holder)
            if state == "failed":
                _log.warning("a what-if failed", reason=problem)

    async def _said(self, status: WhatIf, asked: WhatIfBody) -> Said:
        """Return the last thing that the process says; the report is kept before."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "oneself.history.running",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            limit=MOST_REPORT,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(_encode(_asked(self._engine.store, status.scope, asked)))
            process.stdin.close()
            said = Said(problem="The process that made it ended without a word.")
            heard = self._clock()
            async for line in process.stdout:
                said = _said.decode(line)
                if self._clock() - heard >= BEAT_SECONDS and not said.page:
                    heard = self._clock()
                    await self._engine.store.lease(_LEASE, self._holder, LOST_SECONDS)
                    await self._put(msgspec.structs.replace(status, progress=said.progress, heard_ms=self._now_ms()))
            if said.page:
                await self._store_of().put(_REPORT, bytes(said.report).decode())
                await self._store_of().put(_PAGE, said.page)
            return said
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.wait()

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _asked(store: Store, scope: str, body: WhatIfBody) -> Asked:
    folder, database = "", ""
    if isinstance(store, EmbeddedStore):
        folder = str(store.folder)
    else:
        database = store.url  # type: ignore[attr-defined]
    return Asked(folder, database, scope, body.settings, body.first, body.last, body.show_values, MOST_MEMORY)
