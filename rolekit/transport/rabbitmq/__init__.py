"""RabbitMQ: aio-pika for connection, handshake and topology; own bytes on the hot path.

    transport    the contract, on two connections
    connection   one connection that comes back by itself
    demux        takes what is ours from the stream
    consumer     a channel for each queue; acks told in the fewest frames (acks)
    publisher    whole batches in one write, confirmed by counting (batch)
    watchdog     lets a consumer begin anew that died without a word
    topology     which queues there are, as data; what is wrong with them (lint)
    plan         how the broker's differ; making them anew (migrate, move, detour)
    access       what the user may do, and which grant lacks
    wire         a packet as bytes, and back
    seam, plain  where the demultiplexer goes into aiormq; and how to do without it

A message's way in: socket -> demux -> consumer -> flow. Its way out: flow -> publisher ->
wire -> socket.

    channel of a queue:  none -> open -> consuming <-> paused -> lost -> none …
    batch to publish:    waiting -> in flight -> stored | returned | refused | unknown
"""

from __future__ import annotations

from rolekit.transport.rabbitmq.transport import RabbitTransport

__all__ = ["RabbitTransport"]
