"""Which deliveries of a channel are settled, and the fewest frames that say so.

`multiple` acks everything up to a tag, so it may only go as far as every delivery before it
is finished; past an unfinished one it would ack work that was not committed. What finished
beyond a slow one is acked singly, a moment later, so that the slow one holds up no other.

Source: RELIABILITY H11; PERFORMANCE 3.3.
"""

from __future__ import annotations

from rolekit.transport.rabbitmq import wire


class Acks:
    """The settled deliveries of one channel, whose tags count from 1.

    A delivery is settled once: what comes for it after that is ignored, since the broker
    closes the channel for a tag that it does not wait for.

    Args:
        channel: Its number on the wire.
    """

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._base = 0
        self._done: set[int] = set()
        self._told: set[int] = set()

    @property
    def beyond_gap(self) -> int:
        """How many finished behind something that did not, and were not told."""
        return len(self._done)

    def is_open(self, tag: int) -> bool:
        """Whether a delivery is not settled."""
        return tag > self._base and tag not in self._told and tag not in self._done

    def ack(self, tag: int) -> None:
        """Note that a delivery is finished."""
        if tag > self._base and tag not in self._told:
            self._done.add(tag)

    def requeue(self, tag: int) -> bytes:
        """Note that a delivery is given back; return the frame that does it, or nothing."""
        if not self.is_open(tag):
            return b""
        self._told.add(tag)
        return wire.requeue_frame(self._channel, tag)

    def prefix(self) -> bytes:
        """Return the frame that acks all that is finished without a gap, or nothing."""
        base, done, told, last = self._base, self._done, self._told, 0
        while True:
            following = base + 1
            if following in done:
                done.discard(following)
                last = following
            elif following in told:
                told.discard(following)
            else:
                break
            base = following
        # The tag must be one that the broker still waits for, or it closes the channel.
        single = last == self._base + 1
        self._base = base
        return wire.ack_frame(self._channel, last, multiple=not single) if last else b""

    def rest(self) -> bytes:
        """Return the frames that ack, one by one, what finished beyond a gap."""
        frames = [wire.ack_frame(self._channel, tag, multiple=False) for tag in self._done]
        self._told |= self._done
        self._done.clear()
        return b"".join(frames)
