"""Every error rolekit raises: one base, one class per condition that callers tell apart.

A message has three parts: what happened, with the values; what was expected; what to do.
"""

from __future__ import annotations


class RolekitError(Exception):
    """The base of everything rolekit raises.

    Args:
        what: What happened and what was expected, with the values. A full sentence.
        fix: What the reader can do about it. A full sentence, or empty.
    """

    def __init__(self, what: str, *, fix: str = "") -> None:
        super().__init__(f"{what} {fix}" if fix else what)
        self.what = what
        self.fix = fix


def in_a_line(error: BaseException, at_most: int = 300) -> str:
    """Name an error and what it says, in one line of so many characters at most."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":.")
    return text if len(text) <= at_most else f"{text[: at_most - 1]}\N{HORIZONTAL ELLIPSIS}"


def storable(text: str) -> str:
    """Write what UTF-8 or Postgres cannot keep, halves of surrogates and NUL, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


class Retry(Exception):
    """Raised by a handler: discard this attempt's effects and try again later.

    Args:
        reason: Why, for the log and the dead letter it may become.
        delay_s: Seconds until the next attempt; None asks the retry policy.
        counts: False leaves the number of attempts as it was.
    """

    def __init__(
        self, reason: str = "", *, delay_s: float | None = None, counts: bool = True
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay_s = delay_s
        self.counts = counts


class Reject(Exception):
    """Raised by a handler: make this message a dead letter now."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Diverged(Reject):
    """A split that was run again yields something else than what was committed of it."""


class AppError(RolekitError):
    """The app cannot start: its roles, handlers or annotations do not fit together."""


class ConfigError(RolekitError):
    """A setting is missing or has a value that cannot be used."""


class CodecError(RolekitError):
    """Bytes are not the message they say they are: undecodable, oversized or too deep."""


class UnknownType(RolekitError):
    """A message's type, or its version, is not known to this instance."""


class Unroutable(RolekitError):
    """A message was published to a queue that does not exist; it was not stored.

    Args:
        what: As for all.
        fix: As for all.
        which: Places of what was not stored among what was published together; the rest
            was. None where nothing was.
    """

    def __init__(
        self, what: str, *, fix: str = "", which: frozenset[int] | None = None
    ) -> None:
        super().__init__(what, fix=fix)
        self.which = which


class PublishUnknown(RolekitError):
    """The broker did not answer in time: the messages may or may not be stored."""


class Unavailable(RolekitError):
    """The broker or the database cannot be reached right now."""


class QueueFull(Unavailable):
    """A queue takes no more; what was published to it was not stored.

    Args:
        what: As for all.
        which: Places of what was not stored among what was published together; the rest
            was.
    """

    def __init__(self, what: str, *, which: frozenset[int]) -> None:
        super().__init__(what)
        self.which = which


class IntakeFull(RolekitError):
    """Too much is waiting already; the sender should come back later."""


class KeyReused(RolekitError):
    """An idempotency key came again with another body."""


class KeyInUse(RolekitError):
    """The first request with this idempotency key is still under way."""


class TimedOut(RolekitError):
    """No reply came in time. `receipt_id` names what was sent."""

    def __init__(self, what: str, *, receipt_id: str = "", fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.receipt_id = receipt_id


class Failed(RolekitError):
    """What was sent ended in a dead letter that nobody answered."""

    def __init__(self, what: str, *, dead_letter_id: str = "", fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.dead_letter_id = dead_letter_id


class GuestFailed(RolekitError):
    """A guest did not do what it was asked to; its message is tried again by its policy.

    Args:
        what: As for all.
        status: Exit status, or minus the signal that ended it; None where it did not end by
            itself.
        stderr_tail: The last it said.
        fix: As for all.
    """

    def __init__(
        self, what: str, *, status: int | None = None, stderr_tail: bytes = b"", fix: str = ""
    ) -> None:
        super().__init__(what, fix=fix)
        self.status = status
        self.stderr_tail = stderr_tail


class StateClash(RolekitError):
    """A state changed between its reading and its writing; the step runs again."""


class FenceLost(RolekitError):
    """A partition has another owner by now, who does what this one was doing."""


class WriteMissed(RolekitError):
    """`ctx.write(..., expect=n)` touched another number of rows."""


class Contended(RolekitError):
    """Other transactions were in the way (deadlock, lock time-out): redo, at no cost."""


class TooOld(RolekitError):
    """A message is older than the inbox remembers: perhaps it was handled already."""


class WriteFailed(RolekitError):
    """The database refused a statement of a handler; its effects were rolled back.

    The sentence has no values of the statement in it, since it goes into logs.

    Args:
        what: As for all.
        sqlstate: The server's code, such as "23505"; empty where it was not asked.
        detail: What the server said, with values.
    """

    def __init__(self, what: str, *, sqlstate: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.sqlstate = sqlstate
        self.detail = detail
