"""The laws of heads: what can be written can be read, and nothing else does harm."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.errors import CodecError
from rolekit.model.envelope import (
    MAX_HEAD_BYTES,
    Attempts,
    Head,
    Kind,
    decode_head,
    encode_head,
)
from rolekit.model.position import MAX_DEPTH, Frame, pack

pytestmark = pytest.mark.timeout(60)

NUMBERS = st.integers(0, 2**63 - 1)
TEXT = st.text(max_size=4)
PATHS = st.lists(st.integers(0, 2**32 - 2), max_size=4).map(tuple)
FRAMES = st.lists(st.builds(Frame, st.just("5e" * 16), TEXT, PATHS), max_size=3)
HEADS = st.builds(
    Head,
    kind=st.sampled_from(Kind),
    type=TEXT,
    type_version=NUMBERS,
    codec=st.sampled_from(["json", "msgpack"]),
    root=TEXT,
    sent_at_ms=NUMBERS,
    frames=FRAMES.map(tuple),
    sequence=TEXT,
    attempts=st.builds(Attempts, NUMBERS, NUMBERS, NUMBERS),
    headers=st.dictionaries(TEXT, TEXT, max_size=3),
    reply_to=TEXT,
)


@given(HEADS)
def test_a_head_comes_back_as_it_was(head: Head) -> None:
    assert decode_head(encode_head(head)) == head


@given(st.binary(max_size=128))
def test_bytes_that_are_no_head_are_refused_in_one_way(data: bytes) -> None:
    check_reading(data)


@given(HEADS, st.data())
def test_a_head_with_bytes_changed_on_the_way_is_read_or_refused(
    head: Head, data: st.DataObject
) -> None:
    good = encode_head(head)
    at = data.draw(st.integers(0, len(good) - 1))
    new = data.draw(st.binary(max_size=3))
    length = data.draw(st.integers(0, 3))

    check_reading(good[:at] + new + good[at + length :])


def check_reading(data: bytes) -> None:
    """Whatever is read can be used and written again; whatever is not is a `CodecError`."""
    try:
        head = decode_head(data)
    except CodecError:
        return
    for frame in head.frames:
        pack(frame.path)
    assert decode_head(encode_head(head)) == head


@pytest.mark.parametrize("index", [-(2**63), -1, 2**32 - 1, 2**32, 2**63])
def test_a_position_that_cannot_be_packed_is_not_read(index: int) -> None:
    head = msgspec.msgpack.encode(Head(frames=(Frame("5e" * 16, "g", (0, index)),)))

    with pytest.raises(CodecError):
        decode_head(head)


def test_the_last_position_that_can_be_packed_is_read() -> None:
    head = Head(frames=(Frame("5e" * 16, "g", (2**32 - 2,)),))

    assert decode_head(encode_head(head)) == head


@given(
    st.integers(MAX_DEPTH - 2, MAX_DEPTH + 2),
    st.integers(MAX_DEPTH - 2, MAX_DEPTH + 2),
)
def test_what_is_nested_too_deep_to_be_read_is_not_written(frames: int, depth: int) -> None:
    deep = Frame("5e" * 16, "g", (0,) * depth)
    head = Head(frames=(deep,) * frames)

    if max(frames, depth) <= MAX_DEPTH:
        assert decode_head(encode_head(head)) == head
    else:
        with pytest.raises(CodecError):
            encode_head(head)
        with pytest.raises(CodecError):
            decode_head(msgspec.msgpack.encode(head))


@given(st.integers(MAX_HEAD_BYTES - 60, MAX_HEAD_BYTES + 60))
def test_a_head_too_large_to_be_read_is_not_written(size: int) -> None:
    head = Head(headers={"k": "v" * size})
    plain = msgspec.msgpack.encode(head)

    if len(plain) <= MAX_HEAD_BYTES:
        assert decode_head(encode_head(head)) == head
    else:
        with pytest.raises(CodecError, match=str(MAX_HEAD_BYTES)):
            encode_head(head)
        with pytest.raises(CodecError, match=str(MAX_HEAD_BYTES)):
            decode_head(plain)
