"""A whole app in one loop, on memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from rolekit import App, Context, Message, Run, WorkerRole, gather, handle
from rolekit.errors import ConfigError, Failed, RolekitError, TimedOut
from rolekit.testing import Running, run_app
from tests.unit.programs_for_run_app import (
    Charge,
    Checked,
    Clockwork,
    Issue,
    Listener,
    NewsFront,
    NoPrice,
    Nudge,
    Orders,
    Payments,
    Post,
    Posted,
    Posting,
    Price,
    PriceOf,
    Progress,
    Refused,
    ShopFront,
    Summary,
    Tick,
    clockwork,
    news,
    shop,
)

if TYPE_CHECKING:
    from rolekit.transport.memory import Faults

pytestmark = pytest.mark.anyio

KEY = {"Payments.api_key": "k"}
READERS = ["ann@here", "bob@there", "late@here", "cy@here"]


async def send_issue(running: Running, readers: list[str], text: bytes = b"one\ntwo") -> str:
    blob = await running.client.save(text)
    return (await running.client.send(Issue(readers=readers, text=blob))).id


async def test_a_message_goes_the_whole_way_in_order() -> None:
    async with run_app(news) as running:
        sent = await send_issue(running, READERS)
        await running.idle()
        before = await running.client.result(sent, Summary)

        await running.advance(400)  # the late one is tried twice more

        summary = await running.client.result(sent, Summary)
        assert before is None
        assert summary == Summary(
            lines=[
                "ann@here: posted",
                "bob@there: elsewhere",
                "late@here: posted",
                "cy@here: posted",
            ]
        )
        assert sorted(running.writes) == [
            ("insert into box (reader) values ($1)", (reader,))
            for reader in ("ann@here", "cy@here", "late@here")
        ]
        assert running.dead == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("faults", ["repeat", "shuffle"])
async def test_faults_change_nothing_about_the_outcome(faults: Faults, seed: int) -> None:
    async with run_app(news, faults=faults, seed=seed) as running:
        await send_issue(running, READERS)
        await running.advance(400)

        (summary,) = running.seen(Summary)
        assert [line.partition("@")[0] for line in summary.lines] == [
            "ann",
            "bob",
            "late",
            "cy",
        ]
        assert len(running.writes) == 3
        assert len(running.seen(Checked)) == 8
        assert running.dead == []


@pytest.mark.parametrize("seed", range(8))
async def test_every_role_may_crash_at_any_moment(seed: int) -> None:
    async with run_app(news, faults="repeat", seed=seed) as running:
        await send_issue(running, READERS)
        for role in news.roles:
            await running.kill(role)
        await running.idle()
        await running.kill(Post)
        await running.advance(400)

        (summary,) = running.seen(Summary)
        assert [line.partition("@")[0] for line in summary.lines] == [
            "ann",
            "bob",
            "late",
            "cy",
        ]
        assert sorted(args for _, args in running.writes) == [
            ("ann@here",), ("cy@here",), ("late@here",),
        ]  # fmt: skip
        assert running.dead == []


async def test_a_dead_letter_is_told_and_leaves_a_hole() -> None:
    async with run_app(news) as running:
        await send_issue(running, ["ann@here", "never@here", "cy@here"])
        await running.advance(400)

        (dead,) = running.dead
        assert dead.message == Posting(reader="never@here")
        assert (dead.handler, dead.attempts) == ("Post.post", 3)
        assert dead.reason == "ConnectionError: no answer"
        assert running.seen(Summary)[0].lines[1] == "lost: dead-letter"


async def test_a_deadline_comes_with_the_clock() -> None:
    without_post = [role for role in news.roles if role is not Post]
    async with run_app(news, only=without_post) as running:
        await send_issue(running, ["ann@here", "bob@here"])
        await running.advance(3599)
        before = running.seen(Summary)

        await running.advance(2)

        assert before == []
        assert running.seen(Summary) == [Summary(lines=["lost: deadline", "lost: deadline"])]


async def test_an_empty_split_is_gathered_too() -> None:
    async with run_app(news) as running:
        await send_issue(running, [])
        await running.idle()

        assert running.seen(Progress) == [Progress(done=0, of=0)]
        assert running.seen(Summary) == [Summary(lines=[])]


async def test_settings_reach_the_role() -> None:
    async with run_app(news, settings={"Post.domain": "there"}) as running:
        await send_issue(running, ["ann@here", "bob@there"])
        await running.idle()

        assert running.seen(Posted) == [Posted(reader="bob@there")]
        assert running.seen(Refused) == [Refused(reader="ann@here", why="elsewhere")]


async def test_followers_see_progress_up_to_the_end() -> None:
    async with run_app(news) as running:
        sent = await send_issue(running, ["ann@here", "bob@there"])

        got = [
            reply
            async for reply in running.client.follow(sent, Progress, until=Summary, timeout_s=5)
        ]

        assert got[-1] == Summary(lines=["ann@here: posted", "bob@there: elsewhere"])
        assert got[-2] == Progress(done=2, of=2)


# -- the way in -------------------------------------------------------------------------------


async def test_a_front_answers_without_a_socket() -> None:
    async with run_app(shop, settings=KEY) as running:
        http = running.http(ShopFront)

        answer = await http.get("/price/abc")

        assert (answer.status_code, answer.json()["cents"]) == (200, 995)


async def test_a_front_takes_messages_and_streams_what_becomes_of_them() -> None:
    async with run_app(news) as running:
        http = running.http(NewsFront)
        blob = await running.client.save(b"text")
        issue = {"readers": ["ann@here"], "text": {"id": blob.id, "size_bytes": 4}}

        taken = await http.post("/issues", json=issue, headers={"Idempotency-Key": "1"})
        again = await http.post("/issues", json=issue, headers={"Idempotency-Key": "1"})
        live = await http.get(f"/issues/{taken.json()['id']}/live")

        assert (taken.status_code, again.status_code) == (202, 202)
        assert again.json() == taken.json()
        assert "ann@here: posted" in live.text
        assert len(running.seen(Issue)) == 1


async def test_a_front_that_was_killed_answers_again() -> None:
    async with run_app(shop, settings=KEY) as running:
        http = running.http(ShopFront)

        await running.kill(ShopFront)
        answer = await http.get("/price/abc")

        assert answer.status_code == 200


async def test_asking_gives_the_answer_or_the_failure() -> None:
    async with run_app(shop, settings=KEY) as running:
        price = await running.client.ask(PriceOf(sku="abc"), Price, NoPrice)
        none = await running.client.ask(PriceOf(sku=""), Price, NoPrice)
        with pytest.raises(Failed, match="no such shelf"):
            await running.client.ask(PriceOf(sku="broken"), Price, NoPrice)

        assert (price, none) == (Price(cents=995), NoPrice(why="no sku"))


# -- time and what is sent --------------------------------------------------------------------


async def test_what_is_delayed_comes_when_the_clock_says_so() -> None:
    async with run_app(shop, only=[Payments], settings=KEY) as running:
        await running.client.send(Charge(order="1"), delay_s=60)
        await running.advance(59)
        before = list(running.writes)

        await running.advance(1)

        assert before == []
        assert running.writes == [
            ("update orders set paid_with = $2 where id = $1", ("1", "k"))
        ]


async def test_what_falls_due_on_the_way_happens_at_its_time() -> None:
    times: list[float] = []

    class Again(Message):
        left: int

    class Repeater(WorkerRole):
        @handle
        async def again(self, message: Again, ctx: Context[Again]) -> None:
            times.append(ctx.now.timestamp())
            if message.left:
                ctx.send(Again(left=message.left - 1), delay_s=10)

    async with run_app(App("repeater", roles=[Repeater])) as running:
        await running.client.send(Again(left=3))

        await running.advance(100)

    assert [round(at - times[0]) for at in times] == [0, 10, 20, 30]


@pytest.mark.parametrize("faults", ["none", "repeat"])
async def test_each_message_is_seen_once(faults: Faults) -> None:
    class Word(Message):
        n: int

    class Shout(Message):
        n: int

    class One(WorkerRole):
        @handle
        async def to_upper(self, word: Word) -> Shout:
            return Shout(n=word.n)

        @handle
        async def listen(self, word: Word) -> None: ...

    class Two(WorkerRole):
        @handle
        async def hear(self, shout: Shout) -> None: ...

    async with run_app(App("echo", roles=[One, Two]), faults=faults) as running:
        await running.client.send_many([Word(n=n) for n in range(3)])
        await running.idle()

        assert running.seen(Word) == [Word(n=0), Word(n=1), Word(n=2)]
        assert sorted(shout.n for shout in running.seen(Shout)) == [0, 1, 2]


async def test_a_part_that_a_handler_takes_too_is_seen_once() -> None:
    class Whole(Message):
        of: int

    class Piece(Message):
        n: int

    class Splitter(WorkerRole):
        @handle
        async def split(self, whole: Whole) -> AsyncIterator[Piece]:
            for n in range(whole.of):
                yield Piece(n=n)

        @handle
        async def listen(self, piece: Piece) -> None: ...

        @gather
        async def join(self, whole: Whole, run: Run[Piece]) -> None: ...

    async with run_app(App("both", roles=[Splitter])) as running:
        await running.client.send(Whole(of=3))
        await running.idle()

        assert running.seen(Piece) == [Piece(n=0), Piece(n=1), Piece(n=2)]


# -- what is refused, and what fails ----------------------------------------------------------


async def test_a_transaction_is_refused_with_the_name_of_the_fixture() -> None:
    async with run_app(shop, settings=KEY) as running:
        await running.client.send(Nudge(order="1"))

        with pytest.raises(RolekitError, match="rolekit_database"):
            await running.idle()


async def test_a_refused_transaction_is_raised_at_the_end_if_nobody_waits() -> None:
    async def test() -> None:
        async with run_app(shop, settings=KEY) as running:
            await running.client.send(Nudge(order="1"))
            while not running.dead:  # noqa: ASYNC110 - without idle, which would raise it
                await asyncio.sleep(0)

    with pytest.raises(RolekitError, match=r"ctx\.tx\(\) needs a database"):
        await test()


async def test_an_error_of_the_test_itself_comes_out_as_it_is() -> None:
    async def test() -> None:
        async with run_app(shop, settings=KEY) as running:
            await running.client.send(Nudge(order="1"))
            while not running.dead:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await test()


async def test_what_a_role_raises_in_its_own_loop_interrupts_idle() -> None:
    class Deaf(WorkerRole):
        @handle
        async def hear(self, tick: Tick) -> None:
            await asyncio.Event().wait()

    app = App("deaf", roles=[Clockwork, Deaf])
    async with run_app(app) as running:
        with pytest.raises(OSError, match="the spring is broken"):
            await running.idle(timeout_s=4)

        assert running.seen(Tick) == [Tick(n=0), Tick(n=1), Tick(n=2)]
        await running.kill(Deaf)


async def test_what_a_role_raises_in_its_own_loop_is_raised_at_the_end() -> None:
    async def test() -> None:
        async with run_app(clockwork) as running:
            while len(running.seen(Tick)) < 3:  # noqa: ASYNC110 - without idle
                await asyncio.sleep(0)

    with pytest.raises(OSError, match="the spring is broken"):
        await test()


async def test_what_a_role_raises_when_it_starts_is_raised_at_once() -> None:
    class Bad(WorkerRole):
        async def on_start(self) -> None:
            raise PermissionError("not today")

        @handle
        async def hear(self, tick: Tick) -> None: ...

    with pytest.raises(PermissionError, match="not today"):
        async with run_app(App("bad", roles=[Bad])):
            pytest.fail("it must not start")


async def test_a_setting_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="api_key"):
        async with run_app(shop):
            pytest.fail("it must not start")


@pytest.mark.parametrize("name", ["Nobody.api_key", "api_key", "Payments"])
async def test_a_setting_of_no_role_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"Role\.name"):
        async with run_app(shop, settings={name: "k"}):
            pytest.fail("it must not start")


async def test_a_role_of_another_app_is_refused() -> None:
    with pytest.raises(ConfigError, match="it has Clockwork, Listener"):
        async with run_app(clockwork, only=[Orders]):
            pytest.fail("it must not start")


async def test_a_role_that_does_not_run_cannot_be_killed() -> None:
    async with run_app(clockwork, only=[Listener]) as running:
        with pytest.raises(ConfigError, match="Clockwork does not run"):
            await running.kill(Clockwork)


async def test_idle_says_what_it_waits_for() -> None:
    class Slow(WorkerRole):
        @handle
        async def wait(self, tick: Tick) -> None:
            await asyncio.Event().wait()

    async with run_app(App("slow", roles=[Slow])) as running:
        await running.client.send(Tick(n=1))

        with pytest.raises(TimedOut, match=r"Slow\.wait \(0 waiting, 1 in hand\)"):
            await running.idle(timeout_s=0.05)

        await running.kill(Slow)


async def test_resources_are_left_and_on_stop_runs_at_the_end() -> None:
    log: list[str] = []

    class Tidy(WorkerRole):
        async def on_start(self) -> None:
            log.append("start")

        async def on_stop(self) -> None:
            log.append("stop")

        @handle
        async def hear(self, tick: Tick) -> None: ...

    async with run_app(App("tidy", roles=[Tidy])) as running:
        await running.kill(Tidy)

    assert log == ["start", "start", "stop"]


async def test_a_killed_handler_runs_again_and_takes_effect_once() -> None:
    began: list[int] = []

    class Part(Message):
        n: int

    class Whole(Message):
        of: int

    class Worker(WorkerRole):
        @handle
        async def split(self, whole: Whole) -> AsyncIterator[Part]:
            for n in range(whole.of):
                yield Part(n=n)

        @handle
        async def work(self, part: Part, ctx: Context) -> Tick:
            began.append(part.n)
            await asyncio.sleep(0)
            ctx.write("insert into t values ($1)", part.n)
            return Tick(n=part.n)

    class Joiner(WorkerRole):
        @gather
        async def join(self, whole: Whole, run: Run[Tick]) -> None: ...

    async with run_app(App("again", roles=[Worker, Joiner]), seed=1) as running:
        await running.client.send(Whole(of=30))
        for _ in range(4):
            await running.kill(Worker)
        await running.idle()

        assert [args[0] for _, args in sorted(running.writes)] == list(range(30))
        assert len(began) > 30
        assert [tick.n for tick in sorted(running.seen(Tick), key=lambda tick: tick.n)] == [
            *range(30)
        ]
