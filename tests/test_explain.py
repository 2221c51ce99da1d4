"""Decisions in words: every word of the trace has some, and the text tells what happened."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from oneself import explain as words
from oneself.commands.resolve import Memory, answer
from oneself.explain import explain
from oneself.identity import (
    Alias,
    AliasOutcome,
    AliasRequest,
    Change,
    Create,
    Decision,
    Discard,
    Dropped,
    Expire,
    Forget,
    Guard,
    IdentityChange,
    Link,
    Move,
    NoPast,
    Note,
    Past,
    Policy,
    PolicySettings,
    Refusal,
    Refused,
    Reguard,
    Release,
    Remove,
    Request,
    Restore,
    Revised,
    Revive,
    Seen,
    Step,
    Trace,
    Trim,
    Undo,
    Unlink,
    Upkeep,
    Withdraw,
    build,
)
from oneself.identity.model import AliasWhy, Why


def literals(struct: type, field: str) -> set[str]:
    """Return the values that a field of a struct may have, but the empty one."""
    types = {one.name: one.type for one in msgspec.structs.fields(struct)}
    return set(get_args(types[field])) - {""}


@pytest.mark.parametrize(
    ("said", "values"),
    [
        (words.WHY, set(get_args(Why))),
        (words.OUTCOMES, literals(Step, "outcome")),
        (words.TIES, literals(Trace, "tie")),
        (words.DROPPED, literals(Dropped, "why")),
        (words.REFUSED, literals(Refused, "why")),
        (words.NOTES, literals(Note, "why")),
        (words.UNLINKED, literals(Unlink, "why")),
        (words.STANDINGS, literals(Revised, "standing")),
        (words.GUARDED, literals(Guard, "why")),
        (words.PASSED, {"login", "immutable", "outside", "contradicted"}),
        (words.ALIAS_DROPPED, set(get_args(AliasWhy)) - {""}),
    ],
)
def test_every_value_of_the_model_has_words_of_its_own(said, values):
    assert values
    assert set(said) == values
    assert len(set(said.values())) == len(values)


EVERY_CHANGE: list[Change] = [
    Create(7),
    Link(7, "email", "a@example.com"),
    *(Unlink(7, "email", "a@example.com", why, 8) for why in sorted(words.UNLINKED)),
    *(Guard("other", "x", why) for why in sorted(words.GUARDED)),
    Release("other", "x"),
    AliasOutcome(4, 7, 8, "applied"),
    AliasOutcome(4, 7, 8, "undone"),
    *(AliasOutcome(4, 7, 8, "dropped", why, 3) for why in words.ALIAS_DROPPED),
    Trim(("shop", "blog"), 10, 20, 5, 9),
    Expire(7, "shop", False),
    Expire(7, "shop", True),
    Forget(20),
    Discard((1, 2, 3)),
    AliasOutcome(4, 7, 8, "waiting"),
    Remove(7),
    Revive(7, 3),
    Restore(7, "email", "a@example.com", 3),
    Withdraw(7, "email", "a@example.com"),
    Past(7, 5, "email", "a@example.com", 3, "removed"),
    NoPast(7, 5, "email", "a@example.com"),
    Reguard("other", "x", "undone", 3),
    Move(7, 8, (3, 4)),
    Move(7, 0, (3, 4)),
    Alias(7, 8, 0, 1000, 2000),
]


def test_every_change_is_told_with_all_it_concerns():
    assert {type(change) for change in EVERY_CHANGE} == set(get_args(Change))
    lines = explain(Request("identify"), Decision(Trace("matched"), 7, changes=EVERY_CHANGE))
    told = lines[lines.index("changes:") + 1 :]
    assert len(told) == len(set(told)) == len(EVERY_CHANGE)
    for change, line in zip(EVERY_CHANGE, told, strict=True):
        assert str(getattr(change, "mpid", "")) in line
        assert str(getattr(change, "type", "")) in line
        assert str(getattr(change, "value", "")) in line
    assert "1970-01-01 00:00:02.000" in told[-1]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Undo((4,)), "undo: decision 4"),
        (Undo((4, 5), later="keep"), "undo: decision 4, 5; what later decisions need is kept"),
        (Undo((4,), input="shop/web", first=2, last=9), "undo: shop/web from decision 2 to 9"),
        (
            Undo(type="other", value="x", later="redecide"),
            "undo: all that other 'x' caused; later decisions are made again",
        ),
    ],
)
def test_what_is_undone_is_told_and_what_counts_anew(asked, told):
    revised = [Revised(4, "undone"), Revised(5, "redecided", 7)]
    lines = explain(Request("undo", undo=asked), Decision(Trace("undone"), revised=revised))
    assert lines == [
        told,
        "answer: done",
        "why: the state is as if these decisions had not been made, as far as is told here",
        "decisions that count anew:",
        "  decision 4 is undone",
        "  decision 5 is made again: MPID 7",
    ]


def test_everything_in_a_trace_is_told():
    trace = Trace(
        "matched",
        steps=[
            Step("customerid", "none", []),
            Step("email", "none", [Seen(1, "login"), Seen(2, "login"), Seen(3, "immutable")]),
            Step("other", "found", [Seen(4), Seen(5), Seen(6), Seen(9, "contradicted:customerid")]),
            Step("other2", "narrowed", [Seen(4), Seen(5), Seen(7, "outside")]),
            Step("other3", "unchanged", [Seen(4), Seen(5)]),
        ],
        tie="latest",
        among=[4, 5],
        dropped=[Dropped("ios_idfa", "null", "junk")],
        refused=[Refused("email", "e", "unique", 1), Refused("customerid", "c", "immutable", 4)],
        notes=[Note("other4", "moved", 11)],
    )
    request = Request(
        "identify", {"customerid": "c", "email": "e", "other": "o", "other2": "p", "other3": None}, previous_mpid=12
    )
    assert explain(request, Decision(trace, 5, True, ["other"])) == [
        "identify: customerid 'c', email 'e', other 'o', other2 'p'; before it was MPID 12",
        "answer: MPID 5, a known user; of the request it already held other",
        "why: this profile was found by its identities",
        "does not count:",
        "  ios_idfa 'null': it is a placeholder that stands for nobody (junk)",
        "walk, by priority:",
        "  customerid 'c': nobody holds it",
        "  email 'e': finds nobody",
        "    passed over: MPIDs 1, 2: known, but by none of the login identities in the request",
        "    passed over: MPID 3: has an immutable identity, but none that is in the request",
        "  other 'o': finds MPIDs 4, 5, 6",
        "    passed over: MPID 9: another account: it holds another customerid than the request",
        "  other2 'p': narrows the candidates to MPIDs 4, 5",
        "    passed over: MPID 7: not among the candidates that the steps before have left",
        "  other3 '': keeps the candidates MPIDs 4, 5",
        "tie: of MPIDs 4, 5 it is 5: it was linked most recently to the identity that decided",
        "not linked:",
        "  email 'e': MPID 1 holds it, and it is unique",
        "  customerid 'c': MPID 4 keeps the customerid that it has, which is immutable",
        "notes:",
        "  other4: the value was taken from MPID 11",
    ]


def test_what_was_asked_is_told_for_every_kind():
    done = Decision(Trace("modified"), 7)
    changes = (
        IdentityChange("email", None, "a"),
        IdentityChange("email", "a", None),
        IdentityChange("email", "a", "b"),
    )
    first = explain(Request("modify", mpid=7, changes=changes), done)[0]
    assert first == "modify: MPID 7: add email 'a', remove email 'a', change email 'a' to 'b'"
    alias = Request("alias", alias=AliasRequest(1, 2, start_ms=0, end_ms=10**18))
    assert explain(alias, done)[0] == (
        "alias: MPID 1 to MPID 2 from 1970-01-01 00:00:00.000+00:00 until 1000000000000000000 ms"
    )
    assert explain(Request("alias", alias=AliasRequest(1, 2)), done)[0] == "alias: MPID 1 to MPID 2"
    assert explain(Request("release", {"other": "x"}), done)[0] == "release: other 'x'"
    assert explain(Request("search"), done)[0] == "search: no identity"
    assert explain(Request("batch", mpid=7), done)[0] == "batch: MPID 7"
    assert explain(Request("alias_undo", position=4), done)[0] == "alias_undo: the alias of decision 4"
    trim = Upkeep(workspaces=("shop", "blog"), after=10, through=20)
    assert explain(Request("retention", upkeep=trim), done)[0] == "retention: shop, blog, decisions 11 to 20"
    expiry = Upkeep(workspaces=("shop",), mpids=(1, 2), before_ms=1000)
    assert explain(Request("expiry", upkeep=expiry), done)[0] == (
        "expiry: 2 profiles of shop, unless something came since 1970-01-01 00:00:01.000+00:00"
    )
    assert explain(Request("forget", upkeep=Upkeep(through=20)), done)[0] == "forget: decisions 1 to 20"
    assert explain(Request("discard", upkeep=Upkeep(positions=(1, 2))), done)[0] == "discard: 2 batches"


def test_the_answer_is_told():
    request = Request("identify", {"email": "a"})
    refused = Decision(Trace("refused"), error=Refusal(400, "LOOKUP_ERROR", "Nothing is usable."))
    assert explain(request, refused)[1] == "answer: 400 LOOKUP_ERROR: Nothing is usable."
    assert explain(request, Decision(Trace("new")))[1] == (
        "answer: a profile that is not made, since nothing is written, an anonymous user"
    )
    assert explain(request, Decision(Trace("released")))[1] == "answer: accepted"
    assert explain(request, Decision(Trace("alias_accepted"), 7))[1] == "answer: accepted"
    assert explain(request, Decision(Trace("alias_dropped"), 7))[1] == "answer: dropped"
    assert explain(request, Decision(Trace("user_unknown")))[1] == "answer: nobody"


def test_a_value_never_breaks_a_line_and_is_cut_where_it_is_long():
    lines = explain(Request("identify", {"email": "\x1b[2J\n" + "x" * 1000}), Decision(Trace("new"), 7))
    assert all(line.isprintable() and len(line) < 200 for line in lines)
    assert "\\x1b[2J\\n" in lines[0]


# -- the words that decisions really use ------------------------------------------------------------------------


def flow(policy: Policy, *requests: Request) -> list[str]:
    """Decide requests one after another, each new profile being numbered from 1; return the last in words."""
    state, lines = Memory(), []
    for mpid, request in enumerate(requests, 1):
        lines = explain(request, answer(state, policy, request, mpid))
    return lines


def identify(**identities: str) -> Request:
    return Request("identify", dict(identities))


def logout(**identities: str) -> Request:
    return Request("logout", dict(identities))


@pytest.mark.parametrize(
    ("settings", "requests", "told"),
    [
        ({}, [identify(customerid="A", email="e"), identify(email="e")],
         "    passed over: MPID 1: known, but by none of the login identities in the request"),
        ({"login": ("email", "customerid"), "unique": ("customerid",), "immutable": ("customerid",)},
         [identify(customerid="A", email="e"), identify(email="e")],
         "    passed over: MPID 1: has an immutable identity, but none that is in the request"),
        ({"strategy": "profile_isolation"},
         [identify(customerid="A", email="e"), identify(customerid="B", email="e")],
         "    passed over: MPID 1: another account: it holds another customerid than the request"),
        ({}, [logout(ios_idfv="i"), logout(ios_idfv="i"), identify(ios_idfv="i")],
         "tie: of MPIDs 2, 1 it is 2: it was linked most recently to the identity that decided"),
        ({"priority": ("customerid", "ios_idfv", "other2")},
         [logout(ios_idfv="i"), logout(ios_idfv="i"), identify(other2="p"), identify(ios_idfv="i", other2="p")],
         "    passed over: MPID 3: not among the candidates that the steps before have left"),
        ({"strategy": "profile_isolation"},
         [identify(customerid="A", email="e"), identify(customerid="B", email="e")],
         "  email 'e': MPID 1 holds it, and it is unique"),
        ({"max_known_profiles_per_value": 1},
         [identify(customerid="A", other="o"), identify(customerid="B", other="o"), identify(other="o")],
         "  other 'o': it is guarded, and finds nobody until it is released"),
        ({}, [logout(ios_idfv="i")], "why: a logout without login identities: a new anonymous profile"),
    ],
)  # fmt: skip
def test_a_real_decision_is_told(settings, requests, told):
    lines = flow(build(PolicySettings(**settings)), *requests)
    assert told in lines, "\n".join(lines)
