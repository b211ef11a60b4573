"""Latency at 200 messages/s, each sent when it is due however the others fare."""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import Bar

RATE = 200
COUNT = 800


def _one(name: str, program: str, case: str) -> Contender:
    return Contender(name=name, program=program, case=case, count=COUNT, quick=60, rate=RATE)


def _bars(what: str, of: str, against: str) -> tuple[Bar, ...]:
    return tuple(
        Bar(
            name=f"latency {what} {share}/aio-pika",
            of=of,
            metric=share,
            against=against,
            at_most=1,
        )
        for share in ("p50", "p99")
    )


LATENCY = Scenario(
    name="latency",
    title="Age of messages at 200/s: two stages; question and answer over HTTP",
    contenders=(
        _one("rolekit", OWN, "latency"),
        _one("aio-pika", "raw_aio_pika", "latency"),
        _one("FastStream", "faststream_peer", "latency"),
        _one("Taskiq", "taskiq_peer", "latency"),
        _one("rolekit, answers", OWN, "ask"),
        _one("aio-pika, answers", "raw_front", "ask"),
    ),
    bars=(
        *_bars("two stages", "rolekit", "aio-pika"),
        *_bars("answers", "rolekit, answers", "aio-pika, answers"),
    ),
    budget_s=155,
)
