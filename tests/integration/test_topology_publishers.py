"""`rolekit topology apply` where other programs publish to what must be made anew."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import RolekitError
from rolekit.transport.rabbitmq import migrate, move
from rolekit.transport.rabbitmq.counting import count
from rolekit.transport.rabbitmq.detour import Binding
from rolekit.transport.rabbitmq.plan import plan
from tests.integration.rabbit_queues import (
    IDS,
    WORK,
    channel_to,
    fill,
    ids_in,
    made_anew,
    published_to,
    put,
    session_to,
)

if TYPE_CHECKING:
    from rolekit.transport.rabbitmq.counting import Counts
    from rolekit.transport.rabbitmq.session import Session

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_a_queue_that_another_program_publishes_to_by_its_name_is_not_deleted(
    kind: str, broker_url: str
) -> None:
    limit = {"delivery_limit": 7} if kind == "quorum" else {}
    await fill(broker_url, WORK.name, IDS, queue_type=kind, **limit)

    async with published_to(broker_url, "", [WORK.name]) as confirmed:
        with pytest.raises(RolekitError) as caught:
            await made_anew(broker_url)
        async with session_to(broker_url) as session:
            meanwhile = {one.queue.name: one.state for one in await plan(session, [WORK])}
    (done,) = await made_anew(broker_url)  # it has stopped
    found = await ids_in(broker_url, WORK.name)

    assert f"Somebody publishes to {WORK.name}, " in caught.value.what
    assert "--bound" in caught.value.fix
    assert meanwhile[WORK.name] == "differs"
    assert done.did == "finished"
    assert len(confirmed) > 10
    assert sorted(found) == sorted(IDS + confirmed)
    assert [id_ for id_ in found if id_ in IDS] == IDS


async def test_a_queue_that_has_another_exchange_than_those_named_is_not_deleted(
    broker_url: str,
) -> None:
    await fill(broker_url, WORK.name, IDS)
    bound = Binding(WORK.name, "amq.direct", "k")
    async with channel_to(broker_url) as channel:
        await (await channel.get_queue(WORK.name)).bind(bound.exchange, bound.key)

    async with published_to(broker_url, bound.exchange, [bound.key]) as confirmed:
        with pytest.raises(RolekitError, match="Somebody publishes"):
            await made_anew(broker_url)
        await made_anew(broker_url, [bound])  # it goes on

    assert sorted(await ids_in(broker_url, WORK.name)) == sorted(IDS + confirmed)


async def test_one_who_publishes_as_fast_as_it_is_emptied_is_seen_too(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move, "ENDLESS", 1_000)
    await fill(broker_url, WORK.name, IDS)

    async with published_to(broker_url, "", [WORK.name], at_once=20) as confirmed:
        with pytest.raises(RolekitError, match=r"publishe[sd] to"):
            async with asyncio.timeout(30):
                await made_anew(broker_url)
    await made_anew(broker_url)

    # What was under way as it was given up is there twice.
    assert {*await ids_in(broker_url, WORK.name)} == {*IDS, *confirmed}


async def test_who_publishes_while_others_still_use_it_is_seen_too(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(broker_url, WORK.name, IDS)

    async def counted(session: Session, name: str) -> Counts | None:
        """Have one come when the watch is over, and somebody else consume for a moment."""
        async with channel_to(broker_url) as channel:
            assert await put(channel, WORK.name, "late")
        monkeypatch.setattr(migrate, "count", count)
        counts = await count(session, name)
        assert counts is not None
        return replace(counts, consumers=2)

    monkeypatch.setattr(migrate, "count", counted)
    with pytest.raises(RolekitError, match="1 came"):
        await made_anew(broker_url)
    await made_anew(broker_url)

    assert sorted(await ids_in(broker_url, WORK.name)) == sorted([*IDS, "late"])
