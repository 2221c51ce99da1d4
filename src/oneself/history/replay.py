"""The proof that the journal is the truth: every decision again, and all that was made of them (docs/replay.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from oneself.history.difference import Differences, Findings
from oneself.history.fold import Fold
from oneself.history.live import compare
from oneself.history.recorded import policies_of
from oneself.history.whatif.trials import Progress, without_collecting
from oneself.identity import Create, Decision, Policy
from oneself.journal import Entry
from oneself.store import REQUESTS, Store
from oneself.store.keys import batch_key, request_key

__all__ = ["Replay", "replay"]

_CHUNK = 1_000


class Replay(msgspec.Struct, frozen=True):
    """What a replay found.

    ``entries`` were read, ``decided`` of them decided again; ``not_decided`` are the others, by kind. ``profiles``
    and ``identities`` were compared with the live state. ``differences`` are the first of ``differences_in_all``,
    which ``where`` counts by what is different.
    """

    entries: int
    decided: int
    not_decided: dict[str, int]
    profiles: int
    identities: int
    differences_in_all: int
    where: dict[str, int]
    differences: list[Differences]


async def replay(store: Store, *, show_values: bool = False, progress: Progress = lambda _: None) -> Replay:
    """Decide every entry of a store's journal again, and compare its fold with the live state.

    ``progress`` counts two steps an entry, one for each half. The store is only read.
    """
    with without_collecting():
        findings = Findings(show_values=show_values)
        again = _Again(await policies_of(store), findings)
        forgotten = await store.swept(REQUESTS)
        chunk: list[tuple[int, Entry]] = []
        async for row in store.entries():
            chunk.append(row)
            if len(chunk) == _CHUNK:
                await _take(chunk, again, store, forgotten)
                progress(len(chunk))
                chunk = []
        await _take(chunk, again, store, forgotten)
        progress(len(chunk))
        fold = again.fold
        profiles, identities = await compare(fold, store, findings, progress)
    return Replay(
        entries=again.entries,
        decided=again.decided,
        not_decided=dict(sorted(again.not_decided.items())),
        profiles=profiles,
        identities=identities,
        differences_in_all=findings.total,
        where=dict(sorted(findings.where.items())),
        differences=findings.listed,
    )


async def _take(chunk: list[tuple[int, Entry]], again: _Again, store: Store, forgotten: int) -> None:
    """Decide some entries again, and see that their requests would be known if they came again."""
    keys = {}
    for position, entry in chunk:
        again.take(position, entry)
        if entry.request_id and position > forgotten:
            made = batch_key if entry.request.kind == "batch" else request_key
            keys[position] = made(entry.input, entry.request_id)
    if keys:
        answered = (await store.read({}, list(keys.values()))).answered
        for position, key in keys.items():
            again.findings.compare("request", f"the request of decision {position}", position, answered.get(key, 0))


class _Again:
    """Decides entries again over the fold of those before."""

    def __init__(self, policies: Mapping[tuple[str, int], Policy], findings: Findings) -> None:
        self.fold = Fold()
        self.findings = findings
        self.entries = self.decided = 0
        self.not_decided: Counter[str] = Counter()
        self._policies = policies

    def take(self, position: int, entry: Entry) -> None:
        """Decide an entry again and compare that with what was recorded; then fold in what was recorded."""
        what = f"decision {position}"
        self.entries += 1
        if position != self.fold.position + 1:
            self.findings.compare("journal", "the next position", self.fold.position + 1, position)
        policy = self._policies.get((entry.space.rpartition("/")[0], entry.policy))
        if not _can_be_decided(entry):
            self.not_decided[entry.request.kind] += 1
        elif policy is None:
            self.findings.compare("journal", f"the policy of {what}", f"version {entry.policy}", "missing")
        else:
            self._decide(what, entry, policy)
        try:
            self.fold.take(position, entry)
        except KeyError:
            self.findings.add("journal", what, "changes that fit the state", "they touch what is not there")

    def _decide(self, what: str, entry: Entry, policy: Policy) -> None:
        recorded = entry.decision
        made = next((change.mpid for change in recorded.changes if isinstance(change, Create)), 0)
        world = self.fold.spaces[entry.space].world
        again = world.decide(policy, entry.request, entry.at_ms, made)
        self.decided += 1
        if _answer(again) != _answer(recorded):
            self.findings.compare("answer", what, _answer(recorded), _answer(again))
        if again.changes != recorded.changes:
            said, found = self.findings.changes(recorded.changes), self.findings.changes(again.changes)
            self.findings.add("changes", what, said, found)


def _can_be_decided(entry: Entry) -> bool:
    """Tell whether all that a decision looked at is in the journal.

    A document that was no batch was not decided by the core, and what an expiry looked at may be deleted since. What
    an undo or a split says is decided by a plan, which is made over what was kept of batches, too.
    """
    error = entry.decision.error
    return entry.request.kind not in ("expiry", "undo", "split") and (error is None or error.code != "INVALID_BATCH")


def _answer(decision: Decision) -> str:
    if decision.error is not None:
        return f"{decision.error.status} {decision.error.code}"
    kind = "known" if decision.known else "anonymous"
    held = f", held {', '.join(decision.matched)}" if decision.matched else ""
    return f"MPID {decision.mpid}, {kind}{held}"
