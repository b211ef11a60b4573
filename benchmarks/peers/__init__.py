"""One file a peer: `python -m benchmarks.peers.NAME` does the job of its environment.

Every peer runs with durable queues, persistent messages, publisher confirms, and acks after
the work; beyond that as its own documentation advises for speed.
"""
