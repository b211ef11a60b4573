"""What handlers asked for with `ctx.write`: in their order, in few round trips.

Statements of the same text that follow one another are sent together, and run one by one:
none is merged with another, each has its own arguments, triggers and errors.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rolekit.errors import WriteFailed, WriteMissed
from rolekit.store.postgres.transactions import blamed, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.connections import Pooled
    from rolekit.store.base import Step, Write

_Asked = tuple[str, "Write"]


async def write(connection: Pooled, steps: Sequence[Step]) -> None:
    """Run the statements of steps, one step after another.

    Raises:
        WriteFailed: One was refused; the transaction is over.
        WriteMissed: One touched another number of rows than it should.
    """
    asked: list[_Asked] = [(step.id, write) for step in steps for write in step.writes]
    for (sql, is_counted), run in groupby(asked, key=_kind):
        some = list(run)
        if len(some) == 1 or is_counted:  # many at once do not say how many rows each touched
            for message_id, each in some:
                await _write_one(connection, message_id, each)
            continue
        whose = {message_id for message_id, _ in some}
        with blamed(connection, whose.pop() if len(whose) == 1 else "", sql):
            await connection.executemany(sql, [each.args for _, each in some])


async def refused_of(
    connection: Pooled, steps: Sequence[Step], *, is_one: bool = False
) -> list[Step]:
    """Find the steps of which a statement is refused; there may be none.

    When many statements of one text run together, Postgres does not say which was refused. So
    they run again in halves: of a half that is refused nothing stays, of others all does, for
    those behind.

    Args:
        connection: With a transaction open.
        steps: At least one.
        is_one: Whether they are known to be refused together.
    """
    if not is_one:
        await connection.execute("savepoint half")
        try:
            await write(connection, steps)
        except (WriteFailed, WriteMissed):
            await connection.execute("rollback to half")
        else:
            return []
    if len(steps) == 1:
        return list(steps)
    middle = len(steps) // 2
    front = await refused_of(connection, steps[:middle])
    back = await refused_of(connection, steps[middle:], is_one=not front)
    return front + back


def _kind(asked: _Asked) -> tuple[str, bool]:
    return asked[1].sql, asked[1].expect is not None


async def _write_one(connection: Pooled, message_id: str, asked: Write) -> None:
    with blamed(connection, message_id, asked.sql):
        status = await connection.execute(asked.sql, *asked.args)
    touched = rows_of(status)
    if asked.expect is not None and touched != asked.expect:
        raise WriteMissed(
            f"A statement of message {message_id} touched {touched} rows, "
            f"{asked.expect} were expected: {asked.sql[:200]}",
            fix="Nothing was committed; the message is tried again by its policy.",
        )
