"""``oneself resolve``: answer identity requests without a server (docs/identity.md)."""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol

import click
import msgspec

from oneself.commands.place import place_of
from oneself.config import load
from oneself.config.table import listed, meant
from oneself.engine import ENVIRONMENTS
from oneself.explain import explain
from oneself.identity import (
    HOLDERS_READ,
    IDENTITY_TYPES,
    Decision,
    Identity,
    IdentityChange,
    Policy,
    Prepared,
    Request,
    Unlink,
    View,
    apply,
    build,
    decide,
    prepare,
)
from oneself.identity.names import FROM_EVENTS
from oneself.store import Place, Wanted

__all__ = ["Memory", "State", "Stored", "answer", "resolve"]


class State(Protocol):
    """What requests are decided over, and what remembers the decisions."""

    def view(self, prepared: Prepared) -> View:
        """Return all that the decision on a request must see."""

    def keep(self, decision: Decision) -> None:
        """Make the changes of a decision, so that the next one sees them."""


class Memory:
    """A state that begins empty and lives in memory only."""

    def __init__(self) -> None:
        self._all = View()
        self._position = 0

    def view(self, prepared: Prepared) -> View:
        """Return all that the decision on a request must see."""
        every, view = self._all, View()
        for identity in prepared.identities:
            view.holders[identity] = every.holders.get(identity, [])[:HOLDERS_READ]
            if identity in every.guarded:
                view.guarded.add(identity)
        for mpid in (*prepared.mpids, *(mpid for rows in view.holders.values() for _, mpid in rows)):
            if mpid in every.profiles:
                view.profiles[mpid] = every.profiles[mpid]
                for identity in prepared.identities:
                    if (mpid, identity) in every.further:
                        view.further[mpid, identity] = every.further[mpid, identity]
        return view

    def keep(self, decision: Decision) -> None:
        """Make the changes of a decision, so that the next one sees them."""
        self._position += 1
        for change in decision.changes:
            apply(self._all, change, self._position)


class Stored(Memory):
    """A state that begins as what a store has, whose servers may be running, and leaves it as it is.

    What is asked for is read once, and from then on remembered with what decisions made of it.
    """

    def __init__(self, place: Place, space: str) -> None:
        super().__init__()
        self._space = space
        self._store = place.store(read_only=True)
        self._read: dict[Identity, float] = {}  # how many of its holders were read; infinite where all were
        self._known: set[int] = set()
        self._left: set[tuple[int, Identity]] = set()
        self._runner = asyncio.Runner()
        try:
            self._runner.run(self._store.open())
        except BaseException:
            self._runner.close()
            raise
        self._position = self._begin = self._store.position

    def view(self, prepared: Prepared) -> View:
        """Return all that the decision on a request must see."""
        short = [identity for identity in prepared.identities if self._is_short(identity)]
        mpids = [mpid for mpid in prepared.mpids if mpid not in self._known]
        if short or mpids:
            crowded = [mpid for mpid, profile in self._all.profiles.items() if profile.more]
            margin = len(self._left) + len(prepared.identities)
            wanted = {self._space: Wanted(short, [*mpids, *crowded])}
            reading = self._runner.run(self._store.read(wanted, margin=margin))
            self._known.update(mpids)
            self._learn(reading.views[self._space], HOLDERS_READ + margin)
        return super().view(prepared)

    def keep(self, decision: Decision) -> None:
        """Make the changes of a decision, so that the next one sees them."""
        self._left |= {(c.mpid, (c.type, c.value)) for c in decision.changes if isinstance(c, Unlink)}
        super().keep(decision)

    def close(self) -> None:
        """Close the store."""
        self._runner.run(self._store.close())
        self._runner.close()

    def _is_short(self, identity: Identity) -> bool:
        """Tell whether of an identity more holders must be read: none were, or too many of them have left."""
        left = sum(1 for _, gone in self._left if gone == identity)
        return self._read.get(identity, 0) - left < HOLDERS_READ

    def _learn(self, stored: View, limit: int) -> None:
        """Add what a store has to what was decided since: of what is known already that holds.

        Of an identity at most ``limit`` holders were read.
        """
        every = self._all
        for identity, rows in stored.holders.items():
            self._read[identity] = limit if len(rows) >= limit else math.inf
            since = [row for row in every.holders.get(identity, ()) if row[0] > self._begin]
            every.holders[identity] = since + [row for row in rows if (row[1], identity) not in self._left]
            if identity in stored.guarded:
                every.guarded.add(identity)
        for mpid, profile in stored.profiles.items():
            every.profiles.setdefault(mpid, profile)
        for (mpid, identity), at in stored.further.items():
            if (mpid, identity) not in self._left:
                every.further.setdefault((mpid, identity), at)


