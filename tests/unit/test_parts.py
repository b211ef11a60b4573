"""Runs, batches, holes and dead letters."""

from __future__ import annotations

import pytest

from rolekit import Batch, DeadLetter, Hole, Run


def test_a_run_is_an_immutable_sequence_of_its_parts() -> None:
    run = Run(["a", "b", "c"], id="r", source_id="s", offset=4, is_last=True, dropped=2)

    assert list(run) == ["a", "b", "c"]
    assert (run[1], list(run[1:]), len(run)) == ("b", ["b", "c"], 3)
    assert (run.id, run.source_id, run.offset, run.is_last, run.dropped) == (
        "r",
        "s",
        4,
        True,
        2,
    )
    assert not hasattr(run, "append")


def test_an_empty_run_is_falsy_and_can_be_the_last() -> None:
    run: Run[str] = Run([], is_last=True)

    assert not run
    assert run.is_last


def test_a_batch_remembers_what_its_handler_decided() -> None:
    batch = Batch(["a", "b", "c"], ids=["1", "2", "3"])

    batch.retry(0, delay_s=5)
    batch.reject(2, "bad")

    assert batch.retries == {0: 5}
    assert batch.rejections == {2: "bad"}


@pytest.mark.parametrize("index", [-1, 2])
def test_a_batch_refuses_an_item_it_does_not_have(index: int) -> None:
    batch = Batch(["a", "b"])

    with pytest.raises(IndexError, match=f"has 2 items.*no item {index}"):
        batch.reject(index, "bad")


def test_a_hole_says_why() -> None:
    hole = Hole(reason="dead-letter", detail="no such reader", dead_letter_id="d1")

    assert (hole.reason, hole.detail, hole.dead_letter_id) == (
        "dead-letter",
        "no such reader",
        "d1",
    )


def test_a_dead_letter_keeps_its_message() -> None:
    letter = DeadLetter("hello", id="d1", handler="Bank.debit", reason="gone", attempts=3)

    assert (letter.message, letter.handler, letter.attempts) == ("hello", "Bank.debit", 3)
