"""What a handler gave: which of it is direct, what it is called, and where it stands."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from rolekit import App, Context, Message, Reply, Run, WorkerRole, gather, handle
from rolekit.bell import Bell
from rolekit.clock import ManualClock
from rolekit.errors import Reject
from rolekit.flow import outputs as giving
from rolekit.flow.outputs import Outputs, Placing, direct, is_direct
from rolekit.flow.runtime import Arrival, Runtime
from rolekit.model.codec import Codec
from rolekit.model.envelope import Attempts, Head, Kind, Packet, decode_head, encode_head
from rolekit.model.position import Frame, Frames
from rolekit.model.reassembly import ClosedBy
from rolekit.store.memory import MemoryStore
from rolekit.transport.base import Delivery, Features
from rolekit.transport.memory import MemoryBroker, MemorySubscription, MemoryTransport

if TYPE_CHECKING:
    from rolekit.model.plan import AppPlan
    from rolekit.store.base import Opening

pytestmark = pytest.mark.anyio  # asyncio's loop is asked for its time


class Mail(Message):
    text: str = ""


class Page(Message):
    n: int = 0


class Word(Message):
    n: int = 0


class Note(Message):
    """Goes to two handlers, none of which leads to a gather."""


class Answer(Reply):
    n: int = 0


class Book(WorkerRole):
    @handle
    async def split(self, mail: Mail) -> AsyncIterator[Page | Note]:
        yield Page()

    @handle
    async def turn(self, page: Page, ctx: Context[Note]) -> Word | None:
        return Word()

    @handle(record=True)
    async def slow(self, answer: Note) -> None: ...

    @handle
    async def fast(self, note: Note) -> None: ...

    @gather(on_dead="skip", deadline_s=60, size=7, age_s=2)
    async def close(self, mail: Mail, run: Run[Word]) -> AsyncIterator[Answer]:
        yield Answer()


class Nested(WorkerRole):
    @handle
    async def pages(self, mail: Mail) -> list[Page]:
        return []

    @handle
    async def words(self, page: Page) -> list[Word]:
        return []

    @gather
    async def read(self, page: Page, run: Run[Word]) -> AsyncIterator[Note]:
        yield Note()

    @gather
    async def over(self, mail: Mail, run: Run[Note]) -> None: ...


class Ask(WorkerRole):
    @handle
    async def ask(self, mail: Mail) -> Answer | Page | None:
        return Answer()

    @handle(record=True)
    async def page(self, page: Page) -> Word | None: ...

    @handle
    async def word(self, word: Word) -> list[Note]:
        return []

    @handle
    async def note(self, note: Note) -> None: ...


ROLES: tuple[type[WorkerRole], ...] = (Book, Nested, Ask)
PLANS: dict[type[WorkerRole], AppPlan] = {
    role: App("app", roles=[role]).plan() for role in ROLES
}
ID = "ab" * 16
OUTER = Frame("01" * 16, "Nested.over", (4,))
IN_BOOK = (Frame("01" * 16, "Book.close", (2,)),)


def runtime_of(role: type[WorkerRole], *, joins: bool = False) -> Runtime:
    plan = PLANS[role]
    transport = MemoryTransport()
    transport.features = Features(joins_store=joins)
    return Runtime(
        plan=plan,
        codec=Codec(plan.types, plan.wire_names, plan.codec),
        store=MemoryStore(),
        transport=transport,
        bell=Bell(),
        clock=ManualClock(),
        owner=1,
    )


def arrival(
    runtime: Runtime, handler: str, frames: Frames = (), *, reply_to: str = ""
) -> Arrival:
    head = Head(
        type="Mail", root=ID, frames=frames, reply_to=reply_to, headers={"k": "v"},
        attempts=Attempts(failures=2),
    )  # fmt: skip
    packet = Packet(queue=handler, id=ID, generation=3, birth_ms=77, head=encode_head(head))
    subscription = MemorySubscription(MemoryBroker(), [], 1, lambda _: None)
    return Arrival(Delivery(packet, 1), subscription, head, runtime.plan.handlers[handler])


def placing(runtime: Runtime, handler: str, frames: Frames = (), reply_to: str = "") -> Placing:
    came = arrival(runtime, handler, frames, reply_to=reply_to)
    return Placing(runtime, came.plan, came.packet, came.head)


def closed(outputs: Outputs) -> list[tuple[str, tuple[int, ...], ClosedBy, int | None]]:
    return [(c.sequence[:2], c.path, c.by, c.total) for c in outputs.closings]


def sent(outputs: Outputs) -> list[tuple[str, list[tuple[int, ...]]]]:
    return [(p.queue, [f.path for f in decode_head(p.head).frames]) for p in outputs.packets]


# -- direct or recorded --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "handler", "results", "frames", "is_so"),
    [
        (Ask, "Ask.ask", [Page()], (), True),  # one message for one handler
        (Ask, "Ask.ask", [], (), True),  # nothing, and no position to close
        (Ask, "Ask.ask", [(Page(), Word())], (), False),  # several messages
        (Ask, "Ask.page", [Word()], (), False),  # record=True
        (Ask, "Ask.word", [Note()], (), False),  # a list, even of one
        (Book, "Book.fast", [], (), True),
        (Book, "Book.split", [Page()], (), False),  # an iterator
        (Book, "Book.turn", [Note()], (), False),  # a type with two handlers
        (Book, "Book.turn", [Word()], (), False),  # only a gather takes it, and not from here
        (Book, "Book.turn", [Word()], IN_BOOK, True),  # a part
        (Book, "Book.turn", [], IN_BOOK, True),  # a tombstone
        (Book, "Book.close", [Answer()], IN_BOOK, False),  # what a gather gives
    ],
)
async def test_a_step_is_direct_when_it_gives_one_message_to_one_handler(
    role: type[WorkerRole], handler: str, results: list[object], frames: Frames, *, is_so: bool
) -> None:
    runtime = runtime_of(role)

    assert is_direct(runtime, arrival(runtime, handler, frames), results) == is_so


@pytest.mark.parametrize(
    ("role", "handler", "results", "frames", "is_so"),
    [
        (Ask, "Ask.ask", [Page()], (), True),
        (Ask, "Ask.ask", [], (), True),
        (Book, "Book.turn", [Word()], IN_BOOK, False),
        (Book, "Book.turn", [], IN_BOOK, False),
    ],
)
async def test_where_the_queues_are_in_the_store_a_position_is_closed_at_once(
    role: type[WorkerRole], handler: str, results: list[object], frames: Frames, *, is_so: bool
) -> None:
    runtime = runtime_of(role, joins=True)

    assert is_direct(runtime, arrival(runtime, handler, frames), results) == is_so


async def test_an_answer_is_direct_to_whoever_asks_and_recorded_for_whoever_follows() -> None:
    runtime = runtime_of(Ask)

    asked = is_direct(runtime, arrival(runtime, "Ask.ask", reply_to="~reply.1"), [Answer()])
    followed = is_direct(runtime, arrival(runtime, "Ask.ask"), [Answer()])

    assert (asked, followed) == (True, False)


# -- direct outputs ------------------------------------------------------------------------


async def test_a_direct_output_keeps_id_generation_and_birth_and_begins_with_no_attempts() -> (
    None
):
    runtime = runtime_of(Ask)

    out = direct(runtime, arrival(runtime, "Ask.ask"), [Page(n=1)])

    assert out is not None
    assert (out.queue, out.id, out.generation, out.birth_ms) == ("Ask.page", ID, 3, 77)
    head = decode_head(out.head)
    assert (head.type, head.root, head.headers, head.attempts) == (
        "Page", ID, {"k": "v"}, Attempts(),
    )  # fmt: skip
    assert runtime.codec.decode("Page", 1, head.codec, out.body) == Page(n=1)


async def test_a_part_goes_to_its_gather_at_its_position() -> None:
    runtime = runtime_of(Book)

    out = direct(runtime, arrival(runtime, "Book.turn", IN_BOOK), [Word()])

    assert out is not None
    assert out.queue == "Book.close"
    assert decode_head(out.head).frames == IN_BOOK
    assert decode_head(out.head).kind is Kind.MESSAGE


async def test_nothing_in_a_sequence_is_a_tombstone_and_nothing_outside_is_nothing() -> None:
    runtime = runtime_of(Book)

    inside = direct(runtime, arrival(runtime, "Book.turn", IN_BOOK), [])
    outside = direct(runtime, arrival(runtime, "Book.fast"), [])

    assert inside is not None
    assert (inside.queue, inside.id) == ("Book.close", ID)
    assert decode_head(inside.head).kind is Kind.TOMBSTONE
    assert decode_head(inside.head).frames == IN_BOOK
    assert outside is None


async def test_an_answer_goes_to_whoever_asks() -> None:
    runtime = runtime_of(Ask)

    out = direct(runtime, arrival(runtime, "Ask.ask", reply_to="~reply.1"), [Answer(n=2)])

    assert out is not None
    assert out.queue == "~reply.1"
    assert decode_head(out.head).kind is Kind.REPLY


# -- one result ----------------------------------------------------------------------------


async def test_a_message_with_two_handlers_goes_to_both_under_two_ids() -> None:
    outputs = placing(runtime_of(Book), "Book.turn").one([Note()])

    assert sorted(sent(outputs)) == [("Book.fast", []), ("Book.slow", [])]
    assert len({packet.id for packet in outputs.packets}) == 2


async def test_a_part_closes_its_position_in_the_commit() -> None:
    outputs = placing(runtime_of(Book), "Book.turn", IN_BOOK).one([Word(n=1)])

    assert closed(outputs) == [("01", (2,), ClosedBy.PART, None)]
    assert outputs.closings[0].type == "Word"
    assert outputs.packets == []


@pytest.mark.parametrize("results", [[], [Note()]])
async def test_what_cannot_reach_the_gather_leaves_its_position_dropped(
    results: list[object],
) -> None:
    outputs = placing(runtime_of(Book), "Book.turn", IN_BOOK).one(results)

    assert closed(outputs) == [("01", (2,), ClosedBy.DROPPED, None)]
    assert all(frames == [] for _, frames in sent(outputs))


async def test_of_a_tuple_what_reaches_the_gather_takes_the_position() -> None:
    outputs = placing(runtime_of(Book), "Book.turn", IN_BOOK).one([(Note(), Word())])

    assert closed(outputs) == [("01", (2,), ClosedBy.PART, None)]
    assert len(outputs.packets) == 2


async def test_outside_of_a_sequence_nothing_is_closed() -> None:
    outputs = placing(runtime_of(Book), "Book.turn").one([])

    assert outputs == Outputs()


# -- splits --------------------------------------------------------------------------------


def opened(outputs: Outputs) -> Opening:
    assert outputs.opening is not None
    return outputs.opening


async def test_a_split_opens_a_sequence_and_only_what_reaches_the_gather_takes_positions() -> (
    None
):
    outputs = placing(runtime_of(Book), "Book.split").split([Page(), Note(), Page()])

    opening = opened(outputs)
    assert sent(outputs) == [
        ("Book.turn", [(0,)]),
        ("Book.slow", []),
        ("Book.fast", []),
        ("Book.turn", [(1,)]),
    ]
    assert (opening.gather, opening.cursor.next, opening.cursor.totals) == (
        "Book.close", (0,), (2,),
    )  # fmt: skip
    assert closed(outputs) == []
    frames = [f for p in outputs.packets for f in decode_head(p.head).frames]
    assert {frame.sequence for frame in frames} == {opening.id}


async def test_a_sequence_is_opened_with_the_rules_of_its_gather() -> None:
    runtime = runtime_of(Book)
    opening = opened(placing(runtime, "Book.split").split([Page()]))

    assert opening.waits is False
    assert opening.age_s == 2
    assert opening.deadline_ms == runtime.clock.now_ms() + 60_000
    assert opening.source.id == ID
    token = decode_head(opening.token.head)
    assert (opening.token.queue, token.kind, token.sequence) == (
        "Book.close", Kind.RELEASE, opening.id,
    )  # fmt: skip
    assert token.attempts == Attempts()


async def test_a_sequence_without_a_deadline_of_its_own_has_a_day_and_may_wait() -> None:
    runtime = runtime_of(Nested)
    opening = opened(placing(runtime, "Nested.pages").split([Page()]))

    assert opening.deadline_ms == runtime.clock.now_ms() + 86_400_000
    assert opening.waits


async def test_a_split_into_nothing_is_a_sequence_that_is_finished() -> None:
    opening = opened(placing(runtime_of(Book), "Book.split").split([]))

    assert opening.cursor.is_finished


async def test_a_split_within_a_sequence_opens_one_within() -> None:
    outputs = placing(runtime_of(Nested), "Nested.words", (OUTER,)).split([Word(), Word()])

    opening = opened(outputs)
    assert opening.gather == "Nested.read"
    assert closed(outputs) == [
        (opening.id[:2], (0,), ClosedBy.PART, None),
        (opening.id[:2], (1,), ClosedBy.PART, None),
    ]
    assert decode_head(opening.token.head).frames == (OUTER,)


@pytest.mark.parametrize("count", [1, 0])
async def test_a_list_of_a_handler_that_opens_nothing_splits_its_position(count: int) -> None:
    # Ask.word takes no part in a sequence of its own, so what it splits is the outer one's.
    outputs = placing(runtime_of(Ask), "Ask.word").split([Note()] * count)

    assert outputs.opening is None
    assert [queue for queue, _ in sent(outputs)] == ["Ask.note"] * count


async def test_more_messages_than_one_commit_should_hold_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(giving, "MAX_OUTPUTS", 2)

    with pytest.raises(Reject, match=r"Book\.split gave 3 messages"):
        placing(runtime_of(Book), "Book.split").split([Page()] * 3)


# -- gathers -------------------------------------------------------------------------------


async def test_what_a_gather_gives_run_by_run_are_children_of_one_position() -> None:
    runtime = runtime_of(Nested)
    frames = (OUTER,)  # a token stands where the message that was split stood

    first = placing(runtime, "Nested.read", frames).more([Note(), Note()], 0, is_last=False)
    last = placing(runtime, "Nested.read", frames).more([Note()], 2, is_last=True)

    assert closed(first[0]) == [
        ("01", (4, 0), ClosedBy.PART, None),
        ("01", (4, 1), ClosedBy.PART, None),
        ("01", (4,), ClosedBy.SPLIT, None),
    ]
    assert closed(last[0]) == [
        ("01", (4, 2), ClosedBy.PART, None),
        ("01", (4,), ClosedBy.SPLIT, 3),
    ]
    assert (first[1], last[1]) == (2, 3)


async def test_a_gather_that_gave_nothing_yet_leaves_its_position_to_what_comes() -> None:
    runtime = runtime_of(Nested)

    first = placing(runtime, "Nested.read", (OUTER,)).more([], 0, is_last=False)
    last = placing(runtime, "Nested.read", (OUTER,)).more([], 0, is_last=True)

    assert closed(first[0]) == []
    assert closed(last[0]) == [("01", (4,), ClosedBy.SPLIT, 0)]


async def test_a_gather_outside_of_a_sequence_closes_nothing() -> None:
    outputs, emitted = placing(runtime_of(Book), "Book.close").more([Answer()], 0, is_last=True)

    assert closed(outputs) == []
    assert emitted == 0
    assert [reply.type for reply in outputs.replies] == ["Answer"]


# -- names ---------------------------------------------------------------------------------


def names(outputs: Outputs) -> list[str]:
    return [packet.id for packet in outputs.packets]


async def test_a_repeat_names_its_outputs_alike_and_no_two_outputs_have_one_name() -> None:
    runtime, results = runtime_of(Book), [Page(), Note(), Page()]

    once = placing(runtime, "Book.split").split(results)
    again = placing(runtime, "Book.split").split(results)

    assert names(once) == names(again)
    assert opened(once).id == opened(again).id
    assert len({*names(once), opened(once).id}) == 5


async def test_what_is_sent_beside_has_a_name_of_its_own_and_no_position() -> None:
    place = placing(runtime_of(Book), "Book.turn", IN_BOOK)

    first, packets = place.beside(Note(), {"more": "m"})
    second, _ = place.beside(Note(), {})
    outputs = place.one([(Note(), Word())])

    assert first != second
    assert [decode_head(packet.head).frames for packet in packets] == [(), ()]
    assert decode_head(packets[0].head).headers == {"k": "v", "more": "m"}
    assert not {packet.id for packet in packets} & set(names(outputs))


async def test_answers_are_kept_in_order_for_whoever_follows_or_sent_to_whoever_asks() -> None:
    runtime = runtime_of(Book)

    kept = placing(runtime, "Book.close").more([Answer(n=1), Answer(n=2)], 0, is_last=True)[0]
    asked = placing(runtime, "Book.close", (), "~reply.1").more([Answer()], 0, is_last=True)[0]

    assert [runtime.codec.decode(r.type, 1, r.codec, r.body) for r in kept.replies] == [
        Answer(n=1),
        Answer(n=2),
    ]
    assert {reply.root for reply in kept.replies} == {ID}
    assert [(p.queue, decode_head(p.head).kind) for p in asked.packets] == [
        ("~reply.1", Kind.REPLY)
    ]
