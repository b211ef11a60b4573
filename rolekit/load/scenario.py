"""A scenario: what is sent, when, for how long, and what must hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from rolekit.errors import ConfigError
from rolekit.load.arrivals import Arrival, Constant, Poisson
from rolekit.load.objectives import Objective, objective

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Entry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """The base of all entries."""


class Http(_Entry, frozen=True, kw_only=True, tag="http"):
    """HTTP requests; an answer below 400 is right.

    In `url`, headers and `body`, `$n` is the number of the request, and `$run` differs from
    run to run.

    Attributes:
        url: With scheme and host.
        body_file: Its bytes, instead of `body`; a folder: its files in turn.
    """

    url: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str = ""
    body_file: str = ""


class Smtp(_Entry, frozen=True, kw_only=True, tag="smtp"):
    """Mails by SMTP, one connection each; taken is right.

    Attributes:
        at: "host:port".
        body_file: The mail; a folder: its files in turn. `$n` and `$run` in `sender` and
            `recipients` only. Each mail gets a header `X-Load` that makes it unlike others.
    """

    at: str
    sender: str
    recipients: tuple[str, ...]
    body_file: str


class Direct(_Entry, frozen=True, kw_only=True, tag="message"):
    """Messages of the app, sent as its clients send them.

    Attributes:
        type: Name of the message.
        body: Its fields, as JSON; `$n` and `$run` as above.
        answer: Name of the reply to wait for; empty: sent is enough.
    """

    type: str
    body: str = "{}"
    answer: str = ""


class Call(_Entry, frozen=True, kw_only=True, tag="python"):
    """Anything else: an asynchronous context manager of yours.

    Attributes:
        call: "module:function". It is called with a `Run` in each client process, and gives,
            inside its block, a coroutine function that is called with the number of the
            request and returns an id, an empty text or a `Sent`; what it raises counts as
            failed.
        url: For it to read; `--url` goes before it.
        options: Likewise, as it likes.
    """

    call: str
    url: str = ""
    options: dict[str, str] = {}


Entry: TypeAlias = Http | Smtp | Direct | Call


BROKER = "broker"
_CUT = {"database": "sessions", BROKER: "connections"}


class Chaos(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that happens during the run; one of `kill`, `restart`, `cut`, `command`.

    Attributes:
        at_s: Seconds from the start.
        every_s: Again so often; 0: once.
        kill: A role: one of its instances, drawn by the seed, gets SIGKILL.
        restart: A role, or "*" for all: restarted by turns. "broker": the broker is stopped
            and started again, where it is the test's own.
        cut: "database": all sessions of its instances with it are ended; "broker": all
            connections with it, where it is the test's own.
        command: Run without a shell: `["docker", "restart", "broker"]`.
    """

    at_s: float
    every_s: float = 0
    kill: str = ""
    restart: str = ""
    cut: Literal["", "database", "broker"] = ""
    command: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Say what happens."""
        if self.kill:
            return f"kill -9 {self.kill}"
        if self.restart == BROKER:
            return "restart the broker"
        if self.restart:
            return "restart all" if self.restart == "*" else f"restart {self.restart}"
        if self.cut:
            return f"cut {_CUT[self.cut]} with the {self.cut}"
        return " ".join(self.command)

    @property
    def needs_broker(self) -> bool:
        """Whether it befalls the broker."""
        return BROKER in (self.restart, self.cut)


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One load test.

    Attributes:
        about: What a request is, and when it is done; the page says it first.
        for_s: Seconds in which requests are due, warm-up included.
        warm_up_s: The first seconds; what is due in them is not counted.
        seed: The same seed gives the same arrivals and the same victims.
        clients: Processes that send.
        timeout_s: For one request.
        in_flight: Requests under way at once, in all; what is due beyond waits, and its wait
            counts.
        trace: Share of requests that start a sampled trace.
        settle_s: How long the app may take, after the last answer, to have nothing left.
        objectives: Name and bound: `p99 = "250ms"`.
        check: "module:function", called with a `Ran` when all is over; returns `Checked`.
    """

    entry: Entry
    arrival: Arrival
    name: str = ""
    about: str = ""
    for_s: float = 60
    warm_up_s: float = 0
    seed: int = 1
    clients: int = 2
    timeout_s: float = 30
    in_flight: int = 20_000
    trace: float = 0
    settle_s: float = 60
    objectives: dict[str, str] = {}
    chaos: tuple[Chaos, ...] = ()
    check: str = ""

    @property
    def wanted(self) -> tuple[Objective, ...]:
        """Its objectives."""
        return tuple(objective(f"{name}={bound}") for name, bound in self.objectives.items())


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a scenario, as a client process sees it.

    Attributes:
        id: Differs from run to run.
        client: Number of this process, from 0.
        database: Of the app: URL or empty.
        app: "module:name", or empty.
    """

    id: str
    scenario: Scenario
    client: int
    database: str = ""
    broker: str = ""
    app: str = ""


def changed(
    scenario: Scenario,
    *,
    rate: float = 0,
    for_s: float = 0,
    url: str = "",
    objectives: Sequence[str] = (),
) -> Scenario:
    """Return a scenario with what the command line says instead; 0 and empty change nothing.

    Raises:
        ConfigError: It cannot be said of this scenario.
    """
    made = scenario
    if rate:
        if not isinstance(made.arrival, Constant | Poisson):
            raise ConfigError(
                f"The law {made.arrival.__struct_config__.tag!r} has no single rate.",
                fix='--rate works with law = "constant" and "poisson".',
            )
        made = msgspec.structs.replace(made, arrival=made.arrival.at_rate(rate))
    if for_s:
        if for_s <= made.warm_up_s:
            raise ConfigError(
                f"{for_s:g} s are over before the warm-up of {made.warm_up_s:g} s is.",
                fix="Let it take longer: --for 60.",
            )
        made = msgspec.structs.replace(made, for_s=for_s)
    if url:
        made = msgspec.structs.replace(made, entry=_sent_to(made.entry, url))
    found = [objective(text) for text in objectives]
    bounds = {one.name: one.text.partition("=")[2].strip() for one in found}
    return msgspec.structs.replace(made, objectives={**made.objectives, **bounds})


def _sent_to(entry: Entry, url: str) -> Entry:
    if isinstance(entry, Smtp) and re.fullmatch(r"[^/]+:\d+", url):
        return msgspec.structs.replace(entry, at=url)
    if isinstance(entry, Call):
        return msgspec.structs.replace(entry, url=url)
    if isinstance(entry, Http) and re.match(r"https?://[^/]", url):
        there = re.sub(r"^https?://[^/]+", url.rstrip("/"), entry.url)
        return msgspec.structs.replace(entry, url=there)
    kind = entry.__struct_config__.tag
    raise ConfigError(
        f"{url!r} is nowhere an entry of kind {kind!r} could send to.",
        fix="http://host:port for http, host:port for smtp; messages go to the broker.",
    )
