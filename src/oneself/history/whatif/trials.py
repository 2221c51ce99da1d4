"""The recorded history under other policies, beside the live state and without touching it (docs/whatif.md)."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager

from oneself.history.recorded import Span, bodies, decode, policies_of
from oneself.history.whatif.counted import counted, revisions
from oneself.history.whatif.trial import Trial, Watch
from oneself.identity import Policy
from oneself.store import Store

__all__ = ["Progress", "trials", "without_collecting"]

Progress = Callable[[int], None]
"""Told how many entries were read since it was told last."""


_STEP = 2_000


@asynccontextmanager
async def trials(
    store: Store,
    policies: Mapping[str, Policy],
    span: Span,
    progress: Progress = lambda _: None,
    watch: Mapping[str, Watch] | None = None,
) -> AsyncIterator[tuple[list[Trial], list[str]]]:
    """Decide a store's journal again under other policies; give the trials, and the spaces left as they are.

    ``policies`` are those by scope. Entries before the ``span`` stay as they were decided, what comes after it is not
    looked at. ``watch`` are told of every decision in their space.
    """
    recorded = await policies_of(store)
    was = {row.scope: recorded[row.scope, row.version] for row in await store.policies() if row.position <= span.last}
    revised = await revisions(store, span)
    found: dict[str, Trial] = {}
    left: set[str] = set()
    with without_collecting(), ExitStack() as opened:
        read = 0
        async for chunk in bodies(store, span.last):
            for position, body in chunk:
                entry = decode(body)
                trial = found.get(entry.space)
                if trial is None:
                    scope = entry.space.rpartition("/")[0]
                    if scope not in policies:
                        left.add(entry.space)
                        continue
                    told = watch.get(entry.space) if watch else None
                    trial = Trial(entry.space, policies[scope], was[scope], told)
                    found[entry.space] = trial
                    opened.callback(trial.close)
                stays = position < span.first
                if revised is not None:
                    counts = counted(position, entry, revised, trial.world)
                    if counts is None:
                        continue
                    entry, stays = counts.entry, stays or counts.stays
                if stays:
                    trial.fold(position, entry)
                else:
                    trial.take(position, entry)
            read += len(chunk)
            if read >= _STEP:
                progress(read)
                read = 0
        progress(read)
        yield [found[space] for space in sorted(found)], sorted(left)


@contextmanager
def without_collecting() -> Iterator[None]:
    """Keep the garbage collector from looking through a state of millions of values, none of them in a cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()  # else all that is still in use would be looked through at once
            gc.enable()
