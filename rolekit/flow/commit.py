"""Group commit: what finished since the last commit goes into one transaction.

Waiting for more would gain nothing: while one batch commits the next one gathers. When a
batch fails, those whose statements are refused are left out of it, or it is halved until the
culprit is alone. When its outcome is unknown the same batch goes again, and the inbox tells
what had happened.

Source: DESIGN 4.5.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import Contended, Unavailable, WriteFailed, WriteMissed
from rolekit.flow.submitted import Submitted
from rolekit.store.base import Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rolekit.bell import Bell
    from rolekit.flow.outbox import Outbox
    from rolekit.flow.tracing import Tracing
    from rolekit.observe.meters import FlowMeters
    from rolekit.store.base import Commit, StateKey, Store

log = structlog.get_logger("rolekit.commit")

BATCH = 256
LEAST, MORE = 16, 8
"""Each culprit halves how many steps a batch has at most, down to so few, and each full batch
that is committed adds so many: halving a batch of 256 costs more than several small ones. Not
so a culprit whose statement was refused, since those are mostly found without halving."""
SOME = 8
"""Of so many the store is asked who may be the culprit: fewer are halved as quickly."""
SUSPECTS_S = 2.0
"""It is given so long: it holds locks, for which others wait 5 s, and a culprit may be slow."""
IN_FLIGHT = 2
PLENTY = 32
"""Steps that must wait before a second commit begins beside the first."""
BUSY = 8
LINGER_S = 0.001
"""Batches of so many show that more comes at once: a moment's wait makes fewer, larger ones."""
SLOW_S = 0.05
"""After so long of one commit, a second begins beside it however few steps wait."""
LATE_S, STARVED_S = 0.005, 0.25
"""One that is seen as slow later than by this is so since the loop is busy or waits for a core,
as the database may: then a second connection makes it worse, and it is given more time."""
AWAY_FIRST_S = 0.1
AWAY_MAX_S = 2.0

_Waiting = tuple[Step, Submitted]


