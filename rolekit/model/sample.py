"""Numbers about a running app, as they travel from instances to whoever reads them.

Names are OpenTelemetry's: those of its messaging conventions, and rolekit's own.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Bounds of durations: OpenTelemetry's advice, with two below and one above."""
COUNTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)

Kind = Literal["counter", "gauge", "histogram"]


class Metric(msgspec.Struct, frozen=True):
    """What a number is.

    Attributes:
        kind: A counter never falls, unless its process begins anew.
        unit: As UCUM writes it.
        help: In words.
        bounds: Of a histogram; the last bucket is for what is beyond.
    """

    kind: Kind
    unit: str
    help: str
    bounds: tuple[float, ...] = ()


METRICS: dict[str, Metric] = {
    "messaging.process.duration": Metric("histogram", "s", "How long a handler took.", SECONDS),
    "messaging.client.operation.duration": Metric(
        "histogram", "s", "How long a commit or a send took.", SECONDS
    ),
    "messaging.client.sent.messages": Metric(
        "counter", "{message}", "Messages that were sent."
    ),
    "messaging.client.consumed.messages": Metric(
        "counter", "{message}", "Messages that came to an instance, each time they did."
    ),
    "rolekit.queue.wait": Metric(
        "histogram",
        "s",
        "From when a message was sent or due to its handler; what a direct step passes on "
        "counts from the first.",
        SECONDS,
    ),
    "rolekit.outcomes": Metric(
        "counter",
        "{message}",
        "What messages came to: done, retry, dead, repeat (it had its outcome), returned (to "
        "its queue), aside (behind one that holds its key).",
    ),
    "rolekit.unaccounted": Metric(
        "gauge",
        "{message}",
        "Messages that came, came to nothing and are not in hand: 0 at rest.",
    ),
    "rolekit.commit.steps": Metric("histogram", "{step}", "Steps of one commit.", COUNTS),
    "rolekit.inbox.conflicts": Metric(
        "counter", "{step}", "Steps whose message had its outcome already."
    ),
    "rolekit.in_hand": Metric("gauge", "{message}", "Messages taken and not settled."),
    "rolekit.waiting": Metric("gauge", "{message}", "Messages nobody holds."),
    "rolekit.oldest.age": Metric("gauge", "s", "Age of the oldest message that waits."),
    "rolekit.dead_letters": Metric("gauge", "{message}", "Dead letters that are open."),
    "rolekit.instances": Metric("gauge", "{instance}", "Instances, by state."),
    "rolekit.restarts": Metric("counter", "{instance}", "Instances that were started again."),
    "rolekit.loop.lag": Metric(
        "gauge", "s", "How late event loops run their timers; the worst."
    ),
    "rolekit.pool.connections": Metric(
        "gauge", "{connection}", "Connections to the database, by state."
    ),
    "rolekit.broker.reconnects": Metric(
        "counter", "{connection}", "Connections to RabbitMQ that were lost."
    ),
    "rolekit.broker.frame_faults": Metric(
        "counter",
        "{connection}",
        "Connections that were closed because what came on them made no sense.",
    ),
    "rolekit.broker.blocked": Metric(
        "gauge", "{connection}", "Connections on which RabbitMQ takes nothing for now."
    ),
    "rolekit.broker.healed": Metric(
        "counter", "{consumer}", "Consumers that were dead without a word, and began anew."
    ),
    "rolekit.broker.stale_acks": Metric(
        "counter", "{ack}", "Acks that came after their channel was lost: a repeat follows."
    ),
    "rolekit.broker.unknown": Metric(
        "counter", "{message}", "Messages that were published and not confirmed in time."
    ),
    "rolekit.broker.returned": Metric(
        "counter", "{message}", "Messages that RabbitMQ returned, for lack of their queue."
    ),
    "rolekit.sequences.holes": Metric(
        "gauge",
        "{sequence}",
        "Sequences in flight: each waits for a position. Counted up to 10,000.",
    ),
    "rolekit.sequences.hole.age": Metric(
        "gauge", "s", "How long the sequence that stands still longest has."
    ),
    "rolekit.events.dropped": Metric(
        "counter", "{event}", "Events that were dropped, since their observers were slow."
    ),
    "rolekit.spans.dropped": Metric(
        "counter", "{span}", "Spans that were neither kept nor sent."
    ),
    "rolekit.traces.cut": Metric(
        "counter",
        "{trace}",
        "Traces kept after all, of whose earlier stages nobody remembered the last one.",
    ),
}


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One number.

    Attributes:
        name: One of `METRICS`.
        labels: Names and values, in order of names.
        value: Of a counter or gauge; of a histogram, the sum.
        counts: Of a histogram: how many in each bucket, none in more than one.
    """

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    value: float = 0.0
    counts: tuple[int, ...] = ()

    def plus(self, other: Sample) -> Sample:
        """Add another one of the same name and labels."""
        counts = self.counts or (0,) * len(other.counts)
        added = zip(counts, other.counts or (0,) * len(counts), strict=True)
        return Sample(
            self.name, self.labels, self.value + other.value, tuple(a + b for a, b in added)
        )


def added_up(*parts: tuple[Sample, ...]) -> list[Sample]:
    """Add up samples of the same name and labels, in order of both."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Sample] = {}
    for sample in (one for part in parts for one in part):
        key = (sample.name, sample.labels)
        found[key] = sample if key not in found else found[key].plus(sample)
    return [found[key] for key in sorted(found)]


def prometheus(samples: list[Sample], labels: dict[str, str]) -> str:
    """Write samples in the text format of Prometheus.

    Args:
        samples: In order of names.
        labels: Added to each.

    Source: prometheus.io, exposition formats, "Text-based format".
    """
    lines: list[str] = []
    last = ""
    for sample in samples:
        metric = METRICS[sample.name]
        name = _prometheus_name(sample.name, metric)
        if sample.name != last:
            lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
            last = sample.name
        pairs = [*labels.items(), *sample.labels]
        if metric.kind != "histogram":
            lines.append(f"{name}{_labels(pairs)} {sample.value:.10g}")
            continue
        total = 0
        for bound, count in zip((*metric.bounds, None), sample.counts, strict=True):
            total += count
            le = "+Inf" if bound is None else f"{bound:g}"
            lines.append(f"{name}_bucket{_labels([*pairs, ('le', le)])} {total}")
        lines.append(f"{name}_sum{_labels(pairs)} {sample.value:.10g}")
        lines.append(f"{name}_count{_labels(pairs)} {total}")
    return "\n".join(lines) + "\n"


def _prometheus_name(name: str, metric: Metric) -> str:
    plain = name.replace(".", "_")
    if metric.unit == "s":
        plain += "_seconds"
    return f"{plain}_total" if metric.kind == "counter" else plain


def _labels(pairs: list[tuple[str, str]]) -> str:
    return (
        "{" + ",".join(f'{name.replace(".", "_")}="{_escaped(v)}"' for name, v in pairs) + "}"
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
