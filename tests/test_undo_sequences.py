"""Undos, splits and their undoing in any order: each can be taken back, and the journal has it all (docs/undo.md)."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from histories import mpid_of
from oneself.engine import Call
from oneself.history import replay
from oneself.history.undo.planning import NotUndone
from oneself.history.undo.report import UndoPlan
from oneself.history.undo.split import plan_split
from oneself.identity import AliasRequest, PolicySettings, Request
from rebuilding import assert_backend_rebuilds
from store_factories import Backend
from undo_world import ENGINES, OPEN, SCOPES, SPACE, Maker, World, world

pytestmark = pytest.mark.anyio

ROUNDS = 6
STEPS = 6
POLICIES: tuple[dict[str, PolicySettings], ...] = (
    SCOPES,
    OPEN,
    {"acme": PolicySettings("default", max_known_profiles_per_value=2, max_values_per_profile=3, alias_delay=0)},
    {"acme": PolicySettings("profile_link", max_known_profiles_per_value=0, alias_delay=0)},
)
VALUES = (*(("other", f"o{number}") for number in range(9)), ("email", "em1"), ("device_application_stamp", "de1"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Life:
    """What happens in a world, by dice: requests of every kind, and what takes them back."""

    def __init__(self, it: World, dice: random.Random) -> None:
        self.it = it
        self.dice = dice
        self.maker = Maker(dice)
        self.aliases: list[int] = []
        self.came = Counter[str]()

    async def go_on(self) -> None:
        """Let some requests come, and aliases with them."""
        dice, it = self.dice, self.it
        for _ in range(dice.randrange(3, 12)):
            known = sorted(set(self.maker.mpids))
            kind = dice.random()
            if kind < 0.06 and len(known) > 1:
                asked = Request("alias", alias=AliasRequest(*dice.sample(known, 2)))
                (outcome,) = await it.do(Call(SPACE, "shop/web", asked))
                if outcome.decision.error is None:
                    self.aliases.append(outcome.position)
            elif kind < 0.1 and self.aliases:
                await it.do(Call(SPACE, "/alias", Request("alias_process", position=dice.choice(self.aliases))))
            else:
                (outcome,) = await it.do(self.maker.call())
                self.maker.learn(outcome)
            if dice.random() < 0.1:
                await it.rest()

    async def take_back(self) -> UndoPlan | None:
        """Undo or split something; None where there is nothing for what the dice say."""
        dice, it = self.dice, self.it
        kind = dice.random()
        if kind < 0.15:
            return await self._split()
        if kind < 0.3:
            self.came["value"] += 1
            return await it.undo_value(*dice.choice(VALUES), later="redecide", guard=dice.random() < 0.5)
        if kind < 0.5:
            undos = [outcome.position for outcome in it.outcomes if outcome.request.kind in ("undo", "split")]
            self.came["undo of an undo"] += bool(undos)
            return await it.undo(dice.choice(undos), later="redecide") if undos else None
        chosen = dice.sample(range(1, it.position + 1), min(dice.choice((1, 1, 2, 4)), it.position))
        self.came["undo"] += 1
        return await it.undo(*sorted(chosen), later=dice.choice(("", "redecide", "redecide", "keep")))

    async def _split(self) -> UndoPlan | None:
        profile = await self.it.store.profile(self.dice.choice(self.maker.mpids)) if self.maker.mpids else None
        if profile is None or len(profile.identities) < 2:
            return None
        some = self.dice.sample(profile.identities, self.dice.randrange(1, len(profile.identities)))
        identities = [(type_, value) for type_, value, _ in some]
        fresh = mpid_of(self.it.position + 1)
        self.came["split"] += 1
        return await self.it.carry_out(await plan_split(self.it.store, profile.mpid, identities, fresh_mpid=fresh))


@pytest.mark.parametrize("kind", ENGINES)
async def test_whatever_is_undone_in_whatever_order_can_be_taken_back_and_is_what_the_journal_says(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} sequences")
    came = Counter[str]()
    number = 0
    while number < ROUNDS or len(came) < 4:  # until every way has come
        number += 1
        assert number < 5 * ROUNDS, came
        async with world(kind, tmp_path / f"it{number}", dice, dice.choice(POLICIES)) as it:
            life = Life(it, dice)
            for _ in range(STEPS):
                await life.go_on()
                before = await it.state()
                made = None
                with suppress(NotUndone):
                    made = await life.take_back()
                if made is None or made.plan is None:
                    assert await it.state() == before
                elif dice.random() < 0.5:
                    back = await it.undo(it.position)
                    assert back.plan is not None, back.report
                    assert await it.state() == before
            await it.flushed()
            assert (await replay(it.store)).differences == []
            came += life.came
        await assert_backend_rebuilds(it.backend, tmp_path / f"again{number}")
