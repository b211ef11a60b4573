"""The laws of cutting a stream of bytes into frames."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from rolekit.testing.frames import (
    BODY,
    HEADER,
    HEARTBEAT,
    NAMES,
    PROTOCOL,
    PROTOCOL_HEADER,
    Frame,
    Splitter,
    method,
)

CHANNELS = st.integers(0, 2**16 - 1)
PAYLOADS = st.binary(max_size=20)
FRAMES = st.one_of(
    st.builds(Frame, st.sampled_from([HEADER, BODY, HEARTBEAT]), CHANNELS, PAYLOADS),
    st.builds(method, st.sampled_from(sorted(NAMES.values())), PAYLOADS, CHANNELS),
    st.just(Frame(PROTOCOL, 0, PROTOCOL_HEADER)),
)
CUTS = st.lists(st.integers(0, 400)).map(sorted)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(FRAMES), CUTS)
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    frames: list[Frame], cuts: list[int]
) -> None:
    splitter = Splitter()
    data = b"".join(frame.encode() for frame in frames)

    found = [each for piece in pieces(data, cuts) for each in splitter.feed(piece)]

    assert [frame for _, frame in found] == frames
    assert [raw for raw, _ in found] == [frame.encode() for frame in frames]
    assert splitter.rest() == b""


@given(st.lists(FRAMES), PAYLOADS, st.lists(FRAMES), CUTS)
def test_no_byte_is_lost_or_changed_whatever_comes(
    frames: list[Frame], garbage: bytes, more: list[Frame], cuts: list[int]
) -> None:
    splitter = Splitter()
    parts = [frame.encode() for frame in frames], [frame.encode() for frame in more]
    data = b"".join(parts[0]) + garbage + b"".join(parts[1])

    found = [raw for piece in pieces(data, cuts) for raw, _ in splitter.feed(piece)]

    assert b"".join(found) + splitter.rest() == data
