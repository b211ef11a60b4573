"""The line to RabbitMQ is cut before and after each frame of an exchange; nothing is lost.

Two messages are published, consumed, forwarded and acked. A calm run tells which frames pass;
then each gets a run in which the connection that it is on is cut there, before and after in
turn. `make faults` cuts at every one before and after.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from rolekit.testing.faults import Direction, Frame, Proxy, Verdict, cuts
from rolekit.transport.rabbitmq import RabbitTransport
from tests.faults.rabbit import RESUMES_S
from tests.faults.rabbit_line import Line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.testing.broker import QueueState
    from rolekit.testing.faults import OnFrame
    from tests.faults.rabbit import Rig

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

SLOTS = 8
"""Runs at once."""
Case = tuple[Direction, str, int, Verdict]


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.load)])
@pytest.mark.timeout(120)
async def test_a_cut_before_or_after_any_frame_of_an_exchange_loses_nothing(
    rig: Rig, every: int
) -> None:
    seen: Counter[tuple[Direction, str]] = Counter()

    def look(direction: Direction, frame: Frame) -> Verdict:
        seen[direction, frame.name] += 1
        return Verdict.PASS

    assert await _exchange(rig, "calm", look) == []
    cases = [
        (direction, name, nth, verdict)
        for (direction, name), times in seen.items()
        if name != "heartbeat"
        for nth in range(1, times + 1)
        for verdict in (Verdict.CUT_BEFORE, Verdict.CUT_AFTER)
    ]
    # Of each frame one, and not always before it: 0, 3, 4, 7 and so on.
    cases = [one for n, one in enumerate(cases) if (n + n // every) % every == 0]
    left, cut = iter(cases), Counter[bool]()

    problems = await asyncio.gather(*(_run(rig, f"s{n}", left, cut) for n in range(SLOTS)))

    print(f"{len(cases)} cases, {cut[True]} cuts")  # noqa: T201 - that the faults bit
    assert [problem for slot in problems for problem in slot] == []
    assert cut[True] > 0.9 * len(cases) > 70 / every


async def _run(rig: Rig, app: str, left: Iterable[Case], cut: Counter[bool]) -> list[str]:
    problems: list[str] = []
    for direction, name, nth, verdict in left:
        judge = cuts(direction, name, nth=nth, verdict=verdict)
        was_cut = False

        def noting(going: Direction, frame: Frame, judge: OnFrame = judge) -> Verdict:
            nonlocal was_cut
            found = judge(going, frame)
            was_cut = was_cut or found is not Verdict.PASS
            return found

        case = f"{direction.name} {name} {nth} {verdict.name}"
        problems += [f"{case}: {said}" for said in await _exchange(rig, app, noting)]
        cut[was_cut] += 1
    return problems


async def _exchange(rig: Rig, app: str, judge: OnFrame) -> list[str]:
    """Send two messages down a line with this fault; say what went wrong."""
    async with Proxy("127.0.0.1", rig.broker.port) as proxy:
        transport = RabbitTransport(proxy.url(rig.url), app=app, queue_type="classic")
        line = Line(transport)
        try:
            await transport.start()
            await line.open()
            for queue in ("b", "a"):
                await rig.until(lambda state: state.consumers == 1, queue, app, is_live=True)
            proxy.on_frame = judge
            async with asyncio.timeout(RESUMES_S):
                await line.send(1, 2)
                await line.arrived(1, 2)
                for queue in ("a", "b"):
                    await rig.until(_is_empty, queue, app, is_live=True)
        except TimeoutError:
            states = [await rig.queue(queue, app) for queue in ("a", "b")]
            return [f"stuck with {line.came}; {states}"]
        finally:
            await line.close()
            await transport.stop()
        return line.unexplained()


def _is_empty(state: QueueState) -> bool:
    return not state.ready + state.unacked
