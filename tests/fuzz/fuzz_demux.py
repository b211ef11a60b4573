"""Feed streams with faults to the demultiplexer: is there ever a wrong delivery?

    python -m tests.fuzz.fuzz_demux --frames 1000000 --seed 1

Streams of messages are mutated: bits flipped, bytes lost, doubled and swapped, lengths
changed to lies. Every mutated byte, and every place where something is missing, is marked.
For each stream:

1. A delivery is byte for byte (channel, tag, flag, properties, body) among those that were
   generated; or its checksum fails, and a marked byte is in one of its own frames; or,
   between its first and its last, a marked gap or a marked byte of a frame that was of its
   channel, and now is of another.
2. Every message that ended before the first mark was delivered, in order.
3. A second reader, slow and plain, says the same: same deliveries, confirms and returns,
   same bytes for aiormq, same verdict.

Ends with 1 if any stream breaks one of these.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING

from rolekit.transport.rabbitmq.demux import Demux, FrameError, Returned, Tap
from tests.fuzz.reading import Call, Reader, Reading, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.transport.rabbitmq.demux import Arrived

TAPPED = (1, 2, 257)
UNTAPPED = 3
CHANGED, GAP = 1, 2
"""Marks of a byte: it was changed or moved; something is missing before it."""
SUM_BYTES = 8
_FRAME = struct.Struct(">BHI")
_CONTENT = struct.Struct(">HHQ")


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _FRAME.pack(kind, channel, len(payload)) + payload + b"\xce"


def checksum(channel: int, tag: int, again: bool, props: bytes, data: bytes) -> bytes:  # noqa: FBT001 - a field of the wire
    said = struct.pack(">HQB", channel, tag, again) + props + data
    return blake2b(said, digest_size=SUM_BYTES).digest()


@dataclass
class Stream:
    """Bytes with their marks and owners, and what was said before anything was changed.

    A byte's owner is the last byte of the number of the channel it was written for, plus 100
    where that is above 255.
    """

    data: bytearray = field(default_factory=bytearray)
    marks: bytearray = field(default_factory=bytearray)
    owners: bytearray = field(default_factory=bytearray)
    starts: list[int] = field(default_factory=list[int])
    originals: set[Call] = field(default_factory=set[Call])
    ended: list[tuple[int, Call]] = field(default_factory=list[tuple[int, Call]])

    def add(self, one: bytes, channel: int) -> None:
        self.starts.append(len(self.data))
        self.data += one
        self.marks += bytes(len(one))
        self.owners += bytes([owner(channel)]) * len(one)

    @property
    def arrays(self) -> tuple[bytearray, bytearray, bytearray]:
        return self.data, self.marks, self.owners


def owner(channel: int) -> int:
    return channel % 256 + 100 * (channel > 255)


# -- generating -----------------------------------------------------------------------------


def generate(random: Random) -> Stream:
    """Write some messages of several channels, interleaved by the frame."""
    lanes: dict[int, list[tuple[bytes, Call | None]]] = {
        channel: _lane(random, channel) for channel in (*TAPPED, UNTAPPED)
    }
    lanes[0] = [(frame(8, 0, b""), None)] * random.randrange(3)
    stream = Stream()
    order = [channel for channel, lane in lanes.items() for _ in lane]
    random.shuffle(order)
    for channel in order:
        one, call = lanes[channel].pop(0)
        stream.add(one, channel)
        if call is not None:
            stream.originals.add(call)
            stream.ended.append((len(stream.data), call))
    return stream


def _lane(random: Random, channel: int) -> list[tuple[bytes, Call | None]]:
    frames: list[tuple[bytes, Call | None]] = []
    tag = random.choice([0, 250, 2**32 - 3])
    for _ in range(random.randrange(5)):
        tag += 1
        kind = random.random()
        if kind < 0.05:  # the broker closes the channel in the middle of a message
            some = _delivery(random, channel, tag)
            frames += some[: random.randrange(1, len(some))]
            frames.append((frame(1, channel, b"\x00\x14\x00\x28\x01\x96\x00" + bytes(4)), None))
        elif kind < 0.7:
            frames += _delivery(random, channel, tag)
        elif kind < 0.8:
            text = b"\x01\x38\x08NO_ROUTE\x00\x03a.b"
            frames.append((frame(1, channel, b"\x00\x3c\x00\x32" + text), None))
            frames += [(one, None) for one in _content(random, channel, b"\x00\x00", b"r" * 9)]
        elif kind < 0.9:
            bits = random.randrange(2)
            code = random.choice([b"\x50", b"\x78"])
            method = b"\x00\x3c\x00" + code + tag.to_bytes(8, "big") + bytes([bits])
            frames.append((frame(1, channel, method), None))
        else:
            frames.append((frame(1, channel, b"\x00\x3c\x00\x0b"), None))
    return frames


def _delivery(random: Random, channel: int, tag: int) -> list[tuple[bytes, Call | None]]:
    again = random.random() < 0.3
    props = b"\x00\x80" + bytes([4]) + random.randbytes(4)
    data = random.randbytes(random.choice([0, 3, 20, 60]))
    body = data + checksum(channel, tag, again, props, data)
    method = b"\x00\x3c\x00\x3c\x02ct" + tag.to_bytes(8, "big") + bytes([again]) + b"\x00\x01k"
    frames = [frame(1, channel, method), *_content(random, channel, props, body)]
    call = (channel, tag, again, props, body) if channel in TAPPED else None
    return [*((one, None) for one in frames[:-1]), (frames[-1], call)]


def _content(random: Random, channel: int, props: bytes, body: bytes) -> list[bytes]:
    room = random.choice([5, 16, 200])
    return [
        frame(2, channel, _CONTENT.pack(60, 0, len(body)) + props),
        *(frame(3, channel, body[at : at + room]) for at in range(0, len(body), room)),
    ]


# -- mutating -------------------------------------------------------------------------------


def mutate(random: Random, stream: Stream) -> None:
    """Change one thing, and mark it."""
    if len(stream.data) < 20 or not stream.starts:
        return
    random.choice(MUTATIONS)(random, stream)


def _flip(random: Random, stream: Stream) -> None:
    at = random.randrange(len(stream.data))
    if random.random() < 0.5:  # among the bytes that say what a frame is
        at = min(random.choice(stream.starts) + random.randrange(20), len(stream.data) - 1)
    stream.data[at] ^= 1 << random.randrange(8)
    stream.marks[at] |= CHANGED


def _overwrite(random: Random, stream: Stream) -> None:
    begin, end = _piece(random, stream)
    stream.data[begin:end] = random.randbytes(end - begin)
    _mark(stream, begin, end)


def _lose(random: Random, stream: Stream) -> None:
    begin, end = _piece(random, stream)
    for array in stream.arrays:
        del array[begin:end]
    if begin < len(stream.marks):
        stream.marks[begin] |= GAP


def _truncate(random: Random, stream: Stream) -> None:
    end = random.randrange(len(stream.data))
    for array in stream.arrays:
        del array[end:]


def _double(random: Random, stream: Stream) -> None:
    begin, end = _piece(random, stream)
    at = min(random.choice([end, random.choice(stream.starts)]), len(stream.data))
    for array in stream.arrays:
        array[at:at] = array[begin:end]
    _mark(stream, at, at + end - begin)


def _swap(random: Random, stream: Stream) -> None:
    (a, b), (c, d) = sorted([_piece(random, stream), _piece(random, stream)])
    if b > c:
        return
    for array in stream.arrays:
        array[a:d] = array[c:d] + array[b:c] + array[a:b]
    middle = a + d - c
    _mark(stream, a, middle)
    _mark(stream, middle + c - b, d)
    for at in (a, middle, middle + c - b, d):
        if at < len(stream.marks):
            stream.marks[at] |= GAP


def _lie(random: Random, stream: Stream) -> None:
    """Change the size of a frame, or the size of a body in its header."""
    begin = random.choice(stream.starts)
    at, size = random.choice([(begin + 3, 4), (begin + 11, 8)])
    if at + size > len(stream.data):
        return
    old = int.from_bytes(stream.data[at : at + size], "big")
    few = random.choice([-9, -8, -1, 1, 8, 9, random.randrange(-99, 99)])
    new = random.choice([old + few, old + few, random.getrandbits(8 * size), 0, 2**20])
    stream.data[at : at + size] = (new % (1 << 8 * size)).to_bytes(size, "big")
    _mark(stream, at, at + size)


def _retype(random: Random, stream: Stream) -> None:
    """Make one frame of another kind."""
    at = min(random.choice(stream.starts), len(stream.data) - 1)
    stream.data[at] = random.choice([1, 2, 3, 8])
    _mark(stream, at, at + 1)


MUTATIONS = (_flip, _flip, _retype, _overwrite, _lose, _truncate, _double, _swap, _lie, _lie)


def _piece(random: Random, stream: Stream) -> tuple[int, int]:
    """Choose some whole frames, or any bytes."""
    end = len(stream.data)
    if random.random() < 0.5:
        first = random.randrange(len(stream.starts))
        after = first + random.randrange(1, 4)
        begin = min(stream.starts[first], end)
        return begin, min(stream.starts[after], end) if after < len(stream.starts) else end
    begin = random.randrange(end)
    return begin, min(begin + random.randrange(1, 30), end)


def _mark(stream: Stream, begin: int, end: int) -> None:
    for at in range(begin, end):
        stream.marks[at] |= CHANGED


# -- judging --------------------------------------------------------------------------------


@dataclass
class _Heard:
    """What the demultiplexer's taps are told."""

    delivered: dict[int, list[Arrived]]
    told: dict[int, list[Call]]
    rest: bytes = b""
    is_faulty: bool = False


