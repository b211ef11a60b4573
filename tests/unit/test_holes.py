"""Why a sequence does not go on, from what a store tells."""

from __future__ import annotations

import pytest

from rolekit.flow.holes import explain
from rolekit.model.envelope import Attempts, Head, Kind
from rolekit.model.position import ROW, Frame
from rolekit.model.reassembly import ClosedBy, Closing, Cursor
from rolekit.store.flights import Flight, Held, Where

ONE, TWO, MESSAGE = "1" * 32, "2" * 32, "a" * 32
NOW_MS = 1_000_000


def flight(**fields: object) -> Flight:
    given: dict[str, object] = {
        "id": ONE,
        "gather": "R.report",
        "token": Head(),
        "source": Head(type="Compose"),
        "source_id": MESSAGE,
        "cursor": Cursor((3,), (9,)),
        "moved_ms": NOW_MS - 41_000,
        "released": 3,
        "is_ready": False,
        "is_expired": False,
        "waits": True,
        "deadline_ms": NOW_MS + 60_000,
        **fields,
    }
    return Flight(**given)  # type: ignore[arg-type]


def held(where: Where, *path: int, failures: int = 0) -> Held:
    head = Head(frames=(Frame(ONE, "R.report", path),), attempts=Attempts(failures=failures))
    return Held(where=where, queue="W.work", head=head, id=MESSAGE, generation=0)


@pytest.mark.parametrize(
    ("where", "failures", "said"),
    [
        ("queue", 0, "waits in the queue of W.work"),
        ("queue", 2, "waits in the queue of W.work, attempt 3"),
        ("hand", 0, "W.work has it in hand"),
        ("hand", 1, "W.work has it in hand, attempt 2"),
        ("outbox", 0, "on its way to W.work"),
        ("behind", 0, "waits behind another message of its key for W.work"),
    ],
)
def test_who_has_the_message_is_said(where: Where, failures: int, said: str) -> None:
    (line,) = explain([flight()], [held(where, 3, failures=failures)], NOW_MS)

    assert (line.why, line.where, line.handler) == (said, where, "W.work")
    assert (line.blocked_at, line.total, line.since_s) == ("3", 9, 41)


def test_of_a_message_and_what_it_came_from_the_nearer_one_is_said() -> None:
    at = flight(cursor=Cursor((3, 1), (9, None)))

    (line,) = explain([at], [held("queue", 3), held("hand", 3, 1)], NOW_MS)
    (above,) = explain([at], [held("queue", 3), held("hand", 4)], NOW_MS)

    assert (line.where, line.blocked_at) == ("hand", "3.1")
    assert above.where == "queue"


def test_what_stands_elsewhere_holds_nothing_up() -> None:
    (line,) = explain([flight()], [held("hand", 4), held("hand", 3, 0)], NOW_MS)

    assert line.why == "not there yet: in a queue of the broker, or in hand"


def test_a_split_that_goes_on_is_named_where_it_has_not_come_so_far() -> None:
    source = Held(where="hand", queue="S.split", head=Head(), id=MESSAGE, generation=0)
    goes_on = flight(cursor=Cursor((3,), (None,)))

    (line,) = explain([goes_on], [source], NOW_MS)
    (whole,) = explain([flight()], [source], NOW_MS)

    assert line.why == "S.split has it in hand"
    assert whole.why.startswith("not there yet")


def test_a_sequence_within_is_named() -> None:
    token = Head(kind=Kind.RELEASE, sequence=TWO, frames=(Frame(ONE, "R.report", (3,)),))
    inner = flight(id=TWO, gather="P.page", token=token)

    outer, _ = explain([flight(), inner], [], NOW_MS)

    assert outer.why == f"waits for sequence {TWO} of P.page, which is within"


def test_what_is_there_waits_for_its_gather() -> None:
    there = Closing(sequence=ONE, path=(3,), by=ClosedBy.PART)

    (ready,) = explain([flight(is_ready=True, next=there)], [], NOW_MS)

    assert ready.why == "there; R.report is about to take it"


def test_a_dead_letter_that_was_stored_is_named() -> None:
    dead = Closing(sequence=ONE, path=(3,), by=ClosedBy.FAILED, detail="no", dead_letter="d-1")

    (line,) = explain([flight(next=dead)], [], NOW_MS)

    assert line.why == "dead letter d-1: no"


def test_a_deadline_is_told_where_there_is_one() -> None:
    one, other = explain([flight(), flight(waits=False)], [], NOW_MS)

    assert (one.deadline_in_s, other.deadline_in_s) == (None, 60)


def test_a_stream_that_has_all_says_so_and_counts_its_positions() -> None:
    at = flight(stream="ticks", tail=ROW + 5, cursor=Cursor((1, 5), (None, ROW)))

    (line,) = explain([at], [], NOW_MS)
    (behind,) = explain(
        [flight(stream="ticks", tail=9, cursor=Cursor((0, 4), (None, ROW)))], [], 0
    )

    assert (line.of, line.source_id, line.blocked_at) == ("ticks", "", str(ROW + 5))
    assert line.why == "everything that was sent has been taken"
    assert (behind.blocked_at, behind.since_s) == ("4", 0)
