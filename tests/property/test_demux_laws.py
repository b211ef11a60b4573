"""The laws of the demultiplexer: each frame goes to whom it belongs, or the line is cut."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from rolekit.transport.rabbitmq import wire
from rolekit.transport.rabbitmq.demux import MAX_FRAME, FrameError
from tests.property import amqp_streams as amqp
from tests.property.amqp_streams import HEARTBEAT, Taps, Unit, props_of, raw, written

if TYPE_CHECKING:
    from random import Random

pytestmark = pytest.mark.timeout(60)

TAPPED, UNTAPPED = (1, 2, 70), (3, 0x0103)
TAGS = st.integers(1, 2**63 - 1)  # pamqp writes no more
PROPS = st.text(max_size=6).map(props_of)
PIECES = st.lists(st.binary(min_size=1, max_size=6), max_size=3)
ON_TAPPED = st.sampled_from(TAPPED)
DELIVERIES = st.builds(amqp.delivery, ON_TAPPED, TAGS, PROPS, PIECES, again=st.booleans())
RETURNS = st.builds(amqp.returned, ON_TAPPED, st.text("abc", max_size=3), PROPS, PIECES)
CONFIRMS = st.builds(
    amqp.confirm, ON_TAPPED, TAGS, multiple=st.booleans(), refused=st.booleans()
)
METHODS = st.sampled_from(
    [
        commands.Basic.QosOk(),
        commands.Basic.ConsumeOk("t"),
        commands.Basic.Cancel("t"),
        commands.Channel.OpenOk(),
        commands.Queue.DeclareOk("q", 2**32 - 1, 0),
        commands.Basic.GetEmpty(),
    ]
)
ANSWERS = st.builds(amqp.answer, METHODS, st.sampled_from(TAPPED + UNTAPPED))
LIFE = st.sampled_from([HEARTBEAT, written(commands.Connection.Unblocked(), 0)]).map(
    lambda it: amqp.foreign(0, it)
)
OTHERS = st.builds(amqp.delivery, st.sampled_from(UNTAPPED), TAGS, PROPS, PIECES).map(
    lambda it: amqp.foreign(it.channel, *it.frames)
)
GOT = st.builds(amqp.got, ON_TAPPED, PROPS, PIECES)
CLOSED = st.builds(amqp.closed_within, DELIVERIES | RETURNS, st.integers(1, 3))
UNITS = st.lists(
    st.one_of(DELIVERIES, RETURNS, CONFIRMS, ANSWERS, LIFE, OTHERS, GOT, CLOSED), max_size=8
)


def merged(units: list[Unit], random: Random) -> tuple[list[bytes], list[bytes]]:
    """Let channels take turns by the frame; return all frames, and those for aiormq."""
    lanes: dict[int, list[tuple[bytes, bool]]] = {}
    for unit in units:
        rest = list(unit.rest)
        for frame in unit.frames:
            is_rest = bool(rest) and frame == rest[0]
            if is_rest:
                rest.pop(0)
            lanes.setdefault(unit.channel, []).append((frame, is_rest))
    frames: list[bytes] = []
    others: list[bytes] = []
    while lanes:
        channel = random.choice(list(lanes))
        frame, is_rest = lanes[channel].pop(0)
        frames.append(frame)
        if is_rest:
            others.append(frame)
        if not lanes[channel]:
            del lanes[channel]
    return frames, others


def check(taps: Taps, units: list[Unit], others: list[bytes]) -> None:
    for channel in TAPPED:
        mine = [unit for unit in units if unit.channel == channel]
        assert taps.delivered[channel] == [it for unit in mine for it in unit.delivered]
        assert taps.told[channel] == [it for unit in mine for it in unit.told]
    assert taps.rest == b"".join(others)


@given(UNITS, st.randoms(use_true_random=False), st.lists(st.integers(0, 900)).map(sorted))
def test_frames_go_to_whom_they_belong_however_they_are_cut(
    units: list[Unit], random: Random, cuts: list[int]
) -> None:
    frames, others = merged(units, random)
    data = b"".join(frames)
    edges = [0, *(min(cut, len(data)) for cut in cuts), len(data)]
    taps = Taps(TAPPED)

    taps.feed(*(data[begin:end] for begin, end in itertools.pairwise(edges) if begin < end))

    check(taps, units, others)


@settings(max_examples=40)
@given(UNITS, st.randoms(use_true_random=False))
def test_a_cut_at_any_byte_and_at_every_byte_changes_nothing(
    units: list[Unit], random: Random
) -> None:
    frames, others = merged(units, random)
    data = b"".join(frames)

    for at in range(1, len(data)):
        taps = Taps(TAPPED)
        taps.feed(data[:at], data[at:])
        check(taps, units, others)
    taps = Taps(TAPPED)
    taps.feed(*(data[at : at + 1] for at in range(len(data))))
    check(taps, units, others)


GOOD = amqp.delivery(1, 5, props_of("a"), [b"good"])
HEAD, *_ = amqp.content(1, props_of("b"), [b"four"])
OPEN = amqp.deliver(1, 6)
BODY = raw(wire.BODY, 1, b"four")
RETURN = written(commands.Basic.Return(312, "NO_ROUTE", "", "key"), 1)
FAULTS = {
    "a body longer than its header says": OPEN + HEAD + raw(wire.BODY, 1, b"fourX"),
    "a body that grows longer": OPEN + HEAD + raw(wire.BODY, 1, b"fo") + BODY,
    "a body before its header": OPEN + BODY,
    "two headers": OPEN + HEAD + HEAD + BODY,
    "a header that is too short": OPEN + raw(wire.HEADER, 1, bytes(13)),
    "a delivery in the middle of one": OPEN + OPEN,
    "a delivery in the middle of a body": OPEN + HEAD + raw(wire.BODY, 1, b"fo") + OPEN,
    "a confirm in the middle of a message": OPEN + HEAD + wire.ack_frame(1, 1, multiple=False),
    "an answer in the middle of a message": OPEN + HEAD + written(commands.Basic.QosOk(), 1),
    "a heartbeat in the middle of a message": OPEN + HEAD + raw(wire.HEARTBEAT, 1, b"four"),
    "a wrong end": OPEN[:-1] + b"\xcd" + HEAD + BODY,
    "a wrong end of a foreign frame": HEARTBEAT[:-1] + b"\0" + GOOD.frames[0],
    "a type that nobody knows": b"\x04" + OPEN[1:] + HEAD + BODY,
    "a foreign type that nobody knows": b"\x00" + HEARTBEAT[1:],
    "an unfinished frame of a type that nobody knows": wire.FRAME.pack(4, 1, 1000) + b"?",
    "a gigantic frame": wire.FRAME.pack(wire.BODY, 1, 2**32 - 1) + b"?",
    "a frame larger than any broker's": wire.FRAME.pack(wire.METHOD, 9, MAX_FRAME + 1) + b"?",
    "a delivery without fields": raw(wire.METHOD, 1, wire.DELIVER),
    "a delivery that is too short": raw(wire.METHOD, 1, wire.DELIVER + b"\x01c" + bytes(8))
    + HEAD
    + BODY,
    "a delivery whose tag is too long": raw(wire.METHOD, 1, wire.DELIVER + b"\xff" + bytes(30)),
    "a confirm that is too short": raw(wire.METHOD, 1, wire.ACK + bytes(8)),
    "a confirm that is too long": raw(wire.METHOD, 1, wire.NACK + bytes(10)),
    "a return that is too short": raw(wire.METHOD, 1, RETURN[7:-2]) + HEAD + BODY,
    "a return without fields": raw(wire.METHOD, 1, wire.RETURN),
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_amqp_ends_the_line_and_is_never_delivered(fault: str) -> None:
    data = b"".join(GOOD.frames) + FAULTS[fault]

    for at in range(1, len(data) + 1):
        taps = Taps(TAPPED)
        with pytest.raises(FrameError):
            taps.feed(data[:at], data[at:], *GOOD.frames)
        assert taps.delivered[1] == GOOD.delivered
        assert taps.told[1] == []


def test_a_channel_that_the_broker_closed_in_a_message_can_be_used_anew() -> None:
    taps = Taps([1])
    closed = amqp.closed_within(amqp.delivery(1, 9, props_of("a"), [b"ab", b"cd"]), 3)

    taps.feed(*closed.frames, *GOOD.frames)

    assert taps.delivered[1] == GOOD.delivered
    assert taps.rest == closed.frames[-1]


def test_a_muted_tap_drops_messages_whole_and_lets_answers_through() -> None:
    taps = Taps([1])
    message = amqp.delivery(1, 9, props_of("a"), [b"ab", b"cd"])
    answer = written(commands.Channel.CloseOk(), 1)

    taps.feed(*message.frames[:3])
    taps.demux.taps[1].mute()
    taps.feed(message.frames[3], *GOOD.frames, answer)

    assert taps.delivered[1] == []
    assert taps.rest == answer


@pytest.mark.parametrize("at", range(1, 8))
def test_an_answer_in_another_protocol_version_is_left_to_aiormq(at: int) -> None:
    taps = Taps([])
    answer = b"AMQP\x00\x01\x00\x00"

    taps.feed(answer[:at], answer[at:])

    assert taps.rest == answer


def test_blocking_is_told_and_left_to_aiormq_too() -> None:
    taps = Taps([])
    blocked = written(commands.Connection.Blocked("memory"), 0)
    unblocked = written(commands.Connection.Unblocked(), 0)

    taps.feed(blocked, unblocked)

    assert taps.blocked == [True, False]
    assert taps.rest == blocked + unblocked


def test_what_is_taken_is_counted() -> None:
    taps = Taps([1])

    taps.feed(*GOOD.frames, wire.ack_frame(1, 1, multiple=False), HEARTBEAT)

    assert taps.demux.taken == 2
