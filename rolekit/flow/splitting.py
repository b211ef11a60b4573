"""Splits of any length: what a generator yields leaves in chunks, each a commit of its own.

A split of up to a thousand parts is one commit with everything else its handler did. A longer
one leaves behind a cursor: how many parts were committed, and a digest of them. Whoever runs
it again skips what was committed, and compares: a generator that yields something else the
second time is a dead letter, since half of each would be neither. The last chunk takes the
inbox row, commits what the handler wrote, and tells how many parts there are.

Source: DESIGN 4 "Order (a)".
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from rolekit.errors import Diverged, Reject, StateClash
from rolekit.flow.outputs import MAX_OUTPUTS, Outputs, Placing, together
from rolekit.model.position import Frame
from rolekit.model.reassembly import ClosedBy, Closing, Cursor
from rolekit.store.base import SplitMove, Step, Taken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rolekit.flow.runtime import Arrival, Runtime
    from rolekit.flow.step_context import StepContext
    from rolekit.store.base import SplitRow

CHUNK = 1000
CHUNK_BYTES = 8 << 20
WEIGHED = 8
"""Of so many parts one is weighed: encoding each twice would cost more than it tells."""


class Splitting:
    """Collects what one split yields, and commits it chunk by chunk where it is long.

    Args:
        runtime: Of this process.
        arrival: The message that is split.
        commit: Submits a step; its result says whether the message had no outcome yet.
        room: Waits until what was committed leaves fast enough.

    Attributes:
        results: What the chunk holds that was not committed.
        is_long: Something was committed already, now or in an earlier attempt.
    """

    def __init__(
        self,
        runtime: Runtime,
        arrival: Arrival,
        commit: Callable[[Step], Awaitable[bool]],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self._runtime = runtime
        self._arrival = arrival
        self._commit = commit
        self._room = room
        self._bytes = 0
        self._row: SplitRow | None = None
        self._count = 0
        self._places = 0
        self._digest = b""
        self.context: StepContext | None = None
        self.results: list[object] = []
        self.is_long = False

    async def resume(self) -> None:
        """Look how far an earlier attempt came."""
        self._row = await self._runtime.store.find_split(self._arrival.packet.id)
        self.is_long = self._row is not None

    def add(self, one: object) -> bool:
        """Take a result; say whether the chunk is full."""
        results = self.results
        results.append(one)
        if len(results) % WEIGHED == 1:
            self._bytes += WEIGHED * _weight(self._runtime, one)
        return len(results) >= CHUNK or self._bytes >= CHUNK_BYTES

    async def flush(self) -> None:
        """Commit the chunk, or pass over it where it was committed before.

        Raises:
            Taken: The message had its outcome.
            StateClash: Another attempt has gone on meanwhile.
            Diverged: This is not what was committed.
        """
        if self.context is not None and self.context.open_step is not None:
            raise Reject(
                f"{self._arrival.plan.name} yields more than {CHUNK} parts and has ctx.tx "
                "open: no transaction is held over several commits. Take ctx.write instead."
            )
        if not self.is_long:
            await self.resume()
        results, self.results, self._bytes = self.results, [], 0
        self._count += len(results)
        self._digest = _digest(self._runtime, self._digest, results)
        row = self._row
        if row is not None and self._count <= row.next:
            self._skip(row)
            return
        if row is not None and self._count - len(results) < row.next:
            raise _diverged(self._arrival.plan.name, row.next)
        await self._leave(results)
        self.is_long = True

    def _skip(self, row: SplitRow) -> None:
        if self._count == row.next:
            if self._digest != row.digest:
                raise _diverged(self._arrival.plan.name, row.next)
            self._places = row.places

    async def _leave(self, results: list[object]) -> None:
        await self._room()
        outputs = self._placed(results)
        step = _blank(self._arrival)
        step.outputs, step.replies = outputs.packets, outputs.replies
        step.closings, step.opening = outputs.closings, outputs.opening
        step.split = self._move(self._count - len(results), is_last=False)
        try:
            is_fresh = await self._commit(step)
        except StateClash:
            key = (step.id, step.generation, step.birth_ms)
            if await self._runtime.store.seen([key]):
                raise Taken from None
            raise
        if not is_fresh:
            raise Taken

    def last(self) -> tuple[Outputs, SplitMove]:
        """Return the rest, with the end of the split, for the step that takes the inbox row.

        Raises:
            Diverged: It ended before what was committed of it.
        """
        results, row = self.results, self._row
        before = self._count
        if row is not None and before < row.next:
            raise _diverged(self._arrival.plan.name, row.next)
        self._count += len(results)
        outputs = self._placed(results)
        frame = self._frame()
        if frame is not None:
            outputs.closings.append(_end(frame, self._places))
        return outputs, self._move(before, is_last=True)

    def _placed(self, results: list[object]) -> Outputs:
        """Place a chunk behind those before it."""
        if len(results) > MAX_OUTPUTS:
            raise Reject(f"{self._arrival.plan.name} filled a chunk with {len(results)} parts.")
        begin = self._count - len(results)
        arrival, frame = self._arrival, self._frame()
        cause = msgspec.structs.replace(arrival.packet, generation=self._origin)
        placing = Placing(self._runtime, arrival.plan, cause, arrival.head, ("chunk", begin))
        frames = arrival.head.frames
        if self._opens and frame is not None:
            frames = (*frames, frame)
        self._places = placing.chunk(results, frames, self._places)
        if begin == 0 and frame is not None:
            if self._opens:
                placing.outputs.opening = placing.opened(
                    frame, Cursor.start(None), arrival.packet
                )
            else:
                placing.outputs.closings.insert(0, _end(frame, None))
        return placing.outputs

    @property
    def _opens(self) -> bool:
        return self._arrival.plan.opens_in(self._runtime.plan) is not None

    @property
    def _origin(self) -> int:
        return self._arrival.packet.generation if self._row is None else self._row.origin

    def _frame(self) -> Frame | None:
        """Return what is split: a sequence of its own, or the position it stands at."""
        arrival = self._arrival
        gather = arrival.plan.opens_in(self._runtime.plan)
        if gather is not None:
            sequence = sequence_of(arrival, self._origin)
            return Frame(sequence, gather, ())
        return arrival.head.frames[-1] if arrival.head.frames else None

    def _move(self, before: int, *, is_last: bool) -> SplitMove:
        packet, frame = self._arrival.packet, self._frame()
        return SplitMove(
            id=packet.id,
            origin=self._origin,
            generation=packet.generation,
            sequence=frame.sequence if frame is not None and self._opens else "",
            source=packet if packet.generation > self._origin else None,
            before=before,
            after=self._count,
            places=self._places,
            digest=self._digest,
            is_last=is_last,
        )


def sequence_of(arrival: Arrival, origin: int) -> str:
    """Name the sequence that a split opens."""
    cause = msgspec.structs.replace(arrival.packet, generation=origin)
    return Placing.sequence_of(cause, arrival.plan)


def _blank(arrival: Arrival) -> Step:
    """Build the step of a chunk: it takes no inbox row and ends no claim."""
    packet = arrival.packet
    step = Step(id=packet.id, generation=packet.generation, birth_ms=packet.birth_ms or 0)
    step.skips_inbox = True
    if arrival.turn is not None:
        arrival.turn.fence_in(step)
    return step


def _end(frame: Frame, total: int | None) -> Closing:
    return Closing(sequence=frame.sequence, path=frame.path, by=ClosedBy.SPLIT, total=total)


def _weight(runtime: Runtime, one: object) -> int:
    return sum(len(runtime.codec.encode(item)[2]) for item in together(one))


def _digest(runtime: Runtime, before: bytes, results: list[object]) -> bytes:
    """Go on with the digest of everything that was yielded."""
    digest = blake2b(before, digest_size=16)
    for one in results:
        for item in together(one):
            name, _, body = runtime.codec.encode(item)
            digest.update(f"{name} {len(body)} ".encode())
            digest.update(body)
        digest.update(b";")
    return digest.digest()


def _diverged(handler: str, committed: int) -> Diverged:
    return Diverged(
        f"{handler} was run again and did not yield the same {committed} parts that were "
        "committed of it: what it yields must follow from its message alone, and not from "
        "time, chance or a table that changed."
    )
