"""The line between an instance and whoever looks after it: supervisor or test.

Newline-delimited JSON over a socket pair; each message is one of the structs below, told
apart by its "type". It knows nothing of roles or processes, so both sides may import it.
"""

from __future__ import annotations

import msgspec

from rolekit.model.sample import Sample
from rolekit.model.span import Recall, Span

LATE_MS = 100.0
"""A loop that lags so much is worth saying."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Instance to supervisor: `on_start` has returned, messages are taken."""


class Beat(msgspec.Struct, frozen=True, tag="beat", kw_only=True):
    """Instance to supervisor: still making progress.

    Each second, or every four where there is nothing new to say.

    Attributes:
        in_hand: Deliveries taken and not settled.
        handled: Deliveries settled since the start.
        lag_ms: How late the event loop runs its timers.
        cpu_s: Seconds of a core used since the start.
        age_s: Age of the oldest of what was delivered since the last beat; None: nothing was,
            or its queue tells ages by itself.
        notes: What people should know of its handlers now, by name.
    """

    in_hand: int = 0
    handled: int = 0
    lag_ms: float = 0
    cpu_s: float = 0
    age_s: float | None = None
    notes: dict[str, str] = {}

    def says_more_than(self, last: Beat) -> bool:
        """Whether a supervisor should hear of this at once, after `last`.

        A thousand instances to which nothing happens would keep it busy otherwise.
        """
        return (
            (self.handled, self.in_hand, self.age_s) != (last.handled, last.in_hand, last.age_s)
            or self.notes != last.notes
            or self.lag_ms > LATE_MS
        )


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Instance to supervisor: this cannot start, and why; trying again will not help."""

    why: str


class Traced(msgspec.Struct, frozen=True, tag="traced"):
    """Instance to supervisor: a span that began, or ended.

    What was written is with the supervisor even if the instance is killed at once.
    """

    span: Span


class Ending(msgspec.Struct, frozen=True, tag="ending"):
    """Instance to supervisor: it ends by itself, or badly, and why; a clause for people."""

    why: str


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """Instance to supervisor: what it counted since it began."""

    samples: list[Sample]


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """Supervisor to instance: something arrived for these topics."""

    topics: list[str]


class Lease(msgspec.Struct, frozen=True, tag="lease"):
    """Supervisor to instance: whether the host's lease still holds; if not, take no more."""

    held: bool


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Supervisor to instance: finish what is in hand within `grace_s` seconds, then exit.

    Attributes:
        is_last: No other instance of the role stays.
    """

    grace_s: float
    is_last: bool = False


class Change(msgspec.Struct, frozen=True, tag="change"):
    """Supervisor to instance: these are the settings of the role now, all of them."""

    settings: dict[str, str]


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    """Instance to supervisor: what became of changed settings.

    Attributes:
        is_kept: It goes on with them; if not, it is to be replaced.
        problem: They cannot be used, and why; it goes on with those before.
    """

    is_kept: bool
    problem: str = ""


class Recalled(msgspec.Struct, frozen=True, tag="recalled"):
    """Supervisor to instance: hand in what is remembered of these traces."""

    recalls: list[Recall]


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance is told when it is born.

    Attributes:
        app: "module:attribute".
        role: Class name; "(relay)" is the built-in that moves what is due.
        slot: Number among the instances of its role, from 0.
        owner: Names this incarnation in claims and outbox rows: epoch of the host's lease
            in the high bits, a counter below. Never used again.
        broker: URL, or empty for the database itself.
        database: URL.
        pooler: URL of a pooler in front of it, to connect to instead; empty: there is none.
        settings: Values for settings of the role, by name.
        has_launcher: Whether the last of the sockets that come with it leads to the launcher
            of containers.
    """

    app: str
    role: str
    slot: int
    owner: int
    broker: str
    database: str
    settings: dict[str, str]
    pooler: str = ""
    has_launcher: bool = False


ENDED = 70
"""Exit status of an instance that ended by itself, but in good order."""
IN_ORDER = frozenset({0, 2, ENDED})
"""Statuses that are no crash: stopped, refused to start, ended by itself."""

OWNER_BITS = 24
"""Low bits of an owner count instances; the rest is the epoch of the host."""

ToSupervisor = Ready | Beat | Refused | Ending | Changed | Traced | Measured
ToInstance = Wake | Lease | Stop | Change | Recalled

_encoder = msgspec.json.Encoder()
_to_supervisor: msgspec.json.Decoder[ToSupervisor] = msgspec.json.Decoder(ToSupervisor)
_to_instance: msgspec.json.Decoder[ToInstance] = msgspec.json.Decoder(ToInstance)


def encode(message: ToSupervisor | ToInstance) -> bytes:
    """Encode one message as a line."""
    return _encoder.encode(message) + b"\n"


def from_instance(line: bytes) -> ToSupervisor:
    """Decode a line that an instance wrote."""
    return _to_supervisor.decode(line)


def from_supervisor(line: bytes) -> ToInstance:
    """Decode a line that a supervisor wrote."""
    return _to_instance.decode(line)
