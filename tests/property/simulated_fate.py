"""What happens to an app's handlers by seed, and what they did."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import rolekit
from rolekit import Backoff, Context, Message, Reply, Run, State, WorkerRole, handle

RETRY = Backoff(attempts=3, first_s=0.2, max_s=1)


ROOTS = 3


class Start(Message):
    name: str
    at: str


class Side(Message):
    sender: str
    at: str


class Over(Reply):
    name: str
    at: str


class Tally(State):
    sides: int = 0


Turn = Callable[[str, str], AbstractContextManager[None]]


def nullturn(key: str, id_: str) -> AbstractContextManager[None]:
    """Watch nothing."""
    del key, id_
    return nullcontext()


Given = tuple[tuple[object, ...], int, bool]
"""Parts, how many were dropped, whether none follow."""


@dataclass
class Fate:
    """Draws what happens next, and keeps what handlers did.

    Attributes:
        chance: Of a fault, for each thing that can fail.
        splits: How many pieces each run of the split yielded to its end.
        runs: How many times any handler was called.
        given: What a gather was called with under each id.
        changed: Ids under which it was called with something else later.
        on_turn: Called with key and id when a keyed message is handled; ends with the turn.
    """

    seed: int
    chance: float = 0.1
    splits: dict[str, int] = field(default_factory=dict[str, int])
    runs: int = 0
    given: dict[str, Given] = field(default_factory=dict[str, "Given"])
    changed: list[str] = field(default_factory=list[str])
    on_turn: Turn = nullturn

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 - what is drawn is no secret

    def happens(self, chance: float | None = None) -> bool:
        """Draw whether it does."""
        return self.random.random() < (self.chance if chance is None else chance)

    async def enter(self, ctx: Context[Side]) -> str:
        """Begin a run of a handler: take some time, send something, fail; return its name."""
        self.runs += 1
        name = f"{self.runs}@{asyncio.get_running_loop().time():.4f}"
        if self.happens(0.3):
            await asyncio.sleep(self.random.random() * 0.3)
        for _ in range(self.random.choice((0, 0, 0, 1, 2))):
            ctx.send(Side(sender=name, at=name), delay_s=self.random.choice((0, 0, 0.3)))
        self.fail()
        return name

    async def gather(self, ctx: Context[Side], run: Run[object]) -> str:
        """Begin a run of a gather, whatever becomes of it; return its name."""
        given = (tuple(run), run.dropped, run.is_last)
        if self.given.setdefault(ctx.id, given) != given:
            self.changed.append(ctx.id)
        return await self.enter(ctx)

    def fail(self) -> None:
        """Fail in one of the ways a handler can."""
        if self.happens():
            # A new one each time: an error that is raised again keeps all it went through.
            failure = self.random.choice(FAILURES)
            raise failure()


FAILURES: tuple[Callable[[], Exception], ...] = (
    lambda: ValueError("drawn"),
    lambda: rolekit.Retry("drawn"),
    lambda: rolekit.Retry("drawn", delay_s=0.1, counts=False),
    lambda: rolekit.Reject("drawn"),
)


class Fated(WorkerRole):
    """What all the apps below have in common."""

    fate: ClassVar[Fate]
    dead: ClassVar[Literal["stay", "replayed", "replayed or dropped"]] = "stay"
    pause_s: ClassVar[float] = 0
    ends_s: ClassVar[float] = 0

    @classmethod
    def roots(cls) -> Sequence[Message]:
        """What is sent into it, in this order, about so many seconds apart."""
        return [Start(name="s", at="0")] * ROOTS

    @handle(retry=RETRY)
    async def aside(self, side: Side, ctx: Context) -> None:
        tally = await ctx.state(Tally, key="all")
        tally.sides += 1
        self.fate.fail()
        ctx.write("insert into side values ($1)", ctx.id)

    def note(self, ctx: Context[Side], run: Run[object]) -> None:
        """Write down what was released; the store keeps it only with the commit."""
        ctx.write(
            "insert into released values ($1, $2, $3, $4, $5)",
            *(ctx.key, run.offset, tuple(run), run.dropped, run.is_last),
        )