class _Lane:
    """A commit under way: tells when it is slow, but later where the loop itself is late."""

    __slots__ = ("_begun_s", "_loop", "_tell", "_timer")

    def __init__(self, tell: Callable[[_Lane], None]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._begun_s = self._loop.time()
        self._timer = self._loop.call_at(self._begun_s + SLOW_S, self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        late_s = now_s - self._timer.when()
        if late_s > LATE_S and now_s - self._begun_s < STARVED_S:
            self._timer = self._loop.call_at(now_s + SLOW_S, self._look)
        else:
            self._tell(self)

    def end(self) -> None:
        """Tell nothing any more."""
        self._timer.cancel()


class Committer:
    """Commits steps in batches.

    Args:
        store: Where to.
        bell: Rings for queues that got something.
        outbox: Publishes what was committed; None where the transport joins the store.
        tracing: Is told of each commit; None: nobody is.

    Attributes:
        meters: Counts commits; None: nobody does.
    """

    def __init__(
        self, store: Store, bell: Bell, outbox: Outbox | None, tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing
        self.meters: FlowMeters | None = None
        self._store = store
        self._bell = bell
        self._outbox = outbox
        self._waiting: deque[_Waiting] = deque()
        self._something = asyncio.Event()
        self._plenty = asyncio.Event()
        self._slow: set[_Lane] = set()
        self._last = 0
        self._most = BATCH
        self._touched: set[StateKey | str] = set()
        self._running: asyncio.TaskGroup | None = None

    def submit(self, step: Step) -> Submitted:
        """Commit a step with others; the result says whether its inbox row was free.

        It raises what the store raised for this step alone; never `Unavailable`, since the
        commit is repeated until its outcome is known, and never `Contended`.
        """
        done = Submitted()
        self._waiting.append((step, done))
        self._something.set()
        if self._slow or len(self._waiting) >= PLENTY:
            self._plenty.set()
        return done

    def submit_whole(self, steps: Sequence[Step]) -> asyncio.Future[None]:
        """Commit steps in a transaction of their own, all of them or none.

        The future raises `SomeTaken` where inbox rows of some are taken, or what the store
        raised; never `Unavailable`, never `Contended`.
        """
        assert self._running is not None  # noqa: S101 - who handles messages has it running
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        work = self._commit_whole(steps, done)
        try:
            self._running.create_task(work)
        except RuntimeError:  # it has stopped: nothing is committed any more
            work.close()
        return done

    async def _commit_whole(self, steps: Sequence[Step], done: asyncio.Future[None]) -> None:
        try:
            self.announce(await self._until_known(steps, self._store.commit_whole))
        except Exception as error:  # noqa: BLE001 - handed to whoever submitted them
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(None)

    @property
    def has_room(self) -> bool:
        """Whether what was committed leaves fast enough for more."""
        return self._outbox is None or self._outbox.has_room

    async def room(self) -> None:
        """Wait while too much that was committed has not left."""
        if self._outbox is not None:
            await self._outbox.room()

    async def run(self) -> None:
        """Commit until cancelled, several batches at once."""
        async with asyncio.TaskGroup() as tasks:
            self._running = tasks
            tasks.create_task(self._run_one(self._something))
            for _ in range(1, IN_FLIGHT):
                tasks.create_task(self._run_one(self._plenty))

    async def _run_one(self, enough: asyncio.Event) -> None:
        while True:
            await enough.wait()
            if BUSY <= self._last < PLENTY and len(self._waiting) < PLENTY:
                await asyncio.sleep(LINGER_S)
            batch, touched = self._take()
            self._last = len(batch)
            if not batch:
                # What waits changes what another batch is changing.
                enough.clear()
                continue
            self._touched |= touched
            # A slow batch must not hold up those behind it, few as they may be.
            lane = _Lane(self._be_slow)
            try:
                await self._commit(batch)
            finally:
                lane.end()
                self._slow.discard(lane)
                self._touched -= touched
                self._look_on()

    def _be_slow(self, lane: _Lane) -> None:
        self._slow.add(lane)
        self._look_on()

    def _look_on(self) -> None:
        """Have what waits taken: by the first that is free, also where another is slow."""
        if self._waiting:
            self._something.set()
            if self._slow:
                self._plenty.set()

    def _take(self) -> tuple[list[_Waiting], set[StateKey | str]]:
        """Take a batch, and name the states and sequences that it changes.

        What another batch under way changes is left for later, and so is all that comes
        after it on the same state: a state goes through its changes in order. A sequence is
        moved on once in a batch, since each release compares its cursor.
        """
        batch: list[_Waiting] = []
        left: list[_Waiting] = []
        touched: set[StateKey | str] = set()
        blocked = set(self._touched)
        waiting = self._waiting
        while waiting and len(batch) < self._most and len(left) < BATCH:
            one = waiting.popleft()
            step = one[0]
            own: set[StateKey | str] = {change.key for change in step.states}
            sequence = None if step.release is None else step.release.sequence
            if sequence is not None:
                own.add(sequence)
            if own and (own & blocked or sequence in touched):
                blocked |= own
                left.append(one)
            else:
                touched |= own
                batch.append(one)
        waiting.extendleft(reversed(left))
        if not waiting:
            self._something.clear()
        if len(waiting) < PLENTY:
            self._plenty.clear()
        return batch, touched

    async def _commit(self, batch: list[_Waiting]) -> None:
        try:
            commit = await self._until_known([step for step, _ in batch])
        except Exception as error:  # noqa: BLE001 - handed to whoever submitted the culprit
            await self._find_culprits(batch, error)
            return
        self.announce(commit)
        if len(batch) >= self._most:
            self._most = min(self._most + MORE, BATCH)
        for step, done in batch:
            if step.keyed is not None:
                step.keyed.took_effect = step.key in commit.fresh
            done.set_result(step.key in commit.fresh)

    def announce(self, commit: Commit) -> None:
        """Tell whoever waits what a commit brought."""
        if commit.leaving and self._outbox is not None:
            self._outbox.leave(commit.leaving)
        self._bell.ring(commit.topics)

    async def _find_culprits(self, batch: list[_Waiting], error: Exception) -> None:
        is_refused = isinstance(error, WriteFailed | WriteMissed)
        if len(batch) == 1:
            if not is_refused:
                self._most = max(self._most // 2, LEAST)
            batch[0][1].set_exception(error)
            return
        suspects = set[int]()
        if is_refused and len(batch) >= SOME:
            suspects = await self._suspects(batch)
        if not suspects:
            middle = len(batch) // 2
            await self._commit(batch[:middle])
            await self._commit(batch[middle:])
            return
        others = [one for one in batch if id(one[0]) not in suspects]
        if others:
            await self._commit(others)
        for one in batch:
            if id(one[0]) in suspects:  # alone, it is told what is wrong with it
                await self._commit([one])

    async def _suspects(self, batch: list[_Waiting]) -> set[int]:
        """Name the steps that the store suspects; none where it does not know, or not soon."""
        try:
            async with asyncio.timeout(SUSPECTS_S):
                found = await self._store.suspects([step for step, _ in batch])
        except Exception as error:  # noqa: BLE001 - halving hands each its own
            log.info("culprits not found at once; the batch is halved", error=str(error))
            return set()
        return {id(step) for step in found}

    async def _until_known(
        self,
        steps: Sequence[Step],
        whole: Callable[[Sequence[Step]], Awaitable[Commit]] | None = None,
    ) -> Commit:
        """Commit until the outcome is known; without `whole` the steps may be parted."""
        wait_s, begun_ns = AWAY_FIRST_S, time.time_ns()
        while True:
            try:
                commit = await (whole or self._store.commit)(steps)
            except (Unavailable, Contended) as error:
                if self.meters is not None:
                    self.meters.failed("commit", error, (time.time_ns() - begun_ns) / 1e9)
                if whole is None and isinstance(error, Contended) and len(steps) > 1:
                    raise
                log.warning(
                    "not committed, or unknown; the same batch goes again, the inbox will tell",
                    steps=len(steps),
                    again_in_s=wait_s,
                    error=str(error),
                )
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, AWAY_MAX_S)
            else:
                if self._tracing is not None:
                    self._tracing.committed(steps, begun_ns)
                if self.meters is not None:
                    took_s = (time.time_ns() - begun_ns) / 1e9
                    sent = self._sent_by(steps, commit)
                    self.meters.committed(len(steps), len(commit.fresh), took_s, sent)
                return commit

    def _sent_by(self, steps: Sequence[Step], commit: Commit) -> int:
        """Count what a commit sent; what goes through an outbox is counted as it leaves."""
        if self._outbox is not None:
            return 0
        return sum(len(step.outputs) for step in steps if step.key in commit.fresh)
