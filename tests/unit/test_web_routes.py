"""Start-up checks of routes and mounts: sentences, no server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from rolekit import web
from rolekit.errors import AppError
from rolekit.roles.http_routes import problems_of, routes_of
from rolekit.roles.web import WebRole
from tests.unit.web_front import Front, Mail, Note

if TYPE_CHECKING:
    from decimal import Decimal  # noqa: TC004  what this test is about

    from rolekit.model.message import Receipt


def test_the_routes_of_a_role_are_listed_in_order() -> None:
    routes = routes_of(Front)

    assert [route.template for route in routes] == [
        "POST /mail",
        "POST /notes",
        "GET /mail/{id}/live",
        "GET /numbers/{number:int}",
        "PUT /raw",
        "POST /stream",
        "DELETE /mail/{id}",
    ]
    assert [route.name for route in routes if route.is_stream] == ["live"]
    assert [route.name for route in routes if route.in_thread] == ["remove"]


def test_a_method_may_answer_two_paths() -> None:
    class Two(WebRole):
        @web.get("/a")
        @web.post("/b")
        async def both(self) -> None: ...

    assert [route.template for route in routes_of(Two)] == ["GET /a", "POST /b"]


class _TwoBodies(WebRole):
    @web.post("/x")
    async def bad(self, mail: Mail, note: Note) -> None: ...


class _BodyOfGet(WebRole):
    @web.get("/x")
    async def bad(self, mail: Mail) -> None: ...


class _NoSuchPlace(WebRole):
    @web.get("/x/{id}")
    async def bad(self) -> None: ...


class _ADictionary(WebRole):
    @web.post("/x")
    async def bad(self, stuff: dict[str, int]) -> None: ...


class _ReturnsADictionary(WebRole):
    @web.get("/x")
    async def bad(self) -> dict[str, int]:
        return {}


class _StreamsText(WebRole):
    @web.get("/x")
    async def bad(self) -> AsyncIterator[str]:
        yield ""


class _NotAPath(WebRole):
    @web.get("x")
    async def bad(self) -> None: ...


class _NoSuchConvertor(WebRole):
    @web.get("/{id:number}")
    async def bad(self, id: int) -> None: ...  # noqa: A002


class _OnlyForTyping(WebRole):
    @web.get("/x")
    async def bad(self, price: Decimal) -> None: ...


class _Anything(WebRole):
    @web.get("/x")
    async def bad(self, *parts: str) -> None: ...


class _Overrides(Front):
    async def compose(self, mail: Mail) -> Receipt:
        return await super().compose(mail)


class _MountsNothing(WebRole):
    mounts = cast("Any", {"api": 5, "/admin": 5})


@pytest.mark.parametrize(
    ("role", "sentence"),
    [
        (_TwoBodies, "mail and note both want the body"),
        (_BodyOfGet, "GET requests have no body, but mail wants one"),
        (_NoSuchPlace, "the path /x/{id} has {id}"),
        (_ADictionary, "stuff is dict[str, int]"),
        (_ReturnsADictionary, "ReturnsADictionary.bad returns dict[str, int]"),
        (_StreamsText, "server-sent events are messages"),
        (_NotAPath, "'x' is not a path"),
        (_NoSuchConvertor, "'/{id:number}' is not a path"),
        (_OnlyForTyping, "annotations name Decimal, which does not exist at run time"),
        (_Anything, "*parts: 'str' cannot be filled"),
        (_Overrides, "overrides the route POST /mail without a decorator"),
        (_MountsNothing, "'api' is not a prefix"),
        (_MountsNothing, "mounts['/admin'] is int, not an ASGI app"),
    ],
)
def test_a_route_that_cannot_be_served_is_refused(role: type[WebRole], sentence: str) -> None:
    with pytest.raises(AppError) as caught:
        routes_of(role)

    assert sentence in str(caught.value)


def test_all_problems_of_a_role_are_told_at_once() -> None:
    class Broken(_TwoBodies):
        @web.get("/y")
        async def other(self) -> dict[str, int]:
            return {}

        @web.get("/z/{a}")
        async def first(self, a: str) -> None: ...

        @web.get("/z/{b}")
        async def second(self, b: str) -> None: ...

    problems = "\n".join(map(str, problems_of(Broken)))

    assert "both want the body" in problems
    assert "Broken.other returns" in problems
    assert "first and second both answer GET /z/{b}" in problems
