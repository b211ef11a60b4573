"""Three stages, each in processes of its own; the last fails of what is below zero."""

from __future__ import annotations

from rolekit import App, Message, Reject, WorkerRole, handle


class Start(Message):
    """Begins it."""

    n: int


class Middle(Message):
    """Is split."""

    n: int


class End(Message):
    """Fails, where it is below zero."""

    n: int


class First(WorkerRole):
    """Hands on."""

    @handle
    async def first(self, start: Start) -> Middle:
        return Middle(n=start.n)


class Second(WorkerRole):
    """Splits."""

    @handle
    async def second(self, middle: Middle) -> list[End]:
        return [End(n=middle.n), End(n=abs(middle.n) + 1)]


class Third(WorkerRole):
    """Fails."""

    @handle
    async def third(self, end: End) -> None:
        if end.n < 0:
            raise Reject("below zero")


app = App("recalled", roles=[First, Second, Third])
