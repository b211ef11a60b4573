"""Several messages at one position: `tuple[A, B]`, the whole way."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, ClassVar

import pytest

from rolekit import App, Context, Message, Reply, Run, WorkerRole, gather, handle
from rolekit.testing import run_app

if TYPE_CHECKING:
    from rolekit.transport.memory import Faults

pytestmark = pytest.mark.anyio


class Order(Message):
    items: list[str]


class Item(Message):
    name: str


class Logged(Message):
    name: str


class Packed(Message):
    name: str
    attempt: int


class Label(Message):
    name: str
    attempt: int


class Left(Message):
    name: str


class Started(Reply):
    name: str


class Shipped(Reply):
    names: list[str]


class Store(WorkerRole):
    """Each piece of it is known by the attempt that packed it."""

    attempts: ClassVar[int] = 0

    @handle
    async def pick(self, order: Order) -> AsyncIterator[tuple[Item, Logged] | Logged]:
        for name in order.items:
            yield Logged(name=f"see {name}")
            yield Item(name=name), Logged(name=f"take {name}")

    @handle
    async def pack(self, item: Item) -> tuple[Packed, Label | None, Started] | Left | None:
        if item.name == "air":
            return None
        if item.name == "tank":
            return Left(name=item.name)
        Store.attempts += 1
        label = Label(name=item.name, attempt=self.attempts) if "?" not in item.name else None
        packed = Packed(name=item.name, attempt=self.attempts)
        return packed, label, Started(name=item.name)

    @gather(size=2)
    async def ship(
        self, order: Order, run: Run[Packed | Left]
    ) -> AsyncIterator[tuple[Shipped, Logged]]:
        names = [part.name for part in run]
        yield Shipped(names=names), Logged(name="ship " + " ".join(names))


class Office(WorkerRole):
    @handle
    async def print(self, label: Label, ctx: Context) -> None:
        ctx.write("insert into labels values ($1)", label.name)

    @handle
    async def log(self, logged: Logged, ctx: Context) -> None:
        ctx.write("insert into log values ($1)", logged.name)


app = App("store", roles=[Store, Office])
ITEMS = ["a", "air", "b?", "tank", "c"]


@pytest.mark.parametrize(("faults", "seed"), [("none", 0), ("repeat", 1), ("shuffle", 2)])
async def test_each_of_a_tuple_goes_its_way_and_one_of_it_takes_the_position(
    faults: Faults, seed: int
) -> None:
    async with run_app(app, faults=faults, seed=seed) as running:
        await running.client.send(Order(items=ITEMS))
        await running.kill(Store)
        await running.idle()

        shipped = [name for each in running.seen(Shipped) for name in each.names]
        assert shipped == ["a", "b?", "tank", "c"]
        assert sorted(label.name for label in running.seen(Label)) == ["a", "c"]
        assert sorted(started.name for started in running.seen(Started)) == ["a", "b?", "c"]
        logged = {each.name for each in running.seen(Logged)}
        assert {name for name in logged if not name.startswith("ship")} == {
            f"{what} {name}" for name in ITEMS for what in ("see", "take")
        }
        written = sorted(str(args[0]) for sql, args in running.writes if "labels" in sql)
        assert written == ["a", "c"]
        assert running.dead == []


async def test_all_of_a_tuple_is_of_one_attempt() -> None:
    async with run_app(app, faults="repeat") as running:
        await running.client.send(Order(items=["a", "b", "c"]))
        await running.kill(Store)
        await running.idle()

        packed = {(each.name, each.attempt) for each in running.seen(Packed)}
        labels = {(each.name, each.attempt) for each in running.seen(Label)}
        assert packed == labels
        assert len(packed) == 3