def feed(data: bytes, random: Random) -> _Heard:
    """Feed a stream in pieces."""
    heard = _Heard({channel: [] for channel in TAPPED}, {channel: [] for channel in TAPPED})
    demux = Demux()
    for channel in TAPPED:
        demux.taps[channel] = _tap(heard, channel)
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice([0, 1, 3, 9])))
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if begin < end:
                heard.rest += demux.feed(data[begin:end])
    except FrameError:
        heard.is_faulty = True
    return heard


def _tap(heard: _Heard, channel: int) -> Tap:
    told = heard.told[channel]

    def on_confirm(*call: object) -> None:
        told.append(call)

    def on_return(it: Returned) -> None:
        told.append((it.code, it.text, it.routing_key, it.props, it.body))

    return Tap(heard.delivered[channel].extend, on_confirm, on_return)


def judge(stream: Stream, heard: _Heard, said: Reading) -> str | None:
    """Say which law a stream broke, or None."""
    if heard.delivered != said.delivered or heard.told != said.told:
        return "the two readers tell of different messages"
    if heard.is_faulty != said.is_faulty:
        return "one reader alone finds a fault"
    if said.rest != heard.rest and not (said.is_faulty and said.rest.startswith(heard.rest)):
        return "other bytes are left to aiormq"
    for channel, arrived in heard.delivered.items():
        for call, spans in zip(arrived, said.spans[channel], strict=True):
            if (channel, *call) in stream.originals:
                continue
            tag, again, props, body = call
            data, seal = body[:-SUM_BYTES], body[-SUM_BYTES:]
            if seal == checksum(channel, tag, again, props, data):
                return f"a delivery that nobody sent has a checksum that holds: {call}"
            if not _is_explained(stream, owner(channel), spans):
                return f"a wrong delivery, of bytes that nobody changed: {call}"
    return _missing(stream, heard)


