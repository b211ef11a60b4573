"""The checker sees each way in which mail can go wrong."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from examples.mailflow.checker import Expected, Findings, check, count_closed
from tests.examples.database import Tables, tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

RAW = b"Subject: x\r\n\r\n"
RCPTS = ("a@mail.example", "b@mail.example", "nobody@mail.example")
SENT = Expected(
    sha256=hashlib.sha256(RAW).hexdigest(),
    recipients=RCPTS,
    owners=("a@mail.example", "b@mail.example", None),
    mail_id="m1",
)


@pytest.fixture
async def found(rolekit_database: str) -> AsyncIterator[Tables]:
    async with tables(rolekit_database) as database:
        await database.letter(RAW, mail_id="m1", copies=3)
        yield database


async def deliver(database: Tables, *numbers: int) -> None:
    for number in numbers:
        await database.row(RCPTS[number], number, mail_id="m1")


async def report(database: Tables, *numbers: int) -> None:
    for number in numbers:
        outcome = "bounced" if number == 2 else "delivered"
        await database.line(number, RCPTS[number], mail_id="m1", outcome=outcome)


def sums(findings: Findings) -> tuple[int, int, int, int]:
    return findings.delivered, findings.lost, findings.duplicates, findings.out_of_order


async def test_a_whole_delivery_is_clean(found: Tables) -> None:
    await deliver(found, 1, 0)
    await report(found, 0, 1, 2)

    findings = await check(found.connection, [SENT])

    assert findings.is_clean
    assert (findings.mails, findings.copies, findings.bounced) == (1, 3, 1)
    assert sums(findings) == (2, 0, 0, 0)
    assert await count_closed(found.connection, [SENT]) == 3


async def test_the_last_line_is_as_it_was_agreed() -> None:
    findings = Findings(mails=2, copies=5, delivered=4, waits_ms=[10.4, 20, 30, 99.6])

    assert findings.last_line() == (
        "mailflow: 2 mails, 5 copies, delivered 4, lost 0, duplicates 0, out of order 0,"
        " p50 20 ms, p99 100 ms"
    )


async def test_waits_are_from_accepted_to_delivered(found: Tables) -> None:
    await deliver(found, 0, 1)
    await report(found, 0, 1, 2)

    findings = await check(found.connection, [SENT])

    assert 250 <= findings.quantile_ms(0.5) < 2000


async def test_a_copy_without_a_row_is_lost_even_if_the_report_says_delivered(
    found: Tables,
) -> None:
    await deliver(found, 0)
    await report(found, 0, 1, 2)

    findings = await check(found.connection, [SENT])

    assert sums(findings) == (1, 1, 0, 0)
    assert not findings.is_clean


async def test_a_copy_without_a_line_is_lost_even_if_it_has_a_row(found: Tables) -> None:
    await deliver(found, 0, 1)
    await report(found, 0)

    findings = await check(found.connection, [SENT])

    assert sums(findings) == (1, 2, 0, 0)


async def test_a_copy_that_bounced_and_should_not_is_lost(found: Tables) -> None:
    await deliver(found, 0)
    await report(found, 0)
    await found.line(1, RCPTS[1], mail_id="m1", outcome="bounced")
    await report(found, 2)

    assert sums(await check(found.connection, [SENT])) == (1, 1, 0, 0)


async def test_a_second_row_is_a_duplicate(found: Tables) -> None:
    await deliver(found, 0, 1, 1)
    await report(found, 0, 1, 2)

    findings = await check(found.connection, [SENT])

    assert sums(findings) == (2, 0, 1, 0)
    assert not findings.is_clean


async def test_a_mail_that_was_split_twice_is_seen_under_its_other_id(found: Tables) -> None:
    await deliver(found, 0, 1)
    await report(found, 0, 1, 2)
    await found.connection.execute(
        "insert into mail.sent values ('m2', 'ada@mail.example', 'l-m1', 3, now());"
        "insert into mail.mailbox (owner, mail_id, position, sender, letter, folder, score,"
        " step_id, accepted_at) select owner, 'm2', position, sender, letter, folder, score,"
        " 's2', accepted_at from mail.mailbox"
    )

    assert sums(await check(found.connection, [SENT])) == (2, 0, 2, 0)


async def test_a_second_line_is_a_duplicate(found: Tables) -> None:
    await deliver(found, 0, 1)
    await report(found, 0, 1, 1, 2)

    assert sums(await check(found.connection, [SENT])) == (2, 0, 1, 0)


async def test_lines_in_another_order_are_out_of_order(found: Tables) -> None:
    await deliver(found, 0, 1)
    await report(found, 1, 0, 2)

    findings = await check(found.connection, [SENT])

    assert findings.out_of_order > 0
    assert not findings.is_clean


async def test_a_line_that_names_another_recipient_is_out_of_order(found: Tables) -> None:
    await deliver(found, 0, 1)
    await found.line(0, RCPTS[1], mail_id="m1")
    await found.line(1, RCPTS[0], mail_id="m1")
    await report(found, 2)

    assert (await check(found.connection, [SENT])).out_of_order == 2


async def test_a_letter_with_a_byte_changed_is_lost_and_named(found: Tables) -> None:
    await deliver(found, 0, 1)
    await report(found, 0, 1, 2)
    await found.connection.execute("update mail.letter set raw = raw || '\\x00'::bytea")

    findings = await check(found.connection, [SENT])

    assert findings.lost == 3
    assert any(problem.startswith("nobody sent this") for problem in findings.problems)


async def test_a_copy_in_the_wrong_mailbox_is_lost_and_named(found: Tables) -> None:
    await deliver(found, 0)
    await found.row("eve@mail.example", 1, mail_id="m1")
    await report(found, 0, 1, 2)

    findings = await check(found.connection, [SENT])

    assert findings.lost == 1
    assert any("eve@mail.example" in problem for problem in findings.problems)


async def test_a_bounced_copy_that_was_delivered_all_the_same_is_named(found: Tables) -> None:
    await deliver(found, 0, 1, 2)
    await report(found, 0, 1, 2)

    assert not (await check(found.connection, [SENT])).is_clean


async def test_an_open_dead_letter_is_a_problem(found: Tables) -> None:
    await deliver(found, 0, 1)
    await report(found, 0, 1, 2)
    await found.connection.execute(
        "insert into rolekit_mailflow.dead_letter values ('d1', 'Inspector.open', 'boom', 0)"
    )

    findings = await check(found.connection, [SENT])

    assert findings.problems == ["dead letter d1 of Inspector.open: boom"]
    assert not findings.is_clean


async def test_what_earlier_runs_left_does_not_count(found: Tables) -> None:
    await deliver(found, 0, 1)
    await report(found, 0, 1, 2)
    await found.letter(b"another", mail_id="m0", copies=1)
    await found.row("z@mail.example", 0, mail_id="m0")

    assert (await check(found.connection, [SENT])).is_clean
