"""Making the report of a what-if out of its trials (docs/whatif.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

import msgspec

from oneself.history.recorded import Span, policies_of
from oneself.history.whatif.census import Census
from oneself.history.whatif.report import Answers, Gain, Moved, Report, Setting, Side, SpaceReport
from oneself.history.whatif.telling import choose, examples
from oneself.history.whatif.trial import Counts, Trial
from oneself.history.whatif.trials import Progress, trials, without_collecting
from oneself.history.words import Words
from oneself.identity import Policy
from oneself.store import Store

__all__ = ["report_on", "what_if"]

_BATCHES = 500


async def what_if(
    store: Store,
    policies: Mapping[str, Policy],
    span: Span,
    *,
    show_values: bool = False,
    progress: Progress = lambda _: None,
) -> Report:
    """Decide a store's journal again under other policies, by scope, and report what is different.

    Entries before the ``span`` stay as they were decided. The store is only read.
    """
    async with trials(store, policies, span, progress) as (tried, left):
        return await report_on(tried, left, store, span, show_values=show_values)


async def report_on(
    tried: Sequence[Trial], left: list[str], store: Store, span: Span, *, show_values: bool = False
) -> Report:
    """Report what some trials found."""
    words = Words(show_values=show_values)
    recorded = await policies_of(store)
    first, last = await store.entry(span.first), await store.entry(span.last)
    assert first is not None
    assert last is not None
    with without_collecting():
        spaces = [await _space(trial, store, recorded, words) for trial in tried]
    return Report(span.first, span.last, first.at_ms, last.at_ms, show_values, spaces, left)


async def _space(trial: Trial, store: Store, recorded: Mapping[tuple[str, int], Policy], words: Words) -> SpaceReport:
    census = Census(trial)
    ways = choose(census)
    moved, batches = census.moved()
    users, known_users = census.users()
    tally = trial.tally
    unanswered, newly = sum(tally.unanswered.values()), sum(tally.newly_answered.values())
    answered = sum(census.total_before)
    split, fused, gained, lost = await examples(ways, census, store, recorded, words)
    return SpaceReport(
        space=trial.space,
        settings=_settings(trial.was, trial.policy),
        folded=trial.folded,
        decided=trial.decided,
        left_out=dict(sorted(trial.left_out.items())),
        answered=answered,
        unanswered=unanswered,
        newly_answered=newly,
        before=Side(
            census.profiles_before(),
            sum(compress(census.requests_before, tally.login)),
            _answers(answered + unanswered, trial.before, len(trial.guarded)),
            census.largest_before(tally.held),
            census.largest_before(census.requests_before),
        ),
        after=Side(
            census.profiles_after(),
            sum(compress(census.requests_after, census.known)),
            _answers(answered + newly, trial.after, len(trial.world.guarded)),
            census.largest_after(census.held),
            census.largest_after(census.requests_after),
        ),
        users=users,
        known_users=known_users,
        moved=await _with_events(moved, batches, store),
        gained=Gain(len(ways.gains), ways.gains.total()),
        lost=Gain(len(ways.losses), ways.losses.total()),
        split=split,
        fused=fused,
        gained_most=gained,
        lost_most=lost,
    )


def _settings(before: Policy, after: Policy) -> list[Setting]:
    """Return the settings that are others."""
    names = [field.name for field in msgspec.structs.fields(Policy) if field.name not in ("rank", "junk")]
    both = [(name, _setting(name, getattr(before, name)), _setting(name, getattr(after, name))) for name in names]
    settings = [Setting(name.removesuffix("_ms"), was, now) for name, was, now in both if was != now]
    if before.junk != after.junk:
        more, fewer = len(after.junk - before.junk), len(before.junk - after.junk)
        words = f"{len(after.junk)} values, {more} of them new, {fewer} gone"
        settings.append(Setting("junk", f"{len(before.junk)} values", words))
    return settings


def _setting(name: str, value: object) -> str:
    """Return the value of a setting in words."""
    if name.endswith("_ms") and isinstance(value, int):
        return f"{value / 3_600_000:g} h"
    if isinstance(value, frozenset | tuple):
        return ", ".join(sorted(value) if isinstance(value, frozenset) else value) or "none"
    return "none" if value is None else str(value)


def _answers(users: int, counts: Counts, guarded: int) -> Answers:
    return Answers(
        users=users,
        errors=dict(sorted(counts.answers.items())),
        dropped=dict(sorted(counts.dropped.items())),
        refused=dict(sorted(counts.refused.items())),
        guarded=dict(sorted(counts.guarded.items())),
        guarded_at_end=guarded,
        aliases=dict(sorted(counts.aliases.items())),
    )


async def _with_events(moved: Moved, batches: list[int], store: Store) -> Moved:
    """Count the events of the batches that move."""
    events = without = 0
    for begin in range(0, len(batches), _BATCHES):
        some = batches[begin : begin + _BATCHES]
        kept = await store.batches(some)
        whole = [record for record in kept.values() if not record.trimmed]
        events += sum(len(record.batch.events) for record in whole if record.batch is not None)
        without += len(some) - len(whole)
    return msgspec.structs.replace(moved, events=events, batches_without_events=without)
