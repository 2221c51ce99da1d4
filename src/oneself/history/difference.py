"""What is different between the journal and what was made of it."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec

from oneself.identity import Change, Identity

__all__ = ["Differences", "Findings", "Where"]

Where = Literal[
    "journal", "answer", "changes", "request", "profile", "identities", "history", "decisions", "holders", "guarded",
    "aliases",
]  # fmt: skip

LISTED: Final = 1_000
"""So many differences are listed; all are counted."""

_LONGEST: Final = 400


class Differences(msgspec.Struct, frozen=True):
    """One difference: where it is, of what, and what is there in the place of what the journal says."""

    where: Where
    what: str
    journal: str
    found: str


class Findings:
    """The differences that were found: ``listed`` are the first of ``total``."""

    def __init__(self, *, show_values: bool) -> None:
        self.total = 0
        self.where: Counter[str] = Counter()
        self.listed: list[Differences] = []
        self._show_values = show_values
        self._key = secrets.token_bytes(16)

    def add(self, where: Where, what: str, journal: str, found: str) -> None:
        """Add a difference."""
        self.total += 1
        self.where[where] += 1
        if len(self.listed) < LISTED:
            self.listed.append(Differences(where, what, _cut(journal), _cut(found)))

    def compare(self, where: Where, what: str, journal: object, found: object) -> None:
        """Add a difference where two values are not equal."""
        if journal != found:
            self.add(where, what, str(journal), str(found))

    def rows(self, where: Where, what: str, journal: Sequence[Any], found: Sequence[Any]) -> None:
        """Add a difference where two lists of rows are not equal, telling those that only one of them has."""
        if journal != found:
            said, told = set(journal), set(found)
            lacks, more = [row for row in journal if row not in told], [row for row in found if row not in said]
            if lacks or more:
                self.add(where, what, _listed(lacks), _listed(more))
            else:
                self.add(
                    where, what, f"{len(journal)} rows in their order", f"{len(found)} rows, or in another order"
                )

    def identity(self, identity: Identity) -> str:
        """Return an identity as it may be told."""
        return f"{identity[0]} {self.value(*identity)}"

    def value(self, type_: str, value: str) -> str:
        """Return an identity value as it may be told: as it is, or as a digest of its own."""
        if self._show_values:
            return repr(value)
        plain = f"{type_}\0{value}".encode("utf-8", "surrogatepass")
        return "#" + blake2b(plain, digest_size=5, key=self._key).hexdigest()

    def changes(self, changes: Iterable[Change]) -> str:
        """Return changes as they may be told."""
        return ", ".join(self._change(change) for change in changes) or "none"

    def _change(self, change: Change) -> str:
        fields = msgspec.structs.asdict(change)
        if "value" in fields:
            fields["value"] = self.value(fields["type"], fields["value"])
        return f"{type(change).__name__.lower()}({', '.join(str(value) for value in fields.values())})"


def _listed(rows: Sequence[Any]) -> str:
    return "; ".join(map(str, rows)) or "nothing more"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
