"""The documented limits of batches and profiles; lengths are characters (docs/profiles.md, "Limits")."""

from __future__ import annotations

from typing import Final

MAX_NAME: Final = 256
"""Names of events, event attributes and user attributes are cut to this."""

MAX_VALUE: Final = 4096
"""A longer value of an event attribute, user attribute or device field is left out."""

MAX_EVENT_ATTRIBUTES: Final = 100
"""An event with more goes on without any."""

MAX_ATTRIBUTES: Final = 100
"""User attributes of one batch, and of one profile in one workspace."""

MAX_FREED: Final = 100
"""Deleted attributes of which a profile remembers when they were deleted; the oldest are forgotten first."""

MAX_LIST: Final = 1000
"""A list attribute with more entries is left out."""

MAX_ENTRY: Final = 512
"""A list attribute with a longer entry is left out."""

MAX_PURPOSES: Final = 100
"""Consent purposes of one regulation on one profile."""

MAX_PUSH_TOKENS: Final = 10
"""Push tokens remembered of one device; those written last stay."""

MAX_IGNORED: Final = 100
"""Of the parts of one batch that did not count, this many are told."""

EARLIEST_MS: Final = 100_000_000_000
"""An earlier time (March 1973) was not given in milliseconds."""

LATEST_MS: Final = 100_000_000_000_000
"""A later time (the year 5138) was not given in milliseconds."""

AHEAD_MS: Final = 3_600_000
"""A clock may be this much ahead; a time beyond counts as the time of arrival."""

HISTORICAL_AGE_MS: Final = 72 * 3_600_000
"""Every event of a historical batch must be older."""
