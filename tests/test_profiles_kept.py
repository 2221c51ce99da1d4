"""What a workspace knows, taken apart as tables keep it and put together again (docs/storage.md)."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from oneself.profiles import (
    Attribution,
    Consent,
    Range,
    Text,
    WorkspaceProfile,
    WorkspaceRow,
    Write,
    apart,
    together,
    values_of,
)

_encode = msgspec.json.encode
_values = msgspec.json.Decoder(dict[str, str | tuple[str, ...] | None])
_row = msgspec.json.Decoder(WorkspaceRow)

values = st.none() | st.text(max_size=4) | st.lists(st.text(max_size=3), max_size=3).map(tuple)
writes = st.builds(
    Write, st.integers(0, 2), st.integers(0, 3), st.integers(1, 3), values, st.sampled_from([False] * 9 + [True])
)
known = st.builds(
    WorkspaceProfile,
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
    st.dictionaries(st.text(max_size=3), st.lists(writes, min_size=1, max_size=2).map(tuple), max_size=12),
    st.just({}) | st.just({"gdpr": {"ads": Consent(1, True, position=3)}}),
    st.just({}) | st.just({"shop/web": Range(1, 2)}),
    st.none() | st.just(Text(1, "stamp", 2)),
    st.none() | st.just(Attribution(1, "publisher", position=4)),
)


def plain(*positions: int) -> WorkspaceProfile:
    """Return a profile with an attribute for each of some positions, each written once."""
    attributes = {f"a{at}": (Write(1, 10, position, f"v{at}"),) for at, position in enumerate(positions)}
    return WorkspaceProfile(1, 2, 3, attributes)


def in_json(profile: WorkspaceProfile) -> tuple[Any, Any]:
    """Return both parts of a profile as they are read from a table."""
    shown, row = apart(profile)
    return _values.decode(_encode(shown)), _row.decode(_encode(row))


@given(known)
def test_parts_come_together_again(profile: WorkspaceProfile) -> None:
    again = together(*in_json(profile))
    assert again == profile
    assert list(again.attributes) == list(profile.attributes)


@given(known)
def test_the_values_are_those_that_a_profile_shows(profile: WorkspaceProfile) -> None:
    shown, _ = apart(profile)
    assert list(shown.items()) == list(values_of(profile.attributes).items())


def test_what_came_by_one_batch_is_kept_once() -> None:
    _, row = in_json(plain(7, 7, 7, 9, 7))
    assert [(run.count, run.position) for run in row.runs] == [(3, 7), (1, 9), (1, 7)]
    assert row.attributes == {}


def test_an_attribute_with_several_writes_keeps_all_of_them() -> None:
    profile = plain(7, 7)
    profile.attributes["a1"] = (Write(1, 10, 7, "v1"), Write(2, 20, 8, "later"))
    shown, row = in_json(profile)
    assert shown == {"a0": "v0", "a1": "v1"}
    assert row.runs == ()
    assert row.attributes == profile.attributes


def test_a_deleted_attribute_is_remembered_and_not_shown() -> None:
    profile = plain(7, 7)
    profile.attributes["a0"] = (Write(1, 10, 7, deleted=True),)
    shown, _ = in_json(profile)
    assert shown == {"a1": "v1"}
    assert together(*in_json(profile)) == profile


def test_a_row_of_before_has_no_values_beside_it() -> None:
    profile = plain(7, 8)
    assert together(None, _row.decode(_encode(profile))) == profile