def _is_explained(stream: Stream, mine: int, spans: Sequence[Span]) -> bool:
    if any(mark & CHANGED for begin, end in spans for mark in stream.marks[begin:end]):
        return True
    hull = range(spans[0][0] + 1, spans[-1][1])
    marks, owners = stream.marks, stream.owners
    return any(marks[at] & GAP or (marks[at] and owners[at] == mine) for at in hull)


def _missing(stream: Stream, heard: _Heard) -> str | None:
    """Look for messages that were complete before anything was changed."""
    intact = next((at for at, mark in enumerate(stream.marks) if mark), len(stream.marks))
    due: dict[int, list[Call]] = {channel: [] for channel in TAPPED}
    for end, (channel, *call) in stream.ended:
        if end <= intact and isinstance(channel, int):
            due[channel].append(tuple(call))
    for channel, calls in due.items():
        if heard.delivered[channel][: len(calls)] != calls:
            return "a delivery is missing that came before any fault"
    return None


def run(frames: int, seed: int) -> tuple[Counter[str], str | None]:
    """Judge streams until so many frames were read; return counts, and the first fault."""
    counts: Counter[str] = Counter()
    number = 0
    while counts["frames read"] < frames:
        number += 1
        random = Random(f"{seed}/{number}")  # noqa: S311 - repeatable, not secret
        stream = generate(random)
        for _ in range(random.choice([0, 1, 1, 1, 2, 3])):
            mutate(random, stream)
        data = bytes(stream.data)
        said = Reader(TAPPED).read(data)
        heard = feed(data, random)
        fault = judge(stream, heard, said)
        counts["streams"] += 1
        counts["frames read"] += said.frames
        counts["streams with a frame error"] += heard.is_faulty
        for channel, arrived in heard.delivered.items():
            true = sum((channel, *call) in stream.originals for call in arrived)
            counts["deliveries as they were sent"] += true
            counts["deliveries with changed bytes of their own"] += len(arrived) - true
        if fault is not None:
            return counts, f"stream {seed}/{number}: {fault}"
    return counts, None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Feed faults to the demultiplexer.")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    began_s = time.perf_counter()
    counts, fault = run(options.frames, options.seed)
    took_s = time.perf_counter() - began_s
    print(f"seed {options.seed}")  # noqa: T201 - what it is for
    for name, count in counts.items():
        print(f"{count:>12,} {name}")  # noqa: T201 - likewise
    print(f"{took_s:>12.1f} s, {counts['frames read'] / took_s:,.0f} frames/s")  # noqa: T201 - likewise
    print(fault or "never a wrong delivery")  # noqa: T201 - likewise
    return 0 if fault is None else 1


if __name__ == "__main__":
    sys.exit(main())
