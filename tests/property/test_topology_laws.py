"""The laws of queues as data: none that rolekit makes loses messages, each danger is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolekit.errors import ConfigError
from rolekit.transport.base import DEAD_QUEUE
from rolekit.transport.rabbitmq.lint import lint, refuse_dangers
from rolekit.transport.rabbitmq.topology import Difference, Names, Queue, QueueType, difference

few = settings(max_examples=40)
LETTERS = "aZ9_-"


def _made(app: str, kind: QueueType, name: str) -> Queue:
    return Names(app, kind).queue(name)


kinds: st.SearchStrategy[QueueType] = st.sampled_from(["quorum", "classic"])
handlers = st.text(LETTERS + ".", min_size=1, max_size=20)
names = handlers | st.just(DEAD_QUEUE) | handlers.map("~reply.{}".format)
queues = st.builds(_made, st.text(LETTERS, min_size=1, max_size=9), kinds, names)
lasting = queues.filter(lambda queue: queue.kind != "reply")
quorum = lasting.filter(lambda queue: queue.arguments["x-queue-type"] == "quorum")
numbers = st.integers(1, 10**9)


def planted(queue: Queue, **arguments: object) -> Queue:
    """Give a queue other arguments; None takes one away."""
    mixed = dict(queue.arguments)
    mixed.update({f"x-{name.replace('_', '-')}": it for name, it in arguments.items()})
    return replace(queue, arguments={k: v for k, v in mixed.items() if v is not None})


@few
@given(queues)
def test_no_queue_that_rolekit_makes_loses_messages(queue: Queue) -> None:
    assert lint(queue) == []
    refuse_dangers([queue])


@few
@given(lasting, st.sampled_from(["message-ttl", "expires"]), numbers)
def test_whatever_makes_messages_expire_is_named(queue: Queue, name: str, value: int) -> None:
    found = lint(planted(queue, **{name: value}))

    assert [one for one in found if one.startswith(f"x-{name} is {value}")]


@few
@given(lasting, st.sampled_from(["max-length", "max-length-bytes"]), numbers)
def test_a_length_is_named_where_it_drops_and_not_where_it_refuses(
    queue: Queue, name: str, value: int
) -> None:
    dropping = lint(planted(queue, overflow="drop-head", **{name: value}))
    silent = lint(planted(queue, overflow=None, **{name: value}))
    refusing = lint(planted(queue, overflow="reject-publish", **{name: value}))

    for found in (dropping, silent):
        assert [one for one in found if one.startswith(f"x-{name} is {value}")]
    assert refusing == []


@few
@given(queues, st.sampled_from(["durable", "auto_delete", "exclusive"]))
def test_a_queue_that_goes_by_itself_is_named(queue: Queue, flag: str) -> None:
    there = {
        "durable": replace(queue, durable=False),
        "auto_delete": replace(queue, auto_delete=True),
        "exclusive": replace(queue, exclusive=True),
    }

    assert [one for one in lint(there[flag]) if one.startswith(f"{flag} is ")]


@few
@given(lasting)
def test_a_stream_is_named(queue: Queue) -> None:
    assert "x-queue-type is stream" in lint(planted(queue, queue_type="stream"))[0]


@few
@given(quorum, st.sampled_from([None, 0, -1, 20, True, "100"]))
def test_a_quorum_queue_without_a_high_delivery_limit_is_named(
    queue: Queue, limit: object
) -> None:
    found = lint(planted(queue, delivery_limit=limit))

    assert [one for one in found if one.startswith("x-delivery-limit is ")]


@few
@given(
    quorum.filter(lambda queue: queue.kind == "handler"),
    st.sampled_from([
        ("dead-letter-exchange", None), ("dead-letter-routing-key", None),
        ("dead-letter-strategy", None), ("dead-letter-strategy", "at-most-once"),
        ("overflow", None), ("overflow", "drop-head"),
    ]),
)  # fmt: skip
def test_a_quorum_queue_that_may_lose_its_dead_letters_is_named(
    queue: Queue, fault: tuple[str, str | None]
) -> None:
    name, value = fault

    found = lint(planted(queue, **{name: value}))

    assert [one for one in found if one.startswith(f"x-{name} is ")]


def test_a_dangerous_queue_is_refused_with_all_that_is_wrong() -> None:
    queue = planted(Names("mail").queue("Work.work"), message_ttl=5, delivery_limit=None)

    with pytest.raises(ConfigError) as caught:
        refuse_dangers([queue])

    assert "mail.Work.work would lose messages" in caught.value.what
    assert "x-message-ttl is 5" in caught.value.what
    assert "x-delivery-limit is not set" in caught.value.what


values = st.none() | st.text(st.characters(exclude_characters="'"), max_size=20)


@few
@given(st.sampled_from(["x-max-length", "durable"]), values, values, st.booleans())
def test_what_the_broker_says_of_a_difference_is_read_back(
    name: str,
    wanted: str | None,
    there: str | None,
    is_long: bool,  # noqa: FBT001 - hypothesis draws it
) -> None:
    def worded(value: str | None) -> str:
        if value is None:
            return "none"
        return f"the value '{value}' of type 'longstr'" if is_long else f"'{value}'"

    said = (
        f"PRECONDITION_FAILED - inequivalent arg '{name}' for queue 'a.b' in vhost '/': "
        f"received {worded(wanted)} but current is {worded(there)}"
    )

    kind = "longstr" if is_long and there is not None else ""
    assert difference(said) == Difference(name, there, wanted, kind)


@few
@given(st.text(max_size=80))
def test_any_other_sentence_of_the_broker_is_no_difference(said: str) -> None:
    assert difference(said) is None


@pytest.mark.parametrize(
    ("there", "wanted", "sentence"),
    [
        (None, "quorum", "x-queue-type is not set (classic), quorum is wanted"),
        ("classic", "quorum", "x-queue-type is classic, quorum is wanted"),
        ("quorum", None, "x-queue-type is quorum, nothing is wanted"),
    ],
)
def test_a_difference_reads_as_a_person_says_it(
    there: str | None, wanted: str | None, sentence: str
) -> None:
    assert str(Difference("x-queue-type", there, wanted)) == sentence
