"""The rival: the service one would write at first, FastAPI + SQLAlchemy 2 + PostgreSQL (docs/benchmarks.md).

One transaction a request, three tables, the rules of the ``default`` policy. It is meant to be ordinary and
correct, and runs as a server of its own: ``python -m oneself.bench.rival --port N --database URL``. It needs
the extra ``oneself[bench]``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import asyncpg
import click
import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ForeignKey,
    Index,
    MetaData,
    Table,
    Text,
    bindparam,
    insert,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from oneself.bench.population import Population, stored
from oneself.identity.names import DEFAULT_PRIORITY
from oneself.identity.values import DEFAULT_JUNK, MAX_VALUE_LENGTH, normalise

__all__ = ["RivalUnavailable", "begin", "create_app", "end", "engine_for"]

_RANK = {type_: place for place, type_ in enumerate(DEFAULT_PRIORITY)}
_LOGIN = "customerid"  # the default policy's one login type: unique and immutable, too
_ATTEMPTS = 5


_tables = MetaData()

_profile = Table(
    "profile",
    _tables,
    Column("mpid", BigInteger, primary_key=True, autoincrement=False),
    Column("created_ms", BigInteger, nullable=False),
)

_identity = Table(
    "identity",
    _tables,
    Column("id", BigInteger, primary_key=True),
    Column("mpid", ForeignKey("profile.mpid"), nullable=False, index=True),
    Column("type", Text, nullable=False),
    Column("value", Text, nullable=False),
    Index("identity_look_up", "type", "value"),
    Index("identity_unique", "value", unique=True, postgresql_where=text(f"type = '{_LOGIN}'")),
)

_journal = Table(
    "journal",
    _tables,
    Column("id", BigInteger, primary_key=True),
    Column("request_id", Text, unique=True),  # a request is answered once
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("request", JSONB, nullable=False),
    Column("answer", JSONB, nullable=False),
    Column("linked", JSONB, nullable=False),
)

_wanted: BindParameter[Any] = bindparam("wanted", expanding=True)
_matching = select(_identity.c.mpid).where(tuple_(_identity.c.type, _identity.c.value).in_(_wanted))
_rows = select(_identity.c.mpid, _identity.c.type, _identity.c.value, _identity.c.id)
_candidates = _rows.where(_identity.c.mpid.in_(_matching))
_answer_before = select(_journal.c.answer).where(_journal.c.request_id == bindparam("request_id"))
_new_profile, _new_identity, _new_entry = insert(_profile), insert(_identity), insert(_journal)


class ClientSdk(BaseModel):
    """What sent the request."""

    platform: str | None = None
    sdk_vendor: str | None = None
    sdk_version: str | None = None


class Asked(BaseModel):
    """The body of a request."""

    client_sdk: ClientSdk | None = None
    context: str | None = None
    environment: Literal["production", "development"]
    request_id: str | None = None
    request_timestamp_ms: int | None = None
    previous_mpid: str | None = None
    known_identities: dict[str, str | None]


class Answer(BaseModel):
    """The body of an answer."""

    context: str | None = None
    mpid: str
    matched_identities: dict[str, str]
    is_ephemeral: bool = False
    is_logged_in: bool


class _Candidate:
    """A profile that holds at least one identity of the request, with all it holds."""

    def __init__(self, mpid: int) -> None:
        self.mpid = mpid
        self.held: dict[str, dict[str, int]] = {}  # type: {value: id of the row, larger is later}

    def holds(self, type_: str, value: str) -> bool:
        return value in self.held.get(type_, ())


def usable(known_identities: dict[str, str | None]) -> dict[str, str]:
    """Return the identities that count, normalised, in the order of the priority."""
    found = {}
    for type_ in sorted(known_identities.keys() & _RANK.keys(), key=_RANK.__getitem__):
        sent = known_identities[type_]
        value = "" if sent is None else normalise(type_, sent)
        if value.strip().lower() not in DEFAULT_JUNK and len(value) <= MAX_VALUE_LENGTH:
            found[type_] = value
    return found


def choose(identities: dict[str, str], candidates: list[_Candidate], previous: str | None) -> _Candidate | None:
    """Walk the priority over the eligible candidates; return who is left, or None."""
    customer = identities.get(_LOGIN)
    eligible = [c for c in candidates if _LOGIN not in c.held or (customer is not None and c.holds(_LOGIN, customer))]
    left: list[_Candidate] = []
    deciding = ("", "")
    for type_, value in identities.items():
        taken = [c for c in (left or eligible) if c.holds(type_, value)]
        if taken:
            if not left or len(taken) < len(left):
                deciding = (type_, value)
            left = taken
        if len(left) == 1:
            break
    if not left:
        return None
    for candidate in left:
        if str(candidate.mpid) == previous:
            return candidate
    type_, value = deciding
    return max(left, key=lambda candidate: (candidate.held[type_][value], -candidate.mpid))


async def resolve(connection: AsyncConnection, kind: str, asked: Asked) -> Answer:
    """Answer one request within the connection's transaction."""
    identities = usable(asked.known_identities)
    if not identities:
        raise HTTPException(400, "known_identities has no usable value")
    rows = await connection.execute(_candidates, {"wanted": list(identities.items())})
    candidates: dict[int, _Candidate] = {}
    for mpid, type_, value, row in rows:
        candidate = candidates.setdefault(mpid, _Candidate(mpid))
        candidate.held.setdefault(type_, {})[value] = row
    answer: _Candidate | None = None
    if kind != "logout" or _LOGIN in identities:
        answer = choose(identities, list(candidates.values()), asked.previous_mpid)
    now_ms = time.time_ns() // 1_000_000
    if answer is None:
        answer = _Candidate(secrets.randbits(63) or 1)
        await connection.execute(_new_profile, {"mpid": answer.mpid, "created_ms": now_ms})
    matched, linked = {}, {}
    for type_, value in identities.items():
        if answer.holds(type_, value):
            matched[type_] = value
        elif type_ != _LOGIN or not (
            _LOGIN in answer.held or any(c.holds(type_, value) for c in candidates.values())
        ):
            linked[type_] = value
    if linked:
        rows_linked = [{"mpid": answer.mpid, "type": type_, "value": value} for type_, value in linked.items()]
        await connection.execute(_new_identity, rows_linked)
    result = Answer(
        mpid=str(answer.mpid), matched_identities=matched, is_logged_in=_LOGIN in answer.held or _LOGIN in linked
    )
    entry = {
        "request_id": asked.request_id,
        "at_ms": now_ms,
        "kind": kind,
        "request": asked.model_dump(mode="json", exclude_none=True),
        "answer": result.model_dump(mode="json"),
        "linked": list(linked.items()),
    }
    await connection.execute(_new_entry, entry)
    return result


