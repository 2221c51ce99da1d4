"""What stays of a batch without its events makes the same profile (docs/retention.md)."""

from __future__ import annotations

import random

import pytest

from crash_batches_worker import sent
from oneself.journal import BatchRecord, decode_batch, encode_batch
from oneself.profiles import Parts, remainder, update
from profile_world import read, server_batch, web_batch


def test_a_profile_is_the_same_with_or_without_the_events_of_its_batches(request: pytest.FixtureRequest) -> None:
    seed = str(request.config.getoption("--hypothesis-seed"))
    print(f"repeat with: --hypothesis-seed={seed}")
    dice = random.Random(seed)
    whole, rest = Parts(), Parts()
    batches = [read(web_batch(), "web"), read(server_batch())]
    batches += [call.delivery.batch for number in range(300) if (call := sent(seed, number)).delivery is not None]
    dice.shuffle(batches)
    for position, batch in enumerate(batches, 1):
        left = decode_batch(encode_batch(BatchRecord(remainder(batch), trimmed=True))).batch
        assert left is not None
        assert not left.events
        assert remainder(left) == left
        whole, rest = update(whole, batch, position).parts, update(rest, left, position).parts
        assert rest == whole


@pytest.mark.parametrize(("document", "kind"), [(web_batch(), "web"), (server_batch(), "server")])
def test_what_only_events_and_outputs_need_does_not_stay(document: dict[str, object], kind: str) -> None:
    left = remainder(read(document, kind))
    for field in ("events", "identities", "context", "application_info", "integration_attributes", "request_id"):
        assert not getattr(left, field), field
