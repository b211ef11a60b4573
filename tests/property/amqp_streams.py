"""What a broker sends, frame by frame, and what the demultiplexer should make of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from pamqp import commands, frame, heartbeat

from rolekit.transport.rabbitmq import wire
from rolekit.transport.rabbitmq.demux import Demux, Returned, Tap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pamqp.base import Frame
    from pamqp.frame import FrameTypes

Call: TypeAlias = tuple[Any, ...]
HEARTBEAT = frame.marshal(heartbeat.Heartbeat(), 0)


@dataclass
class Unit:
    """Frames of one channel that belong together, and what they are to whom.

    Attributes:
        frames: As they are sent.
        rest: Those that are aiormq's.
        delivered: What `on_deliveries` is given.
        told: What the two other calls are given.
    """

    channel: int
    frames: list[bytes]
    rest: list[bytes] = field(default_factory=list[bytes])
    delivered: list[Call] = field(default_factory=list[Call])
    told: list[Call] = field(default_factory=list[Call])


def written(what: FrameTypes, channel: int) -> bytes:
    return frame.marshal(what, channel)


def raw(kind: int, channel: int, payload: bytes) -> bytes:
    return wire.FRAME.pack(kind, channel, len(payload)) + payload + wire.END


def props_of(text: str) -> bytes:
    return bytes(commands.Basic.Properties(message_id=text, headers={"n": 1}).marshal())


def content(channel: int, props: bytes, pieces: Sequence[bytes]) -> list[bytes]:
    """Write a header and body frames."""
    size = sum(map(len, pieces))
    head = raw(wire.HEADER, channel, struct.pack(">HHQ", 60, 0, size) + props)
    return [head, *(raw(wire.BODY, channel, piece) for piece in pieces)]


def deliver(channel: int, tag: int, *, again: bool = False) -> bytes:
    return written(commands.Basic.Deliver(f"c{channel}", tag, again, "", "key"), channel)


def delivery(
    channel: int, tag: int, props: bytes, pieces: Sequence[bytes], *, again: bool = False
) -> Unit:
    frames = [deliver(channel, tag, again=again), *content(channel, props, pieces)]
    return Unit(channel, frames, delivered=[(tag, again, props, b"".join(pieces))])


def returned(channel: int, key: str, props: bytes, pieces: Sequence[bytes]) -> Unit:
    method = commands.Basic.Return(312, "NO_ROUTE", "", key)
    told: Call = ("returned", Returned(312, "NO_ROUTE", key, props, b"".join(pieces)))
    return Unit(
        channel, [written(method, channel), *content(channel, props, pieces)], told=[told]
    )


def confirm(channel: int, tag: int, *, multiple: bool, refused: bool) -> Unit:
    method = commands.Basic.Nack if refused else commands.Basic.Ack
    return Unit(
        channel,
        [written(method(tag, multiple), channel)],
        told=[("confirm", tag, multiple, refused)],
    )


def foreign(channel: int, *frames: bytes) -> Unit:
    """Group frames of which none is ours."""
    return Unit(channel, list(frames), rest=list(frames))


def answer(method: Frame, channel: int) -> Unit:
    return foreign(channel, written(method, channel))


def got(channel: int, props: bytes, pieces: Sequence[bytes]) -> Unit:
    """Write a message that somebody asked for: aiormq's, on whichever channel."""
    method = commands.Basic.GetOk(7, redelivered=False, routing_key="k", message_count=0)
    return foreign(channel, written(method, channel), *content(channel, props, pieces))


def closed_within(unit: Unit, after: int) -> Unit:
    """Let the broker close the channel after some frames of a message."""
    close = written(commands.Channel.Close(406, "", 0, 0), unit.channel)
    kept = unit.frames[: min(after, len(unit.frames) - 1)]
    return Unit(unit.channel, [*kept, close], rest=[close])


class Taps:
    """A demultiplexer with taps that note what they are told."""

    def __init__(self, channels: Iterable[int]) -> None:
        self.blocked: list[bool] = []
        self.demux = Demux(self.blocked.append)
        self.rest = b""
        self.delivered: dict[int, list[Call]] = {}
        self.told: dict[int, list[Call]] = {}
        for channel in channels:
            self._tap(channel)

    def _tap(self, channel: int) -> None:
        delivered: list[Call] = []
        told: list[Call] = []
        self.delivered[channel], self.told[channel] = delivered, told

        def on_confirm(tag: int, multiple: bool, refused: bool) -> None:  # noqa: FBT001 - a Tap
            told.append(("confirm", tag, multiple, refused))

        self.demux.taps[channel] = Tap(
            on_deliveries=delivered.extend,
            on_confirm=on_confirm,
            on_return=lambda it: told.append(("returned", it)),
        )

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.rest += self.demux.feed(piece)
