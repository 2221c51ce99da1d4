"""Whether what servers answered is one history: that of the journal, in real time's order, and of the tables.

    assert_one_history(url, account, folder)

Nothing may be at work on the database but servers that nobody asks anything.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from contention import Sent
from identity_world import told
from journal_fold import Fold, assert_unique
from oneself.history import replay
from oneself.identity import Create, Decision, Policy, PolicySettings, Request, View, apply, build, decide, prepare
from oneself.journal import Entry
from oneself.store.postgres import PostgresStore
from postgres_server import asked
from rebuilding import assert_backend_rebuilds
from reference_model import Model
from store_factories import Postgres
from strict_order import Read, Write, misplaced_reads, misplaced_writes, windows

INPUT = "shop/server"
SPACE = "shop/production"
MODELLED = 600
"""So many decisions are put to the reference model, which looks through all that there is for each."""

SETTLE_SECONDS = 30

Journal = list[tuple[int, Entry]]


class History(NamedTuple):
    """A journal with its positions, where its requests stand in it, and the policy that decided all of it."""

    journal: Journal
    positions: dict[str, int]
    policy: Policy


def assert_one_history(url: str, account: Iterable[Sent], elsewhere: Path) -> int:
    """Assert that all that was answered holds, is in order, and is in the tables once; return the journal's length.

    ``elsewhere`` takes what the journal comes to when it is folded anew.
    """
    sent = list(account)
    history = asyncio.run(_read(url))
    assert_answers(sent, history)
    assert_real_time(sent, history)
    assert_model_agrees(history)
    asyncio.run(assert_backend_rebuilds(_Database(url), elsewhere))
    return len(history.journal)


async def _read(url: str) -> History:
    """Return a database's history, when it is sure that the core decides it again and that the tables go with it."""
    store = PostgresStore(url, read_only=True)
    await store.open()
    try:
        journal: Journal = []
        fold, positions = Fold(), {}
        async for position, entry in store.entries():
            fold.take(position, entry)  # asserts that no position is left out, and no request id decided twice
            journal.append((position, entry))
            if entry.request_id:
                assert entry.input == INPUT, entry
                positions[entry.request_id] = position
        found = await replay(store)
        assert (found.differences_in_all, found.decided) == (0, len(journal)), found.differences
        [version] = await store.policies()
        policy = build(msgspec.json.decode(version.settings, type=PolicySettings))
        assert_unique(fold, version.scope, policy)
        return History(journal, positions, policy)
    finally:
        await store.close()


def wait_for_aliases(url: str) -> None:
    """Wait until servers that still run have decided all aliases; then they write nothing any more."""
    end = time.monotonic() + SETTLE_SECONDS
    while asked("SELECT 1 FROM alias WHERE outcome = 'waiting' LIMIT 1", url=url):
        assert time.monotonic() < end, "an alias is never decided"
        time.sleep(0.05)


class _Database(Postgres):
    """A database that is there already."""

    def __init__(self, url: str) -> None:
        self.url = url


# -- answers ------------------------------------------------------------------------------------------------------


def assert_answers(account: Iterable[Sent], history: History) -> None:
    """Assert that every answer is what the journal says of its request."""
    entries = dict(history.journal)
    for sent in account:
        if sent.answered is None or sent.reads:
            continue
        entry = entries[history.positions[sent.request_id]]
        assert _told(sent) == _said(entry.decision, sent), f"{sent}\nwas decided as {entry.decision}"


def _told(sent: Sent) -> dict[str, Any]:
    """Return what of an answer the journal knows."""
    if sent.status >= 400:
        return {"status": sent.status, "code": sent.answer["errors"][0]["code"]}
    names = ("mpid", "is_logged_in", "matched_identities")
    return {"status": sent.status} | {name: sent.answer[name] for name in names if name in sent.answer}


def _said(decision: Decision, sent: Sent) -> dict[str, Any]:
    """Return what a decision is told as in answer to a request."""
    if decision.error is not None:
        return {"status": decision.error.status, "code": decision.error.code}
    if sent.path in ("/v2/events", "/v1/identity/server-key/Alias"):
        return {"status": 202}
    if sent.path.endswith("/modify"):
        return {"status": 200, "is_logged_in": decision.known}
    return {
        "status": 200,
        "mpid": None if decision.mpid is None else str(decision.mpid),
        "is_logged_in": decision.known,
        "matched_identities": {type_: sent.body["known_identities"][type_] for type_ in decision.matched},
    }


# -- real time ----------------------------------------------------------------------------------------------------


def assert_real_time(account: Iterable[Sent], history: History) -> None:
    """Assert that the journal's order is one in which everything may have happened."""
    named: defaultdict[str, list[Sent]] = defaultdict(list)
    reading = []
    for sent in account:
        if sent.reads and sent.answered is not None:
            reading.append(sent)
        elif not sent.reads and sent.request_id in history.positions:
            named[sent.request_id].append(sent)
    writes = [
        Write(
            id_,
            history.positions[id_],
            min(one.sent for one in of),
            min((one.answered for one in of if one.answered is not None), default=math.inf),
        )
        for id_, of in named.items()
    ]
    wrong = misplaced_writes(writes)
    assert not wrong, wrong[:3]
    reads = [Read(f"{s.kind} {s.body}", s.sent, s.answered or 0.0) for s in reading]
    possible = _possible(reading, windows(reads, writes, len(history.journal)), history)
    lost = misplaced_reads(reads, possible)
    assert not lost, lost[:3]


def _possible(reads: list[Sent], within: list[tuple[int, int]], history: History) -> list[list[int]]:
    """Return, for each read, the positions of its window up to which the entries give just its answer."""
    possible: list[list[int]] = [[] for _ in reads]
    begins: defaultdict[int, list[int]] = defaultdict(list)
    for at, (first, _) in enumerate(within):
        begins[first].append(at)
    asked = [prepare(history.policy, _request(sent)) for sent in reads]
    view, open_ = View(), set[int]()
    for position, entry in [(0, None), *history.journal]:
        if entry is not None and entry.space == SPACE:
            for change in entry.decision.changes:
                apply(view, change, position)
        open_.update(begins[position])
        for at in list(open_):
            for identity in asked[at].identities:
                view.holders.setdefault(identity, [])
            decision = decide(asked[at], view, 0, 1)
            if any(isinstance(change, Create) for change in decision.changes):
                decision.mpid = None
            if _told(reads[at]) == _said(decision, reads[at]):
                possible[at].append(position)
            if position >= within[at][1]:
                open_.remove(at)
    return possible


def _request(sent: Sent) -> Request:
    return Request("search" if sent.kind == "search" else "identify", sent.body["known_identities"])


# -- the rules ----------------------------------------------------------------------------------------------------


def assert_model_agrees(history: History) -> None:
    """Assert that the plain model comes to the first decisions, too, as long as it knows their kinds."""
    model = Model(history.policy)
    for position, entry in history.journal[:MODELLED]:
        if entry.request.kind == "alias_process" or (
            entry.request.kind == "batch" and entry.request.mpid is not None
        ):
            continue  # who is who stays as it is
        fresh = next((change.mpid for change in entry.decision.changes if isinstance(change, Create)), 0)
        answer = model.decide(entry.request, position, entry.at_ms, fresh)
        assert told(entry.decision) == answer, f"decision {position}: {entry.request}"
