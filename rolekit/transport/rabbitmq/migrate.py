"""Bringing the queues on the broker to what an app wants, without losing a message.

The arguments of a queue cannot be changed, so one that differs is made anew. Q is the queue,
T is `Q@migrating`, which gets the wanted arguments too:

    Q differs                         make T
    Q differs,        T is there      move Q to T; delete Q, empty
    Q is missing,     T is there      make Q
    Q is as wanted,   T is there      move T to Q; delete T, empty
    Q is as wanted                    done

Each line leads to the next, and which one holds is seen on the broker alone, so whoever runs
this again after an interruption goes on where it was. One at a time runs it: it holds an
exclusive queue, which goes with its connection.

Who publishes to an exchange that Q is bound to may go on: what comes that way is led around
Q, see `detour`. Nobody may publish to Q by its name meanwhile. What comes to it

    while it is emptied        is moved with the rest
    while it is deleted        the broker confirms and forgets: measured on 3.10.8, each
                               publisher without a pause loses what it has in flight, nearly
                               always
    while there is none        for some 20 to 100 ms: comes back to its publisher as
                               unroutable if that is mandatory, and is gone otherwise
    when it is made anew       is in front of what is moved back

So apps that run are refused; all of rolekit that publishes holds a lease in the database. Of
other programs AMQP tells nothing, but an emptied queue that gets messages has a publisher: it
is deleted only after WATCH_S without any. Who is interrupted between deletion and declaration
leaves no queue until somebody runs this again; sent together they are no closer, since the
broker forgets what it has not begun of a connection that ends.

Source: RELIABILITY H4, H9, H29; rabbit_channel.erl, handle_eol ("deleted queue is a special
case"); rabbit_quorum_queue.erl, delete (if-empty and if-unused are not supported).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aiormq

from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.transport.rabbitmq.access import may_declare, refusal
from rolekit.transport.rabbitmq.address import AWAY
from rolekit.transport.rabbitmq.counting import count
from rolekit.transport.rabbitmq.detour import Detour, refuse_others
from rolekit.transport.rabbitmq.move import FEW, LOOK_S, Mover
from rolekit.transport.rabbitmq.plan import Planned, look, look_left, plan
from rolekit.transport.rabbitmq.topology import MIGRATING, declare_one

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from rolekit.transport.rabbitmq.detour import Binding
    from rolekit.transport.rabbitmq.session import Session
    from rolekit.transport.rabbitmq.topology import Queue

IN_USE_S = 10.0
"""A broker may take that long to notice that a consumer of ours has gone."""
WATCH_S = 2.0
"""Nothing may come to a queue for that long before it is made anew: many times as long as there
is no queue then, so that who publishes now and then would hardly hit that moment."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done about one queue.

    Attributes:
        messages: How many were moved to the new one.
        missing_s: How long there was no queue of this name, in seconds.
    """

    queue: str
    did: str
    messages: int = 0
    missing_s: float = 0.0


async def apply(  # noqa: PLR0913 - given by name, each with its default
    session: Session,
    queues: Sequence[Queue],
    *,
    lock: str,
    force: bool = False,
    hosts: int = 0,
    bindings: Sequence[Binding] = (),
    watch_s: float = WATCH_S,
    say: Callable[[Applied], None] = lambda _: None,
) -> list[Applied]:
    """Make what is missing, and make anew what differs; return what was done.

    Args:
        session: Lost when this is interrupted; then run it again.
        queues: As they should be. Those that others dead-letter to come first.
        lock: Name of an exclusive queue that keeps others from doing the same.
        force: Though the app is running, and without a watch. What it publishes at the wrong
            moment is lost; what it has in hand too, if it dies before that is done.
        hosts: How many hold a lease: they may publish.
        bindings: Of these queues to exchanges, which a queue made anew has too. AMQP does not
            tell them; one that is not named is gone.
        watch_s: For how long nothing may come to a queue before it is made anew.
        say: Called after each queue.

    Raises:
        RolekitError: A queue differs, and the app is running; nothing was changed. Or somebody
            else publishes to one; nothing is lost, and this goes on when it is run again.
        ConfigError: Somebody else does this now, or this user may not.
        Unavailable: The broker went away. Nothing is lost; run it again.
    """
    refuse_others(bindings, (queue.name for queue in queues))
    done: list[Applied] = []
    try:
        async with _alone(session, lock):
            planned = await plan(session, queues)
            if not force:
                _refuse_running(planned, hosts)
            detours = [Detour(session, queue.name, bindings) for queue in queues]
            for detour in detours:
                await detour.check()
            for queue, detour in zip(queues, detours, strict=True):
                migration = _Migration(session, queue, detour, None if force else watch_s)
                applied = await migration.run()
                if applied is not None:
                    done.append(applied)
                    say(applied)
    except (*AWAY, aiormq.exceptions.AMQPError) as error:
        raise Unavailable(
            f"The broker went away: {str(error) or type(error).__name__}.",
            fix="No message is lost. Run `rolekit topology apply` again; it goes on from here.",
        ) from error
    return done


@asynccontextmanager
async def _alone(session: Session, lock: str) -> AsyncGenerator[None]:
    async with session.brief_channel() as channel:
        async with may_declare(lock):
            try:
                await channel.calls.queue_declare(lock, exclusive=True)
            except aiormq.exceptions.ChannelLockedResource as error:
                raise ConfigError(
                    "Another `rolekit topology apply` is at work on these queues.",
                    fix="Wait for its end; if its process is gone, for a minute.",
                ) from error
        try:
            yield
        finally:
            if not channel.lost.done() and not session.lost.done():
                await asyncio.shield(channel.calls.queue_delete(lock))


def _refuse_running(planned: Sequence[Planned], hosts: int) -> None:
    differing = [one for one in planned if one.state == "differs"]
    used = [one.queue.name for one in differing if one.counts.consumers]
    if not used and not (differing and hosts):
        return
    why = f"{', '.join(used)} {'have' if len(used) > 1 else 'has'} consumers"
    if not used:
        why = f"{hosts} {'hosts hold leases' if hosts > 1 else 'host holds a lease'}"
    raise RolekitError(
        f"The app is running ({why}), and {differing[0].queue.name} must be made anew.",
        fix="Stop the app on every host (`rolekit stop`; after a crash, wait 15 s), then run "
        "this again. With --force, what it publishes or handles just then may be lost.",
    )


class _Migration:
    """Brings one queue to what is wanted, from wherever it stands.

    Args:
        watch_s: See `apply`; None: whoever uses the queue is to go on.
    """

    def __init__(
        self, session: Session, queue: Queue, detour: Detour, watch_s: float | None
    ) -> None:
        self._session = session
        self._queue = queue
        self._detour = detour
        self._other = replace(queue, name=queue.name + MIGRATING)
        self._watch_s = watch_s
        self._messages = 0
        self._missing_s = 0.0

    async def run(self) -> Applied | None:
        """Do what is to be done; return it, or None where that is nothing."""
        now = await look(self._session, self._queue)
        left = await look_left(self._session, self._queue)
        is_laid = await self._detour.is_laid()
        did = "finished" if left is not None or is_laid else "made anew"
        if now.state == "there" and left is None and not is_laid:
            return None
        if now.state == "missing":
            await self._make(self._queue)
            did = "made" if left is None else did
        elif now.state == "differs":
            if left is None:
                await self._make(self._other)
            await self._detour.lay()
            await self._empty(now)
            left = await look_left(self._session, self._queue)
        if left is not None:
            await self._bring_back(left)
        elif is_laid:
            await self._detour.lead_back()
        return Applied(self._queue.name, did, self._messages, self._missing_s)

    async def _make(self, queue: Queue) -> None:
        async with self._session.brief_channel() as channel, may_declare(queue.name):
            await declare_one(channel, queue)

    async def _empty(self, old: Planned) -> None:
        """Move all to the other one, then replace this one by what is wanted."""
        name, shared = self._queue.name, self._watch_s is None
        async with self._mover(name, self._other.name, shared=shared) as mover:
            await mover.drained(but=FEW)
            await self._detour.lead_around()
            had = None
            if self._watch_s is not None:
                await mover.drained()
                had = mover.moved
                await asyncio.sleep(self._watch_s)
            self._missing_s = await self._replace(
                mover, old, self._queue, shared=shared, had=had
            )

    async def _refuse_more(self, mover: Mover, had: int) -> None:
        """Refuse to delete a queue that somebody publishes to, past all that is led around."""
        await mover.settled()
        came = mover.moved - had
        if came:
            await mover.let_go()
            raise RolekitError(
                f"Somebody publishes to {mover.source}, or hands messages back to it: "
                f"{came} came since it was empty, {self._watch_s:g} s ago or a little more, "
                "and the next ones would get lost while there is no such queue.",
                fix="Stop whoever publishes to it by its name, and name each exchange that it "
                "is bound to with --bound; then run this again. No message is lost, and it "
                "goes on from here. With --force, what comes just then is lost. To give it "
                "up, run this with the configuration from before.",
            )

    async def _bring_back(self, left: Planned) -> None:
        async with self._mover(self._other.name, self._queue.name, shared=False) as mover:
            await mover.drained(but=FEW)
            await self._detour.lead_back()
            await self._replace(mover, left, None, shared=False)
            self._messages = mover.moved

    @asynccontextmanager
    async def _mover(self, source: str, target: str, *, shared: bool) -> AsyncGenerator[Mover]:
        mover = Mover(self._session, source, target, exclusive=not shared)
        try:
            async with mover:
                yield mover
        except aiormq.exceptions.ChannelAccessRefused as error:
            if "in exclusive use" in str(error):
                raise _used(source) from error
            raise refusal(error, "read", source) from error

    async def _replace(
        self,
        mover: Mover,
        old: Planned,
        new: Queue | None,
        *,
        shared: bool,
        had: int | None = None,
    ) -> float:
        """Delete the source of a mover once it is empty, and make another one.

        Args:
            mover: From the source.
            old: The source as it is.
            new: What is made in its place; None: nothing.
            shared: Whoever else uses the source is to go on.
            had: Refuse if more than this was moved from it: it was empty then; None: never.

        Returns:
            For how many seconds there was none.
        """
        until_s = time.monotonic() + IN_USE_S
        while True:
            if had is not None:
                await self._refuse_more(mover, had)
            await mover.drained()
            counts = await count(self._session, mover.source)
            if shared or counts is None or counts.consumers <= 1:
                missing_s = await self._swap(mover.source, new, if_empty=old.is_classic)
                if missing_s is not None:
                    await mover.ended()
                    return missing_s
            if time.monotonic() > until_s:
                raise _used(mover.source)
            await asyncio.sleep(LOOK_S)

    async def _swap(self, old: str, new: Queue | None, *, if_empty: bool) -> float | None:
        """Delete a queue while a mover takes from it, and make another one.

        What came since the last look is with the mover before the queue is gone, so it is
        moved too. A classic queue whose mover lags behind is not deleted: None. Of a quorum
        queue the broker does not ask that.
        """
        try:
            async with self._session.brief_channel() as channel:
                began_s = time.monotonic()
                await channel.calls.queue_delete(old, if_empty=if_empty)
                if new is not None:
                    await declare_one(channel, new)
                return time.monotonic() - began_s
        except aiormq.exceptions.ChannelPreconditionFailed:
            return None


def _used(name: str) -> RolekitError:
    return RolekitError(
        f"Queue {name} is used: somebody consumes it, or publishes faster than it can be "
        "emptied.",
        fix="Stop the app on every host, and run this again. No message is lost.",
    )