def answer(state: State, policy: Policy, request: Request, fresh_mpid: int) -> Decision:
    """Decide a request over a state and keep the decision; ``fresh_mpid`` names the profile it may make."""
    prepared = prepare(policy, request)
    decision = decide(prepared, state.view(prepared), 0, fresh_mpid)  # no kind that is taken here looks at the time
    state.keep(decision)
    return decision


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Configuration whose policy decides.")
@click.option("--scope", help="Its scope, where the configuration has several.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Begin with what this data folder has; the folder stays as it is, and its server may be running.",
)
@click.option("--database", metavar="URL", help="Begin with what this PostgreSQL database has, likewise.")
@click.option("--environment", type=click.Choice(ENVIRONMENTS), default=ENVIRONMENTS[0], show_default=True)
@click.option("--kind", type=click.Choice(["identify", "login", "logout", "search"]), help="Default: identify.")
@click.option("--identity", "identities", multiple=True, metavar="TYPE=VALUE", help="An identity; may be repeated.")
@click.option("--previous-mpid", metavar="MPID", help="The user before this request.")
@click.option("--history", type=click.Path(path_type=Path), help="Requests, as JSON lines, to decide before these.")
@click.option("--seed", type=int, help="Make the same MPIDs in every run with this number.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
def resolve(
    config: Path | None,
    scope: str | None,
    data: Path | None,
    database: str | None,
    environment: str,
    kind: str | None,
    identities: tuple[str, ...],
    previous_mpid: str | None,
    history: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Answer identity requests without a server, and tell how each answer came about.

    One request is given by options, or several by JSON lines on standard input, each with "kind" (identify,
    login, logout, search or modify), "known_identities" and "previous_mpid", or for modify with "mpid" and
    "identity_changes". Whatever they change is forgotten when the command ends. Without --config the default
    policy decides. With --data or --database it is decided over what a server has stored.

    \b
    Example:
      oneself resolve --kind login --identity customerid=A1 --identity email=ann@example.com
      oneself resolve --config oneself.toml --scope acme < requests.jsonl
    """
    scope, policy = _policy(config, scope)
    source = random.SystemRandom() if seed is None else random.Random(seed)
    place = None if data is None and database is None else place_of(data, database)
    with ExitStack() as opened:
        state: State = Memory()
        if place is not None:
            state = opened.enter_context(closing(Stored(place, f"{scope}/{environment}")))
        for request in _read_history(history) if history is not None else ():
            answer(state, policy, request, _random_mpid(source))
        for number, request in enumerate(_requests(kind, identities, previous_mpid)):
            decision = answer(state, policy, request, _random_mpid(source))
            if as_json:
                click.echo(_as_json(request, decision))
            else:
                click.echo("\n".join([*([""] if number else []), *explain(request, decision)]))


def _policy(config: Path | None, scope: str | None) -> tuple[str, Policy]:
    """Return the scope that is meant and its policy."""
    if config is None:
        if scope is not None:
            raise click.UsageError("--scope needs --config.")
        return "default", build()
    policies = load(config, os.environ).policies
    if scope is None and len(policies) == 1:
        return next(iter(policies.items()))
    if scope is None:
        raise click.UsageError(f"{config} has several scopes; give --scope. Scopes: {listed(policies)}.")
    if scope not in policies:
        raise click.UsageError(f"{config} has no scope {scope!r}{meant(scope, policies)} Scopes: {listed(policies)}.")
    return scope, policies[scope]


def _random_mpid(source: random.Random) -> int:
    return source.choice((-1, 1)) * source.randrange(1, 2**63)


# -- requests -------------------------------------------------------------------------------------------------


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    identity_type: str
    old_value: str | None = None
    new_value: str | None = None


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """One request as JSON, with the names of the Identity API."""

    kind: Literal["identify", "login", "logout", "search", "modify"] = "identify"
    known_identities: dict[str, str | None] = {}
    previous_mpid: str | int | None = None
    mpid: str | int | None = None
    identity_changes: list[_Change] = []


_decoder: Final = msgspec.json.Decoder(_Line)


def _requests(kind: str | None, identities: tuple[str, ...], previous_mpid: str | None) -> Iterator[Request]:
    if identities:
        pairs = [identity.partition("=") for identity in identities]
        for type_, equals, _ in pairs:
            if not equals:
                raise click.UsageError(f"--identity {type_!r}: write TYPE=VALUE.")
        known = {type_: value for type_, _, value in pairs}
        if len(pairs) != len(known):
            raise click.UsageError("--identity: a request has one value of a type.")
        line = {"kind": kind or "identify", "known_identities": known, "previous_mpid": previous_mpid}
        try:
            yield _request(msgspec.convert(line, _Line))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        return
    if kind is not None or previous_mpid is not None:
        raise click.UsageError("--kind and --previous-mpid need --identity; JSON lines have fields for them.")
    if sys.stdin.isatty():
        raise click.UsageError("Give --identity, or requests as JSON lines on standard input.")
    yield from _read("standard input", sys.stdin.buffer)


def _read_history(path: Path) -> Iterator[Request]:
    try:
        with path.open("rb") as file:
            if not sys.stderr.isatty():
                yield from _read(str(path), file)
                return
            with click.progressbar(length=path.stat().st_size, label="history", file=sys.stderr) as bar:
                for request in _read(str(path), file):
                    yield request
                    bar.update(file.tell() - bar.pos)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror or error}.") from None


def _read(name: str, lines: BinaryIO | Iterable[bytes]) -> Iterator[Request]:
    """Yield the request of each line that is not blank."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                request = _request(_decoder.decode(line.decode()))
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise click.ClickException(f"{name}, line {number}: {error}") from None
            yield request


def _request(line: _Line) -> Request:
    """Return the request of a line; raise ``ValueError`` naming the field that is wrong."""
    identities = {_type(name): value for name, value in line.known_identities.items()}
    if len(identities) < len(line.known_identities):
        raise ValueError("known_identities names a type twice.")
    changes = tuple(IdentityChange(_type(c.identity_type), c.old_value, c.new_value) for c in line.identity_changes)
    previous, mpid = _mpid("previous_mpid", line.previous_mpid), _mpid("mpid", line.mpid)
    if line.kind != "modify":
        if mpid is not None or line.identity_changes:
            raise ValueError(f"mpid and identity_changes belong to modify, not to {line.kind}.")
        return Request(line.kind, identities, previous)
    if mpid is None or not changes or identities or previous is not None:
        raise ValueError("modify takes mpid and identity_changes, both of them, and nothing else.")
    if any(change.old_value is None and change.new_value is None for change in changes):
        raise ValueError("identity_changes: each needs old_value, new_value or both.")
    return Request("modify", mpid=mpid, changes=changes)


def _type(name: str) -> str:
    """Return the identity type that a name of the Identity API or the Events API means."""
    if name in FROM_EVENTS:
        return FROM_EVENTS[name]
    raise ValueError(
        f"{name!r} is no identity type{meant(name, FROM_EVENTS)} Allowed: {listed(sorted(IDENTITY_TYPES))}."
    )


def _mpid(field: str, value: str | int | None) -> int | None:
    if value is None:
        return None
    if re.fullmatch("-?[0-9]{1,19}", str(value)) and -(2**63) <= int(value) < 2**63 and int(value):
        return int(value)
    raise ValueError(f"{field} must be an MPID: a whole number of 64 bits other than 0.")


def _as_json(request: Request, decision: Decision) -> str:
    document = {
        "mpid": None if decision.mpid is None else str(decision.mpid),
        "is_logged_in": decision.known,
        "matched": decision.matched,
        "error": decision.error,
        "changes": decision.changes,
        "trace": decision.trace,
        "words": explain(request, decision),
    }
    return msgspec.json.encode(document).decode()
