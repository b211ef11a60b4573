"""Topology on a real broker: what differs is told, and made anew with every message."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.model.envelope import Packet
from rolekit.testing.faults import Direction, Frame, Proxy, Verdict
from rolekit.transport.rabbitmq import RabbitTransport
from rolekit.transport.rabbitmq.migrate import Applied, apply
from rolekit.transport.rabbitmq.move import Mover
from rolekit.transport.rabbitmq.plan import plan
from rolekit.transport.rabbitmq.topology import MIGRATING, Names, Queue, declare
from tests.integration.rabbit_queues import (
    DEAD,
    IDS,
    LOCK,
    NAMES,
    PAUSE_S,
    WATCH_S,
    WORK,
    channel_to,
    fill,
    ids_in,
    session_to,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rolekit.testing.broker import PrivateBroker
    from rolekit.transport.rabbitmq.detour import Binding

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]

QUEUES = [DEAD, WORK]


async def applied(
    url: str,
    *,
    force: bool = False,
    of: Sequence[Queue] = QUEUES,
    bindings: Sequence[Binding] = (),
) -> list[Applied]:
    async with session_to(url) as session:
        return await apply(
            session, of, lock=LOCK, force=force, bindings=bindings, watch_s=WATCH_S
        )


async def states(url: str) -> dict[str, str]:
    async with session_to(url) as session:
        return {one.queue.name: one.state for one in await plan(session, QUEUES)}


# -- plan ------------------------------------------------------------------------------------


async def test_a_broker_without_queues_lacks_them_all_and_looking_makes_none(
    broker_url: str, rolekit_broker_server: PrivateBroker
) -> None:
    found = await states(broker_url)

    vhost = broker_url.rpartition("/")[2]
    assert found == {"shop.@dead": "missing", "shop.Work.work": "missing"}
    assert await asyncio.to_thread(rolekit_broker_server.list_queues, vhost) == []


async def test_what_is_declared_is_there_and_nothing_is_to_be_done(broker_url: str) -> None:
    async with session_to(broker_url) as session:
        await declare(session, QUEUES)
        found = await plan(session, QUEUES)

    assert [(one.state, one.differences, one.action) for one in found] == [
        ("there", (), "")
    ] * 2


async def test_every_argument_that_differs_is_told_and_what_it_may_lose(
    broker_url: str,
) -> None:
    await fill(
        broker_url, WORK.name, ["a"],
        queue_type="quorum", delivery_limit=5, message_ttl=60_000, max_length=9,
        overflow="drop-head", dead_letter_exchange="", dead_letter_routing_key="shop.@dead",
        dead_letter_strategy="at-least-once",
    )  # fmt: skip

    async with session_to(broker_url) as session:
        (found,) = await plan(session, [WORK])

    assert found.state == "differs"
    assert found.action == "make it anew, with its 1 message"
    assert {str(one) for one in found.differences} == {
        "x-delivery-limit is 5, 100 is wanted",
        "x-message-ttl is 60000, nothing is wanted",
        "x-max-length is 9, nothing is wanted",
        "x-overflow is drop-head, reject-publish is wanted",
    }
    assert {danger.partition(":")[0] for danger in found.dangers} == {
        "x-delivery-limit is 5",
        "x-message-ttl is 60000",
        "x-max-length is 9 and x-overflow drop-head",
        "x-overflow is not reject-publish",
    }


async def test_a_queue_that_is_not_durable_or_goes_by_itself_is_told(broker_url: str) -> None:
    async with channel_to(broker_url) as channel:
        await channel.declare_queue(WORK.name, durable=False, auto_delete=True)

        async with session_to(broker_url) as session:
            (found,) = await plan(session, [WORK])

    told = [str(one) for one in found.differences]
    assert told[0] == "x-queue-type is not set (classic), quorum is wanted"
    assert {"durable is false, true is wanted", "auto_delete is true, false is wanted"} < set(
        told
    )
    assert len(found.dangers) == 2


async def test_a_queue_that_differs_is_refused_at_the_start_with_the_command(
    broker_url: str,
) -> None:
    await fill(broker_url, WORK.name, [])

    async with session_to(broker_url) as session:
        with pytest.raises(ConfigError) as caught:
            await declare(session, QUEUES)

    assert caught.value.what == (
        "Queue shop.Work.work is on the broker with other arguments: "
        "x-queue-type is not set (classic), quorum is wanted (3 more)."
    )
    assert "rolekit topology apply" in caught.value.fix


# -- apply -----------------------------------------------------------------------------------


async def test_missing_queues_are_made_and_again_there_is_nothing_to_do(
    broker_url: str,
) -> None:
    done = await applied(broker_url)
    again = await applied(broker_url)

    assert [(one.queue, one.did) for one in done] == [
        ("shop.@dead", "made"),
        ("shop.Work.work", "made"),
    ]
    assert again == []
    assert set((await states(broker_url)).values()) == {"there"}


OTHERS: dict[str, tuple[Names, dict[str, object]]] = {
    "classic to quorum": (NAMES, {}),
    "quorum to quorum": (NAMES, {"queue_type": "quorum", "delivery_limit": 7}),
    "quorum to classic": (Names("shop", "classic"), {"queue_type": "quorum"}),
    "classic to classic": (Names("shop", "classic"), {"message_ttl": 3_600_000}),
}


@pytest.mark.parametrize("case", OTHERS)
async def test_a_queue_made_anew_has_the_same_messages_in_the_same_order(
    case: str, broker_url: str, rolekit_broker_server: PrivateBroker
) -> None:
    names, arguments = OTHERS[case]
    wanted = [names.queue("~dead"), names.queue("Work.work")]
    await fill(broker_url, WORK.name, IDS, **arguments)

    done = await applied(broker_url, of=wanted)

    vhost = broker_url.rpartition("/")[2]
    queues = await asyncio.to_thread(rolekit_broker_server.list_queues, vhost)
    assert [(one.did, one.messages) for one in done] == [("made", 0), ("made anew", len(IDS))]
    assert {one.name: one.type for one in queues} == {
        queue.name: queue.arguments["x-queue-type"] for queue in wanted
    }
    assert await ids_in(broker_url, WORK.name) == IDS


Cut = tuple[str, int, Verdict]
CUTS: list[Cut] = [
    ("Queue.Declare", 9, Verdict.CUT_AFTER),  # T is made
    ("Basic.Publish", 1, Verdict.CUT_BEFORE),
    ("Basic.Publish", 120, Verdict.CUT_AFTER),
    ("Basic.Ack", 2, Verdict.CUT_AFTER),
    ("Queue.Delete", 1, Verdict.CUT_AFTER),
    ("Basic.Publish", 400, Verdict.CUT_AFTER),
    ("Queue.Delete", 2, Verdict.CUT_BEFORE),
    ("Queue.Delete", 2, Verdict.CUT_AFTER),
]


def cut_at(cut: Cut) -> Callable[[Direction, Frame], Verdict]:
    name, at, verdict = cut
    seen = 0

    def on_frame(direction: Direction, frame: Frame) -> Verdict:
        nonlocal seen
        if direction is Direction.TO_SERVER and frame.name == name:
            seen += 1
            if seen == at:
                return verdict
        return Verdict.PASS

    return on_frame


@pytest.mark.parametrize(
    ("kind", "cut"),
    [*(("classic", cut) for cut in CUTS), *(("quorum", cut) for cut in CUTS[1::3])],
    ids=str,
)
async def test_whoever_runs_it_again_after_an_interruption_finishes_it_without_loss(
    cut: Cut, kind: str, broker_url: str, rolekit_broker_server: PrivateBroker
) -> None:
    limit = {"delivery_limit": 7} if kind == "quorum" else {}
    await fill(broker_url, WORK.name, IDS, queue_type=kind, **limit)
    async with Proxy("127.0.0.1", rolekit_broker_server.port) as proxy:
        proxy.on_frame = cut_at(cut)

        with pytest.raises(Unavailable) as caught:
            await applied(proxy.url(broker_url), of=[WORK])
        await finished(broker_url)

    found = await ids_in(broker_url, WORK.name)
    assert "again" in caught.value.fix
    assert list(dict.fromkeys(found)) == IDS  # a repeat keeps its id
    assert await states(broker_url) == {DEAD.name: "missing", WORK.name: "there"}


async def finished(url: str) -> None:
    """Run it again, once the broker has noticed that the connection is gone."""
    while True:
        try:
            await applied(url, of=[WORK])
        except RolekitError as error:
            assert "Another" in error.what or "is running" in error.what  # noqa: PT017 - or again
            await asyncio.sleep(0.02)
        else:
            return


async def test_what_an_interruption_left_is_shown(broker_url: str) -> None:
    await fill(broker_url, WORK.name + MIGRATING, IDS[:3], **arguments_of(WORK))

    async with session_to(broker_url) as session:
        missing, left = await plan(session, [WORK])

    assert (missing.state, left.state) == ("missing", "left over")
    assert left.action == "move 3 messages back, delete it"


def arguments_of(queue: Queue) -> dict[str, object]:
    return {k.removeprefix("x-").replace("-", "_"): v for k, v in queue.arguments.items()}


async def take(_: object) -> None:
    """Take a delivery."""


async def test_a_queue_that_somebody_consumes_is_left_alone_unless_forced(
    broker_url: str,
) -> None:
    await fill(broker_url, WORK.name, [])
    async with channel_to(broker_url) as channel:
        queue = await channel.get_queue(WORK.name)
        await queue.consume(take)

        with pytest.raises(RolekitError) as caught:
            await applied(broker_url)
        refused = await states(broker_url)
        forced = await applied(broker_url, force=True)

    assert "The app is running (shop.Work.work has consumers)" in caught.value.what
    assert "rolekit stop" in caught.value.fix
    assert refused == {DEAD.name: "missing", WORK.name: "differs"}
    assert [one.did for one in forced] == ["made", "made anew"]


async def test_while_a_host_holds_a_lease_nothing_is_made_anew(broker_url: str) -> None:
    await fill(broker_url, WORK.name, IDS[:1])

    async with session_to(broker_url) as session:
        with pytest.raises(RolekitError, match="1 host holds a lease"):
            await apply(session, QUEUES, lock=LOCK, hosts=1)

    assert await ids_in(broker_url, WORK.name) == IDS[:1]


async def test_while_a_host_holds_a_lease_what_is_missing_is_made(broker_url: str) -> None:
    async with session_to(broker_url) as session:
        done = await apply(session, QUEUES, lock=LOCK, hosts=1)

    assert [one.did for one in done] == ["made", "made"]


async def test_two_at_a_time_do_not_get_in_each_others_way(broker_url: str) -> None:
    async with session_to(broker_url) as holder, holder.brief_channel() as channel:
        await channel.calls.queue_declare(LOCK, exclusive=True)

        with pytest.raises(ConfigError, match="Another `rolekit topology apply`"):
            await applied(broker_url)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_a_publisher_that_does_not_stop_loses_no_more_than_it_has_in_flight(
    kind: str, broker_url: str
) -> None:
    limit = {"delivery_limit": 7} if kind == "quorum" else {}
    await fill(broker_url, WORK.name, IDS, queue_type=kind, **limit)
    transport = RabbitTransport(broker_url, app="shop")
    stored: list[str] = []
    errors: Counter[str] = Counter()
    is_over = asyncio.Event()

    async def publish() -> None:
        while not is_over.is_set():
            packet = Packet(queue="Work.work", id=uuid4().hex, head=b"", body=b"new")
            while True:
                try:
                    await transport.publish([packet])
                except RolekitError as error:
                    errors[type(error).__name__] += 1
                else:
                    stored.append(packet.id)
                    break
            await asyncio.sleep(PAUSE_S)

    await transport.start()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publish())
        await applied(broker_url, of=[WORK], force=True)
        is_over.set()
    await transport.stop()
    found = await ids_in(broker_url, WORK.name)

    assert set(errors) <= {"Unroutable", "PublishUnknown", "Unavailable", "QueueFull"}
    assert len(stored) > 10
    assert set(IDS) < set(found)
    assert len(set(stored) - set(found)) <= 1  # confirmed by the deletion of its queue
    assert [id_ for id_ in dict.fromkeys(found) if id_ in IDS] == IDS


async def test_a_lost_target_stops_it_before_anything_is_acked(broker_url: str) -> None:
    await fill(broker_url, WORK.name, IDS[:5])

    async with session_to(broker_url) as session:
        mover = Mover(session, WORK.name, "nowhere")
        with pytest.raises(Unavailable, match="is not there any more"):
            async with mover:
                await mover.drained()

    assert await ids_in(broker_url, WORK.name) == IDS[:5]
    assert mover.moved == 0


async def test_a_target_that_is_full_stops_it_before_anything_is_acked(
    broker_url: str,
) -> None:
    await fill(broker_url, WORK.name, IDS[:5])
    await fill(broker_url, "full", ["x"], max_length=1, overflow="reject-publish")

    async with session_to(broker_url) as session:
        with pytest.raises(Unavailable, match="takes no more"):
            async with Mover(session, WORK.name, "full") as mover:
                await mover.drained()

    assert await ids_in(broker_url, WORK.name) == IDS[:5]
