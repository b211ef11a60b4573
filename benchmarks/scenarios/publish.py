"""Publishing, confirmed: a list, and 200 at once; on classic and on quorum queues."""

from __future__ import annotations

from benchmarks.contest import OWN, C, Contender, Scenario
from benchmarks.figures import Bar


def _contenders(kind: str) -> tuple[Contender, ...]:
    def one(name: str, program: str, case: str, count: int, window: int = 200) -> Contender:
        return Contender(
            name=f"{name}, {kind}",
            program=program,
            case=case,
            count=count,
            window=window,
            queue_type=kind,
        )

    return (
        one("rolekit list", OWN, "publish-list", 20_000),
        one("rolekit 200 at once", OWN, "publish", 15_000),
        one("C", C, "publish", 20_000, 1000),
        one("aio-pika", "raw_aio_pika", "publish", 5000),
        one("FastStream", "faststream_peer", "publish", 4000),
    )


def _bars(kind: str) -> tuple[Bar, ...]:
    listed, sent = f"rolekit list, {kind}", f"rolekit 200 at once, {kind}"

    def bar(what: str, of: str, against: str, at_least: float) -> Bar:
        name = f"publish {kind} {what}/{against}"
        return Bar(name=name, of=of, against=f"{against}, {kind}", at_least=at_least)

    return (
        bar("list", listed, "C", 0.8),
        bar("200", sent, "C", 0.65),
        bar("200", sent, "aio-pika", 2.5),
        bar("200", sent, "FastStream", 3),
    )


OPTIONAL = Contender(
    name="C, not mandatory, classic",
    program=C,
    case="publish-optional",
    count=20_000,
    window=1000,
    queue_type="classic",
)
"""Without a bar: it is told nothing of a queue that is missing, as all others are but Celery.

It says what the flag costs: a classic queue of RabbitMQ 3.10 answers for each such message.
"""

OTHERS = tuple(
    Contender(
        name=f"{name}, classic",
        program=program,
        case="publish",
        count=count,
        queue_type="classic",
        once=True,
    )
    for name, program, count in (
        ("aiormq", "raw_aiormq", 5000),
        ("Taskiq", "taskiq_peer", 4000),
        ("Dramatiq", "dramatiq_peer", 1000),
        ("Celery", "celery_peer", 600),
    )
)
"""Without a bar: the last two send one after another, having no other way."""

ON_POSTGRES = Contender(
    name="rolekit 200 at once, on Postgres",
    program=OWN,
    case="publish",
    count=8000,
    transport="postgres",
    once=True,
)

PUBLISH = Scenario(
    name="publish",
    title="Publish 256 bytes, persistent and confirmed",
    contenders=(
        *_contenders("classic"),
        *_contenders("quorum"),
        OPTIONAL,
        *OTHERS,
        ON_POSTGRES,
    ),
    bars=(*_bars("classic"), *_bars("quorum")),
    budget_s=105,
)
