"""What a handler gave, named and placed: ids, destinations, positions.

Only outputs that can reach the innermost gather take positions. A position that nothing
closes would hold its sequence up for ever, so whatever takes none closes it as dropped.

Source: DESIGN 4.4 and "Order (a)".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from rolekit.errors import Reject
from rolekit.flow.addressing import addressed
from rolekit.flow.other_apps import packet_for
from rolekit.model.envelope import Attempts, Head, Kind, Packet, encode_head, plain
from rolekit.model.ids import derive
from rolekit.model.message import Reply as ReplyMessage
from rolekit.model.position import Frame, Frames
from rolekit.model.reassembly import ClosedBy, Closing, Cursor
from rolekit.store.base import Opening, Reply
from rolekit.transport.base import outside_queue

if TYPE_CHECKING:
    from rolekit.flow.runtime import Arrival, Runtime
    from rolekit.model.plan import HandlerPlan

MAX_OUTPUTS = 10_000
"""Outputs of one step, at most: more would be one transaction of unbounded size."""
DAY_S = 86_400.0

Results = Sequence[object]
"""What a handler returned or yielded, in order; a tuple in it stands at one position."""


class Outputs(msgspec.Struct):
    """Everything a step sends or closes."""

    packets: list[Packet] = []
    closings: list[Closing] = []
    replies: list[Reply] = []
    opening: Opening | None = None


def is_direct(runtime: Runtime, arrival: Arrival, results: Results) -> bool:
    """Say whether these results may leave before anything is recorded.

    A direct step gives at most one message, to one handler or to whoever asks. Where the
    queues are tables of the store, closing a position at once is cheaper than sending it.
    """
    plan, frames = arrival.plan, arrival.head.frames
    if plan.kind != "handle" or plan.shape != "one" or plan.record or len(results) > 1:
        return False
    if arrival.head.kind is Kind.DEAD:
        return False  # that a dead letter is answered must be recorded
    joins = runtime.transport.features.joins_store
    if not results:
        return not (frames and joins)
    result = results[0]
    if isinstance(result, tuple) or type(result) in runtime.plan.outside:
        return False
    if isinstance(result, ReplyMessage):
        return bool(arrival.head.reply_to) and not frames
    inner = frames[-1].gather if frames else ""
    targets = runtime.targets(type(result), inner)
    return len(targets) == 1 and not (joins and inner and targets[0] == inner)


def direct(runtime: Runtime, arrival: Arrival, results: Results) -> Packet | None:
    """Build the output of a direct step: it keeps id, generation and birth."""
    head, came = arrival.head, arrival.packet
    if not results:
        if not head.frames:
            return None
        body, queue = b"", head.frames[-1].gather
        out = _head_for(head, "", 1, head.frames, head.headers, kind=Kind.TOMBSTONE)
    else:
        name, version, body = runtime.codec.encode(results[0])
        if isinstance(results[0], ReplyMessage):
            queue = head.reply_to
            out = _head_for(head, name, version, (), head.headers, kind=Kind.REPLY)
        else:
            inner = head.frames[-1].gather if head.frames else ""
            queue = runtime.targets(type(results[0]), inner)[0]
            out = _head_for(head, name, version, head.frames, head.headers)
        if out.codec != runtime.codec.default:
            out = msgspec.structs.replace(out, codec=runtime.codec.default)
    if out.kind is Kind.MESSAGE:
        queue, encoded = addressed(runtime.plan, queue, results[0], out)
    else:
        encoded = encode_head(out)
    return Packet(
        queue=queue,
        id=came.id,
        generation=came.generation,
        birth_ms=came.birth_ms,
        head=encoded,
        body=body,
    )


def _head_for(
    cause: Head,
    name: str,
    version: int,
    frames: Frames,
    headers: dict[str, str],
    *,
    kind: Kind = Kind.MESSAGE,
) -> Head:
    return Head(
        kind=kind,
        type=name,
        type_version=version,
        codec=cause.codec,
        root=cause.root,
        sent_at_ms=cause.sent_at_ms,
        frames=frames,
        headers=headers,
        reply_to=cause.reply_to,
    )


def together(result: object) -> tuple[object, ...]:
    """Return what stands at one position: the items of a tuple, or the message itself."""
    if not isinstance(result, tuple):
        return (result,)
    items = cast("tuple[object, ...]", result)
    return tuple(item for item in items if item is not None)


class Placing:
    """Builds the outputs of one recorded step.

    Args:
        runtime: Of this process.
        plan: Of the handler.
        cause: The packet that was handled; a release token, in a gather.
        head: Of that packet.
        among: Tells this step's outputs from those of others of the same message.
    """

    def __init__(
        self,
        runtime: Runtime,
        plan: HandlerPlan,
        cause: Packet,
        head: Head,
        among: tuple[str | int, ...] = (),
    ) -> None:
        self._runtime = runtime
        self._plan = plan
        self._cause = cause
        self._now_ms = now_ms = runtime.clock.now_ms()
        self._head = msgspec.structs.replace(
            plain(head), sent_at_ms=now_ms, codec=runtime.codec.default
        )
        self._slot = 0
        self._among = among
        self.outputs = Outputs()

    def one(self, results: Results) -> Outputs:
        """Place a single result: it stays at the position of what was handled."""
        frames = self._head.frames
        items = together(results[0]) if results else ()
        placed = [self._place(message, frames) for message in items]
        if frames and not any(placed):
            self._close(frames[-1], ClosedBy.DROPPED)
        return self.outputs

    def split(self, results: Results) -> Outputs:
        """Place a sequence of results: they split the position, or open a sequence."""
        if len(results) > MAX_OUTPUTS:
            raise Reject(
                f"{self._plan.name} gave {len(results)} messages in one step; "
                f"{MAX_OUTPUTS} are allowed. Split in two stages."
            )
        frames = self._head.frames
        gather = self._plan.opens_in(self._runtime.plan)
        if gather is not None:
            sequence = self.sequence_of(self._cause, self._plan)
            frames = (*frames, Frame(sequence, gather, ()))
        total = self._place_children(results, frames, 0)
        if gather is not None:
            start = Cursor.start(total)
            self.outputs.opening = self.opened(frames[-1], start, self._cause)
        elif frames:
            self._close(frames[-1], ClosedBy.SPLIT, total)
        return self.outputs

    def chunk(self, results: Results, frames: Frames, index: int) -> int:
        """Place some of the children of a split; return how many there are now."""
        return self._place_children(results, frames, index)

    @staticmethod
    def sequence_of(cause: Packet, plan: HandlerPlan) -> str:
        """Name the sequence that a handler opens when it splits a message."""
        return derive(cause.id, cause.generation, plan.name, "sequence")

    def more(self, results: Results, emitted: int, *, is_last: bool) -> tuple[Outputs, int]:
        """Place the results of one run of a gather: children of one position, run by run.

        Args:
            results: Of this run.
            emitted: Children that earlier runs placed.
            is_last: No run follows.

        Returns:
            The outputs, and how many children there are now.
        """
        frames = self._head.frames
        emitted = self._place_children(results, frames, emitted)
        if frames and (is_last or emitted):  # what gave nothing yet may still fail as one
            self._close(frames[-1], ClosedBy.SPLIT, emitted if is_last else None)
        return self.outputs, emitted

    def beside(self, message: object, headers: Mapping[str, str]) -> tuple[str, list[Packet]]:
        """Name a message that `ctx.send` sends: it has no place in any sequence."""
        self._slot += 1
        merged = {**self._head.headers, **headers}
        packets = self._packets(message, (), merged)
        return packets[0].id if packets else self._derive(self._slot), packets

    def _derive(self, *slot: str | int) -> str:
        """Name an output; the generation makes a replay of a failed split a new one."""
        cause = self._cause
        return derive(cause.id, cause.generation, self._plan.name, *self._among, *slot)

    def _place_children(self, results: Results, frames: Frames, index: int) -> int:
        for result in results:
            at = (*frames[:-1], frames[-1].child(index)) if frames else ()
            taken = [self._place(message, at) for message in together(result)]
            index += any(taken)
        return index

    def _place(self, message: object, frames: Frames) -> bool:
        """Send one message; say whether it takes its position."""
        if isinstance(message, ReplyMessage):
            self._slot += 1
            self._answer(message)
            return False
        self._slot += 1
        inner = frames[-1].gather if frames else ""
        targets = self._runtime.plan.destinations.get(type(message), ())
        takes = bool(inner) and any(inner in self._runtime.plan.reaches[n] for n in targets)
        if takes and inner in targets:
            name, version, body = self._runtime.codec.encode(message)
            self._close(frames[-1], ClosedBy.PART, None, (name, version, body))
        self.outputs.packets += self._packets(
            message, frames if takes else (), self._head.headers
        )
        return takes

    def _packets(
        self, message: object, frames: Frames, headers: dict[str, str]
    ) -> list[Packet]:
        """Build one packet for each handler that takes the message, gathers excepted."""
        name, version, body = self._runtime.codec.encode(message)
        plan = self._runtime.plan
        packets: list[Packet] = []
        for target in plan.destinations.get(type(message), ()):
            if plan.handlers[target].kind == "gather":
                continue
            inside = bool(frames) and frames[-1].gather in plan.reaches[target]
            head = _head_for(self._head, name, version, frames if inside else (), headers)
            queue, encoded = addressed(plan, target, message, head)
            packets.append(
                Packet(
                    queue=queue, id=self._derive(self._slot, target), head=encoded, body=body
                )
            )
        if plan.outside and (app := plan.outside.get(type(message))):
            head = _head_for(self._head, name, version, (), headers)
            id_ = self._derive(self._slot, outside_queue(app))
            packets.append(packet_for(app, head, id_, body))
        return packets

    def _answer(self, message: ReplyMessage) -> None:
        """Give a reply to whoever asks, or keep it for whoever follows."""
        name, version, body = self._runtime.codec.encode(message)
        head, id_ = self._head, self._derive(self._slot, "reply")
        if head.reply_to:
            out = _head_for(head, name, version, (), head.headers, kind=Kind.REPLY)
            self.outputs.packets.append(
                Packet(queue=head.reply_to, id=id_, head=encode_head(out), body=body)
            )
            return
        self.outputs.replies.append(
            Reply(
                root=head.root,
                id=id_,
                type=name,
                type_version=version,
                codec=self._runtime.codec.default,
                body=body,
            )
        )

    def _close(
        self,
        frame: Frame,
        by: ClosedBy,
        total: int | None = None,
        part: tuple[str, int, bytes] = ("", 1, b""),
    ) -> None:
        name, version, body = part
        self.outputs.closings.append(
            Closing(
                sequence=frame.sequence,
                path=frame.path,
                by=by,
                total=total,
                type=name,
                type_version=version,
                codec=self._runtime.codec.default,
                body=body,
            )
        )

    def opened(self, frame: Frame, cursor: Cursor, source: Packet) -> Opening:
        """Say how the sequence begins whose gather a frame names."""
        gather = self._runtime.plan.handlers[frame.gather]
        token = msgspec.structs.replace(
            self._head,
            kind=Kind.RELEASE,
            type="",
            sequence=frame.sequence,
            attempts=Attempts(),
        )
        return Opening(
            id=frame.sequence,
            gather=gather.name,
            cursor=cursor,
            waits=gather.on_dead == "wait",
            token=Packet(queue=gather.name, id=frame.sequence, head=encode_head(token)),
            source=source,
            deadline_ms=self._now_ms + round((gather.deadline_s or DAY_S) * 1000),
            age_s=gather.age_s,
            is_ordered=gather.ordered or gather.whole,
        )
