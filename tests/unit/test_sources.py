"""What does not go together with `source=` is refused, with a sentence."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from rolekit import App, DeadLetter, Message, WorkerRole, gather, handle


class A(Message):
    n: int


class B(Message):
    n: int


def problems(*roles: type[WorkerRole]) -> list[str]:
    found = [str(problem) for problem in App("shop", roles=roles).problems()]
    return [problem for problem in found if "not available yet" not in problem]


def test_a_queue_with_two_readers_is_refused() -> None:
    class Two(WorkerRole):
        @handle(source="q")
        async def a(self, a: A) -> None: ...
        @handle(source="q")
        async def b(self, b: B) -> None: ...

    assert [problem.splitlines() for problem in problems(Two)] == [
        [
            "Two.b: takes from the queue q, and so does Two.a: each would get some.",
            "    Let one handler take both messages: A | B.",
        ]
    ]


def test_gathers_and_dead_letters_are_refused() -> None:
    class Odd(WorkerRole):
        @handle(source="q2")
        async def letters(self, dead: DeadLetter[A]) -> None: ...
        @handle
        async def split(self, a: A) -> list[B]:
            return [B(n=a.n)]

        @gather(source="q3")
        async def join(self, parts: list[B]) -> None: ...

    assert [problem.partition(" with ")[0].partition(" and source")[0].partition(" from")[0]
            for problem in problems(Odd)] == [
        "Odd.letters: takes a DeadLetter",
        "Odd.join: is a @gather",
    ]  # fmt: skip


def test_queues_of_the_app_itself_and_what_is_no_name_are_refused() -> None:
    class Own(WorkerRole):
        @handle(source="shop.Own.a")
        async def a(self, a: A) -> None: ...
        @handle(source="x" * 256)
        async def b(self, b: B) -> None: ...

    first, second = problems(Own)
    assert first.startswith("Own.a: has source='shop.Own.a', which is one of the app's own")
    assert second.endswith("A name has up to 255 bytes, without control characters.")