async def _answered(engine: AsyncEngine, request_id: str | None) -> Answer | None:
    if request_id is None:
        return None
    async with engine.connect() as connection:
        row = await connection.scalar(_answer_before, {"request_id": request_id})
    return None if row is None else Answer.model_validate(row)


def engine_for(database: str, schema: str, connections: int) -> AsyncEngine:
    """Return a pooled engine whose tables are those of the rival's own schema."""
    url = database.replace("postgresql://", "postgresql+asyncpg://", 1)
    settings = {"search_path": schema, "synchronous_commit": "on"}
    return create_async_engine(url, pool_size=connections, max_overflow=0, connect_args={"server_settings": settings})


def create_app(engine: AsyncEngine, key: str, secret: str) -> FastAPI:
    """Return the service over an engine; one pair of Basic credentials is let in."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    async def authenticated(given: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> None:
        right_key = secrets.compare_digest(given.username.encode(), key.encode())
        right_secret = secrets.compare_digest(given.password.encode(), secret.encode())
        if not (right_key and right_secret):
            raise HTTPException(401, "unknown key or wrong secret")

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    def endpoint(kind: str) -> Callable[[Asked], Awaitable[Answer]]:
        async def answer(asked: Asked) -> Answer:
            for _ in range(_ATTEMPTS):  # a unique index may say that a neighbour was first: look again
                try:
                    async with engine.begin() as connection:
                        return await resolve(connection, kind, asked)
                except IntegrityError:
                    before = await _answered(engine, asked.request_id)
                    if before is not None:
                        return before
            raise HTTPException(503, "too many conflicts; try again")

        return answer

    for kind in ("identify", "login", "logout"):
        app.post(f"/v1/{kind}", dependencies=[Depends(authenticated)])(endpoint(kind))
    return app


class RivalUnavailable(Exception):
    """The rival cannot run here; the message says why."""


async def begin(database: str, schema: str, population: Population) -> None:
    """Make the rival's schema anew with a population in it; raise ``RivalUnavailable`` where that fails."""
    engine = engine_for(database, schema, 1)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
            await connection.execute(text(f"CREATE SCHEMA {schema}"))
            await connection.run_sync(_tables.create_all)
        await _fill(engine, schema, population)
    except (OSError, SQLAlchemyError, asyncpg.PostgresError) as error:
        address = make_url(database).render_as_string(hide_password=True)
        raise RivalUnavailable(f"PostgreSQL at {address} cannot be used: {error}") from error
    finally:
        await engine.dispose()


async def end(database: str, schema: str) -> None:
    """Remove the rival's schema and all in it."""
    engine = engine_for(database, schema, 1)
    async with engine.begin() as connection:
        await connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
    await engine.dispose()


async def _fill(engine: AsyncEngine, schema: str, population: Population) -> None:
    profiles = ((mpid, 0) for mpid, _ in stored(population))
    identities = ((mpid, type_, value) for mpid, held in stored(population) for type_, value in held)
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.copy_records_to_table("profile", schema_name=schema, records=profiles)
        columns = ["mpid", "type", "value"]
        await raw.copy_records_to_table("identity", schema_name=schema, columns=columns, records=identities)
        await raw.execute(f"ANALYZE {schema}.profile, {schema}.identity")


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--database", envvar="RIVAL_DATABASE", required=True)
@click.option("--schema", default="oneself_rival", show_default=True)
@click.option("--key", envvar="RIVAL_KEY", required=True)
@click.option("--secret", envvar="RIVAL_SECRET", required=True)
@click.option("--pool", default=32, show_default=True)
def main(port: int, database: str, schema: str, key: str, secret: str, pool: int) -> None:
    """Serve the rival from tables that exist already."""
    app = create_app(engine_for(database, schema, pool), key, secret)
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_level="warning", access_log=False, http="httptools", loop="uvloop"
    )


if __name__ == "__main__":
    main()
