"""What may be wrong with a network, one direction at a time."""

from __future__ import annotations

import asyncio
import enum
import random
from collections import Counter
from collections.abc import Callable

from rolekit.testing.frames import Frame


class Direction(enum.Enum):
    """Where bytes go."""

    TO_SERVER = enum.auto()
    TO_CLIENT = enum.auto()

    @property
    def opposite(self) -> Direction:
        """The other one."""
        is_up = self is Direction.TO_SERVER
        return Direction.TO_CLIENT if is_up else Direction.TO_SERVER


class Verdict(enum.Enum):
    """What becomes of a frame.

    Attributes:
        DROP: It is lost; so are the header and the bodies that belong to it.
        SPOIL: It arrives without the end of a frame, as from a proxy that changes bytes.
        CUT_BEFORE: All before it arrives, then the connection is cut.
        CUT_AFTER: It arrives as the last one.
    """

    PASS = enum.auto()
    DROP = enum.auto()
    SPOIL = enum.auto()
    CUT_BEFORE = enum.auto()
    CUT_AFTER = enum.auto()


OnFrame = Callable[[Direction, Frame], Verdict]


class Flow:
    """What happens to the bytes that go one way; change it at any time.

    Attributes:
        only: Numbers of the connections that it happens to; None is all.
        delay_s: How much later each piece arrives; order is kept.
        jitter_s: Up to so much later still, drawn for each piece.
        bytes_per_s: How fast a connection is at most; None is no limit.
        slice_bytes: How many bytes are sent at a time; None is all there are.
        cut_after_bytes: A connection is cut when it has carried so many; None is never.
        frames: How many AMQP frames of each name came, dropped ones included.
        dropped: How many of them were dropped.
        bytes_in: How many bytes came.
        bytes_out: How many were sent on.
        bytes_swallowed: How many were swallowed.
    """

    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0
        self.bytes_swallowed = 0
        self._is_open = asyncio.Event()
        self.heal()

    def heal(self) -> None:
        """Take all faults away; what was held goes on, what was swallowed is gone."""
        self.only: frozenset[int] | None = None
        self.delay_s = 0.0
        self.jitter_s = 0.0
        self.bytes_per_s: float | None = None
        self.slice_bytes: int | None = None
        self.cut_after_bytes: int | None = None
        self.is_swallowing = False
        self._is_open.set()

    def stall(self, *only: int) -> None:
        """Hold everything, as a network does that will be back; senders soon have to wait.

        Args:
            only: Numbers of the connections to hold; none for all.
        """
        self.only = frozenset(only) or None
        self._is_open.clear()

    def swallow(self, *only: int) -> None:
        """Take everything and deliver nothing; nobody is told.

        Args:
            only: Numbers of the connections to rob; none for all.
        """
        self.only = frozenset(only) or None
        self.is_swallowing = True

    @property
    def is_stalled(self) -> bool:
        """Whether everything is held."""
        return not self._is_open.is_set()

    async def opened(self) -> None:
        """Wait while stalled."""
        await self._is_open.wait()


class Faults:
    """All that may be wrong with a network.

    Args:
        seed: Makes the jitter the same each time.

    Attributes:
        to_server: Faults of what clients send.
        to_client: Faults of what the server sends.
        on_frame: Judges each AMQP frame.
    """

    def __init__(self, seed: int) -> None:
        self.to_server = Flow()
        self.to_client = Flow()
        self.on_frame: OnFrame | None = None
        self.random = random.Random(seed)  # noqa: S311 (jitter is no secret)
        self._waits: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of counts or connections; set a deadline around it."""
        if holds():
            return
        wait = (holds, asyncio.get_running_loop().create_future())
        self._waits.append(wait)
        try:
            await wait[1]
        finally:
            self._waits.remove(wait)

    def look(self) -> None:
        """Wake those whose wait is over."""
        for holds, future in self._waits:
            if not future.done() and holds():
                future.set_result(None)

    def flow(self, direction: Direction) -> Flow:
        """Return what happens to bytes that go there."""
        return self.to_server if direction is Direction.TO_SERVER else self.to_client

    def judge(self, direction: Direction, frame: Frame, *, is_lost: bool) -> Verdict:
        """Count a frame and say what becomes of it; one whose beginning was lost is lost."""
        flow = self.flow(direction)
        flow.frames[frame.name] += 1
        verdict = Verdict.DROP if is_lost else Verdict.PASS
        if self.on_frame is not None and not is_lost:
            verdict = self.on_frame(direction, frame)
        flow.dropped[frame.name] += verdict is Verdict.DROP
        self.look()
        return verdict


def drops(direction: Direction, *names: str) -> OnFrame:
    """Lose all frames of these names that go there: "Basic.Ack", "heartbeat"."""

    def judge(going: Direction, frame: Frame) -> Verdict:
        is_meant = going is direction and frame.name in names
        return Verdict.DROP if is_meant else Verdict.PASS

    return judge


def cuts(
    direction: Direction, name: str, *, nth: int = 1, verdict: Verdict = Verdict.CUT_BEFORE
) -> OnFrame:
    """Cut at the nth frame of this name that goes there, counted over all connections."""
    seen = 0

    def judge(going: Direction, frame: Frame) -> Verdict:
        nonlocal seen
        seen += going is direction and frame.name == name
        is_meant = going is direction and frame.name == name and seen == nth
        return verdict if is_meant else Verdict.PASS

    return judge
