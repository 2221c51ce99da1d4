"""PostgreSQL's errors in plain words: what may pass is ``StoreUnavailable``, what needs somebody is ``StoreError``.

Messages tell the database by host, port and name. Neither credentials nor values of rows come into them: of an error
that is not known here only its code is told.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
import msgspec

from oneself.errors import OneselfError, StoreDamaged, StoreError, StoreUnavailable
from oneself.store.url import database_name

__all__ = ["URL_IS_WRONG", "Address", "is_lost", "is_passing", "is_taken", "is_unknown", "plain", "plain_errors"]

URL_IS_WRONG: Final = "The database {} cannot be used: its URL is not one that PostgreSQL's clients know."

_RETRY_SECONDS: Final = 1

_DRIVER: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_CANNOT_SERVE: Final = {
    "57P01": "it is being shut down",
    "57P02": "it has crashed and is recovering",
    "57P03": "it is starting, recovering or shutting down",
    "57P05": "it has ended an idle connection",
    "53300": "it has no connection left; raise max_connections, or let fewer servers share it",
    "53100": "its disk is full; free some space",
    "53200": "it is out of memory",
    "25006": "it takes no writes: it is a standby, or is being switched over",
    "25P03": "it has ended a transaction that stood still",
    "25P04": "it has ended a transaction that took too long",
    "55P03": "a lock was not to be had in time",
    "57014": "a statement took too long",
    "58030": "it cannot read or write its files",
}
_MUST_ACT: Final = {
    "28000": "it refuses this user; check the user name and pg_hba.conf",
    "28P01": "it refuses the password",
    "3D000": "there is no database of this name; create it",
    "42501": "the user may not do this; let the user own its database or schema",
    "3F000": "the schema is not there; create it, or check search_path",
}
_DAMAGED: Final = {
    "XX001": "a table is damaged; restore a backup",
    "XX002": "an index is damaged; run REINDEX DATABASE, or restore a backup",
    "42P01": "a table is missing; restore a backup",
    "42703": "a column is missing or is another program's; give Oneself a database or schema of its own",
    "23505": "a row is there that cannot be; restore a backup",
    "42P07": "a table of this name is another program's; give Oneself a database or schema of its own",
}
_AGAIN: Final = frozenset({"40001", "40P01"})
"""A transaction that lost against others: nothing of it was done, and it may be tried again."""

_PASSING: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25006", "25P03"})

_NOTHING_DONE: Final = frozenset({"57P03", "25006", "25P03"})
"""Those of them after which it is sure that nothing was done."""


class Address(msgspec.Struct, frozen=True):
    """Where a database is: ``url`` may hold a password and is shown to nobody, ``name`` is what messages say."""

    url: str

    @property
    def name(self) -> str:
        """``HOST:PORT/DATABASE``, as far as the URL says it."""
        return database_name(self.url)

    def __repr__(self) -> str:
        return f"Address({self.name})"


def is_lost(error: BaseException) -> bool:
    """Tell whether the connection is gone, or is one to a host that does not serve."""
    if isinstance(error, asyncpg.PostgresError):
        return isinstance(error, asyncpg.PostgresConnectionError) or error.sqlstate in _PASSING
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return True
    # an interface error that is a ValueError, too, is about a value or the URL
    return isinstance(error, asyncpg.InterfaceError | OSError) and not isinstance(error, ValueError)


def is_unknown(error: BaseException) -> bool:
    """Tell whether it is not known what became of a statement that an error was the answer to."""
    state = getattr(error, "sqlstate", "")
    return state == "40003" or (is_lost(error) and state not in _NOTHING_DONE)


def is_taken(error: BaseException, index: str) -> bool:
    """Tell whether a row could not be put in since its key in an index is another's."""
    return isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == index


def is_passing(error: BaseException) -> bool:
    """Tell whether a transaction may be tried again soon."""
    return is_lost(error) or is_unknown(error) or getattr(error, "sqlstate", "") in _AGAIN


def plain(address: Address, error: Exception) -> OneselfError:
    """Return an error of the driver as one of ours."""
    where = f"The database {address.name}"
    if isinstance(error, OneselfError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        state = str(getattr(error, "sqlstate", None) or "")
        if state in _MUST_ACT:
            return StoreError(f"{where} cannot be used: {_MUST_ACT[state]}.")
        if state in _DAMAGED:
            return StoreDamaged(f"{where} cannot be used: {_DAMAGED[state]} ({type(error).__name__}, {state}).")
        if state in _CANNOT_SERVE:
            return StoreUnavailable(f"{where} cannot serve now: {_CANNOT_SERVE[state]}.", _RETRY_SECONDS)
        if state in _AGAIN:
            return StoreUnavailable(f"{where} is too busy: a transaction lost against others too often.", 1)
        if isinstance(error, asyncpg.PostgresConnectionError):
            return StoreUnavailable(f"{where} cannot be reached: the connection is lost.", _RETRY_SECONDS)
        return StoreUnavailable(f"{where} met an unexpected error ({type(error).__name__}, {state}).")
    if _is_url(error):
        return StoreError(URL_IS_WRONG.format(address.name))
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return StoreUnavailable(f"{where} cannot serve now: no host of it takes writes.", _RETRY_SECONDS)
    if isinstance(error, ssl.SSLCertVerificationError):
        return StoreError(
            f"{where} is not to be trusted: {error.verify_message}. Check sslmode and the certificates."
        )
    if isinstance(error, TimeoutError):
        return StoreUnavailable(f"{where} does not answer in time.", _RETRY_SECONDS)
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        return StoreUnavailable(f"{where} cannot be reached: {reason}.", _RETRY_SECONDS)
    return StoreUnavailable(f"{where} cannot be reached: the connection is lost.", _RETRY_SECONDS)


@contextmanager
def plain_errors(address: Address) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except _DRIVER as error:
        if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError) and not _is_url(error):
            raise  # a value that no row can have: the caller's
        raise plain(address, error) from error


def _is_url(error: Exception) -> bool:
    return isinstance(error, asyncpg.exceptions.ClientConfigurationError)
