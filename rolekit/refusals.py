"""What errors of Postgres mean, and how to say them without the values that were refused.

A server repeats values in its messages, and dead letters and logs are read by more people
than the tables are. So a sentence says what kind of refusal it was, and of which constraint
or column; what the server said goes along apart, for whoever asks for it.
"""

from __future__ import annotations

import re

import asyncpg

from rolekit.errors import WriteFailed

AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidCatalogNameError,
    TimeoutError,
)
CONTENDED = (
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.SerializationError,
)
WITHOUT_VALUES = ("0A", "23", "25", "40", "42", "53", "54", "55", "57", "58")
"""Classes of errors whose first line names tables, columns and constraints, and no values."""
STATEMENT_CHARS = 1000
"""So much of a statement is in the sentence about its failure."""
DATA = "22"
"""Class of errors about values: the first line names them, in quotes or behind a colon."""


def has_no_day(error: asyncpg.PostgresError) -> bool:
    """Whether a row of the inbox has no partition to go to."""
    return isinstance(error, asyncpg.CheckViolationError) and str(error).startswith(
        "no partition of relation"
    )


def is_refusal(error: asyncpg.PostgresError) -> bool:
    """Whether the server refuses what a statement says, now and ever."""
    return not (isinstance(error, (*AWAY, *CONTENDED)) or has_no_day(error))


def refused(
    error: asyncpg.PostgresError, message_id: str = "", statement: str = ""
) -> WriteFailed:
    """Build the error for a refused statement: of which message, and its text, where known."""
    whose = f" of message {message_id}" if message_id else ""
    text = f" The statement: {statement[:STATEMENT_CHARS]}" if statement else ""
    return WriteFailed(
        f"Postgres refused a statement{whose}: {_kind(error)}.{text}",
        sqlstate=error.sqlstate or "",
        detail=str(error),
    )


def _kind(error: asyncpg.PostgresError) -> str:
    sqlstate = error.sqlstate or "?"
    first = str(error).partition("\n")[0]
    name = type(error).__name__.removesuffix("Error")
    if sqlstate.startswith(WITHOUT_VALUES):
        said = f": {first}"
    elif sqlstate.startswith(DATA):
        said = ": " + re.sub(r'"[^"]*"', '"…"', first.partition(": ")[0])
    else:
        said = ""
    return f"{name} {sqlstate}{said}"
