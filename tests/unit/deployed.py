"""Apps that tests deploy, and how they read what is written for engines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from rolekit import App, Message, Scale, Secret, WebRole, WorkerRole, handle, web
from rolekit.cli.main import run

if TYPE_CHECKING:
    import pytest

Document = dict[str, Any]
APPS = "tests.unit.deployed"


class Order(Message):
    """Something to sell."""

    number: int


class Shop(WebRole):
    """The way in."""

    instances = 2
    banner: str = "hello"

    @web.post("/orders")
    async def order(self, order: Order) -> None: ...


class Payments(WorkerRole):
    """Asks a bank."""

    instances = 3
    concurrency = 10
    api_key: Secret
    bank: str = "bank.example"

    @handle
    async def pay(self, order: Order) -> None: ...


class Packing(WorkerRole):
    """Has a rule."""

    scale = Scale(min=1, max=5)
    max_memory_mb: ClassVar[float | None] = 400

    @handle
    async def pack(self, order: Order) -> None: ...


class Needy(WorkerRole):
    """Lacks a setting."""

    place: str

    @handle
    async def take(self, order: Order) -> None: ...


class Odd(WebRole):
    """Takes any port."""

    bind = "127.0.0.1:0"


class Twin(WebRole):
    """Listens where the shop does."""


class Database(WorkerRole):
    """Is called like a server."""

    @handle
    async def keep(self, order: Order) -> None: ...


app = App("shop", roles=[Shop, Payments, Packing])
needy = App("needy", roles=[Needy])
odd = App("odd", roles=[Odd])
twins = App("twins", roles=[Shop, Twin])
named = App("named", roles=[Database])
long = App("l" * 48, roles=[type("R" * 20, (Database,), {})])
foreign = App("foreign", roles=[type("Größe", (Database,), {})])


def written(capsys: pytest.CaptureFixture[str], kind: str, *arguments: str) -> str:
    """Return what is printed for the shop."""
    assert run(["deploy", kind, f"{APPS}:app", *arguments]) == 0
    return capsys.readouterr().out


def read(text: str) -> Document:
    document: Document = yaml.safe_load(text)
    return document


def objects(text: str) -> dict[tuple[str, str], Document]:
    return {
        (one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one
    }


def pods(text: str) -> dict[str, Document]:
    return {
        name: one["spec"]["template"]["spec"]
        for (kind, name), one in objects(text).items()
        if kind == "Deployment"
    }


def environments(kind: str, text: str) -> dict[str, dict[str, str]]:
    """Return the variables of each role, as its container gets them."""
    if kind == "kubernetes":
        found = {
            name.removeprefix("shop-"): {
                one["name"]: one["value"] for one in pod["containers"][0]["env"]
            }
            for name, pod in pods(text).items()
        }
    else:
        found = {name: one["environment"] for name, one in read(text)["services"].items()}
    return {
        name: {variable: _expanded(value) for variable, value in one.items()}
        for name, one in found.items()
    }


def _expanded(value: str) -> str:
    """Put in what engines put in for variables: here none is set, and $$ is a dollar."""
    return re.sub(r"\$(\$|\w+|{\w+}|\(\w+\))", lambda one: "$" * (one[1] == "$"), value)
